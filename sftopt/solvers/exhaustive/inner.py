"""The inner convex programme of many rows at once, by a primal-dual interior-point method.

min F(v) = tau_u(v) + tau_d(v)  s.t.  SUM w_n f_n(v_n) <= budget,  v_low <= v <= v_high, with f_n
the convex envelope of the loss. Iterates stay strictly feasible, so each gives an upper value,
and each gives a certified lower bound; a row leaves as soon as the two meet or its bound shows
that it cannot beat the incumbent. What the iteration does wrong can cost time, never truth: only
:func:`~sftopt.solvers.exhaustive.rows.certified_bound` is believed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.spectrum import LinearRate
from sftopt.solvers.exhaustive.links import SHARP
from sftopt.solvers.exhaustive.rows import (
    Cell,
    Rows,
    View,
    certified_bound,
    look,
    time_hessian,
)

Array = NDArray[np.float64]

_PINNED = 1e-9
"""Intervals of v shorter than this are held at their upper end."""
_MAX_STEPS = 60
"""Most Newton steps of a row's inner problem."""
_MAX_HALVINGS = 12
"""Most halvings of one step."""


@dataclass(frozen=True)
class Solved:
    """What became of rows; (C,) each, ``keep`` (C, N). Values are of the round, in seconds."""

    bound_s: Array
    value_s: Array
    """Of ``keep``, with the loss's envelope for the loss; infinite where there is no point."""
    keep: Array


@dataclass
class _Iterate:
    """Primal and dual variables of rows; ``index`` points into the caller's rows."""

    index: NDArray[np.int64]
    rows: Rows
    view: View
    price: Array
    below: Array
    above: Array
    """Multipliers of the lower and upper ends."""
    scale: Array
    """F at the start: the unit of the multipliers."""
    centre: Array
    """mu, relative to ``scale``."""
    sharpness: Array
    free: NDArray[np.bool_]

    def take(self, kept: NDArray[np.bool_]) -> _Iterate:
        return _Iterate(
            self.index[kept],
            self.rows.take(kept),
            self.view.take(kept),
            self.price[kept],
            self.below[kept],
            self.above[kept],
            self.scale[kept],
            self.centre[kept],
            self.sharpness[kept],
            self.free[kept],
        )


def tighten(rows: Rows, cell: Cell) -> tuple[Rows, NDArray[np.bool_]]:
    """Raise lower ends to what the mean limit needs with all others at their best.

    Returns the rows and which of them can meet the limit at all. The loss falls on [low, high],
    so w_n loss_n(rho_n) <= budget - SUM of the others at ``high``; the noise term is left at its
    value at ``low``, which keeps the step safe.
    """
    best = cell.weight * rows.loss(rows.high, cell)
    rounding = 1e-15 * max(1.0, abs(cell.budget))
    room = cell.budget - best.sum(axis=1) + rounding
    possible = room >= 0.0
    allowed = (np.maximum(room, 0.0)[:, None] + best) / np.maximum(cell.weight, 1e-300)
    share = (allowed - rows.noise_base - rows.noise_slope * rows.low) / np.where(
        rows.amplitude > 0.0, rows.amplitude, 1.0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = -np.log(share) / cell.decay
    usable = (rows.amplitude > 0.0) & (share > 0.0) & np.isfinite(needed)
    needed = np.where(usable, needed * (1.0 - 1e-13), rows.low)
    low = np.minimum(np.maximum(rows.low, needed), rows.high)
    moved = replace(rows, low=low)
    v_low = np.minimum(np.where(low > rows.low, moved.log_payload(low), rows.v_low), rows.v_high)
    return replace(moved, v_low=v_low), possible


def at_lowest(rows: Rows, cell: Cell) -> tuple[Array, NDArray[np.bool_]]:
    """Bound each row in seconds without the mean limit, and tell whether that holds anyway."""
    view = look(rows, rows.low, cell, np.full(len(rows), SHARP))
    fits = (cell.weight * view.true_loss).sum(axis=1) <= cell.budget
    return rows.constant_s + cell.steps * view.time_s, fits


def solve_rows(
    rows: Rows, cell: Cell, incumbent_s: float, tolerance: float, expired: Callable[[], bool]
) -> Solved:
    """Bound and solve ``rows``, which must be feasible at ``high`` and not at ``low``.

    A row is left once its bound reaches min(incumbent, best value seen) (1 - tolerance) or its
    own value does; on ``expired`` all are left as they stand.
    """
    count = len(rows)
    bound = np.full(count, -np.inf)
    value = np.full(count, np.inf)
    keep = rows.high.copy()
    state = _start(rows, cell)
    cut = incumbent_s
    for _ in range(_MAX_STEPS):
        index = state.index
        lower = certified_bound(state.rows, state.view, state.price, cell)
        gap = state.view.time_s - lower
        lower = state.rows.constant_s + cell.steps * np.where(np.isfinite(lower), lower, -np.inf)
        bound[index] = np.maximum(bound[index], lower)
        times = state.view.up.tau_s * (1.0 + state.view.up.uncertainty) + state.view.down.tau_s
        upper = state.rows.constant_s + cell.steps * times
        better = (upper < value[index]) & (state.view.over <= 0.0)
        value[index[better]] = upper[better]
        keep[index[better]] = state.view.keep[better]
        plain = np.isneginf(state.rows.left_v).all(axis=1)
        plain &= np.isposinf(state.rows.right_v).all(axis=1)
        if np.any(plain):
            cut = min(cut, float(upper[plain].min()))
        goal = np.minimum(cut, value[index]) * (1.0 - tolerance)
        stays = bound[index] < goal
        if not np.any(stays) or expired():
            break
        if not np.all(stays):
            state, gap = state.take(stays), gap[stays]
        # numbers out of range make a row stand still; no result of theirs is believed
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            state = _advance(state, cell, gap)
    return Solved(bound, value, keep)


def _start(rows: Rows, cell: Cell) -> _Iterate:
    """A strictly feasible allocation between ``high`` and ``low``, and multipliers for it."""
    free = rows.v_high - rows.v_low > _PINNED
    low = np.where(free, rows.low, rows.high)
    at_high = (cell.weight * rows.loss(rows.high, cell)).sum(axis=1) - cell.budget
    part_low, part_high = np.zeros(len(rows)), np.full(len(rows), 0.95)
    for _ in range(20):
        part = 0.5 * (part_low + part_high)
        keep = rows.high + part[:, None] * (low - rows.high)
        over = (cell.weight * rows.loss(keep, cell)).sum(axis=1) - cell.budget
        inside = over <= 0.3 * at_high
        part_low = np.where(inside, part, part_low)
        part_high = np.where(inside, part_high, part)
    keep = rows.high + np.maximum(part_low, 1e-3)[:, None] * (low - rows.high)
    centre = np.full(len(rows), 0.03)
    sharpness = _sharpness(centre)
    view = look(rows, keep, cell, sharpness)
    scale = view.time_s
    weight = (centre * scale)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(free, weight / (view.v - rows.v_low), 0.0)
        above = np.where(free, weight / (rows.v_high - view.v), 0.0)
        price = centre * scale / np.maximum(-view.over, 1e-14 * max(cell.budget, 1e-14))
    return _Iterate(
        np.arange(len(rows)), rows, view, price, below, above, scale, centre, sharpness, free
    )


def _sharpness(centre: Array) -> Array:
    """The smoothing of the rate cap falls with the barrier."""
    return np.clip(0.3 / centre, 30.0, 1e9)


def _advance(state: _Iterate, cell: Cell, gap: Array) -> _Iterate:
    """One Newton step of the perturbed optimality conditions.

    The barrier follows the *certified* gap, (C,), which is mu times the number of limits on the
    central path: a row that has strayed from the path keeps its barrier until it is back.
    """
    rows, free = state.rows, state.free
    before = state.centre * state.scale
    mu = 0.1 * gap / (1.0 + 2.0 * free.sum(axis=1))
    mu = np.clip(np.where(np.isfinite(mu), mu, before), 0.1 * before, before)
    mu = np.maximum(mu, 1e-14 * state.scale)
    sharpness = _sharpness(mu / state.scale)
    view = state.view
    if not isinstance(cell.uplink, LinearRate) and np.any(sharpness != state.sharpness):
        # the same point under the finer cap, so that one step deals with one function
        view = look(rows, view.keep, cell, sharpness, view.up.share)
    state = replace(state, view=view, sharpness=sharpness, centre=mu / state.scale)

    slack = np.maximum(-view.over, 1e-300)
    to_low = np.where(free, view.v - rows.v_low, 1.0)
    to_high = np.where(free, rows.v_high - view.v, 1.0)
    pull = np.where(free, cell.weight * view.loss_v, 0.0)
    hessian = time_hessian(view)
    hessian += (state.price / slack)[:, None, None] * pull[:, :, None] * pull[:, None, :]
    diagonal = np.arange(view.v.shape[1])
    curve = state.price[:, None] * cell.weight * np.maximum(view.loss_vv, 0.0)
    curve += state.below / to_low + state.above / to_high
    hessian[:, diagonal, diagonal] += curve
    both = free[:, :, None] & free[:, None, :]
    hessian = np.where(both, hessian, 0.0)
    size = np.abs(hessian).max(axis=(1, 2))
    hessian[:, diagonal, diagonal] += np.where(free, 1e-14 * size[:, None], 1.0)
    rise = view.gradient + (mu / slack)[:, None] * pull - mu[:, None] * (1 / to_low - 1 / to_high)
    rise = np.where(free, rise, 0.0)
    lost = ~np.isfinite(hessian).all(axis=(1, 2))
    hessian[lost] = np.eye(len(diagonal))
    newton = np.linalg.solve(hessian, -rise[:, :, None])[:, :, 0]
    move = np.where(free & np.isfinite(newton), newton, 0.0).astype(np.float64)

    along = (pull * move).sum(axis=1)
    price_move = (mu - slack * state.price + state.price * along) / slack
    below_move = (mu[:, None] - to_low * state.below - state.below * move) / to_low
    above_move = (mu[:, None] - to_high * state.above + state.above * move) / to_high
    length = np.minimum(1.0, 0.99 * _to_zero(to_low, move, free))
    length = np.minimum(length, 0.99 * _to_zero(to_high, -move, free))
    dual = np.minimum(_to_zero(state.below, below_move, free), 1e9)
    dual = np.minimum(dual, _to_zero(state.above, above_move, free))
    always = np.ones((len(rows), 1), dtype=np.bool_)
    dual = np.minimum(dual, _to_zero(state.price[:, None], price_move[:, None], always))
    dual = np.minimum(1.0, 0.99 * dual)

    view, accepted = _walk(state, cell, move, length, mu, (rise * move).sum(axis=1))
    held = np.where(accepted, dual, 0.0)
    return replace(
        state,
        view=view,
        price=state.price + held * price_move,
        below=np.where(free, state.below + held[:, None] * below_move, 0.0),
        above=np.where(free, state.above + held[:, None] * above_move, 0.0),
    )


def _to_zero(value: Array, move: Array, free: NDArray[np.bool_]) -> Array:
    """The step at which the first of ``value + step * move`` reaches zero, (C,)."""
    ratio = np.full_like(value, np.inf)
    np.divide(-value, move, out=ratio, where=free & (move < 0.0))
    least: Array = ratio.min(axis=1)
    return least


def _barrier(rows: Rows, view: View, mu: Array, free: NDArray[np.bool_]) -> Array:
    """F less mu times the logarithms of all slacks; infinite outside."""
    to_low = np.where(free, view.v - rows.v_low, 1.0)
    to_high = np.where(free, rows.v_high - view.v, 1.0)
    inside = (view.over < 0.0) & (np.minimum(to_low, to_high) > 0.0).all(axis=1)
    safe = inside[:, None]
    logs = np.log(np.where(safe, to_low, 1.0)) + np.log(np.where(safe, to_high, 1.0))
    logs_all = logs.sum(axis=1) + np.log(np.where(inside, -view.over, 1.0))
    return np.where(inside, view.time_s - mu * logs_all, np.inf)


def _walk(
    state: _Iterate, cell: Cell, move: Array, length: Array, mu: Array, descent: Array
) -> tuple[View, NDArray[np.bool_]]:
    """Backtrack along ``move`` until the barrier function falls; rows that never do stay."""
    before = _barrier(state.rows, state.view, mu, state.free)
    allowance = 1e-13 * state.scale  # rounding
    # a slack that falls far below its place on the central path is hard to win back
    least = np.minimum(0.3 * mu / state.price, -0.2 * state.view.over)
    pending = np.arange(len(state.rows))
    accepted = np.zeros(len(state.rows), dtype=np.bool_)
    view = state.view
    length = length.copy()
    for attempt in range(_MAX_HALVINGS):
        rows = state.rows if attempt == 0 else state.rows.take(pending)
        v = state.view.v[pending] + length[pending, None] * move[pending]
        guess = state.view.keep[pending] + (v - state.view.v[pending]) / state.view.v_slope[pending]
        keep = rows.keep_at(v, np.clip(guess, rows.low, rows.high))
        trial = look(rows, keep, cell, state.sharpness[pending], state.view.up.share[pending])
        after = _barrier(rows, trial, mu[pending], state.free[pending])
        limit = before[pending] + 1e-4 * length[pending] * descent[pending] + allowance[pending]
        good = (after <= limit) & (trial.over <= -least[pending])
        accepted[pending[good]] = True
        if attempt == 0 and np.all(good):
            return trial, accepted
        if attempt == 0:
            view = view.take(pending)
        view.put(pending[good], trial.take(good))
        pending = pending[~good]
        length[pending] *= 0.4
        if not len(pending):
            break
    return view, accepted
