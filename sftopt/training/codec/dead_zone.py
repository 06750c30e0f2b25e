"""The arithmetic of the dead-zone quantiser on rows of channels, for the host.

:class:`Rows` is what the coder needs of a tensor; ``accelerator.dead_zone`` has the same for
tensors on a GPU, where they stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.base import FloatArray
from sftopt.training.codec.channels import Channels
from sftopt.training.codec.contexts import (
    ClassArray,
    HostSymbols,
    SymbolRows,
)
from sftopt.training.codec.dead_zone_kernels import level_bits, places_of, set_symbols
from sftopt.training.codec.entropy import MAX_ALPHABET

MAX_LEVEL = MAX_ALPHABET // 2 - 1
"""Highest level a symbol can stand for."""
_SAMPLE = 65536
"""Elements that the step is chosen from."""
_CHUNK_ROWS = 256
"""Rows whose distances are summed up by themselves; payloads hold the sums to the last bit."""
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

    def step_search(
        self, channels: Channels, classes: ClassArray, dead_zone: float
    ) -> Callable[[float], float]:
        """Return what gives the step at which a sample's symbols have so many bits of entropy,
        classes known.
        """

    def quantised(
        self, channels: Channels, step: float, dead_zone: float
    ) -> tuple[SymbolRows, Offsets]:
        """Quantise to symbols (0, then 2 j - 1 + negative); return them with the offsets."""


class HostRows:
    """Rows in a NumPy array (rows, channels)."""

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows
        self._scaled: tuple[Channels, FloatArray] | None = None

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the channels' means and mean squares, shape (channels,) each."""
        rows = self._rows
        squares = np.einsum("rc,rc->c", rows, rows, dtype=np.float64) / rows.shape[0]
        return rows.mean(axis=0, dtype=np.float64), squares

    def step_search(
        self, channels: Channels, classes: ClassArray, dead_zone: float
    ) -> Callable[[float], float]:
        """Return what gives the step at which a sample's symbols have so many bits of entropy,
        classes known.

        A second search begins like the first, so entropies are kept.
        """
        scaled = self._normalised(channels)
        distance = np.abs(scaled[sampled_rows(*scaled.shape)])
        shift, most = np.float32(1.0 - dead_zone), np.float32(MAX_LEVEL)
        first, counts = places_of(classes, MAX_LEVEL)

        @cache
        def entropy(step: float) -> float:
            return level_bits(distance, np.float32(step), shift, most, first, counts)

        return lambda bits: _halved(lambda step: entropy(step) > bits)

    def quantised(
        self, channels: Channels, step: float, dead_zone: float
    ) -> tuple[SymbolRows, Offsets]:
        """Quantise to symbols (0, then 2 j - 1 + negative); return them with the offsets."""
        scaled = self._normalised(channels)
        symbols = np.empty(scaled.shape, dtype=np.int32)
        counts, sums = np.zeros(4), np.zeros(4)
        per_step, shift = np.float32(1.0 / step), np.float32(1.0 - dead_zone)
        for start in range(0, scaled.shape[0], _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            most = np.int32(MAX_LEVEL)
            set_symbols(scaled[rows], per_step, shift, most, symbols[rows], counts, sums)
        return HostSymbols(symbols), offsets_of(counts, sums)

    def _normalised(self, channels: Channels) -> FloatArray:
        """The rows in units of their channels' spreads; kept, as each try of a step asks again."""
        if self._scaled is None or self._scaled[0] is not channels:
            self._scaled = channels, (self._rows - channels.centre) * channels.inverse
        return self._scaled[1]


def sampled_rows(rows: int, channels: int) -> NDArray[np.int64]:
    """Return the numbers of the rows on which the step is searched; the same on any machine."""
    wanted = min(max(1, _SAMPLE // channels), rows)
    return np.random.Generator(np.random.SFC64(rows)).choice(rows, wanted, replace=False)


def offsets_of(counts: NDArray[np.float64], sums: NDArray[np.float64]) -> Offsets:
    """Return 256 times the mean distance above its level of each kind of level, shape (4,) each."""
    means = np.clip(np.rint(256.0 * sums / np.maximum(counts, 1.0)), -127, 127).astype(int)
    return int(means[1]), int(means[2]), int(means[3])


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
