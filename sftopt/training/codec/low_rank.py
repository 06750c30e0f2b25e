"""Fewer directions: each token as a few coordinates, the rest of it as the mean of all tokens.

The coordinates are those of the first columns of a basis: of the model's own (``boundary_bases``,
the same that ``rotated`` uses), or one that was learnt for the task, as in MAPL's orthogonal
projection. They are coded as ``ecsq`` codes them. At a low rate ``rotated`` leaves directions of
little variance out by itself; this codec says beforehand which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.codec.base import (
    Decoded,
    Encoded,
    EvenCodec,
    Support,
    in_dtype,
    is_whole,
    register,
)
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.ecsq import Ecsq, EcsqConfig
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import LARGEST_PATTERN, from_bfloat16, to_bfloat16
from sftopt.training.codec.rotated import (
    BASIS_LAYOUT,
    RotatedConfig,
    Turn,
    opened_bases,
    product,
    within,
)

_RANK_BYTES = 2
"""Bytes of the number of directions."""


@dataclass(frozen=True)
class LowRankConfig(RotatedConfig):
    """As of ``rotated``, and how many directions are kept."""

    codec = "low-rank"

    rank: int = 32
    """Directions kept."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        faults = super().faults()
        if not is_whole(self.rank, 1, 65535):
            faults.append(f"rank = {self.rank!r}, a positive number of directions expected")
        return faults


@register
class LowRank(EvenCodec[LowRankConfig]):
    """The first directions of a basis, quantised; mode ``dense``."""

    name = "low-rank"
    wire_id = 10
    config_class = LowRankConfig

    def __init__(self, config: LowRankConfig) -> None:
        super().__init__(config)
        self._turn = Turn(config.bases, config.cut)
        if config.rank > self._turn.bases.channels:
            raise CodecError(
                f"{config.rank} directions asked for; the bases have {self._turn.bases.channels}"
            )

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        config = self.config
        rows = tensor.detach().float()
        patterns = to_bfloat16(rows.reshape(-1, rows.shape[-1]).mean(0).cpu().numpy())
        centre = torch.from_numpy(from_bfloat16(patterns)).to(rows.device)
        number, turned = self._turn(rows - centre, direction)
        kept = turned[..., : config.rank].contiguous()
        inner = Ecsq(EcsqConfig(config.bits, config.step, config.dead_zone, config.scaling))
        inside = inner.prepared(kept, Direction.FORWARD)
        head = [
            BASIS_LAYOUT.pack(self._turn.bases.mark, number),
            config.rank.to_bytes(_RANK_BYTES, "little"),
            patterns.astype("<u2").tobytes(),
        ]

        def coded(bits: float | None) -> Encoded:
            found = inside(bits)
            payload = self._seal(tensor, direction, [*head, found.payload])
            return Encoded(payload, Support(tuple(tensor.shape)), found.parts)

        if config.bits is None:
            return coded(None)
        share = kept.numel() / tensor.numel()
        return within(
            lambda bits: coded(min(bits / share, 10.0)),
            config.bits,
            tensor.numel(),
            tensor.shape[-1],
        )

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Turn back the directions that were kept; the others are those of the mean."""
        place = BASIS_LAYOUT.unpack(reader.take(BASIS_LAYOUT.size, "the basis"))
        rank = int.from_bytes(reader.take(_RANK_BYTES, "the rank"), "little")
        width = header.shape[-1]
        if not 1 <= rank <= width:
            raise CodecError(f"payload damaged: {rank} directions of {width}")
        patterns = reader.array("<u2", width, "channel means").astype(np.uint16)
        if np.any(patterns & 0x7FFF > LARGEST_PATTERN):
            raise CodecError("payload damaged: a channel's mean is above 2^120")
        shape = (*header.shape[:-1], rank)
        bases, number, inner, body = opened_bases(
            header, reader, Ecsq.wire_id, Direction.FORWARD, place, shape
        )
        turned = Ecsq.expand_body(inner, body, device).tensor.float()
        values = product(turned, bases.on(device, number, inverse=True)[:rank])
        values = values + torch.from_numpy(from_bfloat16(patterns)).to(device)
        return Decoded(in_dtype(values, header.dtype), Support(header.shape))
