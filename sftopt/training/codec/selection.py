"""Which elements are kept: exact Top-K by magnitude, and its randomised kin."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.kernel_cache import prepare_cache

prepare_cache()

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
PositionArray = NDArray[np.int64]

_MAGNITUDE_BITS = np.int32(0x7FFFFFFF)
"""All bits of a float32 but the sign."""
_SAMPLE = 32768
"""Elements drawn to estimate where the Top-K begins."""
_CHUNK = 4096
"""Elements gathered between two checks of the room."""


def kept_elements(elements: int, keep: float) -> int:
    """Return the number K = keep x elements of kept elements, rounded half up, at least one."""
    return min(max(int(keep * elements + 0.5), 1), elements)


class Selection(NamedTuple):
    """Kept elements of a flat array: where they are, twice, and their values."""

    mask: BoolArray
    positions: PositionArray
    values: FloatArray


def top_k(values: FloatArray, kept: int) -> Selection:
    """Select exactly ``kept`` elements of largest magnitude, in ascending positions.

    Among equal magnitudes the first in memory are kept. NaN and infinity count as largest, so
    that the caller meets them among the kept.

    A sample gives a bound below which no element of the Top-K is expected; only the elements
    above it are gathered and partitioned. The result is exact whatever the sample says.
    """
    # Bit patterns of non-negative floats sort like the floats, NaN last.
    patterns = values.view(np.int32)
    positions, found = _gathered(patterns, _safe_bound(patterns, kept), kept)
    if found.size < kept:  # the sample misled
        positions, found = _gathered(patterns, np.int32(0), kept)
    if found.size > kept:
        magnitudes = found & _MAGNITUDE_BITS
        first = magnitudes.size - kept
        threshold = np.partition(magnitudes, first)[first]
        _settle(positions, found, threshold, kept - int(np.count_nonzero(magnitudes > threshold)))
        positions, found = positions[:kept], found[:kept]
    mask = np.zeros(values.size, dtype=np.bool_)
    mask[positions] = True
    return Selection(mask, positions, found.view(np.float32))


def _gathered(
    patterns: NDArray[np.int32], bound: np.int32, kept: int
) -> tuple[PositionArray, NDArray[np.int32]]:
    """Positions and patterns of all elements whose magnitude pattern is ``bound`` or more."""
    room = patterns.size if bound == 0 else min(patterns.size, kept + kept // 4)
    while True:
        positions = np.empty(room + _CHUNK, dtype=np.int64)
        found = np.empty(room + _CHUNK, dtype=np.int32)
        count = int(_gather(patterns, bound, room, positions, found))
        if count <= room:
            return positions[:count], found[:count]
        room = patterns.size


@njit(cache=True, error_model="numpy")
def _gather(
    patterns: NDArray[np.int32],
    bound: np.int32,
    room: int,
    positions: PositionArray,
    found: NDArray[np.int32],
) -> np.uint64:
    """How many were written; where they are more than ``room``, any number above it.

    Every element is written and the place moves on for those that stay: no branch to mispredict.
    """
    count = np.uint64(0)  # unsigned, or every place would be looked at for counting from the end
    most = np.uint64(room)
    for start in range(0, patterns.size, _CHUNK):
        if count > most:
            break
        for index in range(start, min(start + _CHUNK, patterns.size)):
            pattern = patterns[index]
            positions[count] = index
            found[count] = pattern
            count += np.uint64((pattern & _MAGNITUDE_BITS) >= bound)
    return count


@njit(cache=True, error_model="numpy")
def _settle(
    positions: PositionArray, found: NDArray[np.int32], threshold: np.int32, ties: int
) -> None:
    """Move to the front what is above ``threshold``, and the first ``ties`` that are at it."""
    count = np.uint64(0)
    for index in range(positions.size):
        magnitude = found[index] & _MAGNITUDE_BITS
        stays = magnitude > threshold
        if magnitude == threshold and ties > 0:
            stays = True
            ties -= 1
        positions[count] = positions[index]
        found[count] = found[index]
        count += np.uint64(stays)


def random_top_k(
    values: FloatArray, kept: int, share: float, generator: np.random.Generator
) -> Selection:
    """Select exactly ``kept`` elements, each with probability ``share`` outside the Top-K.

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
    """Return the flat positions of the ``kept`` ones of a mask, ascending.

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
