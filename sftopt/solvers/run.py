"""One ``solve``: check, derive, start, build, run, then let the judge decide what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sftopt.core.asked import asked_plainly
from sftopt.core.channel import RoundChannel
from sftopt.core.check import errors_of
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan, Provenance
from sftopt.core.remembered import derived_once
from sftopt.core.result import Result, SolverVersion, Times
from sftopt.core.status import Promise, Termination
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE
from sftopt.formulations.base import Formulation, Start
from sftopt.formulations.registry import get_formulation
from sftopt.formulations.registry import is_built_in as is_built_in_formulation
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.bound import with_bound
from sftopt.solvers.catalogue import list_solvers
from sftopt.solvers.child import can_fork
from sftopt.solvers.choose import choose
from sftopt.solvers.deadline import Deadline, run_until
from sftopt.solvers.interrupt import Interrupts
from sftopt.solvers.isolate import Hearer, run_here, run_isolated
from sftopt.solvers.judge import CUT_SHORT, Case, Judged, judge, own_version, reserve_s
from sftopt.solvers.models import Edited, about_the_model, build, given_model
from sftopt.solvers.news import ProgressView, RunNews
from sftopt.solvers.options import Options
from sftopt.solvers.registry import (
    availability,
    default_formulation,
    get_solver,
    is_built_in,
    why_refused,
)
from sftopt.solvers.start import (
    adopted,
    first_start,
    improved_start,
    load_start,
    quick_start,
    repair_note,
)

_NEVER_INTERRUPTED = (Termination.ERROR, Termination.REFUSED, Termination.INFEASIBLE_PROVEN)
"""What Ctrl-C does not hide: it stays the reason that the run ended."""
_READ_AT_ONCE = 20
"""Devices up to which reading a plan takes no time that a limit could be broken by."""


@asked_plainly
def solve(
    instance: Instance,
    *,
    formulation: str | None = None,
    solver: str | None = None,
    time_limit: float | None = 60.0,
    rel_gap: float = 1e-4,
    abs_gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    feas_tol: float = FEASIBILITY_TOLERANCE,
    x0: Plan | None = None,
    tee: bool = False,
    options: Mapping[str, Any] | None = None,
    on_progress: Callable[[ProgressView], None] | None = None,
    isolate: bool | None = None,
    channel: RoundChannel | None = None,
    model: Any = None,
) -> Result:
    """Plan ``instance`` and return what came of it; never raises for how a run ends.

    Without ``solver`` a sound default is chosen and named in ``Result.message``. ``time_limit``
    (seconds, None for none) covers everything from here on, the judge included, but what a process
    does once: importing and probing engines and compiling functions (``times_s.load``). A solver
    that has no point when the limit passes leaves the feasible start it was given. Ctrl-C at any
    moment is a result with termination ``interrupted`` and the best plan so far.

    ``feas_tol``, at most 1e-6, is by what a plan may miss a limit: absolute on shares, keep
    fractions and accuracy, relative on memory and rates. Judge, solvers, bounds and the check for
    feasibility use the same one; engines work to tolerances of their own, and their points are
    repaired to this one.

    ``options`` go to the engine untouched. ``isolate`` runs the solver in a child process, so that
    a crash or a hang cannot take the caller along; by default engines and all plug-ins are isolated
    and our own code is not.

    ``x0`` may be a plan of another cell with the same devices, such as this one before its gains
    changed: it is repaired, and ``Result.message`` says so. No slower plan than it is returned.

    ``channel`` puts the gains of one round, problem (14), in place of the channel's statistics; a
    device in outage makes that round infeasible.

    ``model`` is a model of ``instance`` from ``sftopt.build``, with constraints added, variables
    fixed or values set: it is solved as it is, from the values in it, and is not changed. It is
    read as ``formulation`` says, or as it remembers. Nothing that comes of it bounds the instance,
    and ``infeasible_proven`` speaks of the model.

    Raises InputError for arguments that make no sense (unknown names, limits below zero, an
    option the engine does not know, an ``x0`` for other devices, a foreign ``model``).
    """
    x0, foreign = adopted(instance, x0)
    settings = Options(
        time_limit, rel_gap, abs_gap, threads, seed, feas_tol, x0, tee, dict(options or {})
    )
    with Interrupts() as interrupts, np.errstate(all="ignore"):  # the judge looks again
        run = _Run(instance, settings, on_progress, isolate, channel, interrupts)
        if model is not None:
            run.edited = given_model(model, instance, formulation, x0, channel)
        run.foreign = foreign
        return run.go(solver, formulation)


class _Run:
    """The state of one ``solve``: what is known so far and how long each phase took."""

    def __init__(
        self,
        instance: Instance,
        options: Options,
        on_progress: Callable[[ProgressView], None] | None,
        isolate: bool | None,
        channel: RoundChannel | None,
        interrupts: Interrupts,
    ) -> None:
        self.instance = instance
        self.interrupts = interrupts
        self.channel = channel
        self.options = options
        self.deadline = Deadline(options.time_limit)
        self.news = RunNews(on_progress, self.deadline.elapsed)
        self.isolate = isolate
        self.build_s = 0.0
        self.solve_s = 0.0
        self.note = ""
        self.foreign = ""  # the hash of the cell that x0 was made for, where it is another one
        self.edited: Edited | None = None
        self.solver: Solver | None = None
        self.formulation: Formulation | None = None
        self.derived: Derived | None = None
        """Set once there is something to judge: an instance with plans, taken by the solver."""
        self.start: Start | None = None
        self.kept_start = False

    def go(self, solver_name: str | None, formulation_name: str | None) -> Result:
        """Go through all phases in order; every way out is a result."""
        try:
            outcome = self._outcome(solver_name, formulation_name)
        except KeyboardInterrupt:
            outcome = self._interrupted()
        self.interrupts.raises_at = None  # from here on an answer could be lost
        return self._result(outcome, solver_name or "", formulation_name or "native")

    def _outcome(self, solver_name: str | None, formulation_name: str | None) -> Outcome:
        """What came of the run before anybody judged it."""
        derived = self._derived()
        with self.deadline.stopped():
            if solver_name is None:
                known = formulation_name if self.edited is None else self.edited.name
                solver_name, self.note = choose(derived, known)
            self.solver = solver = get_solver(solver_name)
            self.formulation = self.edited or get_formulation(
                formulation_name or default_formulation(solver)
            )
            if not _are_ours(solver, self.formulation):
                derived = derive(self.instance, self.channel, self.options.feas_tol)  # to itself
            refusal = self._refusal(solver, self.formulation, derived)
        if refusal is not None:
            return Outcome(Termination.REFUSED, message=refusal)
        reasons = self._infeasible(derived)
        if reasons:
            return Outcome(Termination.INFEASIBLE_PROVEN, message="; ".join(reasons))
        self.derived = derived
        with self.deadline.stopped(), self.deadline.stopped_by_compiling(self.news.compiling):
            load_start()
        return self._solved(solver, self.formulation, derived)

    def _derived(self) -> Derived:
        """The arrays, which are remembered but for a round's own gains."""
        if self.channel is not None:
            return derive(self.instance, self.channel, self.options.feas_tol)
        return derived_once(self.instance, self.options.feas_tol)

    def _interrupted(self) -> Outcome:
        text = "interrupted before the solver ran"
        return self._with_start(Outcome(Termination.INTERRUPTED, message=text))

    def _with_start(self, outcome: Outcome) -> Outcome:
        """Keep the start where the run was cut short before the solver had a point of its own."""
        if self.start is None or outcome.candidate or outcome.termination not in CUT_SHORT:
            return outcome
        self.kept_start = True
        text = "the solver had no point of its own yet; the start is kept"
        return replace(
            outcome,
            candidate=self.start.candidate,
            claimed_s=self.start.objective_s,
            start_used="kept as it was",
            message="; ".join(part for part in (outcome.message, text) if part),
        )

    def _infeasible(self, derived: Derived) -> list[str]:
        """Every reason why no plan can exist; in a round with known gains, also its outages."""
        reasons = [str(fault) for fault in errors_of(self.instance, self.options.feas_tol)]
        if self.channel is not None:
            limit = self.instance.radio.outage_rate_bits_per_s
            reasons += [
                f"device {name}: in outage in this round: below {limit:g} bit/s over the whole band"
                for name, out in zip(derived.ids, derived.outage, strict=True)
                if out
            ]
        return reasons

    def _refusal(self, solver: Solver, formulation: Formulation, derived: Derived) -> str | None:
        if self.options.native and not solver.native_options and solver.accepts(formulation):
            raise InputError(
                f"solver '{solver.name}' has no options of its own; "
                f"remove: {', '.join(self.options.native)}"
            )
        return why_refused(solver, formulation, derived)

    def _solved(self, solver: Solver, formulation: Formulation, derived: Derived) -> Outcome:
        """Start, build and run, each within the one deadline."""
        text = "the time limit passed before the solver ran"
        late = Outcome(Termination.TIME_LIMIT, message=text)
        if self.deadline.passed():
            return late
        within = self.deadline.earlier(reserve_s(derived, self.deadline.seconds))
        given = None
        if self.edited is None:
            given = self._started(derived, solver, formulation, within)
        if self.interrupts.asked.is_set():
            return self._interrupted()
        if within.passed():
            return self._with_start(late)
        task = Task(derived, formulation, None, given, self.options.for_solver(), within)
        return self._with_start(self._ran(solver, task))

    def _started(
        self, derived: Derived, solver: Solver, formulation: Formulation, within: Deadline
    ) -> Start | None:
        """The start that the solver is given; the run has the quick one at least, come what may."""
        given = self.options.x0 is not None
        if not given:
            self.start = quick_start(derived)
        if not (given or solver.wants_start):
            return None
        try:
            if given and solver.settles_start and derived.devices <= _READ_AT_ONCE:
                self._make_start(derived, solver, formulation, within)
            else:
                run_until(within, lambda: self._make_start(derived, solver, formulation, within))
        finally:
            self.start = self.start or quick_start(derived)
        return self.start

    def _isolates(self, solver: Solver, formulation: Formulation) -> bool:
        """In the calling process runs our own code only, unless the caller asks for it."""
        if self.isolate is not None:
            return self.isolate
        return not (_are_ours(solver, formulation) and solver.in_process)

    def _ran(self, solver: Solver, task: Task) -> Outcome:
        """What the solver answered; whatever goes wrong in it becomes an outcome."""
        self.interrupts.raises_at = None
        if self.interrupts.asked.is_set():
            return self._interrupted()
        away = can_fork() and self._isolates(solver, task.formulation)
        runner = run_isolated if away else run_here
        news = self.news
        hearer = Hearer(news.listen, self._built, news.compiling, self.interrupts)
        began = self.deadline.elapsed()
        try:
            outcome = runner(solver, task, hearer)
            if self.edited is not None:
                outcome = about_the_model(outcome, solver)
            return outcome
        except InputError:
            raise
        except RefusedError as error:
            return Outcome(Termination.REFUSED, message=str(error))
        except Exception as error:  # noqa: BLE001  a solver's fault becomes a result
            said = f"the solver failed: {type(error).__name__}: {error}"
            return Outcome(Termination.ERROR, message=said)
        finally:
            self.solve_s = self.deadline.elapsed() - began - self.build_s

    def _built(self, seconds: float) -> None:
        self.build_s = seconds

    def _make_start(
        self, derived: Derived, solver: Solver, formulation: Formulation, within: Deadline
    ) -> None:
        """A better start than the quick one, which stands until there is one."""
        given = self.options.x0
        found = first_start(
            derived, formulation, given, within,
            foreign=bool(self.foreign), settles=solver.settles_start,
        )  # fmt: skip
        if found is None:
            return
        self.start = found
        if given is not None:
            self.note += f" {repair_note(derived, formulation, given, found, self.foreign)}"
            return
        self.interrupts.raises_at = None  # the first one stands if the next is not ready
        self.start = improved_start(derived, found, within, self.interrupts.asked.is_set)
        self.interrupts.raises_at = 1

    def _result(self, outcome: Outcome, solver_name: str, formulation_name: str) -> Result:
        """The result; the names as given stand in for what an interrupt left unloaded."""
        solver, formulation = self.solver, self.formulation
        there = availability(solver) if solver is not None else Availability(False)
        version = SolverVersion(
            name=solver.name if solver is not None else solver_name,
            wrapper_version=there.version,
            engine_version=there.engine_version,
            linked_library=there.linked_library,
        )
        began = time.monotonic()
        judged = Judged(outcome.termination)
        if outcome.termination is Termination.INFEASIBLE_PROVEN:
            judged = replace(judged, proven_for="problem")  # by the check; no solver ran
        if self.derived is not None and formulation is not None and solver is not None:
            known = self.derived if self.edited is None else None
            outcome = with_bound(outcome, solver, formulation, known, self.start)
            provenance = Provenance(
                sftopt_version=own_version(),
                formulation=formulation.name,
                solver=solver.name,
                engine_version=there.engine_version,
                seed=self.options.seed,
            )
            case = Case(
                self.instance, self.derived, formulation, solver, self.options, provenance,
                self.channel, self.kept_start, self.start, self.deadline,
            )  # fmt: skip
            judged = judge(case, outcome)
        if self.interrupts.asked.is_set() and judged.termination not in _NEVER_INTERRUPTED:
            judged = replace(judged, termination=Termination.INTERRUPTED)
        verify_s = time.monotonic() - began
        honours = solver.honours if solver is not None else self.options.changed()
        ignored = sorted(self.options.changed() - honours - {"feas_tol"})
        parts = [self.note.strip(), outcome.message, judged.message]
        return Result(
            instance_name=self.instance.name,
            instance_hash=self.instance.hash,
            termination=judged.termination,
            point=judged.point,
            point_from=judged.point_from,
            proven_for=judged.proven_for,
            objective_s=judged.objective_s,
            objective_answered_s=judged.objective_answered_s,
            objective_claimed_s=outcome.claimed_s,
            bound_s=judged.bound_s,
            bound_source=judged.bound_source,
            gap_rel=judged.gap_rel,
            breakdown=judged.breakdown,
            violations=judged.violations,
            feas_tol=self.options.feas_tol,
            formulation=formulation.name if formulation is not None else formulation_name,
            promise=formulation.promise if formulation is not None else Promise.EXACT,
            solver=version,
            options_used={**self.options.common(), **self.options.native},
            options_ignored=tuple(ignored),
            seed=self.options.seed,
            start_used=outcome.start_used,
            iterations=outcome.iterations,
            nodes=outcome.nodes,
            duals=outcome.duals,
            trace=self.news.trace.points(),
            times_s=Times(
                load=self.deadline.stopped_s,
                build=self.build_s,
                solve=self.solve_s,
                verify=verify_s,
                total=self.deadline.stopped_s + self.deadline.elapsed(),
            ),
            plan=judged.plan,
            message=" ".join(part for part in parts if part),
        )


def _are_ours(solver: Solver, formulation: Formulation) -> bool:
    return is_built_in(solver) and is_built_in_formulation(formulation)


__all__ = ["ProgressView", "build", "list_solvers", "solve"]
