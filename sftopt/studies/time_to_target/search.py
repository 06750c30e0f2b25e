"""Time to target: problem (13) inside a search over the loss that a plan accepts.

Section 9 of ``formulations/MODEL.md``. The best round T*(Omega) falls with the loss allowed and the
rounds R(Omega) grow, so no plan whose loss lies in [O_i, O_i+1] takes less than R(O_i) times the
bound proven for T*(O_i+1). Intervals are halved, the one of the least such bound first, until the
best plan is within the gap of it. Ranks are a short list, each with intervals of its own.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sftopt.core.asked import asked_plainly
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.result import Result
from sftopt.core.status import Termination
from sftopt.core.target_laws import LinearLaw, SaturatingLaw, TargetLaws
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.interrupt import Interrupts
from sftopt.solvers.run import ProgressView, solve
from sftopt.studies.time_to_target.answer import LossLevel, TimeToTarget
from sftopt.studies.time_to_target.cells import Ladder
from sftopt.studies.time_to_target.conclude import conclude
from sftopt.studies.time_to_target.goal import Best, Found, Goal

REL_GAP = 1e-3
"""Default gap: every halving is a planning of its own."""
_INNER = 0.25
"""Share of the gap that is left to each planning, and to the width of an interval."""
_SLICE = 0.25
"""Share of the time left that one planning may take: one that does not close must not take all."""
_LEAST_SLICE_S = 1.0
"""The least that it may take in seconds, where so much is left."""
_SHADE = 1e-12
"""By what a product of bounds is drawn down, relative, for its rounding."""
_BAD = (Termination.REFUSED, Termination.ERROR, Termination.NUMERICAL_ERROR)
"""Ends of a planning after which others would end alike."""


@asked_plainly
def time_to_target(
    instance: Instance,
    target: float,
    laws: TargetLaws | LinearLaw | SaturatingLaw,
    *,
    law: str | None = None,
    ranks: Sequence[int] = (),
    free_accuracy: bool = False,
    solver: str | None = None,
    formulation: str | None = None,
    time_limit: float | None = 60.0,
    rel_gap: float = REL_GAP,
    abs_gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    feas_tol: float = FEASIBILITY_TOLERANCE,
    x0: Plan | None = None,
    options: Mapping[str, Any] | None = None,
    on_progress: Callable[[ProgressView], None] | None = None,
) -> TimeToTarget:
    """Plan for the least time in seconds until the metric reaches ``target``.

    ``laws`` say how many rounds a loss takes: a calibration's ``time_to_target``, or one declared
    law; ``law`` chooses ``linear`` or ``saturating`` where both are known (None: linear within its
    levels). ``ranks`` of the adapters are tried one by one (none: the workload's own).
    ``free_accuracy`` lifts the instance's accuracy.minimum, so that the target alone limits the
    loss; else all of the instance's limits hold.

    ``solver`` and ``formulation`` are those of each planning; it must prove bounds. ``time_limit``
    (seconds) is for everything; Ctrl-C keeps the best plan so far. Never raises for how a run ends.

    Raises InputError for a target that the law knows nothing of, for a law in another metric, for
    ranks that cannot be, and as :func:`sftopt.solve` does.
    """
    known = _known(laws, instance)
    if known.metric != instance.accuracy.metric:
        raise InputError(
            f"the law is of the metric '{known.metric}', the instance's accuracy is "
            f"'{instance.accuracy.metric}': give a law of that, or apply the calibration it is in"
        )
    if not isinstance(target, int | float) or not math.isfinite(target):
        raise InputError(f"target is {target}; a number in the unit of the metric is needed")
    if not 0.0 <= rel_gap < 1.0:
        raise InputError(f"rel_gap is {rel_gap:g}; it must lie in [0, 1)")
    chosen = known.chosen(law, target)
    chosen.check(target, instance.accuracy.uncompressed)
    goal = Goal(instance, target, chosen, known, free_accuracy, feas_tol)
    asked = _Asked(
        rel_gap, abs_gap,
        {"solver": solver, "formulation": formulation, "threads": threads, "seed": seed,
         "feas_tol": feas_tol, "options": options},
    )  # fmt: skip
    ladders = [Ladder(instance, rank, free_accuracy, feas_tol) for rank in _ranks(instance, ranks)]
    deadline = Deadline(time_limit)
    with Interrupts() as interrupts:
        interrupts.raises_at = None  # what was found is kept, whenever the signal comes
        search = _Search(goal, ladders, asked, deadline, interrupts, on_progress)
        search.go(x0)
        return conclude(goal, ladders, search.found(), feas_tol, seed, deadline.elapsed())


def _known(laws: object, instance: Instance) -> TargetLaws:
    """The laws as a set. Raises InputError for something else."""
    if isinstance(laws, TargetLaws):
        return laws
    if isinstance(laws, LinearLaw | SaturatingLaw):
        return TargetLaws.of(laws, instance.accuracy.metric)
    raise InputError(
        f"time_to_target() needs laws, not a {type(laws).__name__}: a LinearLaw or SaturatingLaw "
        "of sftopt.core.target_laws, or load_calibration(...).time_to_target, which is None where "
        "no rounds were measured"
    )


@dataclass(frozen=True)
class _Asked:
    rel_gap: float
    abs_gap: float
    planning: dict[str, Any]

    def met(self, bound_s: float, time_s: float) -> bool:
        """Whether the gap asked for is closed."""
        gap = time_s - bound_s
        return gap <= max(self.rel_gap * time_s, self.abs_gap)


@dataclass(order=True)
class _Interval:
    """Losses of one rank, the bound on all plans in it, and of its upper end's round."""

    bound_s: float
    number: int
    ladder: Ladder = field(compare=False)
    low: float = field(compare=False)
    high: float = field(compare=False)
    round_bound_s: float = field(compare=False)


class _Search:
    """The intervals still open, the best plan, and why the search ended."""

    def __init__(
        self,
        goal: Goal,
        ladders: Sequence[Ladder],
        asked: _Asked,
        deadline: Deadline,
        interrupts: Interrupts,
        on_progress: Callable[[ProgressView], None] | None,
    ) -> None:
        self.goal, self.ladders, self.asked = goal, ladders, asked
        self.deadline, self.interrupts, self.on_progress = deadline, interrupts, on_progress
        self.best: Best | None = None
        self.open: list[_Interval] = []
        self.narrow_s = math.inf  # least bound of intervals that are not worth a further halving
        self.untried: list[Ladder] = []
        self.levels: list[LossLevel] = []
        self.plans: list[tuple[float, Plan]] = []
        self.source: str | None = None
        self.message = ""
        self.stopped: Termination | None = None
        self._numbers = itertools.count()

    def go(self, x0: Plan | None) -> None:
        """Solve the loosest cell of every rank, then halve until the gap is closed."""
        self.untried = list(self.ladders)
        for ladder in self.ladders:
            if not self._begun(ladder, x0):
                return
            self.untried.remove(ladder)
        while self.stopped is None and self.open:
            if self._closed():
                self.stopped = Termination.GAP_LIMIT
                return
            self._halve(self.open[0])

    def _begun(self, ladder: Ladder, x0: Plan | None) -> bool:
        """Open all losses of a rank; False where the search ended before anything was known."""
        goal = self.goal
        limit = goal.law.loss_limit(goal.target, goal.instance.accuracy.uncompressed)
        low = ladder.least_loss
        if low >= limit:  # even a plan that loses least stays below the target
            return True
        high = max(min(ladder.largest_loss, limit), low)
        bound_s = self._planned(ladder, high, x0)
        if bound_s is not None:
            self._add(ladder, low, high, bound_s)
        return bound_s is not None or self.stopped is None

    def _closed(self) -> bool:
        return self.best is not None and self.asked.met(self.bound_s, self.best.time_s)

    @property
    def bound_s(self) -> float:
        """The least bound of all that is left; 0 while a rank has not been looked at."""
        if self.untried:
            return 0.0
        left = self.open[0].bound_s if self.open else math.inf
        return min(left, self.narrow_s)

    def _halve(self, interval: _Interval) -> None:
        ladder, low, high = interval.ladder, interval.low, interval.high
        middle = 0.5 * (low + high)
        rank = ladder.rank
        narrow = self.goal.rounds(rank, high) <= self.goal.rounds(rank, low) * (
            1.0 + _INNER * self.asked.rel_gap
        )
        if narrow or not low < middle < high:
            heapq.heappop(self.open)
            self.narrow_s = min(self.narrow_s, interval.bound_s)
            return
        bound_s = self._planned(ladder, middle, self._near(middle))
        if self.stopped is not None and bound_s is None:
            return
        heapq.heappop(self.open)  # only now: until then it is a part of the bound
        if bound_s is not None:
            self._add(ladder, low, middle, max(bound_s, interval.round_bound_s))
        self._add(ladder, middle, high, interval.round_bound_s, least_s=interval.bound_s)

    def _add(
        self, ladder: Ladder, low: float, high: float, round_bound_s: float, least_s: float = 0.0
    ) -> None:
        bound_s = self.goal.rounds(ladder.rank, low) * round_bound_s * (1.0 - _SHADE)
        made = _Interval(
            max(bound_s, least_s), next(self._numbers), ladder, low, high, round_bound_s
        )
        if math.isfinite(made.bound_s):
            heapq.heappush(self.open, made)

    def _near(self, loss: float) -> Plan | None:
        """The plan known that loses most within ``loss``, else the one that loses least."""
        within = [entry for entry in self.plans if entry[0] <= loss]
        chosen = max(within, default=None, key=_first) or min(
            self.plans, default=None, key=_first
        )  # fmt: skip
        return None if chosen is None else chosen[1]

    def _planned(self, ladder: Ladder, loss: float, x0: Plan | None) -> float | None:
        """Solve one cell; return its bound in seconds, None where it has no plan or all ends."""
        if self.interrupts.asked.is_set():
            self.stopped = Termination.INTERRUPTED
            return None
        if self.deadline.passed():
            self.stopped = Termination.TIME_LIMIT
            return None
        left = self.deadline.left()
        limit = None if math.isinf(left) else max(_SLICE * left, min(left, _LEAST_SLICE_S))
        result = solve(
            ladder.cell(loss), x0=x0, time_limit=limit, rel_gap=_INNER * self.asked.rel_gap,
            **self.asked.planning,
        )  # fmt: skip
        self.deadline.forgive(result.times_s.load)
        self._take(ladder, loss, result)
        if result.termination is Termination.INTERRUPTED:
            self.stopped = Termination.INTERRUPTED
        if result.termination is Termination.INFEASIBLE_PROVEN:
            return None
        if result.termination in _BAD or result.proven_for != "problem":
            self._give_up(result)
            return None
        self.source = result.bound_source
        return result.bound_s or 0.0

    def _give_up(self, result: Result) -> None:
        """A planning that proves nothing: no search can go on from it."""
        if self.stopped is not None:
            return
        if result.termination is Termination.TIME_LIMIT:
            self.stopped = Termination.TIME_LIMIT
            return
        if result.termination in _BAD:
            self.stopped, self.message = result.termination, result.message
            return
        self.stopped = Termination.REFUSED
        self.message = (
            f"solver '{result.solver.name}' on {result.formulation} proves no bound on the round, "
            "which a search for the least time to target rests on; leave --solver out, or take "
            "certify or exhaustive"
        )

    def _take(self, ladder: Ladder, loss: float, result: Result) -> None:
        """Note what came of a planning, and keep its plan where it is the best."""
        own = self.goal.loss_of(result.breakdown) if result.ok and result.breakdown else None
        rounds = time_s = None
        if own is not None and result.objective_s is not None and result.plan is not None:
            self.plans.append((own, result.plan))
            rounds = self.goal.rounds(ladder.rank, own)
            time_s = rounds * result.objective_s
            if math.isfinite(time_s) and (self.best is None or time_s < self.best.time_s):
                self.best = Best(
                    ladder, own, rounds, result.objective_s, time_s, result.plan,
                    _least(result.breakdown),
                )  # fmt: skip
        self.levels.append(
            LossLevel(
                rank=ladder.rank, loss_limit=loss, loss=own,
                round_s=result.objective_s if result.ok else None,
                round_bound_s=result.bound_s,
                rounds=_or_none(rounds), time_s=_or_none(time_s), termination=result.termination,
            )
        )  # fmt: skip
        if self.on_progress is not None:
            bound_s, time_s = self.bound_s, None if self.best is None else self.best.time_s
            known = 0.0 < bound_s < math.inf
            self.on_progress(
                ProgressView(
                    time_s, bound_s if known else None,
                    (time_s - bound_s) / time_s if known and time_s else None,
                    self.deadline.elapsed(),
                )
            )  # fmt: skip

    def found(self) -> Found:
        """Return what is known, with the bound that the open intervals leave."""
        bound_s: float | None = self.bound_s
        if self.best is not None and bound_s is not None:
            bound_s = min(bound_s, self.best.time_s)
        if bound_s is None or not 0.0 < bound_s < math.inf:
            bound_s = None
        termination = self.stopped
        if termination is None:  # nothing is left to halve
            termination = Termination.INFEASIBLE_PROVEN
            if self.best is not None:
                termination = Termination.GAP_LIMIT if self._closed() else (
                    Termination.ITERATION_LIMIT
                )  # fmt: skip
            elif math.isfinite(self.narrow_s):
                termination = Termination.ITERATION_LIMIT
        if termination is Termination.ITERATION_LIMIT:
            self.message = "the plannings did not close their own gaps, so no halving closes more"
        return Found(
            self.best, bound_s, self.source if bound_s is not None else None, termination,
            tuple(self.levels), self.message,
        )  # fmt: skip


def _least(breakdown: Breakdown | None) -> float:
    known = () if breakdown is None else breakdown.devices
    return min((d.accuracy for d in known if d.accuracy is not None), default=math.inf)


def _first(entry: tuple[float, Plan]) -> float:
    return entry[0]


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ranks(instance: Instance, asked: Sequence[int]) -> list[int]:
    """The ranks to try, the workload's own first. Raises InputError for one that cannot be."""
    work = instance.workload
    wanted = list(dict.fromkeys(asked)) or [work.lora_rank]
    for rank in wanted:
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise InputError(f"ranks: {rank} is no rank; whole numbers from 1 are taken")
        if rank > max(work.hidden, work.lora_rank):
            raise InputError(
                f"ranks: {rank} is above the hidden size of {work.hidden}; a higher rank is of no "
                "use"
            )
    return sorted(wanted, key=lambda rank: (rank != work.lora_rank, rank))
