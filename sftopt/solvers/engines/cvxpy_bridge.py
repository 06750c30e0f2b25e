"""Running a ``cvxpy.Problem``: options, deadline, statuses, points that are none, duals.

CVXPY's own status is not enough: at a limit HiGHS without an incumbent hands back a vector that
violates everything under ``user_limit``, and SCIP with one is called ``optimal_inaccurate``. So
the engine's own word is read, and a point counts only if it satisfies the problem's constraints.
"""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import ProblemClass
from sftopt.formulations.conic.base import ConicFormulation
from sftopt.solvers.base import Availability, Outcome, Progress, Task
from sftopt.solvers.engines.engine import (
    PROVES_BOUNDS,
    Engine,
    infeasible,
    out_of_time,
    read_candidate,
)
from sftopt.solvers.engines.messages import last_line
from sftopt.solvers.engines.probe import probe_verdict
from sftopt.solvers.engines.silence import quiet

POINT_TOLERANCE = 1e-3
"""A vector that misses a constraint by more, in model units (all near 1), is no point at all.

Far above every engine's tolerance and far below what the empty vectors of a limit miss: what a
point really is, the judge says.
"""

INFINITE = 1e20
"""What is as large, engines mean as infinity."""

CONVEX = frozenset({ProblemClass.CONIC, ProblemClass.SOCP, ProblemClass.LP})
"""What interior-point and first-order conic engines take."""
WITHOUT_EXPONENTIALS = frozenset(
    {ProblemClass.MISOCP, ProblemClass.MILP, ProblemClass.SOCP, ProblemClass.LP}
)
"""What branch-and-cut engines on second-order cones take; none has exponential cones."""
_SOLVED = (Termination.CONVERGED_GLOBAL, Termination.GAP_LIMIT, Termination.ACCEPTABLE)
"""Statuses that claim a point."""


@dataclass(frozen=True)
class Verdict:
    """Holds what an engine says of its run, in its own ``words``."""

    termination: Termination
    words: str
    has_point: bool = True
    nodes: int | None = None
    iterations: int | None = None
    shows_duals: bool = True
    """False where the values CVXPY reads as duals mean nothing, as with integer variables."""


class News:
    """Sends what an engine tells while it runs, as often as it matters."""

    EVERY_S: ClassVar[float] = 0.05
    """Seconds from one report to the next, where the value is not a new one."""

    def __init__(self, task: Task, offset: float) -> None:
        """``offset`` is the objective's constant, which the engine does not see."""
        self._task = task
        self._unit_s = task.unit_s
        self._offset = offset
        self._bounds = task.formulation.promise in PROVES_BOUNDS
        self._best: float | None = None
        self._sent = -float("inf")

    def tell(self, value: float | None, bound: float | None) -> bool:
        """Report in the model's units, infinite ones as none; say whether the run is to end."""
        value, bound = _told(value), _told(bound)
        now = time.monotonic()
        fresh = value is not None and (self._best is None or value < self._best)
        if fresh or now - self._sent >= self.EVERY_S:
            self._best, self._sent = value, now
            self._task.report(
                Progress(
                    incumbent_s=self._seconds(value),
                    bound_s=self._seconds(bound) if self._bounds else None,
                )
            )
        return self._task.stop_requested()

    def _seconds(self, value: float | None) -> float | None:
        return None if value is None else (value + self._offset) * self._unit_s


def _told(value: float | None) -> float | None:
    """A figure; None for an engine's infinity."""
    return value if value is not None and abs(value) < INFINITE else None


class CvxpyEngine(Engine):
    """An engine behind CVXPY: how it takes options and what its raw answers mean."""

    kind = "global"
    cvxpy_name: ClassVar[str]
    """CVXPY's own name for it."""
    title: ClassVar[str]
    """As people write it."""

    @abstractmethod
    def settings(self, task: Task) -> dict[str, Any]:
        """Return the common options in the engine's terms, what is left of the time among them."""

    @abstractmethod
    def verdict(self, raw: Any) -> Verdict:
        """Translate the raw answer's status."""

    @abstractmethod
    def engine_version(self) -> str:
        """Return the version of the engine itself."""

    def solved(
        self, task: Task, chain: Any, data: dict[str, Any], settings: dict[str, Any], news: News
    ) -> Any:
        """Solve compiled ``data`` and return the engine's raw answer.

        Engines that tell how they go on override it and send ``news``.
        """
        return chain.solve_via_data(
            task.model, data, warm_start=False, verbose=task.options.tee, solver_opts=settings
        )

    def arranged(self, common: dict[str, Any], native: dict[str, Any]) -> dict[str, Any]:
        """Return common and native options as CVXPY wants them; native ones win."""
        return {**common, **native}

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``, a ``cvxpy.Problem``, and read what came of it.

        Raises InputError for a native option that the engine does not take.
        """
        with quiet(task.options.tee), warnings.catch_warnings():
            # CVXPY warns of inexact solutions and deprecations; the verdict says it better
            warnings.simplefilter("ignore")
            return _run(self, task)

    def probe(self) -> Availability:
        """Solve min x + 2 y, x + y >= 3, x <= 2, y >= 1/2: (2, 1)."""
        from sftopt.formulations.conic.cvxpy_layer import cp

        version = f"{self.title} {self.engine_version()}"  # first: without it CVXPY's word is vague
        x, y = cp.Variable(name="x"), cp.Variable(name="y")
        problem = cp.Problem(cp.Minimize(x + 2 * y), [x + y >= 3, x <= 2, y >= 0.5])
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            problem.solve(solver=self.cvxpy_name)
        point = (float(x.value), float(y.value))
        return probe_verdict(point, (2.0, 1.0), "cvxpy", engine_version=version)


def time_limit(task: Task, option: str) -> dict[str, float]:
    """Return the seconds left under the engine's name for them; nothing where there is no limit."""
    left_s = task.deadline.left()
    return {option: left_s} if left_s < float("inf") else {}


def _run(engine: CvxpyEngine, task: Task) -> Outcome:
    problem, native = task.model, task.options.native_numbers()
    data, chain, inverse = problem.get_problem_data(
        engine.cvxpy_name,
        ignore_dpp=True,
        solver_opts={},  # compiled to be solved once
    )
    if task.deadline.passed():
        return out_of_time("compiling the problem")
    settings = engine.arranged(engine.settings(task), native)
    try:
        news = News(task, float(inverse[-1].get("offset", 0.0)))
        raw = engine.solved(task, chain, data, settings, news)
    except (TypeError, ValueError, KeyError, AttributeError, LookupError) as error:
        if not native:
            raise
        text = f"{engine.title} does not take the options {native}: {last_line(error)}"
        raise InputError(text) from None
    verdict = engine.verdict(raw)
    message = f"{engine.title} status {verdict.words}"
    if verdict.termination is Termination.INFEASIBLE_PROVEN:
        return infeasible(task, f"{message}: no point in the whole model")
    outcome = Outcome(
        verdict.termination, message=message, nodes=verdict.nodes, iterations=verdict.iterations
    )
    if not verdict.has_point or not _unpacked(problem, raw, chain, inverse):
        return _without_point(outcome)
    fault = point_fault(problem)
    if fault is not None:
        return _without_point(outcome, f"{message}, but its vector is no point: {fault}")
    return _with_point(task, outcome, verdict)


def _without_point(outcome: Outcome, message: str | None = None) -> Outcome:
    """A run that claims to be done but has no point made a numerical error."""
    claims = outcome.termination in _SOLVED
    return Outcome(
        Termination.NUMERICAL_ERROR if claims else outcome.termination,
        message=outcome.message if message is None else message,
        nodes=outcome.nodes,
        iterations=outcome.iterations,
    )


def _unpacked(problem: Any, raw: Any, chain: Any, inverse: Any) -> bool:
    """Give every variable of ``problem`` its value; False where there is none to give."""
    from cvxpy.error import SolverError

    try:
        problem.unpack_results(raw, chain, inverse)
    except SolverError:
        return False
    return all(variable.value is not None for variable in problem.variables())


def point_fault(problem: Any, tolerance: float = POINT_TOLERANCE) -> str | None:
    """Say why the variables' values are no point of ``problem``; None where they are one."""
    for variable in problem.variables():
        value = np.asarray(variable.value)
        if not np.all(np.isfinite(value)):
            return f"{variable.name()} is not finite"
        whole = variable.attributes["integer"] or variable.attributes["boolean"]
        if whole and np.abs(value - np.rint(value)).max(initial=0.0) > tolerance:
            return f"{variable.name()} is not whole"
    for constraint in problem.constraints:
        missed = float(np.max(constraint.violation(), initial=0.0))
        if not missed <= tolerance:
            return f"{constraint.label or constraint} is missed by {missed:.3g}"
    return None


def _with_point(task: Task, outcome: Outcome, verdict: Verdict) -> Outcome:
    problem = task.model
    claimed = float(problem.objective.value) * task.unit_s
    bound = None
    if isinstance(task.formulation, ConicFormulation):
        bound = task.formulation.proven_bound_s(task.derived, problem)
    source = None if bound is None else f"dual of {task.formulation.name}, evaluated by sftopt"
    return Outcome(
        outcome.termination,
        candidate=read_candidate(task),
        claimed_s=claimed,
        bound_s=bound,
        bound_source=source,
        iterations=outcome.iterations,
        nodes=outcome.nodes,
        duals=named_duals(problem) if verdict.shows_duals else {},
        message=outcome.message,
    )


def named_duals(problem: Any) -> dict[str, float]:
    """Return slopes d objective_s / d right side, in seconds per unit, by constraint name.

    The unit is that of the constraint ``left <= right`` or ``left == right`` as the model states
    it: at most 0 where a limit is active. CVXPY's own multipliers have the other sign.
    Second-order cones have none.
    """
    found: dict[str, float] = {}
    unit_s = float(getattr(problem, "objective_unit_s", 1.0))
    for name, constraint in getattr(problem, "named_constraints", {}).items():
        value = constraint.dual_value
        if value is None or isinstance(value, list):
            continue
        rows = 0.0 - unit_s * np.atleast_1d(np.asarray(value, dtype=float)).ravel()
        index = problem.constraint_index.get(name, ())
        if len(index) == len(rows):
            found.update({f"{name}[{i}]": float(v) for i, v in zip(index, rows, strict=True)})
        elif len(rows) == 1:
            found[name] = float(rows[0])
    return found
