"""What the search handles: nodes, what they inherit, what bounding one gives, the gap to close.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    Box,
    LivePlaces,
    MergedTable,
    Record,
    Region,
    TangentLoss,
)
from sftopt.solvers.certify.guidance import Multipliers

Flags = NDArray[np.bool_]

NO_LEAST = Multipliers(0.0, 0.0, 0.0, 0.0)
"""The lower end of a range that holds all multipliers."""
NO_MOST = Multipliers(np.inf, np.inf, np.inf, np.inf)
"""The upper end of a range that holds all multipliers; told by identity."""
_PRUNE = 0.999
"""Boxes are dropped at this part of the gap asked for, so that the end is not a hair short."""
_EDGE = 0.25
"""This near (in parts of a range, in logarithms) to an edge multipliers are kept in by it."""


@dataclass(frozen=True)
class LiveItems:
    """Items that can win in a box while the multipliers stay in a range; Statement 13."""

    items: LivePlaces
    least: Multipliers
    """The least multipliers of the range."""
    most: Multipliers
    """The largest multipliers of the range."""

    def within(self, m: Multipliers) -> Multipliers:
        """Return the nearest multipliers in the range; Statement 13."""
        if self.most is NO_MOST:
            return m
        return Multipliers(
            *(
                min(max(own, least), most)
                for own, least, most in zip(m, self.least, self.most, strict=True)
            )
        )

    def holds_back(self, m: Multipliers, free: Flags) -> bool:
        """Tell whether any multiplier that may move, ``free`` (4,), may want to leave the range."""
        if self.most is NO_MOST:
            return False
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.log(np.divide(m, self.least)) / np.log(np.divide(self.most, self.least))
        return bool(np.any(((part < _EDGE) | (part > 1.0 - _EDGE)) & free))

    def narrowed(
        self, kept: LivePlaces, centre: Multipliers, factor: float, m: Multipliers, free: Flags
    ) -> LiveItems:
        """Return the items ``kept`` for multipliers within ``factor`` of ``centre``.

        The items as they are, where ``m`` may want to leave that range; Statement 13.
        """
        nearer = LiveItems(
            LivePlaces(kept.first, kept.places[: kept.first[-1]].copy()),
            Multipliers(*(max(a, c / factor) for a, c in zip(self.least, centre, strict=True))),
            Multipliers(*(min(a, c * factor) for a, c in zip(self.most, centre, strict=True))),
        )
        return self if nearer.holds_back(m, free) else nearer


@dataclass(frozen=True)
class Root:
    """What all boxes of one cell start from."""

    region: Region
    alive: LiveItems
    merged: MergedTable


@dataclass
class Node:
    """One box with what is still allowed in it."""

    bound: float
    """Seconds."""
    root: int
    """Which of the cells it belongs to."""
    box: Box
    levels: tuple[int, int]
    """First and last of the values that tau_s can take."""
    region: Region
    multipliers: Multipliers
    depth: int
    alive: LiveItems
    chosen_at: Multipliers | None = None
    """The best multipliers where the mean loss is kept exactly; None before they are sought."""
    unlisted_to: int = 0
    """Up to this depth choices are too many to be listed."""
    exact: bool = False
    """Too narrow for a merged table, which does not tell which device to part."""
    final: bool = False
    """Too narrow to be halved with many others in one call."""


@dataclass
class NodeBound:
    """What bounding a node gave."""

    bound: float
    """Seconds."""
    multipliers: Multipliers
    """The best ones."""
    lost: TangentLoss
    record: Record
    """The choices behind the planes, without columns where no device would be parted."""
    alive: LiveItems
    """What can win in the box, for the parts it is split into."""
    chosen: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    """Items (place * O + option) and keeps of the devices, (N,) each, that keep the mean loss
    exactly."""
    apart: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    """As above, (S, N) each: all choices below the target; None where they are too many."""


@dataclass
class Incumbent:
    """How good the best plan is, and how near to it the bound must come."""

    rel_gap: float
    abs_gap: float
    value_s: float = np.inf

    def allowed(self) -> float:
        """Return the seconds of gap that may stay."""
        return max(self.rel_gap * self.value_s, self.abs_gap)

    def target(self) -> float:
        """Return the bound in seconds that closes a node."""
        return self.value_s - _PRUNE * self.allowed()
