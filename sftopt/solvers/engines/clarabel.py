"""Clarabel through CVXPY: interior point on continuous conic problems, exponential cones too."""

from __future__ import annotations

from typing import Any

from sftopt.core.status import Termination
from sftopt.formulations.base import Problem
from sftopt.solvers.base import Takes, Task
from sftopt.solvers.engines.cvxpy_bridge import CONVEX, CvxpyEngine, Verdict, time_limit

_TERMINATIONS = {
    "Solved": Termination.CONVERGED_GLOBAL,
    "AlmostSolved": Termination.ACCEPTABLE,
    "PrimalInfeasible": Termination.INFEASIBLE_PROVEN,
    "MaxIterations": Termination.ITERATION_LIMIT,
    "MaxTime": Termination.TIME_LIMIT,
    "CallbackTerminated": Termination.INTERRUPTED,
}
"""Clarabel's words; all others are numerical trouble, unboundedness included."""

CAREFUL = {"min_switch_step_length": 1e-2, "max_step_fraction": 0.9}
"""Shorter steps near the exponential cones' boundary, taken before the scaling is changed: with
Clarabel's own 0.1 and 0.99, rounds of 100 devices and one in five grid relaxations under total
power ended in InsufficientProgress; with these none of 100."""

SHARES = {"reduced_tol_gap_abs": 1e-7, "reduced_tol_gap_rel": 1e-7, "reduced_tol_feas": 1e-7}
"""What AlmostSolved is to mean for the shares of one round, which are kept as they are: by
Clarabel's own 1e-4 a round of gains 1e9 apart was off by 3e-4."""


class Clarabel(CvxpyEngine):
    """Clarabel: primal-dual interior point, one thread.

    Native options carry Clarabel's own names (``max_iter``, ``tol_gap_rel`` ...).
    """

    name = "clarabel"
    takes = (Takes("cvxpy", CONVEX),)
    default = "joint-grid-relaxed"
    honours = frozenset({"time_limit", "tee"})
    summary = "Clarabel (through CVXPY): convex conic problems, interior point"
    fix = "pip install clarabel cvxpy"
    cvxpy_name = "CLARABEL"
    title = "Clarabel"

    def settings(self, task: Task) -> dict[str, Any]:
        """Return the time limit, and careful steps."""
        shares = SHARES if task.formulation.problem is Problem.ROUND else {}
        return {**CAREFUL, **shares, **time_limit(task, "time_limit")}

    def verdict(self, raw: Any) -> Verdict:
        """Translate Clarabel's own status word; only its solved ones come with a point."""
        words = str(raw.status)
        termination = _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR)
        solved = words in ("Solved", "AlmostSolved")
        return Verdict(termination, words, has_point=solved, iterations=int(raw.iterations))

    def engine_version(self) -> str:
        """Return Clarabel's version."""
        from importlib.metadata import version

        return version("clarabel")


SOLVER = Clarabel()
