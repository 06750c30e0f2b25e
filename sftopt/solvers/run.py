"""One ``solve``: check, derive, start, build, run, then let the judge decide what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.check import check
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError, RefusedError, SftoptError
from sftopt.core.faults import Severity
from sftopt.core.instance import Instance, PowerLaw
from sftopt.core.limits import elementary_bound_s
from sftopt.core.plan import Plan
from sftopt.core.result import Result, SolverVersion, Times
from sftopt.core.status import Termination
from sftopt.formulations.base import Formulation, Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Progress, Solver, Task
from sftopt.solvers.catalogue import list_solvers
from sftopt.solvers.choose import choose
from sftopt.solvers.heuristics.constructive import first_point, improve
from sftopt.solvers.heuristics.repair import keep_as_is, repair
from sftopt.solvers.isolate import can_fork, run_here, run_isolated
from sftopt.solvers.judge import BOUND_TOLERANCE, Judged, judge
from sftopt.solvers.options import Options
from sftopt.solvers.point import best_delay, from_plan, plan_shares
from sftopt.solvers.registry import availability, get_solver, solvers_for


@dataclass(frozen=True)
class ProgressView:
    """What a progress line shows; values are the solver's claims until it ends."""

    incumbent_s: float | None
    bound_s: float | None
    gap_rel: float | None
    elapsed_s: float


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
    feas_tol: float = 1e-6,
    x0: Plan | None = None,
    tee: bool = False,
    options: Mapping[str, Any] | None = None,
    on_progress: Callable[[ProgressView], None] | None = None,
    isolate: bool | None = None,
    channel: RoundChannel | None = None,
) -> Result:
    """Plan ``instance`` and return what came of it; never raises for how a run ends.

    Without ``solver`` a sound default is chosen and named in ``Result.message``. ``time_limit``
    (seconds, None for none) covers everything from here on. ``options`` go to the engine
    untouched. ``isolate`` runs the solver in a child process, so that a crash or a hang cannot
    take the caller along; by default engines are isolated and our own code is not.
    ``channel`` puts the gains of one round, problem (14), in place of the channel's statistics;
    a device in outage makes that round infeasible.

    Raises InputError for arguments that make no sense (unknown names, limits below zero, an
    option the engine does not know, an ``x0`` for another instance).
    """
    settings = Options(
        time_limit, rel_gap, abs_gap, threads, seed, feas_tol, x0, tee, dict(options or {})
    )
    run = _Run(instance, settings, on_progress, isolate, channel)
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
    ) -> None:
        self.instance = instance
        self.channel = channel
        self.options = options
        self.deadline = Deadline(options.time_limit)
        self.on_progress = on_progress
        self.isolate = isolate
        self.build_s = 0.0
        self.solve_s = 0.0
        self.note = ""
        self._start_s: float | None = None
        self._best: float | None = None
        self._bound: float | None = None

    def go(self, solver_name: str | None, formulation_name: str | None) -> Result:
        """All phases in order; every way out goes through :meth:`_result`."""
        derived = derive(self.instance, self.channel)
        if solver_name is None:
            solver_name, self.note = choose(derived, formulation_name)
        solver = get_solver(solver_name)
        formulation = get_formulation(formulation_name or solver.formulations[0])
        refusal = self._refusal(solver, formulation, derived)
        if refusal is not None:
            return self._result(solver, formulation, Outcome(Termination.REFUSED, message=refusal))
        reasons = self._infeasible(derived)
        if reasons:
            outcome = Outcome(Termination.INFEASIBLE_PROVEN, message="; ".join(reasons))
            return self._result(solver, formulation, outcome)
        try:
            outcome = self._bound_checked(_finite(self._solved(solver, formulation, derived)))
        except KeyboardInterrupt:
            text = "interrupted before the solver ran"
            outcome = Outcome(Termination.INTERRUPTED, message=text)
        if outcome.bound_s is None:
            bound = elementary_bound_s(derived)
            outcome = replace(outcome, bound_s=bound, bound_source="elementary")
        return self._result(solver, formulation, outcome, derived)

    def _infeasible(self, derived: Derived) -> list[str]:
        """Every reason why no plan can exist; in a round with known gains, also its outages."""
        report = check(self.instance)
        reasons = [str(f) for f in report.faults if f.severity is Severity.ERROR]
        if self.channel is not None:
            limit = self.instance.radio.outage_rate_bits_per_s
            reasons += [
                f"device {name}: in outage in this round: below {limit:g} bit/s over the whole band"
                for name, out in zip(derived.ids, derived.outage, strict=True)
                if out
            ]
        return reasons

    def _refusal(self, solver: Solver, formulation: Formulation, derived: Derived) -> str | None:
        if formulation.name not in solver.formulations:
            able = ", ".join(solvers_for(formulation.name)) or "no solver here"
            return (
                f"solver '{solver.name}' does not take formulation '{formulation.name}'; it takes: "
                f"{', '.join(solver.formulations)}. '{formulation.name}' is taken by: {able}."
            )
        if self.options.native and not solver.native_options:
            raise InputError(
                f"solver '{solver.name}' has no options of its own; "
                f"remove: {', '.join(self.options.native)}"
            )
        there = availability(solver)
        if not there:
            fix = f" Mend it with: {there.fix}" if there.fix else ""
            return f"solver '{solver.name}' does not run here: {there.reason}.{fix}"
        return formulation.refusal(derived) or solver.refusal(derived)

    def _solved(self, solver: Solver, formulation: Formulation, derived: Derived) -> Outcome:
        """Start, build and run, each within the one deadline."""
        late = Outcome(
            Termination.TIME_LIMIT, message="the time limit passed before the solver ran"
        )
        if self.deadline.passed():
            return late
        needed = solver.wants_start or self.options.x0 is not None
        start = self._start(derived, formulation) if needed else None
        if self.deadline.passed():
            return late
        began = time.monotonic()
        try:
            model = formulation.build(derived, start)
        except SftoptError:
            raise
        except MemoryError:
            return Outcome(Termination.ERROR, message="not enough memory to build the model")
        except Exception as error:  # noqa: BLE001  a plug-in's fault becomes a result
            text = f"building '{formulation.name}' failed: {type(error).__name__}: {error}"
            return Outcome(Termination.ERROR, message=text)
        self.build_s = time.monotonic() - began
        if self.deadline.passed():
            return replace(late, message="the time limit passed while the model was built")
        task = Task(derived, formulation, model, start, self.options, self.deadline)
        isolate = not solver.in_process if self.isolate is None else self.isolate
        runner = run_isolated if isolate and can_fork() else run_here
        began = time.monotonic()
        try:
            outcome = runner(solver, task, self._listen)
            if outcome.termination is Termination.INTERRUPTED and outcome.candidate is None:
                outcome = _with_start(outcome, start)
            return outcome
        except InputError:
            raise
        except RefusedError as error:
            return Outcome(Termination.REFUSED, message=str(error))
        except Exception as error:  # noqa: BLE001  a solver's fault becomes a result
            text = f"the solver failed: {type(error).__name__}: {error}"
            return Outcome(Termination.ERROR, message=text)
        finally:
            self.solve_s = time.monotonic() - began

    def _start(self, derived: Derived, formulation: Formulation) -> Start | None:
        """The plan given as x0, repaired where it breaks a limit, or a constructed point."""
        given = self.options.x0
        if given is not None:
            candidate = x0_candidate(derived, given)
            if formulation.keeps_start:
                point = keep_as_is(derived, candidate, polished=False)
            else:
                point = repair(derived, candidate)
        else:
            point = first_point(derived)
            # a better start tightens the model's bounds; under total power it would take seconds
            quick = derived.devices <= 40 and derived.power is PowerLaw.PSD
            if point is not None and quick:
                point = improve(derived, point, deadline=self.deadline)
        if point is None:
            return None
        self._start_s = best_delay(derived, point).round_s
        shares = None if given is None else plan_shares(derived, given)
        return Start(point.candidate(derived), self._start_s, shares)

    def _bound_checked(self, outcome: Outcome) -> Outcome:
        """The start is a feasible plan, so no bound may lie above it, point or no point."""
        bound, start = outcome.bound_s, self._start_s
        if bound is None or start is None or bound <= start * (1.0 + BOUND_TOLERANCE):
            return outcome
        text = (
            f"the bound {bound:.9g} s ({outcome.bound_source}) is above {start:.9g} s, the delay "
            "of the feasible start; it is withdrawn"
        )
        return replace(
            outcome,
            termination=Termination.ERROR,
            bound_s=None,
            bound_source=None,
            message=" ".join(part for part in (outcome.message, text) if part),
        )

    def _listen(self, news: Progress) -> None:
        if news.incumbent_s is not None and (self._best is None or news.incumbent_s < self._best):
            self._best = news.incumbent_s
        if news.bound_s is not None and (self._bound is None or news.bound_s > self._bound):
            self._bound = news.bound_s
        if self.on_progress is None:
            return
        gap = None
        if self._best is not None and self._bound is not None and self._best > 0.0:
            gap = (self._best - self._bound) / self._best
        self.on_progress(ProgressView(self._best, self._bound, gap, self.deadline.elapsed()))

    def _result(
        self,
        solver: Solver,
        formulation: Formulation,
        outcome: Outcome,
        derived: Derived | None = None,
    ) -> Result:
        there = availability(solver)
        version = SolverVersion(
            name=solver.name,
            wrapper_version=there.version,
            engine_version=there.engine_version,
            linked_library=there.linked_library,
        )
        began = time.monotonic()
        judged = Judged(outcome.termination)
        if derived is not None:
            judged = judge(
                self.instance, derived, formulation, version, outcome, self.options, self.channel
            )
        verify_s = time.monotonic() - began
        ignored = sorted(self.options.changed() - solver.honours - {"feas_tol"})
        native = dict(self.options.native)
        parts = [self.note, outcome.message, judged.message]
        return Result(
            instance_name=self.instance.name,
            instance_hash=self.instance.hash,
            termination=judged.termination,
            point=judged.point,
            objective_s=judged.objective_s,
            objective_claimed_s=outcome.claimed_s,
            bound_s=judged.bound_s,
            bound_source=judged.bound_source,
            gap_rel=judged.gap_rel,
            breakdown=judged.breakdown,
            violations=judged.violations,
            formulation=formulation.name,
            promise=formulation.promise,
            solver=version,
            options_used={**self.options.common(), **native},
            options_ignored=tuple(ignored),
            seed=self.options.seed,
            start_used=outcome.start_used,
            iterations=outcome.iterations,
            nodes=outcome.nodes,
            duals=outcome.duals,
            times_s=Times(
                build=self.build_s,
                solve=self.solve_s,
                verify=verify_s,
                total=self.deadline.elapsed(),
            ),
            plan=judged.plan,
            message=" ".join(part for part in parts if part),
        )


def _with_start(outcome: Outcome, start: Start | None) -> Outcome:
    """After Ctrl-C before the solver had a point: the start is a plan too, and is kept."""
    if start is None:
        return outcome
    return replace(
        outcome,
        candidate=start.candidate,
        claimed_s=start.objective_s,
        start_used="kept as it was",
        message="interrupted before the solver had a point of its own; its start is kept",
    )


def _finite(outcome: Outcome) -> Outcome:
    """``outcome`` without claims, bounds and duals that are not numbers; JSON has none of them."""

    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)

    return replace(
        outcome,
        claimed_s=number(outcome.claimed_s),
        bound_s=number(outcome.bound_s),
        duals={name: float(v) for name, v in outcome.duals.items() if math.isfinite(v)},
    )


def x0_candidate(derived: Derived, plan: Plan) -> Candidate:
    """The point of a start plan. Raises InputError where it is for another instance."""
    if plan.instance_hash != derived.instance_hash:
        raise InputError(
            "x0 is a plan for another instance "
            f"(hash {plan.instance_hash[:12]}..., this instance is "
            f"{derived.instance_hash[:12]}...); give a plan of this instance"
        )
    try:
        return from_plan(derived, plan).candidate(derived)
    except KeyError as error:
        raise InputError(f"x0 has no entry for device {error}") from None


def build(instance: Instance, formulation: str = "joint-product") -> Any:
    """The model of ``instance`` as the modelling layer's own object, with a feasible start in it.

    A Pyomo ConcreteModel with named components, to edit, export (``sftopt export``) or solve
    elsewhere. Its objective times ``model.objective_unit_s`` is the round delay in seconds.

    Raises UnknownNameError for an unknown formulation and RefusedError where it has no model or
    cannot take the instance.
    """
    found = get_formulation(formulation)
    derived = derive(instance)
    reason = found.refusal(derived)
    if found.layer == "native":
        reason = f"formulation '{formulation}' has no algebraic model to hand out"
    if reason is not None:
        raise RefusedError(reason)
    point = first_point(derived)
    start = None
    if point is not None:
        start = Start(point.candidate(derived), best_delay(derived, point).round_s)
    return found.build(derived, start)


__all__ = ["ProgressView", "build", "list_solvers", "solve"]
