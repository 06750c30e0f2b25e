"""Where the dual is least: from a plan's times downhill on a sample of devices. Guidance alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    MULTIPLIERS,
    Cell,
    Merged,
    Region,
    every_cut,
)
from sftopt.solvers.certify.bound.box_bound import evaluate
from sftopt.solvers.certify.bound.cutting_planes import maximise
from sftopt.solvers.certify.bound.merged_bound import skim

Array = NDArray[np.float64]

_NEAR = 0.004
"""Half a side of the boxes looked at, relative to the times."""
_ROUNDS, _STEPS = 5, 24


def downhill(
    cell: Cell, merged: Merged, region: Region, times: Array, m: Array, tau_s: float, ceiling: float
) -> tuple[Array, Array]:
    """(times, multipliers) of a low value of V(t) = max D(t; m) near ``times``.

    ``cell``: usually a sample of the devices. Stops where V falls no more, or above ``ceiling``.
    """
    live, coarse = every_cut(cell, region), merged.table.size > 0
    free = np.array([True, True, cell.mean, m[3] > 0.0])
    none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
    unused = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8)
    limits = np.zeros(MULTIPLIERS), np.full(MULTIPLIERS, np.inf)
    values, cuts, spread = np.empty(CORNERS), np.empty((CORNERS, MULTIPLIERS + 1)), np.zeros(4)
    answer, weights = np.zeros(9), np.zeros(CORNERS * _ROUNDS)
    at, best, best_m = times.copy(), times.copy(), m.copy()
    least = np.inf
    step = np.array([0.06, 0.06])
    before: Array | None = None
    last = at.copy()
    for _ in range(_STEPS):
        sides = at * _NEAR
        box = np.array([at[0] - sides[0], at[0] + sides[0], at[1] - sides[1], at[1] + sides[1],
                        tau_s])  # fmt: skip
        bound, _ = maximise(
            cell, merged, region, live, box, m, m, free, *limits, np.inf, _ROUNDS, _ROUNDS, 3.0,
            coarse, answer, False, *none, weights, unused, 0.0,
        )  # fmt: skip
        if not np.isfinite(bound):
            # some device has nothing left: back towards longer times
            at, step = 0.5 * (at + best) if least < np.inf else 1.03 * at, 0.5 * step
            before = None
            continue
        m = answer[:MULTIPLIERS].copy()
        if coarse:
            skim(cell, merged, region, live, box, m, values, cuts, spread, unused, 0.0)
        else:
            evaluate(cell, region, live, box, m, values, cuts, spread, False, *none, unused, 0.0)
        slope = np.array(
            [values[1] + values[3] - values[0] - values[2],
             values[2] + values[3] - values[0] - values[1]]
        ) / (4.0 * sides)  # fmt: skip
        if values.mean() < least:
            least, best, best_m = float(values.mean()), at.copy(), m.copy()
        if least > ceiling:
            break
        after = at * (1.0 - step * np.sign(slope))
        if before is not None:
            for axis in range(2):
                if before[axis] * slope[axis] < 0.0:
                    # a sign change: the secant's zero between the last two points
                    part = before[axis] / (before[axis] - slope[axis])
                    part = min(max(part, 0.1), 0.9)
                    after[axis] = last[axis] + part * (at[axis] - last[axis])
                    step[axis] *= 0.4
        if step.max() < _NEAR:
            break
        before, last, at = slope, at, after
    return best, best_m
