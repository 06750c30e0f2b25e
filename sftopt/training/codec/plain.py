"""No compression: the elements as they are, at 32 or 16 bits; mode ``none``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.codec.base import (
    CodecConfig,
    Decoded,
    Encoded,
    EvenCodec,
    Parts,
    Support,
    register,
)
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.errors import CodecError

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types in which elements may be sent, by name."""
_NAMES = tuple(_PRECISIONS)
"""Their names; the place here is the number in a payload."""


@dataclass(frozen=True)
class NoneConfig(CodecConfig):
    """Reference precision b_ref: ``float32``, or a 16-bit format."""

    codec = "none"

    precision: str = "float32"
    """Format on the link."""

    def faults(self) -> list[str]:
        """List the faults of the parameters."""
        if self.precision in _PRECISIONS:
            return []
        return [f"precision = {self.precision!r}, one of {', '.join(_NAMES)} expected"]


@register
class NoneCodec(EvenCodec[NoneConfig]):
    """Raw elements with the envelope around them."""

    name = "none"
    wire_id = 1
    config_class = NoneConfig

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        precision = _PRECISIONS[self.config.precision]
        sent = tensor.detach().to("cpu", precision).contiguous()
        if not bool(torch.isfinite(sent).all()):
            raise CodecError(f"the tensor holds NaN, infinity or more than {precision} can hold")
        raw = sent.view(torch.uint8).numpy().tobytes() if sent.dim() else b""
        body = [bytes([_NAMES.index(self.config.precision)]), raw]
        shape = tuple(tensor.shape)
        parts = Parts(tensor.numel(), tensor.numel(), 8.0 * len(raw))
        return Encoded(self._seal(tensor, direction, body), Support(shape), parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Read the elements in the header's dtype."""
        index = reader.take(1, "the precision")[0]
        if index >= len(_NAMES):
            raise CodecError(f"payload damaged: precision {index} is unknown")
        precision = _PRECISIONS[_NAMES[index]]
        raw = reader.array("u1", math.prod(header.shape) * precision.itemsize, "the elements")
        reader.end()
        tensor = torch.from_numpy(raw.copy()).view(precision).reshape(header.shape)
        if not bool(torch.isfinite(tensor).all()):
            raise CodecError("payload damaged: it holds NaN or infinity")
        return Decoded(tensor.to(device, header.dtype), Support(header.shape))
