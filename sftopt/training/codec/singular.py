"""Low rank of each sample by itself, as SplitLite (arXiv 2608.23018) sends the epochs' difference.

A sample (tokens, hidden) becomes its largest singular triples: for each of them a vector of tokens
and one of channels, both times the root of the singular value, stochastically quantised. Without
``rest`` around it this is the low rank of the activation itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.codec.base import (
    Decoded,
    Encoded,
    EvenCodec,
    Parts,
    Support,
    in_dtype,
    is_whole,
    register,
)
from sftopt.training.codec.container import Direction, Header, Reader, unseal
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.sparse import Quantise, QuantiseConfig
from sftopt.training.codec.values import QuantisedConfig

_LENGTH = struct.Struct("<I")
"""Layout of the length in bytes of the first of the two payloads inside."""


@dataclass(frozen=True)
class SingularConfig(QuantisedConfig):
    """Quantisation of the vectors, and how many there are."""

    codec = "singular"

    rank: int = 4
    """Singular triples of a sample."""

    def faults(self) -> list[str]:
        """List the faults of all parameters."""
        faults = super().faults()
        if not is_whole(self.rank, 1, 65535):
            faults.append(f"rank = {self.rank!r}, a positive number expected")
        if self.group is not None:
            faults.append("group: each vector has its own scale")
        return faults


@register
class Singular(EvenCodec[SingularConfig]):
    """Singular vectors of each sample, quantised; mode ``dense``."""

    name = "singular"
    wire_id = 12
    config_class = SingularConfig

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        if tensor.dim() != 3 or self.config.rank > min(tensor.shape[1:]):
            raise CodecError(
                f"{self.config.rank} singular triples of samples in {tuple(tensor.shape)}; "
                "(samples, tokens, hidden) of that rank expected"
            )
        values = tensor.detach().float()
        if not bool(torch.isfinite(values).all()):
            raise CodecError("the tensor holds NaN or infinity")
        left, spread, right = torch.linalg.svd(values, full_matrices=False)
        root = spread[:, : self.config.rank, None].sqrt()
        vectors = (
            left[:, :, : self.config.rank].transpose(1, 2) * root,
            right[:, : self.config.rank] * root,
        )
        inner = Quantise(QuantiseConfig(bits=self.config.bits, rate=self.config.rate))
        found = [
            inner.compress(each.contiguous(), seed=int(generator.integers(2**62)))
            for each in vectors
        ]
        bodies = [each.payload for each in found]
        payload = self._seal(tensor, direction, [_LENGTH.pack(len(bodies[0])), *bodies])
        parts = Parts(
            tensor.numel(),
            sum(each.parts.kept for each in found),
            sum(each.parts.value_bits for each in found),
            0.0,
            sum(each.parts.scale_bits for each in found),
        )
        return Encoded(payload, Support(tuple(tensor.shape)), parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Multiply the vectors out."""
        (length,) = reader.unpack(_LENGTH, "the length of the first vectors")
        payloads = [reader.take(length, "first vectors"), reader.take(reader.left, "last vectors")]
        vectors = []
        for payload in payloads:
            inner, body = unseal(payload, max_elements=header.elements)
            if inner.codec_id != Quantise.wire_id or inner.direction is not Direction.FORWARD:
                raise CodecError("payload damaged: what is inside does not belong there")
            vectors.append(Quantise.expand_body(inner, body, device).tensor.float())
        left, right = vectors
        fits = (
            len(header.shape) == left.dim() == right.dim() == 3
            and left.shape[:2] == right.shape[:2]
            and (left.shape[0], left.shape[2], right.shape[2]) == header.shape
        )
        if not fits:
            raise CodecError("payload damaged: singular vectors do not fit the tensor")
        tensor = left.transpose(1, 2) @ right
        return Decoded(in_dtype(tensor, header.dtype), Support(header.shape))
