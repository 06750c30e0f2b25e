"""Compiled: many boxes bounded and halved in one call.

In small cells a box is bounded in less time than Python takes to hand it over. The boxes given back
and those closed hold all points of the ones given.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import Box, Listing, Record, TangentLoss
from sftopt.solvers.certify.bound.cutting_planes import (
    BoxProblem,
    Effort,
    MultiplierSearch,
    best_multipliers,
)
from sftopt.solvers.certify.bound.table_floor import table_floor
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LOSING = 0.3
"""Where tangents lose less than this part of what is missing, the longer side is halved."""
LOPSIDED = 4.0
"""A side this many times the other is halved first, whatever the tangents lose."""
NARROW = 0.5
"""Where tangents lose more than this part of what is missing, no device is parted."""
VANISHED = 0.03
"""Multipliers start at this part of the best plan's prices at least."""


class OpenBoxes(NamedTuple):
    """Boxes that are not closed, a row each; there is room for more rows than boxes."""

    sides: Array
    """(rows, 4) limits of the boxes, in the order of :class:`Box`."""
    bounds: Array
    """(rows,) seconds."""
    multipliers: Array
    """(rows, 4)"""
    final: NDArray[np.bool_]
    """(rows,) whether a box is too narrow for halving to be what it needs."""
    depth: Integers
    """(rows,) how often boxes were parted."""


class Halved(NamedTuple):
    """What halving boxes gave."""

    opened: int
    """How many boxes are open: the first rows."""
    floor: float
    """The least bound of what was closed, in seconds."""
    boxes: int
    """How many were bounded."""
    evaluations: int
    closed: int
    """How many were closed."""


class ClosedBoxes(NamedTuple):
    """Boxes that are closed, a row each, and the multipliers that their bounds were found at."""

    sides: Array
    """(rows, 4) limits, as of :class:`OpenBoxes`."""
    multipliers: Array
    """(rows, 4)"""


@njit(cache=True, nogil=True)
def halve_boxes(
    problem: BoxProblem, search: MultiplierSearch, effort: Effort, best: float, narrow: float,
    opened: OpenBoxes, count: int, most: int, begun: bool, closed: ClosedBoxes,
    record: Record, listing: Listing,
) -> Halved:  # fmt: skip
    """Bound and halve ``count`` boxes and their parts, least bound first; Statements 2 and 5.

    ``best``: the best plan's delay in seconds. A box whose tangents lose less than the part
    ``narrow`` of what is missing is final. At most ``most`` boxes are bounded, ``opened`` has a
    row more for each and ``closed`` a row for each. A box is closed where its bound reaches the
    target of ``effort``; those left open are written in place. Box and first multipliers of
    ``problem`` and ``search`` stand for all.
    """
    sides, bounds, multipliers = opened.sides, opened.bounds, opened.multipliers
    final = opened.final
    floor, boxes, evaluations, shut = np.inf, 0, 0, 0
    while boxes < most:
        at = _least_open(bounds, final, count)
        if at < 0 or bounds[at] >= effort.target:
            break
        box = Box(sides[at, 0], sides[at, 1], sides[at, 2], sides[at, 3], problem.box.server)
        m, lost = _started(multipliers[at], search), TangentLoss(0.0, 0.0, 0.0, 0.0)
        boxes += 1
        if begun and bounds[at] == -np.inf:
            bounds[at] = table_floor(problem.data, problem.region, problem.live, box, m)
            evaluations += 1
        if bounds[at] < effort.target:
            answer = best_multipliers(
                BoxProblem(problem.data, problem.merged, problem.region, problem.live, box),
                MultiplierSearch(
                    m, search.other, search.least, search.most, search.free, search.reach
                ),
                effort, record, listing,
            )  # fmt: skip
            evaluations += answer.evaluations
            bounds[at] = max(bounds[at], answer.bound)
            m, lost = answer.multipliers, answer.lost
        missing = best - bounds[at]
        multipliers[at, 0], multipliers[at, 1] = m.uplink, m.downlink
        multipliers[at, 2], multipliers[at, 3] = m.loss, m.memory
        if bounds[at] >= effort.target:
            closed.sides[shut], closed.multipliers[shut] = sides[at], multipliers[at]
            shut += 1
            floor = min(floor, bounds[at])
            count -= 1
            _copy(opened, count, at)
            continue
        if lost.most_up + lost.most_down <= narrow * missing:
            final[at] = True
            continue
        opened.depth[at] += 1
        _copy(opened, at, count)
        _part(sides, at, count, lost, missing)
        count += 1
    return Halved(count, floor, boxes, evaluations, shut)


@njit(cache=True)
def _copy(opened: OpenBoxes, source: int, target: int) -> None:
    """Copy one row to another."""
    opened.sides[target] = opened.sides[source]
    opened.bounds[target] = opened.bounds[source]
    opened.multipliers[target] = opened.multipliers[source]
    opened.final[target] = opened.final[source]
    opened.depth[target] = opened.depth[source]


@njit(cache=True)
def _least_open(bounds: Array, final: NDArray[np.bool_], count: int) -> int:
    """Return the index of the row of least bound that may be halved, -1 if there is none."""
    least, at = np.inf, -1
    for i in range(count):
        if not final[i] and (at < 0 or bounds[i] < least):
            least, at = bounds[i], i
    return at


@njit(cache=True)
def _started(m: Array, search: MultiplierSearch) -> Multipliers:
    """Return first multipliers, none vanished that the best plan has a price for."""
    other, free = search.other, search.free
    return Multipliers(
        max(m[0], VANISHED * other.uplink if free[0] else 0.0),
        max(m[1], VANISHED * other.downlink if free[1] else 0.0),
        max(m[2], VANISHED * other.loss if free[2] else 0.0),
        max(m[3], VANISHED * other.memory if free[3] else 0.0),
    )


@njit(cache=True)
def _part(sides: Array, at: int, new: int, lost: TangentLoss, missing: float) -> None:
    """Make rows ``at`` and ``new``, which hold one box, its halves."""
    half = halved_side(
        sides[at, 1] - sides[at, 0], sides[at, 3] - sides[at, 2], lost.up, lost.down, missing
    )
    middle = 0.5 * (sides[at, half] + sides[at, half + 1])
    sides[at, half + 1], sides[new, half] = middle, middle


@njit(cache=True)
def halved_side(
    width_up: float, width_down: float, lost_up: float, lost_down: float, missing: float
) -> int:
    """Return the index of a box's limit where the side to be halved begins.

    0: the uplink's, 2: the downlink's; the one whose tangents lose more. Widths and losses are in
    seconds.
    """
    up, down = lost_up, lost_down
    if max(up, down) < LOSING * missing:
        # not the tangents lose here, but which items may be had across so wide a box
        up, down = width_up, width_down
    if up >= down:
        return 2 if width_down > LOPSIDED * width_up else 0
    return 0 if width_up > LOPSIDED * width_down else 2
