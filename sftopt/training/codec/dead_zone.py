"""The arithmetic of the dead-zone quantiser on rows of channels, for the host.

:class:`Rows` is what the coder needs of a tensor; ``accelerator.dead_zone`` has the same for
tensors on a GPU, where they stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.base import FloatArray
from sftopt.training.codec.channels import Channels
from sftopt.training.codec.contexts import (
    ClassArray,
    HostSymbols,
    SymbolRows,
    entropy_by_class,
)
from sftopt.training.codec.entropy import MAX_ALPHABET

MAX_LEVEL = MAX_ALPHABET // 2 - 1
"""Highest level a symbol can stand for."""
_SAMPLE = 65536
"""Elements that the step is chosen from."""
_CHUNK_ROWS = 256
"""Rows quantised at a time, so that they stay in the cache."""
HALVINGS = 18
"""How often the range of steps is halved."""
STEP_RANGE = (math.log(0.002), math.log(100.0))
"""Logarithms of the least and the largest step searched."""

Offsets = tuple[int, int, int]
"""256 delta_j for j = 1, 2 and above."""


class Rows(Protocol):
    """A tensor as rows of channels, wherever it is."""

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the channels' means and mean squares, shape (channels,) each."""

    def step_for_entropy(
        self, channels: Channels, classes: ClassArray, bits: float, dead_zone: float
    ) -> float:
        """Return the step at which a sample's symbols have ``bits`` of entropy, classes known."""

    def quantised(
        self, channels: Channels, step: float, dead_zone: float
    ) -> tuple[SymbolRows, Offsets]:
        """Quantise to symbols (0, then 2 j - 1 + negative); return them with the offsets."""


class HostRows:
    """Rows in a NumPy array (rows, channels)."""

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the channels' means and mean squares, shape (channels,) each."""
        rows = self._rows
        squares = np.einsum("rc,rc->c", rows, rows, dtype=np.float64) / rows.shape[0]
        return rows.mean(axis=0, dtype=np.float64), squares

    def step_for_entropy(
        self, channels: Channels, classes: ClassArray, bits: float, dead_zone: float
    ) -> float:
        """Return the step at which a sample's symbols have ``bits`` of entropy, classes known."""
        sample = self._rows[sampled_rows(*self._rows.shape)]
        distance = np.abs(_normalised(sample, channels))

        def entropy(step: float) -> float:
            scaled = distance / np.float32(step) + np.float32(1.0 - dead_zone)
            levels = np.minimum(scaled, MAX_LEVEL).astype(np.int32)
            # the sign of what is not zero costs one bit
            return entropy_by_class(levels, classes) + float(np.mean(levels > 0))

        return _halved(lambda step: entropy(step) > bits)

    def quantised(
        self, channels: Channels, step: float, dead_zone: float
    ) -> tuple[SymbolRows, Offsets]:
        """Quantise to symbols (0, then 2 j - 1 + negative); return them with the offsets."""
        rows = self._rows
        symbols = np.empty(rows.shape, dtype=np.int32)
        counts, sums = np.zeros(4), np.zeros(4)
        for start in range(0, rows.shape[0], _CHUNK_ROWS):
            scaled = _normalised(rows[start : start + _CHUNK_ROWS], channels)
            negative = np.signbit(scaled)
            distance = np.abs(scaled)
            distance *= np.float32(1.0 / step)
            levels = (distance + np.float32(1.0 - dead_zone)).astype(np.int32)
            np.minimum(levels, MAX_LEVEL, out=levels)
            kind = np.minimum(levels, 3).ravel()
            counts += np.bincount(kind, minlength=4)
            distance -= levels
            sums += np.bincount(kind, weights=distance.ravel(), minlength=4)
            chunk = symbols[start : start + _CHUNK_ROWS]
            np.multiply(levels, 2, out=chunk)
            chunk += negative
            chunk -= 1
            np.maximum(chunk, 0, out=chunk)
        return HostSymbols(symbols), offsets_of(counts, sums)


def sampled_rows(rows: int, channels: int) -> NDArray[np.int64]:
    """Return the numbers of the rows on which the step is searched; the same on any machine."""
    wanted = min(max(1, _SAMPLE // channels), rows)
    return np.random.Generator(np.random.SFC64(rows)).choice(rows, wanted, replace=False)


def offsets_of(counts: NDArray[np.float64], sums: NDArray[np.float64]) -> Offsets:
    """Return 256 times the mean distance above its level of each kind of level, shape (4,) each."""
    means = np.clip(np.rint(256.0 * sums / np.maximum(counts, 1.0)), -127, 127).astype(int)
    return int(means[1]), int(means[2]), int(means[3])


def _normalised(rows: FloatArray, channels: Channels) -> FloatArray:
    return (rows - channels.centre) * channels.inverse


def _halved(too_many_bits: Callable[[float], bool]) -> float:
    """The least step that does not take too many bits, by halving its logarithm's range."""
    low, high = STEP_RANGE
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if too_many_bits(math.exp(middle)):
            low = middle
        else:
            high = middle
    return math.exp(high)
