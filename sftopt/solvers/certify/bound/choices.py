"""The best multipliers of a box where the mean loss is kept exactly; Statement 17.

By the cutting planes of the compiled searches, but from Python: evaluations are few, and the code
of the box bounds need not be compiled into one function more. Constants were set by hand on cells
with token modes: validity does not depend on them, speed does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.analytic_centre import analytic_centre
from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    MULTIPLIERS,
    Answer,
    CornerBounds,
    TangentLoss,
    empty_bounds,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.cutting_planes import BoxProblem, Effort
from sftopt.solvers.certify.bound.knapsack import Room, knapsack_bounds
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LOSS = 2
"""The place of the price of loss among the multipliers."""
_REACH = 1.1
"""How far, as a factor, multipliers are allowed to go from those of the best bound."""
_FEW = 200
_SETTLED = 3
"""Evaluations after which little room left ends the search."""
_LITTLE_ROOM = 0.2
"""Part of what is missing that counts as little room left."""
_NOTHING = no_record(), no_listing()
"""No choices are recorded and no places listed by the bound without choices."""


def best_of_choices(
    problem: BoxProblem, start: Multipliers, free: Flags, effort: Effort, room: Room
) -> Answer:
    """Return the best safe bound in seconds with the mean loss kept exactly; Statements 5 and 17.

    Ends at once where few choices are left: they are listed in ``room`` for Statement 18, as they
    are after the last evaluation where they have become few.

    ``free`` (4,): which multipliers may move. That of loss stays where points alone are chosen,
    whose cost it does not change. The least choice at the last multipliers is in ``room``; ends
    where choices are too many.
    """
    data, region, live, box = problem.data, problem.region, problem.live, problem.box
    out, record, (_, listing) = empty_bounds(), no_record(CORNERS * effort.rounds), _NOTHING
    planes, count = np.empty((CORNERS * effort.rounds, MULTIPLIERS + 1)), 0
    now, best_at = np.array(start), np.array(start)
    tried = False
    best, lost, used = -np.inf, TangentLoss(0.0, 0.0, 0.0, 0.0), 0
    for turn in range(effort.rounds):
        m = Multipliers(*now.tolist())
        box_bounds(data, region, live, box, m, out, record, 0, listing)
        before = out.values.copy()
        price = knapsack_bounds(data, region, live, box, m, effort.target, False, out, room)
        used += 1
        few = False
        if turn == 0 and price >= 0 and room.kept_count[0] <= _FEW:
            tried = True
            raised, planes_now = out.values.copy(), out.planes.copy()
            out.values[:] = before
            knapsack_bounds(data, region, live, box, m, effort.target, True, out, room)
            few = room.number[0] > 0
            if not few:
                out.values[:], out.planes[:] = raised, planes_now
        value = float(out.values.min())
        known = np.isfinite(out.planes[:, 0])
        planes[count : count + known.sum()] = out.planes[known]
        count += int(known.sum())
        if value > best:
            best, best_at, lost = value, now.copy(), _tangent_loss(out)
        unlisted = price < 0 and value < effort.target
        if best >= effort.target or turn == effort.rounds - 1 or unlisted or few:
            break
        if turn >= effort.patience and lost.up + lost.down > effort.target - best:
            break
        moves = free & (best_at > 0.0)
        moves[_LOSS] &= price > 0
        if not moves.any():
            break
        now, ceiling = _next(planes[:count], best_at, moves, best, record.weights)
        if turn >= _SETTLED and ceiling - best < _LITTLE_ROOM * (effort.target - best):
            break
    if best < effort.target and (used > 1 or not tried):
        m = Multipliers(*best_at.tolist())
        box_bounds(data, region, live, box, m, out, record, 0, listing)
        knapsack_bounds(data, region, live, box, m, effort.target, True, out, room)
        used += 1
        best = max(best, float(out.values.min()))
    return Answer(best, used, Multipliers(*best_at.tolist()), lost)


def _next(
    planes: Array, best_at: Array, moves: Flags, best: float, weights: Array
) -> tuple[Array, float]:
    """Return the multipliers to look at next, and about the largest possible bound in seconds.

    Variables are those that move, as multiples of the best ones.
    """
    place = np.flatnonzero(moves)
    ours = np.empty((len(planes), MULTIPLIERS + 1))
    ours[:, 0] = planes[:, 0] + planes[:, 1:] @ np.where(moves, 0.0, best_at)
    ours[:, 1 : 1 + len(place)] = planes[:, 1 + place] * best_at[place]
    ones, centre = np.ones(len(place)), np.empty(len(place))
    ceiling = analytic_centre(ours, ones / _REACH, ones * _REACH, ones, best, centre, weights)
    now = best_at.copy()
    now[place] *= centre
    return now, float(ceiling)


def _tangent_loss(out: CornerBounds) -> TangentLoss:
    """Return what tangents lose at the corner of the least bound, and at most, in seconds."""
    up, down = out.lost[int(np.argmin(out.values))].tolist()
    return TangentLoss(up, down, *out.lost.max(axis=0).tolist())
