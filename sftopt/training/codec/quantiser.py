"""Stochastic quantisation, unbiased on the values it is given; one scale per group.

The magnitude of a value v in group g is put on the levels

    floor + j (scale_g - floor) / steps,    j = 0 .. ceil(steps),

rounded up with the probability that makes the expected level |v|; the sign is part of the symbol.
``floor`` is the least kept magnitude of a Top-K payload (no level is spent below the threshold)
and zero elsewhere. ``scale_g`` is the group's largest magnitude, rounded up to bfloat16, so
nothing is ever clipped. With ``rate = levels`` a symbol has 2^bits values, steps = 2^(bits-1) - 1.
With ``rate = entropy`` steps is the real number at which a symbol's entropy is ``bits``: then
eta_q of equation (1) equals ``bits`` for any tensor, keep fraction and direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.errors import CodecError

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]

SCALE_BITS = 16
"""Bits of one group's scale."""
_MAX_STEPS = 2047.0
"""Most steps of a scale."""
_MIN_STEPS = 1.0 / 64.0
"""Least steps of a scale."""
BINS = 4096
"""Bins of the histogram on which the steps of rate ``entropy`` are searched."""
_SAMPLE = 32768
"""Values that the entropy is estimated from."""
TINY = 2.0**-120
"""Spans of this and less have no float32 reciprocal worth having."""
LARGEST_PATTERN = 0x7B80
"""2^120 as bfloat16: no level of any payload overflows float32."""


class Rate(StrEnum):
    """What the bits of a quantised value count."""

    LEVELS = "levels"
    """2^bits levels, sign included; the entropy coder then takes fewer bits."""
    ENTROPY = "entropy"
    """As many levels as make the entropy, sign included, equal to bits."""


@dataclass(frozen=True)
class Scale:
    """What the receiver needs to undo the quantisation."""

    floor: float
    steps: float
    of_group: NDArray[np.uint16]
    """bfloat16 bit patterns of the groups that hold a value, in order."""

    @property
    def alphabet(self) -> int:
        """Return the number of symbols: 2 j + sign, with a zero level 0 and 2 j - 1 + sign."""
        highest = math.ceil(self.steps)
        return 2 * highest + (2 if self.floor > 0.0 else 1)

    @classmethod
    def read(cls, floor: float, steps: float, scales: NDArray[np.uint16]) -> Scale:
        """Read the scale of a payload; raises :class:`CodecError` for numbers we never write."""
        if not (0.0 <= floor <= 2.0**120 and _MIN_STEPS <= steps <= _MAX_STEPS):
            raise CodecError(f"payload damaged: floor {floor}, steps {steps}")
        if np.any(scales > LARGEST_PATTERN):
            raise CodecError("payload damaged: a group scale is negative or above 2^120")
        return cls(floor, steps, scales.astype(np.uint16))


@dataclass(frozen=True)
class Symbols:
    """Quantised values as the entropy coder is given them."""

    symbols: NDArray[np.integer]
    """Flat, group after group."""
    sizes: IndexArray
    """Values per group, groups with none left out."""
    scale: Scale


def group_sizes(positions: IndexArray | None, elements: int, group: int) -> IndexArray:
    """Return the numbers of kept values in groups of ``group`` elements, empty ones left out."""
    if positions is None:
        sizes = np.full(-(-elements // group), group, dtype=np.int64)
        sizes[-1] = elements - group * (sizes.size - 1)
        return sizes
    groups = -(-elements // group)
    if 16 * groups < positions.size:  # few and long groups: look for their ends
        ends = positions.searchsorted(np.arange(1, groups + 1) * group)
        sizes = np.diff(ends, prepend=0)
        return sizes[sizes > 0]
    of_group = positions // group
    last = np.flatnonzero(of_group[1:] != of_group[:-1])
    return np.diff(np.concatenate([[-1], last, [positions.size - 1]]))


def quantise(
    values: FloatArray,
    sizes: IndexArray,
    *,
    bits: int,
    rate: Rate,
    from_threshold: bool,
    generator: np.random.Generator,
) -> Symbols:
    """Quantise ``values`` (flat, group after group as ``sizes`` says).

    Raises :class:`CodecError` for NaN, infinity, and magnitudes above 2^120.
    """
    magnitudes = np.abs(values)
    starts = np.cumsum(sizes) - sizes
    scales = _rounded_up(np.maximum.reduceat(magnitudes, starts))
    floor = float(magnitudes.min()) if from_threshold else 0.0
    negative = np.signbit(values)
    spans = from_bfloat16(scales) - np.float32(floor)
    # of tiny spans the values become the floor, an error below 1e-36
    inverse = np.where(
        spans > np.float32(TINY), 1.0 / np.maximum(spans, np.float32(TINY)), 0.0
    ).astype(np.float32)
    excess = magnitudes
    excess -= np.float32(floor)
    excess *= np.repeat(inverse, sizes)
    if rate is Rate.LEVELS:
        steps = float(2 ** (bits - 1) - 1)
    else:
        sample = excess[:: sample_stride(excess.size)]
        bins = (sample * np.float32(BINS)).astype(np.int64)
        histogram = np.bincount(bins, minlength=BINS + 1)
        steps = steps_for_entropy(histogram, float(bits), signed_floor=floor > 0.0)
    excess *= np.float32(steps)
    excess += generator.random(values.size, dtype=np.float32)
    levels = excess.astype(np.int32)  # truncation is floor: nothing is negative
    np.minimum(levels, math.ceil(steps), out=levels)
    symbols = _symbols(levels, negative, floor > 0.0)
    return Symbols(symbols, sizes, Scale(floor, steps, scales))


def dequantise(coded: Symbols) -> FloatArray:
    """Return the values that symbols stand for, flat float32."""
    symbols, scale = coded.symbols, coded.scale
    if scale.floor > 0.0:
        levels, negative = symbols >> 1, symbols & 1
    else:
        levels, negative = (symbols + 1) >> 1, ~symbols & 1
    spans = from_bfloat16(scale.of_group) - np.float32(scale.floor)
    widths = np.where(spans > np.float32(TINY), spans, 0.0).astype(np.float32) / np.float32(
        scale.steps
    )
    values = levels.astype(np.float32)
    values *= np.repeat(widths, coded.sizes)
    values += np.float32(scale.floor)
    # the sign bit is set rather than multiplied: one pass
    patterns = values.view(np.int32)
    patterns |= negative << np.int32(31)
    if scale.floor == 0.0:
        values += np.float32(0.0)  # -0.0 of the zero level becomes 0.0
    return values


def _symbols(
    levels: NDArray[np.int32], negative: NDArray[np.bool_], signed_floor: bool
) -> NDArray[np.int32]:
    """2 j + negative; without a signed floor 0, then 2 j - 1 + negative."""
    levels *= 2
    levels += negative
    if not signed_floor:
        levels -= 1
        np.maximum(levels, 0, out=levels)
    return levels


def _rounded_up(scales: FloatArray) -> NDArray[np.uint16]:
    """bfloat16 patterns not below the given magnitudes."""
    patterns = (scales.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)
    if np.any(patterns > LARGEST_PATTERN):
        raise CodecError("the tensor holds NaN, infinity or magnitudes above 1.3e36")
    return patterns.astype(np.uint16)


def to_bfloat16(values: FloatArray) -> NDArray[np.uint16]:
    """Round finite float32 values to the nearest bfloat16 patterns."""
    patterns = values.view(np.uint32) + np.uint32(0x8000)
    return (patterns >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(patterns: NDArray[np.uint16]) -> FloatArray:
    """Convert bfloat16 patterns to float32 values, in the unit of the tensor."""
    return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)


def sample_stride(count: int) -> int:
    """Return the number of values between those on which the steps are searched."""
    return max(1, count // _SAMPLE)


def steps_for_entropy(histogram: NDArray[np.integer], bits: float, *, signed_floor: bool) -> float:
    """Return the steps at which symbols have ``bits`` of entropy.

    ``histogram``, shape (BINS + 1,), counts the values' excess over the floor, 0 to 1.
    """
    weights = histogram / histogram.sum()
    centres = np.minimum((np.arange(BINS + 1) + 0.5) / BINS, 1.0)
    low, high = math.log(_MIN_STEPS), math.log(_MAX_STEPS)
    for _ in range(16):
        middle = 0.5 * (low + high)
        if _symbol_entropy(weights, centres * math.exp(middle), signed_floor) < bits:
            low = middle
        else:
            high = middle
    return float(np.float32(math.exp(low)))  # as the header carries it


def _symbol_entropy(
    weights: NDArray[np.float64], positions: NDArray[np.float64], signed_floor: bool
) -> float:
    """Entropy of stochastically rounded levels, with an even sign where there is one."""
    below = positions.astype(np.int64)
    up = positions - below
    levels = np.bincount(below, weights=weights * (1.0 - up), minlength=below[-1] + 2)
    levels += np.bincount(below + 1, weights=weights * up, minlength=levels.size)[: levels.size]
    positive = levels[levels > 0.0]
    signed = 1.0 if signed_floor else 1.0 - levels[0]
    return float(-(positive @ np.log2(positive)) + signed)
