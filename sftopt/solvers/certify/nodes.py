"""What the search handles: nodes, what they inherit, what bounding one gives, the gap to close."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import Live, Merged, Region

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_EDGE = 0.25
"""This near (in parts of a range, in logarithms) to an edge multipliers are kept in by it."""


@dataclass(frozen=True)
class Alive:
    """Items that can win in a box while the multipliers stay in a range; Statement 13."""

    items: Live
    least: Array
    """(4,) least multipliers."""
    most: Array

    def within(self, m: Array) -> Array:
        """The nearest multipliers in the range."""
        return np.minimum(np.maximum(m, self.least), self.most)

    def near_edge(self, m: Array) -> NDArray[np.bool_]:
        """Which multipliers may want to leave the range."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.log(m / self.least) / np.log(self.most / self.least)
        return (part < _EDGE) | (part > 1.0 - _EDGE)


@dataclass(frozen=True)
class Root:
    """What all boxes of one cell start from."""

    region: Region
    alive: Alive
    merged: Merged


@dataclass
class Node:
    """One box with what is still allowed in it."""

    bound: float
    root: int
    box: Array
    """tau_u low, high, tau_d low, high, tau_s low."""
    levels: tuple[int, int]
    """First and last of the values that tau_s can take."""
    region: Region
    multipliers: Array
    depth: int
    alive: Alive
    exact: bool = False
    """Too narrow for a merged table, which does not tell which device to part."""


@dataclass
class Found:
    """What bounding a node gave."""

    bound: float
    answer: Array
    """(9,): the best multipliers, an estimate of the largest bound possible, and what the tangents
    lose up and down, at the worst corner and at most."""
    items: Integers
    keeps: Array
    weights: Array
    alive: Alive
    """What can win in the box, for the parts it is split into."""


@dataclass
class Incumbent:
    """How good the best plan is, and how near to it the bound must come."""

    rel_gap: float
    abs_gap: float
    value_s: float = np.inf

    def allowed(self) -> float:
        """Seconds of gap that may stay."""
        return max(self.rel_gap * self.value_s, self.abs_gap)
