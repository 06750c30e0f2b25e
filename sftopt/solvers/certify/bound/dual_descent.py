"""Where the dual is least: from a plan's times downhill on a sample of devices. Guidance alone.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    BoundData,
    Box,
    CornerBounds,
    MergedTable,
    Region,
    empty_bounds,
    every_place,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.cutting_planes import (
    BoxProblem,
    Effort,
    MultiplierSearch,
    best_multipliers,
)
from sftopt.solvers.certify.bound.merged_bound import merged_bounds
from sftopt.solvers.certify.bound.nodes import NO_LEAST, NO_MOST
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]

_NEAR = 0.004
"""Half a side of the boxes looked at, relative to the times."""
_ROUNDS = 5
"""Evaluations for the multipliers of one box."""
_STEPS = 24
"""Boxes looked at, at most."""
_FIRST_STEP = 0.06
"""The first step along each time, relative to it."""
_SHORTER = 0.4
"""What a step is shortened to once the slope along its time has changed its sign."""
_INSIDE = 0.1
"""A secant step keeps this part away from both its points."""
_LONGER = 1.03
"""What times are multiplied by while some device has nothing left and no value is known."""
_REACH = 3.0
"""How far, as a factor, multipliers may go from those of the last box."""


def downhill(
    data: BoundData, merged: MergedTable, region: Region, times: tuple[float, float],
    m: Multipliers, tau_s: float, ceiling: float,
) -> tuple[Array, Multipliers]:  # fmt: skip
    """Return times in seconds, (2,), and multipliers of a low value of V(t) = max D(t; m).

    Sought from ``times`` on. ``data``: usually a sample of the devices. Stops where V falls no
    more, or above ``ceiling`` seconds.
    """
    coarse, live = merged.table.size > 0, every_place(data, region)
    free = np.array([True, True, data.mean, m.memory > 0.0])
    effort, out = Effort(np.inf, _ROUNDS, _ROUNDS, coarse), empty_bounds()
    record, listing = no_record(CORNERS * _ROUNDS), no_listing()
    at = np.array(times)
    best, best_m, least = at.copy(), m, np.inf
    step = np.array([_FIRST_STEP, _FIRST_STEP])
    before: Array | None = None
    last = at.copy()
    for _ in range(_STEPS):
        sides = at * _NEAR
        problem = BoxProblem(data, merged, region, live, _box_around(at, sides, tau_s))
        search = MultiplierSearch(m, m, NO_LEAST, NO_MOST, free, _REACH)
        answer = best_multipliers(problem, search, effort, record, listing)
        if not np.isfinite(answer.bound):
            # some device has nothing left: back towards longer times
            at, step = 0.5 * (at + best) if least < np.inf else _LONGER * at, 0.5 * step
            before = None
            continue
        m = answer.multipliers
        if coarse:
            merged_bounds(data, merged, region, live, problem.box, m, out, listing)
        else:
            box_bounds(data, region, live, problem.box, m, out, record, 0, listing)
        slope = _slope(out, sides)
        if out.values.mean() < least:
            least, best, best_m = float(out.values.mean()), at.copy(), m
        if least > ceiling:
            break
        after = at * (1.0 - step * np.sign(slope))
        if before is not None:
            for axis in range(2):
                if before[axis] * slope[axis] < 0.0:
                    # a sign change: the secant's zero between the last two points
                    part = before[axis] / (before[axis] - slope[axis])
                    part = min(max(part, _INSIDE), 1.0 - _INSIDE)
                    after[axis] = last[axis] + part * (at[axis] - last[axis])
                    step[axis] *= _SHORTER
        if step.max() < _NEAR:
            break
        before, last, at = slope, at, after
    return best, best_m


def _box_around(at: Array, sides: Array, tau_s: float) -> Box:
    """Return the box with half sides ``sides`` (2,) around the times ``at`` (2,), in seconds."""
    low, high = (at - sides).tolist(), (at + sides).tolist()
    return Box(low[0], high[0], low[1], high[1], tau_s)


def _slope(out: CornerBounds, sides: Array) -> Array:
    """Return the slope of the bound along both times, (2,), from the corners of a box."""
    values = out.values
    return np.asarray(
        np.array(
            [values[1] + values[3] - values[0] - values[2],
             values[2] + values[3] - values[0] - values[1]]
        ) / (4.0 * sides)
    )  # fmt: skip
