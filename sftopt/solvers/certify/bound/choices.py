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
"""How far, as a factor, multipliers are allowed to go from those of the best bound: farther off
items that are least no more are listed by the hundred."""
_FEW = 200
"""Up to so many choices that none beats, all are worth listing at the first multipliers."""
_FARTHEST = 1.3
"""Where planes promise too little within that, they are allowed to go up to about so far."""
_SETTLED = 3
"""Evaluations after which little room left ends the search."""
_LITTLE_ROOM = 0.2
"""Part of what is missing that counts as little room left."""
_NO_LISTING = no_listing()
"""No places are listed by the bound without choices."""


def best_of_choices(
    problem: BoxProblem, start: Multipliers, free: Flags, effort: Effort, room: Room
) -> Answer:  # fmt: skip
    """Return the best safe bound in seconds with the mean loss kept exactly; Statements 5 and 17.

    Where few choices are left they are listed in ``room`` for Statement 18, at the first
    multipliers, which ends the search at once, or at the best ones.

    ``free`` (4,): which multipliers may move. That of loss stays where points alone are chosen,
    whose cost it does not change. The least choice at the last multipliers is in ``room``; ends
    where choices are too many.
    """
    known = _Known(problem, effort, room)
    now, best_at, best = np.array(start), np.array(start), -np.inf
    lost, used, tried, reach = TangentLoss(0.0, 0.0, 0.0, 0.0), 0, False, _REACH
    for turn in range(effort.rounds):
        price = known.look(now)
        used += 1
        value = float(known.out.values.min())
        if value > best:
            best, best_at, lost = value, now.copy(), _tangent_loss(known.out)
        if turn == 0 and price >= 0 and room.unbeaten[0] <= _FEW:
            tried = True
            if known.list_all(now):
                break
        unlisted = price < 0 and value < effort.target
        if best >= effort.target or turn == effort.rounds - 1 or unlisted:
            break
        if turn >= effort.patience and lost.up + lost.down > effort.target - best:
            break
        moves = free & (best_at > 0.0)
        moves[_LOSS] &= price > 0
        if not moves.any():
            break
        now, ceiling = _next(known.seen(), best_at, moves, best, known.record.weights, reach)
        while ceiling - best < _LITTLE_ROOM * (effort.target - best) and reach < _FARTHEST:
            reach *= reach
            now, ceiling = _next(known.seen(), best_at, moves, best, known.record.weights, reach)
        if turn >= _SETTLED and ceiling - best < _LITTLE_ROOM * (effort.target - best):
            break
    if best < effort.target and (used > 1 or not tried):
        known.list_all(best_at)
        used += 1
        best = max(best, float(known.out.values.min()))
    return Answer(best, used, Multipliers(*best_at.tolist()), lost)


class _Known:
    """What the evaluations of one box have shown."""

    def __init__(self, problem: BoxProblem, effort: Effort, room: Room) -> None:
        rows = CORNERS * effort.rounds
        self._problem, self._target, self._room = problem, effort.target, room
        self._planes, self._count = np.empty((rows, MULTIPLIERS + 1)), 0
        self.out, self.record = empty_bounds(), no_record(rows)
        """Bounds and planes of the last evaluation; what its code wants to write choices into."""

    def look(self, at: Array) -> int:
        """Bound the box at multipliers (4,), and keep its planes; returns the place of the price
        behind the least choice, -1 if there is none."""
        price = self._raise(at, False)
        planes = self.out.planes[np.isfinite(self.out.planes[:, 0])]
        self._planes[self._count : self._count + len(planes)] = planes
        self._count += len(planes)
        return price

    def list_all(self, at: Array) -> bool:
        """Bound the box at multipliers (4,), and list all choices below the target; False where
        there are none or too many, which leaves corners without choices as they are."""
        self._raise(at, True)
        return bool(self._room.number[0] > 0)

    def seen(self) -> Array:
        """Return the planes seen so far, a row each."""
        return self._planes[: self._count]

    def _raise(self, at: Array, every: bool) -> int:
        """Bound the box, by choices at last."""
        data, _, region, live, box = self._problem
        m = Multipliers(*at.tolist())
        box_bounds(data, region, live, box, m, self.out, self.record, 0, _NO_LISTING)
        return int(
            knapsack_bounds(data, region, live, box, m, self._target, every, self.out, self._room)
        )


def _next(
    planes: Array, best_at: Array, moves: Flags, best: float, weights: Array, reach: float
) -> tuple[Array, float]:
    """Return the multipliers to look at next, and about the largest possible bound in seconds.

    Variables are those that move, as multiples of the best ones.
    """
    place = np.flatnonzero(moves)
    ours = np.empty((len(planes), MULTIPLIERS + 1))
    ours[:, 0] = planes[:, 0] + planes[:, 1:] @ np.where(moves, 0.0, best_at)
    ours[:, 1 : 1 + len(place)] = planes[:, 1 + place] * best_at[place]
    ones, centre = np.ones(len(place)), np.empty(len(place))
    ceiling = analytic_centre(ours, ones / reach, ones * reach, ones, best, centre, weights)
    now = best_at.copy()
    now[place] *= centre
    return now, float(ceiling)


def _tangent_loss(out: CornerBounds) -> TangentLoss:
    """Return what tangents lose at the corner of the least bound, and at most, in seconds."""
    up, down = out.lost[int(np.argmin(out.values))].tolist()
    return TangentLoss(up, down, *out.lost.max(axis=0).tolist())
