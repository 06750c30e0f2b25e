"""What local solvers of a bridged NLP do alike: their loop, and reading the end point."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import RefusedError
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engines.engine import Engine, infeasible, out_of_time, read_candidate
from sftopt.solvers.engines.nl_bridge import Nlp, TriviallyInfeasible, bridge
from sftopt.solvers.engines.silence import quiet

Array = NDArray[np.float64]

CLAIM_VIOLATION = 1e-5
"""Above this violation the objective of a point is no claim."""
KKT_TOLERANCE = 1e-6
"""A search that ends without descent is convergence where the gradient of the Lagrangian is this
small against the objective's own, at a point that holds to as much."""
AT_THE_LIMIT_S = 0.05
"""With less time left than this, the limit that an engine speaks of is the clock's."""
_SOLVED = (Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE)
"""Statuses whose multipliers are duals."""


class LocalNlp(Engine):
    """A local engine on a Pyomo model, which it is given as an :class:`Nlp`."""

    kind = "local"
    honours = frozenset({"time_limit", "feas_tol", "x0", "tee"})
    takes_integers: ClassVar[bool] = False
    """False for engines that would pass over the integrality of variables."""

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that it does not take."""
        with quiet(task.options.tee):
            try:
                nlp = bridge(task.model)
            except TriviallyInfeasible as error:
                return infeasible(task, str(error))
            if nlp.discrete.any() and not self.takes_integers:
                raise RefusedError(
                    f"{self.name} does not take integer variables, and {task.formulation.name} has "
                    f"{int(nlp.discrete.sum())}; use joint-relaxed, or the solver bonmin or scip"
                )
            return out_of_time("building") if task.deadline.passed() else self.solve(task, nlp)

    @abstractmethod
    def solve(self, task: Task, nlp: Nlp) -> Outcome:
        """Solve ``nlp``, which is ``task.model``. What is printed meanwhile is seen to."""


def nlp_outcome(
    task: Task,
    nlp: Nlp,
    termination: Termination,
    x: Array,
    multipliers: Array | None,
    iterations: int | None,
    message: str,
    point_violation: float = np.inf,
) -> Outcome:
    """Return a local solver's answer at ``x`` (n,), ``multipliers`` (m,) of L = f + multipliers.g.

    A vector that violates the model by more than ``point_violation`` is no point. No bound: a local
    optimum proves nothing about problem (13).
    """
    violation = nlp.violation(x)
    usable = bool(np.isfinite(x).all()) and violation <= point_violation
    usable = usable and termination is not Termination.INFEASIBLE_LOCAL
    if usable:
        nlp.nl.load(x)
    claims = usable and violation <= CLAIM_VIOLATION
    shown = multipliers is not None and termination in _SOLVED
    return Outcome(
        termination,
        candidate=read_candidate(task) if usable else None,
        claimed_s=nlp.objective(x) * task.unit_s if claims else None,
        iterations=iterations,
        duals=nlp.duals(multipliers, task.unit_s) if shown and multipliers is not None else {},
        start_used=start_used(task),
        message=message,
    )


def stationarity(nlp: Nlp, x: Array, multipliers: Array) -> float:
    """Compute |d L / d x| relative to |d f / d x|, away from bounds that hold it; L = f + lambda.g.

    ``x`` (n,), ``multipliers`` (m,). Infinite where something is no number.
    """
    import casadi

    gradient = casadi.densify(casadi.gradient(nlp.f, nlp.x))
    parts = casadi.Function("kkt", [nlp.x], [gradient, nlp.jacobian])(x)
    objective = np.asarray(parts[0].full()).ravel()
    slope = objective + np.asarray((parts[1].T @ multipliers).full()).ravel()
    room = 1e-9 * np.maximum(1.0, np.abs(x))
    held = ((x <= nlp.x_low + room) & (slope > 0.0)) | ((x >= nlp.x_high - room) & (slope < 0.0))
    size = float(np.abs(objective).max(initial=0.0))
    found = float(np.abs(np.where(held, 0.0, slope)).max(initial=0.0)) / max(size, 1e-300)
    return found if np.isfinite(found) else float("inf")


def start_used(task: Task) -> str:
    """Say what of the start the model's initial values hold; '' without a start."""
    if task.start is None:
        return ""
    if task.formulation.problem is Problem.PLAN:
        return "yes"
    if task.start.shares is None:
        return "its cuts, modes and keep fractions; shares from the model's scales"
    return "its cuts, modes and keep fractions, and its shares, scaled to a sum of 1"


def checked_convergence(
    termination: Termination, message: str, violation: float, tolerance: float
) -> tuple[Termination, str]:
    """Return status and message; a convergence claimed at a greater violation is none."""
    if termination is not Termination.CONVERGED_LOCAL or violation <= tolerance:
        return termination, message
    text = f"{message}, but its point violates the model by {violation:.1e}"
    return Termination.NUMERICAL_ERROR, text


def by_the_clock(task: Task, termination: Termination) -> Termination:
    """Return the status, a limit that was the clock's as such: some engines have one word only."""
    late = termination is Termination.ITERATION_LIMIT and task.deadline.left() < AT_THE_LIMIT_S
    return Termination.TIME_LIMIT if late else termination


def why_stopped(task: Task) -> Termination:
    """Say why a run ended that the callback ended: Ctrl-C, or the deadline."""
    return Termination.INTERRUPTED if task.stop_requested() else Termination.TIME_LIMIT
