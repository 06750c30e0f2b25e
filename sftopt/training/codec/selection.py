"""Which elements are kept: exact Top-K by magnitude, and its randomised kin."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
PositionArray = NDArray[np.int64]

_MAGNITUDE_BITS = np.int32(0x7FFFFFFF)
_SAMPLE = 32768
_CHUNK = 65536  # a chunk's scratch memory stays in the cache


def kept_elements(elements: int, keep: float) -> int:
    """K = keep x elements, rounded half up, at least one element."""
    return min(max(int(keep * elements + 0.5), 1), elements)


class Selection(NamedTuple):
    """Kept elements of a flat array: where they are, twice, and their values."""

    mask: BoolArray
    positions: PositionArray
    values: FloatArray


def top_k(values: FloatArray, kept: int) -> Selection:
    """Exactly ``kept`` elements of largest magnitude of a flat array, in ascending positions.

    Among equal magnitudes the first in memory are kept. NaN and infinity count as largest, so
    that the caller meets them among the kept.

    A sample gives a bound below which no element of the Top-K is expected; only the elements
    above it are gathered and partitioned. The result is exact whatever the sample says.
    """
    # Bit patterns of non-negative floats sort like the floats, NaN last.
    patterns = values.view(np.int32)
    mask = _at_least(patterns, _safe_bound(patterns, kept))
    candidates = positions_of(mask, int(np.count_nonzero(mask)))
    if candidates.size < kept:  # the sample misled
        mask = np.ones(values.size, dtype=np.bool_)
        candidates = np.arange(values.size)
    found = values.take(candidates)
    magnitudes = found.view(np.int32) & _MAGNITUDE_BITS
    if magnitudes.size == kept:
        return Selection(mask, candidates, found)
    first = magnitudes.size - kept
    threshold = np.partition(magnitudes, first)[first]
    chosen = magnitudes >= threshold
    surplus = int(np.count_nonzero(chosen)) - kept
    if surplus:
        ties = np.flatnonzero(magnitudes == threshold)
        chosen[ties[ties.size - surplus :]] = False
    order = np.flatnonzero(chosen)
    mask[candidates.take(positions_of(~chosen, candidates.size - kept))] = False
    return Selection(mask, candidates.take(order), found.take(order))


def random_top_k(
    values: FloatArray, kept: int, share: float, generator: np.random.Generator
) -> Selection:
    """Exactly ``kept`` elements, each of them with probability ``share`` from outside the Top-K.

    The number from outside is binomial; both parts are drawn without replacement.
    """
    mask, top, _ = top_k(values, kept)
    rest = np.flatnonzero(~mask)
    swapped = min(int(generator.binomial(kept, share)), rest.size)
    mask[generator.choice(top, swapped, replace=False)] = False
    mask[generator.choice(rest, swapped, replace=False)] = True
    positions = positions_of(mask, kept)
    return Selection(mask, positions, values.take(positions))


def positions_of(mask: BoolArray, kept: int) -> PositionArray:
    """Flat positions of the ``kept`` ones of a mask, ascending.

    NumPy searches masks of up to a tenth ones value by value, three times slower near a tenth
    than its method for denser ones: so ones are appended until the mask counts as dense.
    """
    if not 0.02 * mask.size < kept <= 0.1 * mask.size:
        return np.flatnonzero(mask)
    extra = int((0.1 * mask.size - kept) / 0.9) + 8
    return np.flatnonzero(np.concatenate([mask, np.ones(extra, dtype=np.bool_)]))[:kept]


def _safe_bound(patterns: NDArray[np.int32], kept: int) -> np.int32:
    """A magnitude pattern that the Top-K very likely does not go below; 0 for short arrays."""
    if patterns.size < 4 * _SAMPLE:
        return np.int32(0)
    # A fixed scatter of positions: a stride would meet the same channels again and again.
    scatter = np.arange(_SAMPLE, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    positions = (scatter >> np.uint64(32)) * np.uint64(patterns.size) >> np.uint64(32)
    sample = patterns.take(positions.astype(np.int64)) & _MAGNITUDE_BITS
    share = kept / patterns.size
    share += 4.0 * math.sqrt(share * (1.0 - share) / _SAMPLE) + 2.0 / _SAMPLE
    above = int(share * _SAMPLE)
    if above >= _SAMPLE:
        return np.int32(0)
    return np.int32(np.partition(sample, _SAMPLE - above)[_SAMPLE - above])


def _at_least(patterns: NDArray[np.int32], bound: np.int32) -> BoolArray:
    mask = np.empty(patterns.size, dtype=np.bool_)
    scratch = np.empty(_CHUNK, dtype=np.int32)
    for start in range(0, patterns.size, _CHUNK):
        chunk = patterns[start : start + _CHUNK]
        magnitudes = np.bitwise_and(chunk, _MAGNITUDE_BITS, out=scratch[: chunk.size])
        np.greater_equal(magnitudes, bound, out=mask[start : start + _CHUNK])
    return mask
