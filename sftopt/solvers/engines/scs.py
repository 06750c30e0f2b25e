"""SCS through CVXPY: a first-order method on conic problems, a second opinion on Clarabel.

Its tolerance is 1e-6 unless native options set another; where its iterations or its time run out,
the run says so and what it has is shown as what it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, Verdict, probe_problem, run_problem
from sftopt.solvers.engines.probe import probed

TOLERANCE = 1e-6
"""Absolute and relative, SCS's own measures, in model units."""
SHARES_TOLERANCE = 1e-9
"""For the shares of one round, which are kept as they are."""
MOST_ITERATIONS = 100_000

_TERMINATIONS = {
    1: Termination.CONVERGED_GLOBAL,
    -2: Termination.INFEASIBLE_PROVEN,
    -5: Termination.INTERRUPTED,
}
"""SCS's ``status_val``; 2 (inaccurate) is a limit, all others are numerical trouble."""


class ScsEngine(CvxpyEngine):
    """Native options carry SCS's own names (``eps_abs``, ``max_iters`` ...)."""

    cvxpy_name = "SCS"
    title = "SCS"

    def settings(self, task: Task) -> dict[str, Any]:
        """Tolerances, iterations and what is left of the time."""
        left = task.deadline.left()
        limit = {"time_limit_secs": left} if left < float("inf") else {}
        shares = task.formulation.name == "spectrum-conic"
        tolerance = SHARES_TOLERANCE if shares else TOLERANCE
        usual = {"eps_abs": tolerance, "eps_rel": tolerance, "max_iters": MOST_ITERATIONS}
        return {**usual, **limit}

    def verdict(self, raw: Any) -> Verdict:
        """By SCS's status number; an inaccurate answer names the limit it ran into."""
        info = raw["info"]
        status, words = int(info["status_val"]), str(info["status"])
        termination = _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
        if status == 2:
            late = "time_limit" in words
            termination = Termination.TIME_LIMIT if late else Termination.ITERATION_LIMIT
        solved = status in (1, 2)
        return Verdict(termination, words, has_point=solved, iterations=int(info["iter"]))


class Scs(Solver):
    """SCS: operator splitting, one thread."""

    name = "scs"
    kind = "global"
    formulations = ("joint-grid-relaxed", "spectrum-conic")
    honours = frozenset({"time_limit", "tee"})
    summary = "SCS (through CVXPY): convex conic problems, first order, its own tolerance"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for an option that SCS does not take."""
        return run_problem(ScsEngine(), task)


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install scs cvxpy")


def _solve_probe() -> Availability:
    import scs

    return probe_problem(ScsEngine(), "cvxpy", engine_version=f"SCS {scs.__version__}")


SOLVER = Scs()
