"""Entropy-coded dead-zone uniform quantiser: the same three steps in the rate-distortion sense.

The dead zone sparsifies, the uniform steps quantise, and the coder pays for each element only what
it tells: at low rates far less distortion per bit than mask + values. Each channel (last
dimension) is centred and scaled first. With ``scaling`` = 1 every channel is scaled by its own
standard deviation, so that large channels do not drown small ones; with 0 all share one spread,
which gives the least squared error, and channels of like spread share a symbol table. With
y = (x - mean_c) / spread_c and a = |y| / step,

    level j = floor(a + 1 - dead_zone),      y' = sign(y) (j + delta_j) step,

where delta_j, for j = 1, 2 and above, is what makes the level its elements' mean. Deterministic:
the error of an element is bounded by dead_zone steps, and it is not unbiased.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.codec.accelerator import dead_zone as accelerator_dead_zone
from sftopt.training.codec.accelerator.transfer import is_on_host
from sftopt.training.codec.base import (
    CodecConfig,
    Decoded,
    Encoded,
    EvenCodec,
    FloatArray,
    Parts,
    Support,
    in_dtype,
    number_within,
    register,
    to_array,
    to_tensor,
)
from sftopt.training.codec.channels import Channels
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.contexts import RowsBody, push_rows
from sftopt.training.codec.dead_zone import MAX_LEVEL, HostRows, Rows
from sftopt.training.codec.entropy import Decoder, Encoder
from sftopt.training.codec.errors import CodecError

_LAYOUT = struct.Struct("<fH3bB")
"""Layout of the head of a body: step, highest level, offsets of the levels."""
_LARGEST_DISTANCE = 2.0**16
"""In spreads; of 2^28 elements none is further than 2^14."""
_MIN_ROWS = 32
"""Fewer rows share one spread."""


@dataclass(frozen=True)
class EcsqConfig(CodecConfig):
    """Exactly one of ``bits`` and ``step`` is given."""

    codec = "ecsq"

    bits: float | None = None
    """Target entropy per element in bits (eta_q); the step is solved for, tensor by tensor."""
    step: float | None = None
    """Step in units of a channel's spread."""
    dead_zone: float = 0.6
    """Half the width of the zero level in steps; 0.5 is plain rounding."""
    scaling: float = 1.0
    """Exponent of a channel's own standard deviation in its spread; the tensor's has the rest."""

    def faults(self) -> list[str]:
        """List the faults of the parameters."""
        faults = []
        if (self.bits is None) == (self.step is None):
            faults.append("give either bits or step")
        if self.bits is not None and not number_within(self.bits, 0.05, 10.0):
            faults.append(f"bits = {self.bits!r}, 0.05 to 10 expected")
        if self.step is not None and not number_within(self.step, 0.01, 100.0):
            faults.append(f"step = {self.step!r}, 0.01 to 100 expected")
        if not number_within(self.dead_zone, 0.5, 1.0):
            faults.append(f"dead_zone = {self.dead_zone!r}, 0.5 to 1 expected")
        if not number_within(self.scaling, 0.0, 1.0):
            faults.append(f"scaling = {self.scaling!r}, 0 to 1 expected")
        return faults


@register
class Ecsq(EvenCodec[EcsqConfig]):
    """Dead-zone uniform quantiser of centred and scaled channels; mode ``dense``."""

    name = "ecsq"
    wire_id = 6
    config_class = EcsqConfig

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        return self.prepared(tensor, direction)(self.config.bits)

    def prepared(
        self, tensor: torch.Tensor, direction: Direction
    ) -> Callable[[float | None], Encoded]:
        """Return what encodes ``tensor`` at the bits it is called with; None: at the set step.

        What does not depend on the bits is done once.
        """
        config, shape = self.config, tuple(tensor.shape)
        rows = rows_of(tensor, _channels_of(shape))
        channels, classes = Channels.from_moments(*rows.moments(), config.scaling)
        side = channels.to_bytes()
        search = None
        if config.bits is not None:
            search = rows.step_search(channels, classes, config.dead_zone)

        def encoded(bits: float | None) -> Encoded:
            step = config.step
            if bits is not None and search is not None:
                step = search(bits)
            assert step is not None  # one of the two is given
            step = float(np.float32(step))
            symbols, offsets = rows.quantised(channels, step, config.dead_zone)
            highest = max((symbols.highest + 1) // 2, 1)
            encoder = Encoder()
            table = push_rows(encoder, symbols, 2 * highest + 1, classes)
            head = _LAYOUT.pack(step, highest, *offsets, 0)
            words = encoder.to_bytes()
            payload = self._seal(tensor, direction, [head, side, table, words])
            coded_bits = 8.0 * (len(table) + len(words))
            parts = Parts(tensor.numel(), tensor.numel(), coded_bits, 0.0, 8.0 * len(side))
            return Encoded(payload, Support(shape), parts)

        return encoded

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Scale every element's level and move it back."""
        step, highest, *rest = reader.unpack(_LAYOUT, "step and levels")
        if not (0.0 < step * highest <= _LARGEST_DISTANCE and 1 <= highest <= MAX_LEVEL):
            raise CodecError(f"payload damaged: step {step}, highest level {highest}")
        width = _channels_of(header.shape)
        channels = Channels.read(reader, width)
        body = RowsBody(reader, width, 2 * highest + 1)
        decoder = Decoder(reader)
        parts = body.pop(decoder, header.elements // width)
        decoder.end()
        support = Support(header.shape)
        levels = _levels(step, highest, rest[:3])
        if not is_on_host(device):
            tensor = accelerator_dead_zone.restored(parts, body.groups, levels, channels, device)
            return Decoded(in_dtype(tensor.reshape(header.shape), header.dtype), support)
        values = levels.take(body.placed(parts))
        values *= channels.spread
        values += channels.centre
        return Decoded(to_tensor(values, header.dtype, header.shape), support)


def rows_of(tensor: torch.Tensor, channels: int) -> Rows:
    """Return ``tensor`` as rows of ``channels``, on the host or on its accelerator."""
    if is_on_host(tensor):
        return HostRows(to_array(tensor).reshape(-1, channels))
    return accelerator_dead_zone.AcceleratorRows(tensor.detach().float().reshape(-1, channels))


def _channels_of(shape: tuple[int, ...]) -> int:
    """Channels told apart: the last dimension, or one where few rows would share a spread."""
    rows = math.prod(shape[:-1])
    return shape[-1] if rows >= _MIN_ROWS else 1


def _levels(step: float, highest: int, offsets: list[int]) -> FloatArray:
    """The value of each symbol in units of the spread, shape (2 highest + 1,)."""
    levels = np.arange(highest + 1, dtype=np.float64)
    levels[1:] += np.array([*offsets[:2], *[offsets[2]] * highest])[:highest] / 256.0
    magnitudes = levels[1:] * step
    table = np.zeros(2 * highest + 1)
    table[1::2], table[2::2] = magnitudes, -magnitudes
    return table.astype(np.float32)
