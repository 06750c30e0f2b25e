"""Compiled loops of the dead-zone quantiser: levels counted and set in one pass over the rows.

Levels, symbols and distances come out as NumPy's array expressions would give them, in the same
precision and order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.kernel_cache import prepare_cache

prepare_cache()

IntArray = NDArray[np.int32]


_APART = 8
"""Further places between two classes' counts, so that they do not share a line of the cache."""


def places_of(classes: NDArray[np.int64], most: int) -> tuple[NDArray[np.uint32], IntArray]:
    """Return for :func:`level_bits` each channel's first place, shape (channels,), and the places
    of the numbers of levels 0 to ``most``, (2, classes, places), zero.

    Channels take one or the other by turns: a sum just written need not be waited for.
    """
    counts = np.zeros((2, int(classes.max()) + 1, most + 1 + _APART), dtype=np.int32)
    turns = np.arange(classes.size) % 2
    first = (turns * counts.shape[1] + classes) * counts.shape[2]
    return first.astype(np.uint32), counts


@njit(cache=True, error_model="numpy")
def level_bits(
    distance: NDArray[np.float32],
    step: np.float32,
    shift: np.float32,
    most: np.float32,
    first: NDArray[np.uint32],
    counts: IntArray,
) -> float:
    """Return the mean bits of the levels min(distance / step + shift, most), classes known: their
    entropy, and one for the sign of each that is not 0.

    ``distance`` has shape (rows, channels), without unit; the others are of :func:`places_of`,
    ``counts`` zero before and after.
    """
    rows, channels = distance.shape
    levels = np.empty(channels, dtype=np.uint32)
    flat = counts.reshape(-1)
    highest = np.uint32(0)
    for row in range(rows):
        for channel in range(channels):
            scaled = distance[row, channel] / step + shift
            levels[channel] = np.uint32(np.int32(min(scaled, most)))
        for channel in range(channels):
            highest = max(highest, levels[channel])
        for channel in range(channels):
            flat[first[channel] + levels[channel]] += np.int32(1)
    bits = 0.0
    for number in range(counts.shape[1]):
        total = 0
        for level in range(highest + 1):
            counts[0, number, level] += counts[1, number, level]
            counts[1, number, level] = 0
            total += counts[0, number, level]
        for level in range(highest + 1):
            count = counts[0, number, level]
            counts[0, number, level] = 0
            if count > 0:
                bits += count * ((level > 0) - math.log2(count / total))
    mean: float = bits / (rows * channels)
    return mean


@njit(cache=True, error_model="numpy")
def set_symbols(
    scaled: NDArray[np.float32],
    per_step: np.float32,
    shift: np.float32,
    most: np.int32,
    symbols: IntArray,
    counts: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Write the symbol (0, then 2 j - 1 + negative) of each scaled value, without unit, both
    (rows, channels).

    Adds to ``counts`` and ``sums``, shape (4,), the number of levels 1, 2 and above, in places 1 to
    3, and their distances above the level in steps.
    """
    channels = scaled.shape[1]
    levels, above = np.empty(channels, dtype=np.int32), np.empty(channels, dtype=np.float32)
    first, second, further = 0.0, 0.0, 0.0
    for row in range(scaled.shape[0]):
        for channel in range(channels):
            value = scaled[row, channel]
            distance = abs(value) * per_step
            level = min(np.int32(distance + shift), most)
            levels[channel] = level
            above[channel] = np.float32(np.float64(distance) - np.float64(level))
            symbol = np.int32(2) * level - np.int32(1) + np.int32(value < np.float32(0.0))
            symbols[row, channel] = max(symbol, np.int32(0))
        for channel in range(channels):
            level = levels[channel]
            if level == 0:
                continue
            rest = np.float64(above[channel])
            counts[min(level, 3)] += 1.0
            if level == 1:
                first += rest
            elif level == 2:
                second += rest
            else:
                further += rest
    sums[1] += first
    sums[2] += second
    sums[3] += further
