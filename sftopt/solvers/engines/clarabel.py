"""Clarabel through CVXPY: interior point on continuous conic problems, exponential cones too."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, Verdict, probe_problem, run_problem
from sftopt.solvers.engines.probe import probed

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


class ClarabelEngine(CvxpyEngine):
    """Native options carry Clarabel's own names (``max_iter``, ``tol_gap_rel`` ...)."""

    cvxpy_name = "CLARABEL"
    title = "Clarabel"

    def settings(self, task: Task) -> dict[str, Any]:
        """The time limit, and careful steps."""
        left = task.deadline.left()
        limit = {"time_limit": left} if left < float("inf") else {}
        shares = SHARES if task.formulation.name == "spectrum-conic" else {}
        return {**CAREFUL, **shares, **limit}

    def verdict(self, raw: Any) -> Verdict:
        """By Clarabel's own status word; only its solved ones come with a point."""
        words = str(raw.status)
        termination = _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR)
        solved = words in ("Solved", "AlmostSolved")
        return Verdict(termination, words, has_point=solved, iterations=int(raw.iterations))


class Clarabel(Solver):
    """Clarabel: primal-dual interior point, one thread."""

    name = "clarabel"
    kind = "global"
    formulations = ("joint-grid-relaxed", "spectrum-conic")
    honours = frozenset({"time_limit", "tee"})
    summary = "Clarabel (through CVXPY): convex conic problems, interior point"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for an option that Clarabel does not take."""
        return run_problem(ClarabelEngine(), task)


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install clarabel cvxpy")


def _solve_probe() -> Availability:
    from importlib.metadata import version

    return probe_problem(
        ClarabelEngine(), "cvxpy", engine_version=f"Clarabel {version('clarabel')}"
    )


SOLVER = Clarabel()
