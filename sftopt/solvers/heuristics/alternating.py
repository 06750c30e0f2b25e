"""Solver ``alternating``: cuts, then modes and keep fractions, then shares, in turn; (13).

- *Cuts, given shares and keeps* (7): every transmission takes as long as it does, so cuts only
  trade the two barriers against the server; one barrier at a time this is solved exactly by a sweep
  over its possible values (``parallel``: over those of the server's time).
- *Cuts, given prices*: where that no longer helps, shares give way. With the barriers held (or
  stretched a little) and bandwidth at its price from (14), devices separate, and each takes the
  cut that saves the server most for the bandwidth it costs.
- *Modes and keeps, given cuts*: at the present prices of a bit, from (14), devices separate up to
  one price of accuracy (12), which is found by bisection; then
  :mod:`sftopt.solvers.heuristics.polish`.
- *Shares, given all else*: the root searches of (14).

A step that does not shorten the round is not taken; the end is where none does. Run
from low, middle and high cuts. Nothing is claimed: the blocks are coupled, so it may end far from
an optimum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.limits import (
    best_keep,
    elementary_bound_s,
    feasible_point,
    least_keep,
    server_memory_fits,
)
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.round import Delay, adapter_block_s
from sftopt.core.spectrum import RateLaw
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Takes, Task
from sftopt.solvers.heuristics.polish import polish
from sftopt.solvers.heuristics.repair import repair, settle
from sftopt.solvers.spectrum.slopes import LinkSlopes, link_slopes

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PARTS = (0.5, 0.0, 1.0)
"""Where the cuts start in their range, run after run."""
LEAST_GAIN = 1e-9
"""Relative: what counts as an improvement."""
_SAMPLES = np.linspace(0.0, 1.0, 33) ** 2
"""Parts of an option's keep range that are offered; denser near its least."""
_BISECTIONS = 60
"""Halvings in the search of the price of accuracy."""
_STRETCHES = (0.8, 0.95, 1.0, 1.05, 1.25)
"""By how much the barriers are stretched where prices choose the cuts."""
_SWEEPS = 6
"""How often the sweeps over the two barriers follow each other."""
_THRESHOLDS = 512
"""At most so many values of the server's time are looked at, evenly spread."""


class Alternation:
    """One run from one point."""

    def __init__(self, task: Task, point: IntegralPoint) -> None:
        self.task, self.derived = task, task.derived
        self.point = point
        self.delay = best_delay(self.derived, point)
        self.rounds = 0

    def run(self) -> None:
        """Alternate until neither block shortens the round, or there is no time left."""
        while not (self.task.deadline.passed() or self.task.stop_requested()):
            self.rounds += 1
            taken = self._take(self._with_cuts(best_cuts(self.derived, self.point)))
            taken |= self._take(best_payloads(self.derived, self.point))
            if not (taken or self._take_priced()):
                break

    def _take_priced(self) -> bool:
        """Go to the best of the cuts that prices of bandwidth choose, if one is better."""
        best, best_s = None, self.delay.round_s
        seen = {self.point.cuts.tobytes()}
        for cuts in priced_cuts(self.derived, self.point, self.delay):
            if self.task.deadline.passed() or self.task.stop_requested():
                break
            if cuts.tobytes() in seen:
                continue
            seen.add(cuts.tobytes())
            moved = self._with_cuts(cuts)
            value = np.inf if moved is None else best_delay(self.derived, moved).round_s
            if value < best_s:
                best, best_s = moved, value
        return self._take(best)

    def _with_cuts(self, cuts: Integers) -> IntegralPoint | None:
        if not server_memory_fits(self.derived, cuts, self.point.choice):
            return None
        moved = IntegralPoint(cuts, self.point.choice, self.point.keep)
        if not self.derived.cuts_interact:
            return moved
        return settle(self.derived, moved)  # accuracy depends on the cut: keeps must follow

    def _take(self, point: IntegralPoint | None) -> bool:
        """Go to ``point``, at its best shares, if the round is shorter there."""
        if point is None:
            return False
        delay = best_delay(self.derived, point)
        if not delay.round_s < self.delay.round_s * (1.0 - LEAST_GAIN):
            return False
        self.point, self.delay = point, delay
        self.task.report(Progress(delay.round_s, candidate=point.candidate(self.derived)))
        return True


def best_cuts(derived: Derived, point: IntegralPoint) -> Integers:
    """Return cuts (N,) of least delay while shares and payloads are held; equation (7)."""
    delay = best_delay(derived, point)
    up = delay.tau_up_s - point.cuts * derived.s1_block_s  # s1 base + s2: all end at the barrier
    down = delay.tau_down_s - point.cuts * derived.s5_block_s
    adapters = adapter_block_s(derived)
    if derived.server_order is ServerOrder.PARALLEL:
        return _cuts_parallel(derived, point.choice, up, down, adapters / derived.steps)
    saved = derived.s3_blocks_s(point.choice) - adapters / derived.steps
    low = derived.lowest_cuts(point.choice)
    cap = np.where(saved > 0.0, derived.cut_high, low)
    first = _sweep(up, derived.s1_block_s, saved, low, cap)
    cuts = _sweep(down, derived.s5_block_s, saved, low, first)
    for _ in range(_SWEEPS):
        # what one barrier allows, with the other left where these cuts put it
        late = float((down + cuts * derived.s5_block_s).max())
        room = np.minimum(cap, _reach(late, down, derived.s5_block_s, low))
        wide = _sweep(up, derived.s1_block_s, saved, low, room)
        late = float((up + wide * derived.s1_block_s).max())
        room = np.minimum(cap, _reach(late, up, derived.s1_block_s, low))
        after = _sweep(down, derived.s5_block_s, saved, low, room)
        if np.array_equal(after, cuts):
            break
        cuts = after
    return cuts


def priced_cuts(derived: Derived, point: IntegralPoint, delay: Delay) -> Iterator[Integers]:
    """Yield cuts (N,) that prices of bandwidth from (14) choose, one set per pair of barriers."""
    known = Coefficients(derived, point.cuts, point.choice)
    adapters = adapter_block_s(derived)
    levels = np.arange(derived.blocks + 1)[:, None]
    choice = point.choice
    outside = (levels < derived.lowest_cuts(choice)) | (levels > derived.cut_high)
    server = levels * (derived.s3_blocks_s(choice) - adapters / derived.steps)
    up, down = derived.s1_s(levels, choice), derived.s5_s(levels, choice)
    ways = (
        (up, known.bits_up(point.keep), derived.uplink_law, delay.tau_up_s),
        (down, known.bits_down(point.keep), derived.downlink_law, delay.tau_down_s),
    )
    priced = []
    for fixed, bits, law, tau in ways:
        # what a share is worth: how much sooner the barrier would fall, the cuts as they are
        now = fixed[point.cuts, np.arange(derived.devices)][None, :]
        rise = 1e-6 * tau
        saved = 1.0 - float(_shares(now, bits, law, tau + rise).sum())
        if not saved > 0.0:
            return  # a device without rate, or a band beyond what digits can tell: no price
        price = rise / saved
        priced.append([price * _shares(fixed, bits, law, tau * part) for part in _STRETCHES])
    for first in priced[0]:
        for second in priced[1]:
            cost = np.where(outside, np.inf, first + second - server)
            if np.isfinite(cost.min(axis=0)).all():
                yield np.asarray(np.argmin(cost, axis=0), dtype=np.int64)


def _shares(fixed: Array, bits: Array, law: RateLaw, tau: float) -> Array:
    """Shares (L, N) that end by ``tau`` what starts at ``fixed`` (L, N); infinite where none."""
    room = tau - fixed
    shares = np.full(fixed.shape, np.inf)
    for level, left in enumerate(room):
        needed = law.inverse(bits / np.where(left > 0.0, left, np.inf))[0]
        shares[level] = np.where(left > 0.0, np.where(bits > 0.0, needed, 0.0), np.inf)
    return shares


def _reach(late: float, base: Array, block: Array, low: Integers) -> Integers:
    """The highest cuts that end by ``late``, at least ``low``."""
    blocks = np.floor((late - base) / np.maximum(block, 1e-300) * (1.0 + 1e-12))
    return np.maximum(np.clip(blocks, -1.0, 1e9).astype(np.int64), low)


def _sweep(base: Array, block: Array, saved: Array, low: Integers, high: Integers) -> Integers:
    """Cuts in [low, high] of least max(base + l block) - SUM l saved: one barrier, exactly."""
    floor = float((base + low * block).max())
    count = np.maximum(high - low, 0)
    device = np.repeat(np.arange(len(base)), count)
    rank = np.arange(len(device)) - np.repeat(np.cumsum(count) - count, count)
    ends = base[device] + (low[device] + rank + 1) * block[device]
    order = np.argsort(ends, kind="stable")
    value = np.maximum(ends[order], floor) - np.cumsum(saved[device[order]])
    if not len(value) or value.min() >= floor:
        return low.copy()
    last = int(np.argmin(value))
    cuts: Integers = low + np.bincount(device[order[: last + 1]], minlength=len(base))
    return cuts


def _cuts_parallel(
    derived: Derived, choice: Integers, up: Array, down: Array, adapters: Array
) -> Integers:
    """``parallel``: the least cuts for each value of the server's time, the best of them."""
    levels = np.arange(derived.blocks)
    block = np.maximum(derived.s3_blocks_s(choice), 1e-300)
    base = derived.by_option(derived.s3_base_s, derived.option_s3_base_s, choice)
    low = derived.lowest_cuts(choice)
    inside = (low[:, None] <= levels) & (levels <= derived.cut_high[:, None])
    times = np.unique((base[:, None] - levels * block[:, None])[inside])
    if len(times) > _THRESHOLDS:
        times = times[np.linspace(0, len(times) - 1, _THRESHOLDS).astype(int)]
    best, best_s = low.copy(), np.inf
    for server in times:
        needed = np.ceil((base - server) / block * (1.0 - 1e-12))
        cuts = np.maximum(needed.astype(np.int64), low)
        if np.any(cuts > derived.cut_high) or not server_memory_fits(derived, cuts, choice):
            continue
        value = float((up + cuts * derived.s1_block_s).max())
        value += server + float((down + cuts * derived.s5_block_s).max() + (cuts * adapters).sum())
        if value < best_s:
            best, best_s = cuts, value
    return best


def best_payloads(derived: Derived, point: IntegralPoint) -> IntegralPoint | None:
    """Choose options and keeps for these cuts at present prices of a bit and polish; (12)."""
    if derived.scope is AccuracyScope.COMMON:
        return _best_common(derived, point)
    known = Coefficients(derived, point.cuts, point.choice)
    none = np.zeros(derived.devices)
    up = link_slopes(
        derived.s1_s(point.cuts, point.choice),
        known.bits_up(point.keep),
        derived.uplink_law,
        1.0,
        none,
    )
    down = link_slopes(
        derived.s5_s(point.cuts, point.choice),
        known.bits_down(point.keep),
        derived.downlink_law,
        1.0,
        none,
    )
    choice, keep, cost, loss = _offers(derived, point.cuts, up, down)
    picked = _picked(derived, cost, loss)
    rows = np.arange(derived.devices)
    return settle(derived, IntegralPoint(point.cuts, choice[picked], keep[rows, picked]))


def _best_common(derived: Derived, point: IntegralPoint) -> IntegralPoint | None:
    best, best_s = None, np.inf
    for index in range(len(derived.options)):
        found = polish(
            derived, IntegralPoint(point.cuts, np.full_like(point.choice, index), point.keep)
        )
        value = np.inf if found is None else best_delay(derived, found).round_s
        if value < best_s:
            best, best_s = found, value
    return best


def _offers(
    derived: Derived, cuts: Integers, up: LinkSlopes, down: LinkSlopes
) -> tuple[Integers, Array, Array, Array]:
    """(option (M,), keep (N, M), cost (N, M), loss (N, M)); infinite cost where nothing fits.

    Samples of every option's keep range that is within the device's own loss budget.
    """
    budget = np.full(derived.devices, derived.loss_budget_each)
    choices, keeps, costs, losses = [], [], [], []
    mean = derived.scope is AccuracyScope.MEAN
    for index, option in enumerate(derived.options):
        low = least_keep(derived, option, budget, cuts)
        fits = ~np.isnan(low) & (cuts >= derived.option_cut_low[:, index])
        beside = _beside_payload(derived, cuts, index, up, down)
        low = np.where(fits, low, option.keep_low)
        high = np.maximum(low, best_keep(derived, option, cuts))
        for part in _SAMPLES if option.has_mask and mean else _SAMPLES[:1]:
            keep = low + part * (high - low)
            bits = up.per_bit * derived.beta_up(option, keep)
            bits = bits + down.per_bit * derived.beta_down(option, keep)
            choices.append(index)
            keeps.append(keep)
            costs.append(np.where(fits, derived.elements * bits + beside, np.inf))
            losses.append(derived.loss(option, keep, cuts))
    return np.array(choices), np.array(keeps).T, np.array(costs).T, np.array(losses).T


def _beside_payload(
    derived: Derived, cuts: Integers, index: int, up: LinkSlopes, down: LinkSlopes
) -> Array | float:
    """What an option costs a step beside its payload, (N,) in seconds, to first order."""
    if derived.plain:
        return 0.0
    choice = np.full(derived.devices, index)
    cost = up.per_fixed_s * derived.s1_s(cuts, choice)
    cost = cost + down.per_fixed_s * derived.s5_s(cuts, choice)
    if derived.server_order is ServerOrder.IN_TURN:
        cost = cost + derived.s3_s(cuts, choice)
    return np.asarray(cost)


def _picked(derived: Derived, cost: Array, loss: Array) -> Integers:
    """The offer of every device at the least price of accuracy that meets the mean limit."""
    cheapest: Integers = np.argmin(cost, axis=1)
    if derived.scope is not AccuracyScope.MEAN:
        return cheapest
    rows, weighted = np.arange(len(cost)), derived.weight[:, None] * loss
    if weighted[rows, cheapest].sum() <= derived.loss_budget:
        return cheapest
    finite = np.where(np.isfinite(cost), cost, 0.0)
    top = np.log(max(float(finite.max()), 1e-300) / max(derived.loss_budget, 1e-12)) + 40.0
    low, high = top - 120.0, top
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        at = np.argmin(cost + np.exp(middle) * weighted, axis=1)
        if weighted[rows, at].sum() <= derived.loss_budget:
            high = middle
        else:
            low = middle
    return np.asarray(np.argmin(cost + np.exp(high) * weighted, axis=1))


class AlternatingSolver(Solver):
    """Block coordinate descent; always ends with a plan on a feasible instance."""

    name = "alternating"
    kind = "heuristic"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "x0"})
    native_options = False
    in_process = True
    wants_start = False
    summary = "cuts, modes and keeps, shares in turn until none improves; any size"

    def available(self) -> Availability:
        """Tell that it is always available: it is NumPy."""
        return Availability(True, engine_version=f"NumPy {np.__version__}")

    def run(self, task: Task) -> Outcome:
        """Alternate from the start given, else from low, middle and high cuts."""
        derived = task.derived
        given = None if task.start is None else repair(derived, task.start.candidate)
        starts = _starts(derived) if given is None else [given]
        if not starts:
            raise InfeasibleError("no feasible point exists; 'sftopt check' says why")
        best: Alternation | None = None
        rounds = 0
        for point in starts:
            if best is not None and (task.deadline.passed() or task.stop_requested()):
                break
            run = Alternation(task, point)
            run.run()
            rounds += run.rounds
            if best is None or run.delay.round_s < best.delay.round_s:
                best = run
        assert best is not None
        return Outcome(
            Termination.TIME_LIMIT if task.deadline.passed() else Termination.HEURISTIC_DONE,
            candidate=best.point.candidate(derived),
            claimed_s=best.delay.round_s,
            bound_s=elementary_bound_s(derived),
            bound_source="elementary",
            iterations=rounds,
            start_used="own" if given is None else "x0",
        )


def _starts(derived: Derived) -> list[IntegralPoint]:
    base = feasible_point(derived)
    if base is None:
        return []
    safe = repair(derived, base)
    assert safe is not None  # the point is feasible as it is
    points = []
    for part in PARTS:
        middle = derived.cut_low + part * (derived.cut_high - derived.cut_low)
        cuts = np.rint(middle).astype(np.int64)
        if server_memory_fits(derived, cuts, safe.choice):
            points.append(settle(derived, IntegralPoint(cuts, safe.choice, safe.keep)))
    return [point for point in points if point is not None] or [safe]


SOLVER = AlternatingSolver()
