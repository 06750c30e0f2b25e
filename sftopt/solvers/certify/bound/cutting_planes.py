"""Compiled: the best multipliers of a box by cutting planes, each taken at an analytic centre.

The box bound is the least of four concave functions of m, each known through linear functions
above it (Statement 5). Any m gives a valid bound, so nothing here has to be exact. Multipliers are
handled as multiples v of the first ones, those that may move alone.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.analytic_centre import analytic_centre
from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    MULTIPLIERS,
    Answer,
    BoundData,
    Box,
    CornerBounds,
    Listing,
    LivePlaces,
    MergedTable,
    Record,
    Region,
    TangentLoss,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.merged_bound import merged_bounds
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_LEAPS = 6
"""Leaps tried in a box; set by hand."""
_LEAP = 8.0
"""By what factor a leap moves one multiplier; set by hand."""
_STALLED = 0.05
"""Part of what is missing that an evaluation must gain, or the planes count as stalled."""
_NARROW = 0.3
"""Part of what is missing that a box's tangents may lose for a leap to be worth trying."""
_STEEP = 1e-3
"""Part of what is missing that a leap's slope must promise for each doubling."""
_WIDEN_HIGH = 0.6
"""The upper limit of a multiplier is doubled where the best one is above this part of it."""
_WIDEN_LOW = 1.7
"""The lower limit of a multiplier is halved where the best one is below this multiple of it."""
_SAME = 0.05
"""Second multipliers that differ by less than this part from the first are not looked at."""
_CLOSED = 1e-9
"""Room left, relative to the bound, at which the best multipliers count as found."""
_SETTLED = 5
"""Evaluations after which little room left ends the search; set by hand."""
_LITTLE_ROOM = 0.02
"""Part of what is missing that counts as little room left."""
_HOPELESS = 3
"""Evaluations after which a box that cannot reach the target is given up; set by hand."""
_HOPELESS_ROOM = 0.15
"""Part of what is missing that such a box may still gain when it is given up."""
_SURELY_HOPELESS = 7
"""Evaluations after which such a box is given up whatever room is left; set by hand."""


class BoxProblem(NamedTuple):
    """A box whose bound is wanted, and what is allowed in it."""

    data: BoundData
    merged: MergedTable
    region: Region
    live: LivePlaces
    box: Box


class MultiplierSearch(NamedTuple):
    """Where the multipliers of a box are sought."""

    start: Multipliers
    """The first ones."""
    other: Multipliers
    """The second ones."""
    least: Multipliers
    """With ``most``: where ``live`` is known to hold all that can win; not left."""
    most: Multipliers
    free: Flags
    """(4,) which of them may move, in their order."""
    reach: float
    """How far, as a factor, they are first allowed to go."""


class Effort(NamedTuple):
    """How hard the best multipliers of a box are sought."""

    target: float
    """A bound in seconds that is enough."""
    rounds: int
    """Evaluations at most."""
    patience: int
    """Evaluations at most of a box whose tangents lose all that is missing."""
    coarse: bool
    """By the merged table; else by the tables of single options, which alone can record."""


class Variables(NamedTuple):
    """The multipliers that may move, as multiples of the first ones; arrays of shape (d,)."""

    place: Integers
    """Their places among the four."""
    scale: Array
    """(4,) the first multipliers."""
    moves: Flags
    """(4,) which of the four may move and are not zero."""
    now: Array
    """Where the bound is evaluated next."""
    best: Array
    """Where the best bound was found."""
    low: Array
    """The limits now, widened where the best ones come near."""
    high: Array
    floor: Array
    """The limits at last."""
    top: Array
    rising: Array
    """Slopes of the least corner's plane at the best ones, in seconds per doubling or so."""


@njit(cache=True, nogil=True)
def best_multipliers(
    problem: BoxProblem, search: MultiplierSearch, effort: Effort, record: Record,
    listing: Listing,
) -> Answer:  # fmt: skip
    """Return the best safe bound found on a box in seconds, with its multipliers; Statement 5.

    Stops at the target or after so many rounds. Places are listed at the first multipliers.
    ``record`` has 4 rows for each round.
    """
    target, rounds = effort.target, effort.rounds
    variables = _variables(search)
    out = CornerBounds(
        np.empty(CORNERS), np.empty((CORNERS, MULTIPLIERS + 1)), np.zeros((CORNERS, 2))
    )
    planes, count = np.zeros((CORNERS * rounds, MULTIPLIERS + 1)), 0
    best, best_m, lost = -np.inf, search.start, TangentLoss(0.0, 0.0, 0.0, 0.0)
    ceiling, before, leaps, used = np.inf, -np.inf, 0, 0
    for turn in range(rounds):
        m = _multipliers(variables)
        _bounds_at(problem, effort.coarse, m, out, record, turn, listing)
        used += 1
        value = out.values.min()
        if value == np.inf:
            return Answer(np.inf, used, m, lost)
        count = _add_planes(variables, out, planes, count)
        if value > best:
            best, best_m, lost = value, m, _tangent_loss(out)
            _note_best(variables, out)
        if best >= target or turn == rounds - 1 or len(variables.place) == 0:
            break
        if turn >= effort.patience and lost.up + lost.down > target - best:
            break
        _widen(variables)
        if turn == 0 and _try_other(variables, search.other):
            continue
        estimate = analytic_centre(
            planes[:count], variables.low, variables.high, variables.best, best, variables.now,
            record.weights,
        )  # fmt: skip
        ceiling = min(ceiling, estimate) if turn > 2 else estimate
        if not _inside(variables):
            continue
        done = _is_done(turn, best, ceiling, target)
        stalled = done or (turn >= 3 and best - before <= _STALLED * (target - best))
        before = best
        if not stalled:
            continue
        # near an edge of the times the best multipliers may be decades away, where the planes
        # seen so far say nothing: a narrow box is worth a few leaps along the steepest of them
        steep = int(np.argmax(variables.rising))
        narrow = lost.up + lost.down < _NARROW * (target - best)
        if leaps >= _LEAPS or not narrow or variables.rising[steep] <= _STEEP * (target - best):
            if done:
                break
            continue
        leaps += 1
        _leap(variables, steep)
        ceiling = np.inf
    return Answer(best, used, best_m, lost)


@njit(cache=True)
def _variables(search: MultiplierSearch) -> Variables:
    """Return the multipliers that may move, with their first limits."""
    start, least = _as_array(search.start), _as_array(search.least)
    most, reach = _as_array(search.most), search.reach
    moves = search.free & (start > 0.0)
    place = np.flatnonzero(moves)
    d = len(place)
    floor, top = np.empty(d), np.empty(d)
    low, high = np.empty(d), np.empty(d)
    for j in range(d):
        floor[j] = least[place[j]] / start[place[j]]
        top[j] = most[place[j]] / start[place[j]]
        low[j], high[j] = max(1.0 / reach, floor[j]), min(reach, top[j])
    return Variables(
        place, start, moves, np.ones(d), np.ones(d), low, high, floor, top, np.zeros(d)
    )


@njit(cache=True)
def _as_array(m: Multipliers) -> Array:
    """Return multipliers as an array of shape (4,)."""
    found = np.empty(MULTIPLIERS)
    found[0], found[1], found[2], found[3] = m.uplink, m.downlink, m.loss, m.memory
    return found


@njit(cache=True)
def _multipliers(variables: Variables) -> Multipliers:
    """Return the multipliers where the bound is evaluated next."""
    m = variables.scale.copy()
    for j in range(len(variables.place)):
        m[variables.place[j]] *= variables.now[j]
    return Multipliers(m[0], m[1], m[2], m[3])


@njit(cache=True)
def _bounds_at(
    problem: BoxProblem, coarse: bool, m: Multipliers, out: CornerBounds, record: Record,
    turn: int, listing: Listing,
) -> None:  # fmt: skip
    """Evaluate the box bound at ``m``; places are listed in the first turn alone."""
    now = Listing(listing.kept, listing.factor if turn == 0 else 0.0)
    if coarse:
        merged_bounds(
            problem.data, problem.merged, problem.region, problem.live, problem.box, m, out, now
        )
    else:
        box_bounds(
            problem.data, problem.region, problem.live, problem.box, m, out, record,
            CORNERS * turn, now,
        )  # fmt: skip


@njit(cache=True)
def _add_planes(variables: Variables, out: CornerBounds, planes: Array, count: int) -> int:
    """Add the corners' planes as functions of the variables; returns how many there are."""
    place, scale = variables.place, variables.scale
    for k in range(CORNERS):
        planes[count, 0] = out.planes[k, 0]
        for j in range(len(place)):
            planes[count, 1 + j] = out.planes[k, 1 + place[j]] * scale[place[j]]
        for j in range(MULTIPLIERS):
            if not variables.moves[j]:
                planes[count, 0] += out.planes[k, 1 + j] * scale[j]
        count += 1
    return count


@njit(cache=True)
def _note_best(variables: Variables, out: CornerBounds) -> None:
    """Keep the present variables as the best, and how the bound rises there."""
    place, worst = variables.place, np.argmin(out.values)
    for j in range(len(place)):
        variables.best[j] = variables.now[j]
        variables.rising[j] = out.planes[worst, 1 + place[j]] * (
            variables.scale[place[j]] * variables.now[j]
        )


@njit(cache=True)
def _tangent_loss(out: CornerBounds) -> TangentLoss:
    """Return what the tangents lose at the corner of the least bound, and at most, in seconds."""
    worst = np.argmin(out.values)
    most_up, most_down = 0.0, 0.0
    for k in range(CORNERS):
        most_up, most_down = max(most_up, out.lost[k, 0]), max(most_down, out.lost[k, 1])
    return TangentLoss(out.lost[worst, 0], out.lost[worst, 1], most_up, most_down)


@njit(cache=True)
def _widen(variables: Variables) -> None:
    """Move the limits that the best variables have come near to."""
    low, high = variables.low, variables.high
    for j in range(len(low)):
        if variables.best[j] > _WIDEN_HIGH * high[j]:
            high[j] = min(2.0 * high[j], variables.top[j])
        if variables.best[j] < _WIDEN_LOW * low[j]:
            low[j] = max(0.5 * low[j], variables.floor[j])


@njit(cache=True)
def _try_other(variables: Variables, other: Multipliers) -> bool:
    """Go to the second multipliers next; returns whether they differ from the first."""
    second, place, now = _as_array(other), variables.place, variables.now
    low, high, floor, top = variables.low, variables.high, variables.floor, variables.top
    differs = False
    for j in range(len(place)):
        now[j] = min(max(second[place[j]] / variables.scale[place[j]], floor[j]), top[j])
        low[j] = max(min(low[j], 0.5 * now[j]), floor[j])
        high[j] = min(max(high[j], 2.0 * now[j]), top[j])
        differs = differs or abs(now[j] - 1.0) > _SAME
    return differs


@njit(cache=True)
def _inside(variables: Variables) -> bool:
    """Return whether the best variables are well inside limits that could still be moved."""
    low, high, best = variables.low, variables.high, variables.best
    for j in range(len(low)):
        if not (2.0 * low[j] < best[j] or low[j] <= variables.floor[j]):
            return False
        if not (best[j] < 0.5 * high[j] or high[j] >= variables.top[j]):
            return False
    return True


@njit(cache=True)
def _is_done(turn: int, best: float, ceiling: float, target: float) -> bool:
    """Return whether more evaluations promise too little."""
    room, missing = ceiling - best, target - best
    if room <= _CLOSED * abs(best) or (turn >= _SETTLED and room < _LITTLE_ROOM * missing):
        return True
    hopeless = turn >= _HOPELESS and ceiling < target
    return hopeless and (room < _HOPELESS_ROOM * missing or turn >= _SURELY_HOPELESS)


@njit(cache=True)
def _leap(variables: Variables, steep: int) -> None:
    """Go next from the best variables along the steepest one."""
    now, high, top = variables.now, variables.high, variables.top
    now[:] = variables.best
    now[steep] = min(_LEAP * variables.best[steep], top[steep])
    high[steep] = min(max(high[steep], 2.0 * now[steep]), top[steep])
