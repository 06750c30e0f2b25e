"""Solver ``greedy``: plans for (13) by single moves of one device, steepest descent first.

It starts where every device holds as few blocks as it may, then where it holds as many, and carries
the same loss of accuracy on its cheapest option. A move gives one device a block more or less,
another option, or both, its keep fraction following so that its loss stays what it was: so every
move is feasible. The share equations (14) say to first order what each move does to the barriers;
the most promising one is tried exactly, and the next ones until one really shortens the round;
before it gives up it tries moves that slopes do not promise. Where none helps, the keep fractions
are balanced anew between the devices (:mod:`sftopt.solvers.heuristics.polish`), which is the only
time that accuracy changes hands, and the descent goes on. No prices of accuracy, no groups:
:mod:`sftopt.solvers.heuristics.constructive` has those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.limits import elementary_bound_s, feasible_point, least_keep, server_memory_fits
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.round import adapter_block_s
from sftopt.core.spectrum import RateLaw
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Takes, Task
from sftopt.solvers.heuristics.polish import polish
from sftopt.solvers.heuristics.repair import repair, settle

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

STEPS = (-1, 0, 1)
"""Blocks a move may add."""
TRIES = 8
"""How many of the moves that slopes promise may fail before slopes are no longer trusted."""
LOOK = 400
"""How many moves are tried exactly at the end: all of them up to some 20 devices."""
LEAST_GAIN = 1e-9
"""Relative: what counts as an improvement."""
_ROUGH = 6
"""Price renewals of a polish on the way; the end result gets the full one."""


@dataclass(frozen=True)
class Menu:
    """Keep and payload of every option at a device's present loss; arrays (cuts or 1, N, O).

    Payloads are infinite where an option cannot lose so little or is not allowed.

    One layer serves all cuts unless accuracy depends on the cut or options have figures of their
    own.
    """

    bits_up: Array
    bits_down: Array
    keep: Array

    def layer(self, cuts: Integers) -> Integers:
        """Return the index (N,) of the layer that holds these cuts."""
        return np.minimum(cuts, len(self.keep) - 1)


def menu_at(derived: Derived, loss: Array) -> Menu:
    """Find the least keep fraction on every option that loses no more than ``loss`` (N,)."""
    layers = derived.blocks if derived.cuts_interact or not derived.plain else 1
    shape = (layers, derived.devices, len(derived.options))
    keep, up, down = np.full(shape, np.nan), np.full(shape, np.inf), np.full(shape, np.inf)
    for layer in range(layers):
        cuts = np.full(derived.devices, layer)
        for index, option in enumerate(derived.options):
            found = least_keep(derived, option, loss, cuts)
            good = ~np.isnan(found)
            if not derived.plain:
                good &= derived.option_cut_low[:, index] <= layer
            sent = derived.elements[good]
            keep[layer, :, index] = found
            up[layer, good, index] = sent * derived.beta_up(option, found[good])
            down[layer, good, index] = sent * derived.beta_down(option, found[good])
    return Menu(up, down, keep)


def end_points(derived: Derived) -> list[IntegralPoint]:
    """Return the points where the descent starts: least cuts, then highest; empty if infeasible.

    Everywhere the same loss, on the option that sends least; under ``common`` each option in turn.
    """
    base = feasible_point(derived)
    if base is None:
        return []
    safe = repair(derived, base)
    assert safe is not None  # the point is feasible as it is
    points = []
    for cuts in (derived.cut_low, derived.cut_high):
        # where these cost server memory or accuracy, the cuts are those of the feasible point
        free = not derived.cuts_interact and server_memory_fits(derived, cuts, safe.choice)
        used = cuts if free else safe.cuts
        for choice in _first_choices(derived, used):
            points.append(settle(derived, IntegralPoint(used, choice, safe.keep)))
        if not free:
            break
    return [point for point in points if point is not None] or [safe]


def _first_choices(derived: Derived, cuts: Integers) -> list[Integers]:
    count, rows = derived.devices, np.arange(derived.devices)
    if derived.scope is AccuracyScope.COMMON:
        return [np.full(count, index) for index in range(len(derived.options))]
    menu = menu_at(derived, np.full(count, min(derived.loss_budget, derived.loss_budget_each)))
    layer = menu.layer(cuts)
    sent = menu.bits_up[layer, rows] / derived.uplink_full_bits_per_s[:, None]
    if not derived.plain:  # what the server and the codec take counts beside the payload
        every = np.arange(len(derived.options))[:, None]
        for time_s in (derived.s1_s, derived.s3_s, derived.s5_s):
            sent = sent + time_s(cuts, every).T
    sent = sent + menu.bits_down[layer, rows] / derived.downlink_full_bits_per_s[:, None]
    return [np.argmin(sent, axis=1).astype(np.int64)]


@dataclass
class _Link:
    """One direction at a point: what a changed device does to the barrier, to first order."""

    law: RateLaw
    fixed: Array
    block: Array
    tau_s: float
    shares: Array
    bits: Array
    later: Array | float = 0.0
    """How much later a device begins on each option than on its present one, (N, O), in seconds."""

    def __post_init__(self) -> None:
        self.room = np.maximum(self.tau_s - self.fixed, 1e-300)
        self.rate = self.bits / self.room
        _, self.slope = self.law.inverse(self.rate, self.shares)
        self.fall = max(float((self.slope * self.rate / self.room).sum()), 1e-300)

    def longer(self, step: int, bits: Array) -> Array:
        """Change of tau (N, O) where a device takes ``step`` blocks more and sends ``bits``."""
        room = (self.room - step * self.block)[:, None] - self.later
        late = room <= 0.0
        rate = bits / np.where(late, 1.0, room)
        moved = self.slope[:, None] * (rate - self.rate[:, None]) / self.fall
        alone = bits / self.law.full()[:, None] - room  # it ends no sooner than that
        return np.asarray(np.where(late, alone, np.maximum(moved, alone)))


class Descent:
    """One run of single moves from one point."""

    def __init__(self, task: Task, point: IntegralPoint) -> None:
        self.task, self.derived = task, task.derived
        self.point = point
        self.delay = best_delay(self.derived, point)

    def run(self) -> IntegralPoint:
        """Move and balance in turn until neither shortens the round."""
        while not self._stopped():
            before = self.delay.round_s
            self._descend()
            self._take(polish(self.derived, self.point, rounds=_ROUGH))
            self._report()
            if self.delay.round_s >= before * (1.0 - LEAST_GAIN):
                break
        self._take(polish(self.derived, self.point))
        return self.point

    def _stopped(self) -> bool:
        return self.task.deadline.passed() or self.task.stop_requested()

    def _report(self) -> None:
        news = Progress(self.delay.round_s, candidate=self.point.candidate(self.derived))
        self.task.report(news)

    def _take(self, point: IntegralPoint | None) -> bool:
        """Go to ``point`` if the round is shorter there."""
        if point is None or not server_memory_fits(self.derived, point.cuts, point.choice):
            return False
        delay = best_delay(self.derived, point)
        if not delay.round_s < self.delay.round_s * (1.0 - LEAST_GAIN):
            return False
        self.point, self.delay = point, delay
        return True

    def _descend(self) -> None:
        known = Coefficients(self.derived, self.point.cuts, self.point.choice)
        menu = menu_at(self.derived, known.loss(self.point.keep))
        taken = True
        while taken and not self._stopped():
            taken = self._sweep(menu) or self._look(menu)

    def _sweep(self, menu: Menu) -> bool:
        """Try the most promising moves one after the other; a few may be taken at these slopes."""
        derived = self.derived
        gain, step, option = self._promises(menu)
        order = np.argsort(-gain)
        taken = failed = 0
        for n in order[: int((gain > LEAST_GAIN * self.delay.round_s / derived.steps).sum())]:
            if self._take(self._moved(menu, int(n), int(step[n]), int(option[n]))):
                taken += 1
            else:
                failed += 1
            if failed >= TRIES or taken > derived.devices // 50:
                break
        return taken > 0

    def _moved(self, menu: Menu, n: int, step: int, option: int) -> IntegralPoint | None:
        cuts, choice = self.point.cuts.copy(), self.point.choice.copy()
        keep = self.point.keep.copy()
        cuts[n] += step
        choice[n] = option
        keep[n] = menu.keep[int(menu.layer(cuts)[n]), n, option]
        point = IntegralPoint(cuts, choice, keep)
        return polish(self.derived, point) if self.derived.scope is AccuracyScope.COMMON else point

    def _look(self, menu: Menu) -> bool:
        """Slopes promise no more: try moves exactly, all of them up to ``LOOK``; take the first."""
        change = self._changes(menu)
        order = np.argsort(change, axis=None)[: min(LOOK, int(np.isfinite(change).sum()))]
        for move in order:
            row, n, option = np.unravel_index(move, change.shape)
            if self._take(self._moved(menu, int(n), STEPS[row], int(option))):
                return True
            if self._stopped():
                break
        return False

    def _promises(self, menu: Menu) -> tuple[Array, Integers, Integers]:
        """Per device its best move: seconds saved per step, blocks added, option."""
        change = self._changes(menu)
        count, options = change.shape[1:]
        by_device = change.transpose(1, 0, 2).reshape(count, -1)
        best = np.argmin(by_device, axis=1)
        gain = -by_device[np.arange(count), best]
        return gain, np.array(STEPS)[best // options], best % options

    def _changes(self, menu: Menu) -> Array:
        """Seconds every move adds to a step, to first order; (3, N, O), infinite if barred."""
        derived, point = self.derived, self.point
        rows = np.arange(derived.devices)
        up, down = self._links()
        changes = []
        for step in STEPS:
            cuts = point.cuts + step
            inside = (derived.cut_low <= cuts) & (cuts <= derived.cut_high)
            layer = np.clip(menu.layer(cuts), 0, None)
            change = up.longer(step, menu.bits_up[layer, rows])
            change = change + down.longer(step, menu.bits_down[layer, rows])
            change = change + self._elsewhere(step)
            change[~inside] = np.inf
            if derived.scope is AccuracyScope.COMMON:
                other = np.arange(len(derived.options)) != point.choice[0]
                change[:, other] = np.inf
            changes.append(change)
        return np.array(changes)

    def _links(self) -> tuple[_Link, _Link]:
        derived, point, delay = self.derived, self.point, self.delay
        known = Coefficients(derived, point.cuts, point.choice)
        return (
            _Link(
                derived.uplink_law,
                derived.s1_s(point.cuts, point.choice),
                derived.s1_block_s,
                delay.tau_up_s,
                delay.shares.uplink,
                known.bits_up(point.keep),
                self._later(derived.s1_s),
            ),
            _Link(
                derived.downlink_law,
                derived.s5_s(point.cuts, point.choice),
                derived.s5_block_s,
                delay.tau_down_s,
                delay.shares.downlink,
                known.bits_down(point.keep),
                self._later(derived.s5_s),
            ),
        )

    def _later(self, time_s: Callable[[Integers, Integers], Array]) -> Array | float:
        """How much longer a device works on each option than on its present one, (N, O)."""
        if self.derived.plain:
            return 0.0
        cuts, choice = self.point.cuts, self.point.choice
        every = np.arange(len(self.derived.options))[:, None]
        return np.asarray((time_s(cuts, every) - time_s(cuts, choice)).T)

    def _elsewhere(self, step: int) -> Array:
        """Change of server and adapter time (N, 1 or O), in seconds of one step; (7), (8)."""
        derived, cuts, choice = self.derived, self.point.cuts, self.point.choice
        adapters = (step * adapter_block_s(derived) / derived.steps)[:, None]
        served = derived.s3_s(cuts, choice)
        if derived.plain:
            after = (served - step * derived.s3_block_s)[:, None]
        else:
            every = np.arange(len(derived.options))[:, None]
            after = derived.s3_s(cuts + step, every).T
        if derived.server_order is ServerOrder.IN_TURN:
            if derived.plain:
                return np.asarray(adapters - (step * derived.s3_block_s)[:, None])
            return np.asarray(adapters + after - served[:, None])
        longest = np.sort(served)[::-1]
        others = np.where(served >= longest[0], longest[1] if len(longest) > 1 else 0.0, longest[0])
        return np.asarray(adapters + np.maximum(others[:, None], after) - longest[0])


class GreedySolver(Solver):
    """Single moves of steepest descent; always ends with a plan on a feasible instance."""

    name = "greedy"
    kind = "heuristic"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "x0"})
    native_options = False
    in_process = True
    wants_start = False
    summary = "single moves of one device, steepest descent from lowest and highest cuts; any size"

    def available(self) -> Availability:
        """Tell that it is always available: it is NumPy."""
        return Availability(True, engine_version=f"NumPy {np.__version__}")

    def run(self, task: Task) -> Outcome:
        """Descend from the start given, else from the floor."""
        derived = task.derived
        given = None if task.start is None else repair(derived, task.start.candidate)
        starts = end_points(derived) if given is None else [given]
        if not starts:
            raise InfeasibleError("no feasible point exists; 'sftopt check' says why")
        best: Descent | None = None
        for point in starts:
            if best is not None and (task.deadline.passed() or task.stop_requested()):
                break
            descent = Descent(task, point)
            descent.run()
            if best is None or descent.delay.round_s < best.delay.round_s:
                best = descent
        assert best is not None
        return Outcome(
            Termination.TIME_LIMIT if task.deadline.passed() else Termination.HEURISTIC_DONE,
            candidate=best.point.candidate(derived),
            claimed_s=best.delay.round_s,
            bound_s=elementary_bound_s(derived),
            bound_source="elementary",
            start_used="own" if given is None else "x0",
        )


SOLVER = GreedySolver()
