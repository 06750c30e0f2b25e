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
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.base import (
    Codec,
    CodecConfig,
    Decoded,
    Encoded,
    FloatArray,
    Parts,
    Support,
    number_within,
    register,
    to_array,
    to_tensor,
)
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.contexts import (
    ClassArray,
    RowsBody,
    classes_of,
    entropy_by_class,
    push_rows,
)
from sftopt.training.codec.entropy import MAX_ALPHABET, Decoder, Encoder
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import from_bfloat16, to_bfloat16

_LAYOUT = struct.Struct("<fH3bB")
"""Layout of the head of a body: step, highest level, offsets of the levels."""
_MAX_LEVEL = MAX_ALPHABET // 2 - 1
"""Highest level, so that all signed levels fit one alphabet."""
_CHANNEL_BITS = 32
"""Bits of one channel's mean and spread in a payload."""
_MEAN_UNIT = 16.0
"""Means are stored in sixteenths of the spread."""
_LARGEST_MEAN = 32767.0 / _MEAN_UNIT
"""Largest stored mean in spreads."""
_LARGEST_SPREAD = 0x7680
"""Largest stored spread: 2^110 as a bfloat16 pattern."""
_LARGEST_DISTANCE = 2.0**16
"""Largest distance of a value from the mean in spreads; of 2^28 elements none is further than
2^14."""
_MIN_ROWS = 32
"""Rows from which on each channel has a mean and a spread of its own."""
_SAMPLE = 65536
"""Elements that the step is chosen from."""
_CHUNK_ROWS = 256
"""Rows quantised at a time, so that they stay in the cache."""


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


@dataclass(frozen=True)
class _Channels:
    """Centre and spread of each channel as the receiver will see them, shape (channels,)."""

    means: NDArray[np.int16]
    spreads: NDArray[np.uint16]

    @property
    def spread(self) -> FloatArray:
        """Standard deviations, rounded to bfloat16."""
        return from_bfloat16(self.spreads)

    @property
    def centre(self) -> FloatArray:
        """Means, rounded to sixteenths of the spread."""
        return self.means.astype(np.float32) * (self.spread / np.float32(_MEAN_UNIT))

    @classmethod
    def of(cls, rows: FloatArray, scaling: float) -> tuple[_Channels, ClassArray]:
        """Measured on an array (rows, channels), with the classes of the scaled channels.

        Raises :class:`CodecError` for NaN, infinity.
        """
        means = rows.mean(axis=0, dtype=np.float64)
        squares = np.einsum("rc,rc->c", rows, rows, dtype=np.float64) / rows.shape[0]
        if not (np.all(np.isfinite(means)) and np.all(squares < 2.0**219)):
            raise CodecError("the tensor holds NaN, infinity or a mean square above 8e65")
        deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
        common = math.sqrt(float(np.mean(deviations**2)))
        spreads = deviations**scaling * common ** (1.0 - scaling)
        # a constant channel is carried by its centre alone
        spreads = np.maximum(spreads, np.abs(means) / (0.9 * _LARGEST_MEAN))
        channels = cls(np.zeros(means.size, np.int16), to_bfloat16(spreads.astype(np.float32)))
        unit = channels.spread.astype(np.float64) / _MEAN_UNIT
        scaled = np.divide(means, unit, out=np.zeros_like(means), where=unit > 0.0)
        centres = np.clip(np.rint(scaled), -32767, 32767).astype(np.int16)
        left = np.divide(deviations, spreads, out=np.zeros_like(means), where=spreads > 0.0)
        return cls(centres, channels.spreads), classes_of(left)

    def to_bytes(self) -> bytes:
        """Means, then spreads."""
        return self.means.astype("<i2").tobytes() + self.spreads.astype("<u2").tobytes()

    @classmethod
    def read(cls, reader: Reader, channels: int) -> _Channels:
        """The channels of a payload."""
        means = reader.array("<i2", channels, "channel centres").astype(np.int16)
        spreads = reader.array("<u2", channels, "channel spreads").astype(np.uint16)
        if np.any(spreads > _LARGEST_SPREAD):
            raise CodecError("payload damaged: a channel's spread is negative or above 2^110")
        return cls(means, spreads)


@register
class Ecsq(Codec[EcsqConfig]):
    """Dead-zone uniform quantiser of centred and scaled channels; mode ``dense``."""

    name = "ecsq"
    wire_id = 6
    config_class = EcsqConfig

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        return self._coded(tensor, Direction.FORWARD)

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        return self._coded(gradient, Direction.GRADIENT)

    def _coded(self, tensor: torch.Tensor, direction: Direction) -> Encoded:
        config, shape = self.config, tuple(tensor.shape)
        array = to_array(tensor)
        rows = array.reshape(-1, _channels_of(shape))
        channels, classes = _Channels.of(rows, config.scaling)
        step = config.step
        if step is None:
            assert config.bits is not None  # one of the two is given
            step = _step_for_entropy(rows, channels, classes, config.bits, config.dead_zone)
        step = float(np.float32(step))
        symbols, offsets = _quantise(rows, channels, step, config.dead_zone)
        highest = max((int(symbols.max()) + 1) // 2, 1)
        encoder = Encoder()
        table = push_rows(encoder, symbols, 2 * highest + 1, classes)
        head = _LAYOUT.pack(step, highest, *offsets, 0)
        side = channels.to_bytes()
        words = encoder.to_bytes()
        payload = self._seal(tensor, direction, [head, side, table, words])
        coded_bits = 8.0 * (len(table) + len(words))
        parts = Parts(array.size, array.size, coded_bits, 0.0, 8.0 * len(side))
        return Encoded(payload, Support(shape), parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader) -> Decoded:
        """Scale every element's level and move it back."""
        step, highest, *rest = reader.unpack(_LAYOUT, "step and levels")
        if not (0.0 < step * highest <= _LARGEST_DISTANCE and 1 <= highest <= _MAX_LEVEL):
            raise CodecError(f"payload damaged: step {step}, highest level {highest}")
        width = _channels_of(header.shape)
        channels = _Channels.read(reader, width)
        body = RowsBody(reader, width, 2 * highest + 1)
        decoder = Decoder(reader)
        symbols = body.pop(decoder, header.elements // width)
        decoder.end()
        values = _levels(step, highest, rest[:3]).take(symbols)
        values *= channels.spread
        values += channels.centre
        return Decoded(to_tensor(values, header.dtype, header.shape), Support(header.shape))

    @classmethod
    def expand_gradient_body(cls, header: Header, reader: Reader, support: Support) -> torch.Tensor:
        """Return the gradient, dense: nothing was dropped."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        return cls.expand_body(header, reader).tensor


def _channels_of(shape: tuple[int, ...]) -> int:
    """Channels told apart: the last dimension, or one where few rows would share a spread."""
    rows = math.prod(shape[:-1])
    return shape[-1] if rows >= _MIN_ROWS else 1


def _normalised(rows: FloatArray, channels: _Channels) -> FloatArray:
    spread = channels.spread
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-37)
    return (rows - channels.centre) * inverse


def _quantise(
    rows: FloatArray, channels: _Channels, step: float, dead_zone: float
) -> tuple[NDArray[np.int32], tuple[int, int, int]]:
    """Symbols (0, then 2 j - 1 + negative), and 256 delta_j for j = 1, 2 and above."""
    symbols = np.empty(rows.shape, dtype=np.int32)
    counts, sums = np.zeros(4), np.zeros(4)
    for start in range(0, rows.shape[0], _CHUNK_ROWS):
        scaled = _normalised(rows[start : start + _CHUNK_ROWS], channels)
        negative = np.signbit(scaled)
        distance = np.abs(scaled)
        distance *= np.float32(1.0 / step)
        levels = (distance + np.float32(1.0 - dead_zone)).astype(np.int32)
        np.minimum(levels, _MAX_LEVEL, out=levels)
        kind = np.minimum(levels, 3).ravel()
        counts += np.bincount(kind, minlength=4)
        distance -= levels
        sums += np.bincount(kind, weights=distance.ravel(), minlength=4)
        chunk = symbols[start : start + _CHUNK_ROWS]
        np.multiply(levels, 2, out=chunk)
        chunk += negative
        chunk -= 1
        np.maximum(chunk, 0, out=chunk)
    means = np.clip(np.rint(256.0 * sums / np.maximum(counts, 1.0)), -127, 127).astype(int)
    return symbols, (int(means[1]), int(means[2]), int(means[3]))


def _levels(step: float, highest: int, offsets: list[int]) -> FloatArray:
    """The value of each symbol in units of the spread, shape (2 highest + 1,)."""
    levels = np.arange(highest + 1, dtype=np.float64)
    levels[1:] += np.array([*offsets[:2], *[offsets[2]] * highest])[:highest] / 256.0
    magnitudes = levels[1:] * step
    table = np.zeros(2 * highest + 1)
    table[1::2], table[2::2] = magnitudes, -magnitudes
    return table.astype(np.float32)


def _step_for_entropy(
    rows: FloatArray, channels: _Channels, classes: ClassArray, bits: float, dead_zone: float
) -> float:
    """Step at which the symbols of a sample of rows have ``bits`` of entropy, classes known."""
    wanted = max(1, _SAMPLE // rows.shape[1])
    generator = np.random.Generator(np.random.SFC64(rows.shape[0]))
    chosen = generator.choice(rows.shape[0], min(wanted, rows.shape[0]), replace=False)
    distance = np.abs(_normalised(rows[chosen], channels))
    low, high = math.log(0.002), math.log(100.0)
    for _ in range(18):
        middle = 0.5 * (low + high)
        scaled = distance / np.float32(math.exp(middle)) + np.float32(1.0 - dead_zone)
        levels = np.minimum(scaled, _MAX_LEVEL).astype(np.int32)
        # the sign of what is not zero costs one bit
        if entropy_by_class(levels, classes) + float(np.mean(levels > 0)) > bits:
            low = middle
        else:
            high = middle
    return math.exp(high)
