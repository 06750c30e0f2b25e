"""Solver ``constructive``: a feasible point for any size of cell, improved by exchanges at prices.

At a point the share equations (14) price a bit and a second on every link, and the polish prices
accuracy. At those prices every device ranks its neighbouring cuts and all options; the devices
with the most to gain move together, as many as still improve the true delay. Stops where no move
improves. No bound is claimed beyond :func:`sftopt.core.limits.elementary_bound_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.limits import choice_fits, elementary_bound_s, feasible_point, least_keep
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.round import payload_rooms_s
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Deadline, Outcome, Progress, Solver, Takes, Task
from sftopt.solvers.heuristics.polish import keep_range, polish
from sftopt.solvers.heuristics.repair import repair

Array = NDArray[np.float64]

_SAMPLES = np.linspace(0.0, 1.0, 13)
"""Parts of an option's keep range that are tried."""
_REACH = 3
"""How many blocks up or down a device looks in one round."""
_ROUNDS = 200
"""Most exchanges of one run."""
_SINGLY = 12
"""How many devices are tried on their own once no group of them improves."""
_ROUGH = 3
"""Price renewals when a move is tried; the end result gets the full polish."""


def first_point(
    derived: Derived, enough: Callable[[], bool] = lambda: False
) -> IntegralPoint | None:
    """Find a feasible point for every feasible instance; None for an infeasible one.

    The best of the most accurate point and, for low, middle and high cuts, each option
    everywhere, as far as that goes before ``enough`` says so.
    """
    base = feasible_point(derived)
    if base is None:
        return None
    best = repair(derived, base)
    best_s = np.inf if best is None else best_delay(derived, best).round_s
    weights = np.zeros((derived.devices, len(derived.options)))
    for part in (0.0, 0.5, 1.0):
        cuts = derived.cut_low + part * (derived.cut_high - derived.cut_low)
        for index in range(len(derived.options)):
            if enough():
                return best
            weights[:] = 0.0
            weights[:, index] = 1.0
            found = repair(derived, Candidate(cuts, weights, base.keep), rounds=_ROUGH)
            value = np.inf if found is None else best_delay(derived, found).round_s
            if value < best_s:
                best, best_s = found, value
    return best


@dataclass(frozen=True)
class _Prices:
    """Seconds of one round per bit, per second of device time, and per unit of mean loss."""

    tau_up_s: float
    tau_down_s: float
    up_share: float
    down_share: float
    loss: float


def improve(
    derived: Derived,
    point: IntegralPoint,
    *,
    deadline: Deadline,
    stop_requested: Callable[[], bool] = lambda: False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> IntegralPoint:
    """Exchange decisions until no exchange improves, the deadline passes or a stop is asked for."""
    best, best_s = point, best_delay(derived, point).round_s
    for _ in range(_ROUNDS):
        if deadline.passed() or stop_requested():
            break
        moved = _exchange(derived, best, best_s)
        if moved is None:
            break
        best, best_s = moved
        report(Progress(incumbent_s=best_s, candidate=best.candidate(derived)))
    return polish(derived, best) or best


def _exchange(
    derived: Derived, point: IntegralPoint, value_s: float
) -> tuple[IntegralPoint, float] | None:
    """The best of moving all, half, a quarter ... of the devices that want to move."""
    gain, cuts, choice, keep = _wishes(derived, point)
    order = np.argsort(-gain)
    wanting = int((gain > 1e-9 * value_s / derived.devices).sum())
    for movers in _groups(order[:wanting]):
        tried = _moved(derived, point, movers, cuts, choice, keep)
        if tried is not None:
            new_s = best_delay(derived, tried).round_s
            if new_s < value_s * (1.0 - 1e-9):
                return tried, new_s
    return None


def _groups(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Who moves together: all, the first half, ... the first; then the next ones singly."""
    count = len(order)
    while count >= 1:
        yield order[:count]
        count //= 2
    for place in range(1, min(len(order), _SINGLY)):
        yield order[place : place + 1]


def _moved(
    derived: Derived,
    point: IntegralPoint,
    movers: NDArray[np.int64],
    cuts: NDArray[np.int64],
    choice: NDArray[np.int64],
    keep: Array,
) -> IntegralPoint | None:
    new_cuts, new_choice, new_keep = point.cuts.copy(), point.choice.copy(), point.keep.copy()
    new_cuts[movers] = cuts[movers]
    if derived.scope is not AccuracyScope.COMMON:
        new_choice[movers] = choice[movers]
        new_keep[movers] = keep[movers]
    if not choice_fits(derived, new_cuts, new_choice):
        return None
    return polish(derived, IntegralPoint(new_cuts, new_choice, new_keep), rounds=_ROUGH)


def _wishes(
    derived: Derived, point: IntegralPoint
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64], Array]:
    """Per device: the gain of its best alternative at present prices, and that alternative."""
    prices = _price(derived, point)
    now = _cost(derived, point.cuts, point.choice, point.keep, prices, point)
    best, cuts, choice, keep = now.copy(), point.cuts.copy(), point.choice.copy(), point.keep.copy()
    for step in range(-_REACH, _REACH + 1):
        moved = point.cuts + step
        inside = (derived.cut_low <= moved) & (moved <= derived.cut_high)
        if not np.any(inside):
            continue
        level = np.clip(moved, derived.cut_low, derived.cut_high)
        for index in range(len(derived.options)):
            if derived.scope is AccuracyScope.COMMON and index != point.choice[0]:
                continue
            cost, at = _best_on_option(derived, level, index, prices, point)
            better = inside & (cost < best)
            best = np.where(better, cost, best)
            cuts = np.where(better, level, cuts)
            choice = np.where(better, index, choice)
            keep = np.where(better, at, keep)
    return now - best, cuts, choice, keep


def _best_on_option(
    derived: Derived, cuts: NDArray[np.int64], index: int, prices: _Prices, point: IntegralPoint
) -> tuple[Array, Array]:
    """Least priced cost and its keep over samples of the keep range; infinite where none fits."""
    option = derived.options[index]
    budget = np.full(derived.devices, derived.loss_budget_each)
    low = least_keep(derived, option, budget, cuts)
    possible = ~np.isnan(low) & (cuts >= derived.option_cut_low[:, index])
    low = np.where(possible, low, option.keep_low)
    choice = np.full(derived.devices, index, dtype=np.int64)
    best, best_at = np.full(derived.devices, np.inf), low
    samples = _SAMPLES if option.has_mask and derived.scope is AccuracyScope.MEAN else _SAMPLES[:1]
    for part in samples:
        at = low + part**2 * (option.keep_high - low)
        cost = np.where(possible, _cost(derived, cuts, choice, at, prices, point), np.inf)
        best_at = np.where(cost < best, at, best_at)
        best = np.minimum(best, cost)
    return best, best_at


def _price(derived: Derived, point: IntegralPoint) -> _Prices:
    """Prices of shares and loss at a point: the multipliers of its share sums and accuracy."""
    known = Coefficients(derived, point.cuts, point.choice)
    delay = best_delay(derived, point, known)
    fixed_up = derived.s1_s(point.cuts, point.choice)
    fixed_down = derived.s5_s(point.cuts, point.choice)
    steps = float(derived.steps)
    up = steps / float((delay.shares.uplink / np.maximum(delay.tau_up_s - fixed_up, 1e-300)).sum())
    down = steps / float(
        (delay.shares.downlink / np.maximum(delay.tau_down_s - fixed_down, 1e-300)).sum()
    )
    room_up = np.maximum(delay.tau_up_s - fixed_up, 1e-300)
    room_down = np.maximum(delay.tau_down_s - fixed_down, 1e-300)
    share = up * known.bits_up_slope(point.keep) / derived.uplink_full_bits_per_s / room_up
    share += down * known.elements * known.eta_down / derived.downlink_full_bits_per_s / room_down
    fall = -known.weight * known.loss_slope(point.keep)
    bounds = keep_range(derived, point)
    inner = np.zeros(derived.devices, dtype=bool)
    if bounds is not None:
        inner = (point.keep > bounds[0] + 1e-9) & (point.keep < bounds[1] - 1e-9) & (fall > 0.0)
    rates = share[inner] / fall[inner]
    loss = float(np.median(rates)) if len(rates) else 0.0
    if derived.scope is not AccuracyScope.MEAN:
        loss = 0.0
    return _Prices(delay.tau_up_s, delay.tau_down_s, up, down, loss)


def _cost(
    derived: Derived,
    cuts: NDArray[np.int64],
    choice: NDArray[np.int64],
    keep: Array,
    prices: _Prices,
    point: IntegralPoint,
) -> Array:
    """Every device's own part of the Lagrangian of (13) at fixed time scalars, shape (N,)."""
    known = Coefficients(derived, cuts, choice)
    room_up, room_down = payload_rooms_s(derived, cuts, prices.tau_up_s, prices.tau_down_s, choice)
    late = (room_up <= 0.0) | (room_down <= 0.0)
    up = known.bits_up(keep) / derived.uplink_full_bits_per_s / np.where(late, 1.0, room_up)
    down = known.bits_down(keep) / derived.downlink_full_bits_per_s / np.where(late, 1.0, room_down)
    adapters = derived.adapter_bits(cuts) * (
        1.0 / derived.uplink_full_bits_per_s + 1.0 / derived.downlink_full_bits_per_s
    )
    server = -derived.steps * cuts * derived.s3_block_s
    if not derived.plain:  # then it matters from where the cuts count
        server = derived.steps * derived.s3_s(cuts, choice)
    if derived.server_order is ServerOrder.PARALLEL:
        each = derived.s3_s(point.cuts, point.choice)
        server = np.where(each >= each.max() * (1.0 - 1e-9), server, 0.0)
    cost = prices.up_share * up + prices.down_share * down + adapters + server
    cost = cost + prices.loss * known.weight * known.loss(keep)
    return np.where(late, np.inf, cost)


class ConstructiveSolver(Solver):
    """Feasible point and exchanges; always ends with a plan on a feasible instance."""

    name = "constructive"
    kind = "heuristic"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "x0"})
    native_options = False
    in_process = True
    summary = "feasible point and price-guided exchanges; any size"

    def available(self) -> Availability:
        """Tell that it is always available: it is NumPy."""
        return Availability(True, engine_version=f"NumPy {np.__version__}")

    def run(self, task: Task) -> Outcome:
        """Improve the start given, else build one."""
        derived = task.derived
        point = None if task.start is None else repair(derived, task.start.candidate)
        point = first_point(derived, task.deadline.passed) if point is None else point
        if point is None:
            raise InfeasibleError("no feasible point exists; 'sftopt check' says why")
        found = improve(
            derived,
            point,
            deadline=task.deadline,
            stop_requested=task.stop_requested,
            report=task.report,
        )
        return Outcome(
            termination=Termination.TIME_LIMIT
            if task.deadline.passed()
            else Termination.HEURISTIC_DONE,
            candidate=found.candidate(derived),
            claimed_s=best_delay(derived, found).round_s,
            bound_s=elementary_bound_s(derived),
            bound_source="elementary",
            start_used="constructed" if task.options.x0 is None else "x0",
        )


SOLVER = ConstructiveSolver()
