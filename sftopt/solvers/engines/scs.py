"""SCS through CVXPY: a first-order method on conic problems, a second opinion on Clarabel.

Its tolerance is 1e-6 unless native options set another; where its iterations or its time run out,
the run says so and what it has is shown as what it is.
"""

from __future__ import annotations

from typing import Any

from sftopt.core.status import Termination
from sftopt.formulations.base import Problem
from sftopt.solvers.base import Takes, Task
from sftopt.solvers.engines.cvxpy_bridge import CONVEX, CvxpyEngine, Verdict, time_limit

TOLERANCE = 1e-6
"""Absolute and relative, SCS's own measures, in model units."""
SHARES_TOLERANCE = 1e-9
"""For the shares of one round, which are kept as they are."""
MOST_ITERATIONS = 100_000
"""SCS's own limit is reached on grid relaxations that it then solves."""

_TERMINATIONS = {
    1: Termination.CONVERGED_GLOBAL,
    -2: Termination.INFEASIBLE_PROVEN,
    -5: Termination.INTERRUPTED,
}
"""SCS's ``status_val``; 2 (inaccurate) is a limit, all others are numerical trouble."""


class Scs(CvxpyEngine):
    """SCS: operator splitting, one thread.

    Native options carry SCS's own names (``eps_abs``, ``max_iters`` ...).
    """

    name = "scs"
    takes = (Takes("cvxpy", CONVEX),)
    default = "joint-grid-relaxed"
    honours = frozenset({"time_limit", "tee"})
    summary = "SCS (through CVXPY): convex conic problems, first order, its own tolerance"
    fix = "pip install scs cvxpy"
    cvxpy_name = "SCS"
    title = "SCS"

    def settings(self, task: Task) -> dict[str, Any]:
        """Return tolerances, iterations and what is left of the time."""
        shares = task.formulation.problem is Problem.ROUND
        tolerance = SHARES_TOLERANCE if shares else TOLERANCE
        usual = {"eps_abs": tolerance, "eps_rel": tolerance, "max_iters": MOST_ITERATIONS}
        return {**usual, **time_limit(task, "time_limit_secs")}

    def verdict(self, raw: Any) -> Verdict:
        """Translate SCS's status number; an inaccurate answer names the limit it ran into."""
        info = raw["info"]
        status, words = int(info["status_val"]), str(info["status"])
        termination = _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
        if status == 2:
            late = "time_limit" in words
            termination = Termination.TIME_LIMIT if late else Termination.ITERATION_LIMIT
        solved = status in (1, 2)
        return Verdict(termination, words, has_point=solved, iterations=int(info["iter"]))

    def engine_version(self) -> str:
        """Return SCS's version."""
        import scs

        return str(scs.__version__)


SOLVER = Scs()
