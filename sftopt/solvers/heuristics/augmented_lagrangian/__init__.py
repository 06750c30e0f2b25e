"""[SFT]'s published way to the large problem (13): augmented Lagrangian, rounding, repair; (15).

Cuts, modes and keep fractions are relaxed and shares are inside, see
:mod:`sftopt.solvers.heuristics.augmented_lagrangian.model`. Modes are a relaxed mixture per device,
not an enumeration. The method is Algorithm 4.1 of Birgin and Martinez, *Practical Augmented
Lagrangian Methods for Constrained Optimization* (SIAM 2014), with bounds of single variables kept
by the inner solver (L-BFGS-B):

- inner problem: min f + (r/2) (|h + lam/r|^2 + |max(0, g + mu/r)|^2) within the bounds, to a
  projected gradient of ``eps_k``, which falls by 10 from 1e-1 to ``tol``;
- multipliers: lam + r h and max(0, mu + r g), safeguarded to [-1e6, 1e6] and [0, 1e6];
- penalty r: times 10 unless max(|h|, |min(-g, mu/r)|) fell to half or to ``constraint_tol``; its
  first value is 10 max(1, |f|) / max(1, (|h|^2 + |max(0, g)|^2)/2), kept within [1e-6, 10].

It is run from middle, low and high cuts, each with evenly mixed modes and its share of the time
that is left; the relaxed point after every outer iteration is rounded and repaired
(:mod:`sftopt.solvers.heuristics.repair`), so that there is a plan at any time, and the best one is
the answer. The relaxation is not convex: nothing is proven, and its value is
not a bound. How it converged is written by ``--option trace=FILE`` (CSV where the name ends in
``.csv``, else JSON Lines), see
:class:`sftopt.solvers.heuristics.augmented_lagrangian.trace.TraceRow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import minimize

from sftopt.core.errors import InfeasibleError, InputError
from sftopt.core.limits import elementary_bound_s, feasible_point
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Takes, Task
from sftopt.solvers.heuristics.augmented_lagrangian.model import Relaxation
from sftopt.solvers.heuristics.augmented_lagrangian.trace import TraceRow, write_trace
from sftopt.solvers.heuristics.repair import repair
from sftopt.solvers.options import as_number

Array = NDArray[np.float64]

PARTS = (0.5, 0.0, 1.0)
"""Where the cuts start in their range, run after run."""
MULTIPLIER_LIMIT = 1e6
"""Multipliers are kept within this, either way."""
PENALTY_RANGE = (1e-6, 10.0)
"""Of the first penalty."""
PENALTY_LIMIT = 1e12
"""A run whose penalty passes this has stalled."""
GROWTH = 10.0
"""gamma: what the penalty is multiplied by."""
PROGRESS = 0.5
"""tau: what infeasibility must fall to for the penalty to stay."""
FIRST_TOLERANCE = 0.1
"""Of the first inner problem's projected gradient."""
FLAT = 1e-6
"""Relative change of the value that counts as none."""
PATIENCE = 3
"""A run also ends once it is feasible and its value moved by no more than FLAT, so many times."""


@dataclass(frozen=True)
class Settings:
    """The native options and their values unless given."""

    max_outer: int = 40
    max_inner: int = 1000
    tol: float = 1e-5
    """Of the projected gradient of the Lagrangian, in objective per scaled variable."""
    constraint_tol: float = 1e-6
    starts: int = len(PARTS)
    trace: str = ""
    """File for the convergence trace: ``.csv``, else JSON Lines."""


def settings_from(native: dict[str, Any]) -> Settings:
    """Parse native options into settings. Raises InputError, naming all that is wrong."""
    usual = Settings()
    faults: list[str] = []
    changes: dict[str, Any] = {}
    for name, value in native.items():
        if name not in Settings.__dataclass_fields__:
            known = ", ".join(Settings.__dataclass_fields__)
            faults.append(f"there is no '{name}' (known: {known})")
            continue
        kind = type(getattr(usual, name))
        given: Any = str(value) if kind is str else as_number(value)
        if kind is float and isinstance(given, int):
            given = float(given)
        if type(given) is not kind or (kind is not str and not 0 < given < np.inf):
            faults.append(f"{name} is {value!r}; it must be a positive {kind.__name__}")
        changes[name] = given
    if faults:
        raise InputError("augmented-lagrangian options: " + "; ".join(faults))
    return replace(usual, **changes)


class Stopped(Exception):
    """A run's time was over, or a stop was asked for, inside the inner solver."""


@dataclass
class Run:
    """One run from one start: where it is and what it has seen."""

    v: Array
    multipliers: Array
    penalty: float
    converged: bool = False
    stopped: bool = False
    rows: list[TraceRow] = field(default_factory=list)


class AugmentedLagrangian:
    """The outer loop on one relaxation."""

    def __init__(
        self,
        task: Task,
        relaxation: Relaxation,
        settings: Settings,
        on_outer: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self.task, self.relaxation, self.settings = task, relaxation, settings
        self.on_outer = on_outer
        self.bounds = relaxation.bounds()
        self.low, self.high = np.array(self.bounds).T
        self.equality = np.zeros(relaxation.rows, dtype=bool)
        for family in relaxation.families:
            self.equality[family.rows] = family.equality
        self._latest: Array | None = None
        self._until_s = np.inf

    def solve(self, start: int, v: Array, share: float = 1.0) -> Run:
        """Run from ``v`` until converged, stalled, out of outer iterations or stopped.

        ``share`` is how much of the time that is left this run may take.
        """
        deadline = self.task.deadline
        self._until_s = deadline.elapsed() + share * deadline.left()
        v = np.clip(v, self.low, self.high)
        run = Run(v, np.zeros(self.relaxation.rows), self._first_penalty(v))
        tolerance, before, value, still = FIRST_TOLERANCE, np.inf, np.inf, 0
        for outer in range(1, self.settings.max_outer + 1):
            try:
                inner = self._inner(run, tolerance)
            except Stopped:
                run.v = run.v if self._latest is None else self._latest
                run.stopped = True
                break
            state = self.relaxation.evaluate(run.v)
            if not (np.isfinite(state.objective) and np.isfinite(state.constraints).all()):
                break
            off = self._infeasibility(state.constraints, run)
            run.multipliers = self._renewed(state.constraints, run)
            stationary = self._stationarity(run.v, state.slope(run.multipliers))
            run.rows.append(self._row(start, outer, state, run, stationary, inner))
            self.on_outer(run)
            feasible = off <= self.settings.constraint_tol
            run.converged = feasible and stationary <= self.settings.tol
            still = still + 1 if feasible and abs(state.objective - value) <= FLAT * value else 0
            if not feasible and off > PROGRESS * before:
                run.penalty *= GROWTH
            if run.converged or still >= PATIENCE or run.penalty > PENALTY_LIMIT:
                break
            before, value = off, state.objective
            tolerance = max(0.1 * tolerance, self.settings.tol)
        return run

    def _first_penalty(self, v: Array) -> float:
        state = self.relaxation.evaluate(v)
        off = np.where(self.equality, state.constraints, np.maximum(state.constraints, 0.0))
        value = 10.0 * max(1.0, abs(state.objective)) / max(1.0, 0.5 * float(off @ off))
        return float(np.clip(value, *PENALTY_RANGE))

    def _inner(self, run: Run, tolerance: float) -> int:
        """Minimise the augmented Lagrangian from ``run.v``; the number of iterations."""
        task = self.task

        def function(v: Array) -> tuple[float, Array]:
            state = self.relaxation.evaluate(v)
            shifted = self._shifted(state.constraints, run)
            value = state.objective + 0.5 * run.penalty * float(shifted @ shifted)
            return value, state.slope(run.penalty * shifted)

        def watch(v: Array) -> None:
            self._latest = v.copy()
            if task.deadline.elapsed() >= self._until_s or task.stop_requested():
                raise Stopped

        self._latest = None
        if task.deadline.elapsed() >= self._until_s or task.stop_requested():
            raise Stopped
        inner: Any = minimize  # the stubs have no overload for these arguments
        options: Any = {
            "gtol": tolerance,
            "ftol": 1e-15,
            "maxiter": self.settings.max_inner,
            "maxfun": 2 * self.settings.max_inner,
            "maxcor": 20,
        }
        found = inner(
            function,
            run.v,
            jac=True,
            method="L-BFGS-B",
            bounds=self.bounds,
            callback=watch,
            options=options,
        )
        run.v = np.asarray(found.x)
        return int(found.nit)

    def _shifted(self, constraints: Array, run: Run) -> Array:
        """h + lam/r and max(0, g + mu/r)."""
        moved = constraints + run.multipliers / run.penalty
        return np.where(self.equality, moved, np.maximum(moved, 0.0))

    def _renewed(self, constraints: Array, run: Run) -> Array:
        return np.clip(
            run.penalty * self._shifted(constraints, run), -MULTIPLIER_LIMIT, MULTIPLIER_LIMIT
        )

    def _infeasibility(self, constraints: Array, run: Run) -> float:
        """max(|h|, |min(-g, mu/r)|): feasibility and complementarity in one."""
        slack = np.minimum(-constraints, run.multipliers / run.penalty)
        return float(np.abs(np.where(self.equality, constraints, slack)).max())

    def _stationarity(self, v: Array, gradient: Array) -> float:
        """Largest component of the projected gradient step."""
        return float(np.abs(np.clip(v - gradient, self.low, self.high) - v).max())

    def _row(
        self, start: int, outer: int, state: Any, run: Run, stationary: float, inner: int
    ) -> TraceRow:
        violations = {}
        for family in self.relaxation.families:
            part = state.constraints[family.rows]
            violations[family.name] = float(
                np.abs(part).max() if family.equality else max(float(part.max()), 0.0)
            )
        return TraceRow(
            start=start,
            outer=outer,
            objective_s=state.objective * self.relaxation.unit_s,
            violations=violations,
            penalty=run.penalty,
            multipliers_norm=float(np.linalg.norm(run.multipliers)),
            stationarity=stationary,
            inner_iterations=inner,
            elapsed_s=self.task.deadline.elapsed(),
        )


class AugmentedLagrangianSolver(Solver):
    """The published way. Native options: see :class:`Settings`; ``trace=FILE`` writes every step.

    An x0 is one more plan to beat; the relaxation keeps its own starts.
    """

    name = "augmented-lagrangian"
    kind = "heuristic"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "x0"})
    in_process = True
    wants_start = False
    summary = "relaxed cuts, modes and keeps by augmented Lagrangian, then rounding and repair"

    def available(self) -> Availability:
        """Tell that it is always available: it is NumPy and SciPy."""
        return Availability(True, engine_version=f"SciPy {scipy.__version__} L-BFGS-B")

    def run(self, task: Task) -> Outcome:
        """Relax, solve, round. Raises InputError for an option it does not have."""
        settings = settings_from(task.options.native)
        derived = task.derived
        reference = feasible_point(derived)
        point = None if reference is None else repair(derived, reference)
        if point is None:
            raise InfeasibleError("no feasible point exists; 'sftopt check' says why")
        relaxation = Relaxation(derived, point)
        best = _Best(task)

        def rounded(run: Run) -> None:
            if np.isfinite(run.v).all():
                best.offer(repair(derived, relaxation.candidate(run.v)), run)

        method = AugmentedLagrangian(task, relaxation, settings, rounded)
        if task.start is not None:
            best.offer(repair(derived, task.start.candidate))
        runs: list[Run] = []
        parts = PARTS[: settings.starts]
        for start, part in enumerate(parts):
            if runs and (task.deadline.passed() or task.stop_requested()):
                break
            run = method.solve(start, relaxation.start(part), 1.0 / (len(parts) - start))
            runs.append(run)
            rounded(run)  # also where it was stopped within an iteration
        if settings.trace:
            write_trace(settings.trace, [row for run in runs for row in run.rows])
        return _outcome(task, relaxation, runs, best)


class _Best:
    """The best plan so far and the run that it came from."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.point: IntegralPoint | None = None
        self.round_s = np.inf
        self.run: Run | None = None

    def offer(self, point: IntegralPoint | None, run: Run | None = None) -> None:
        """Keep ``point`` if it is better."""
        if point is None:
            return
        derived = self.task.derived
        round_s = best_delay(derived, point).round_s
        if round_s < self.round_s:
            self.point, self.round_s, self.run = point, round_s, run
            news = Progress(incumbent_s=round_s, candidate=point.candidate(derived))
            self.task.report(news)


def _outcome(task: Task, relaxation: Relaxation, runs: list[Run], best: _Best) -> Outcome:
    if best.point is None:
        return Outcome(
            Termination.NUMERICAL_ERROR, message="no relaxed point could be rounded to a plan"
        )
    late = any(run.stopped for run in runs) and not task.stop_requested()
    steps = sum(len(run.rows) for run in runs)
    good = sum(run.converged for run in runs)
    text = f"{good} of {len(runs)} runs of the relaxation converged in {steps} outer iterations"
    if best.run is not None and best.run.rows:
        text += f"; the best plan comes from a run that ended at {_described(best.run)}"
    return Outcome(
        Termination.TIME_LIMIT if late else Termination.HEURISTIC_DONE,
        candidate=best.point.candidate(task.derived),
        claimed_s=best.round_s,
        bound_s=elementary_bound_s(task.derived),
        bound_source="elementary",
        iterations=steps,
        duals=_duals(relaxation, best.run) if best.run is not None and best.run.rows else {},
        start_used="own" if best.run is not None else "x0",
        message=text,
    )


def _described(run: Run) -> str:
    last = run.rows[-1]
    worst = max(last.violations, key=lambda name: last.violations[name])
    return (
        f"a relaxed value of {last.objective_s:.9g} s (largest scaled violation "
        f"{last.violations[worst]:.1e}, {worst}; penalty {last.penalty:.0e})"
    )


def _duals(relaxation: Relaxation, run: Run) -> dict[str, float]:
    """d objective_s / d right-hand side of the constraints that hold one row each.

    Shares are per unit of share, accuracy per unit of loss.
    """
    units = {"accuracy": relaxation.loss_unit}
    return {
        family.name: -float(run.multipliers[family.rows][0])
        * relaxation.unit_s
        / units.get(family.name, 1.0)
        for family in relaxation.families
        if family.name in ("uplink_share", "downlink_share", "adapter_share", "accuracy")
    }


SOLVER = AugmentedLagrangianSolver()
