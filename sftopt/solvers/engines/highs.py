"""HiGHS through CVXPY: branch and cut on mixed-integer linear programmes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, Verdict, probe_problem, run_problem
from sftopt.solvers.engines.probe import probed

_TERMINATIONS = {
    "kOptimal": Termination.CONVERGED_GLOBAL,
    "kInfeasible": Termination.INFEASIBLE_PROVEN,
    "kTimeLimit": Termination.TIME_LIMIT,
    "kIterationLimit": Termination.ITERATION_LIMIT,
    "kSolutionLimit": Termination.ITERATION_LIMIT,
    "kInterrupt": Termination.INTERRUPTED,
}
"""HiGHS's words; all others are numerical trouble, unboundedness included."""

_FEASIBLE_SOLUTION = 2
"""HiGHS's ``primal_solution_status`` of a real point; without one it still returns a vector."""


class HighsEngine(CvxpyEngine):
    """Native options carry HiGHS's own names (``mip_max_nodes``, ``presolve`` ...)."""

    cvxpy_name = "HIGHS"
    title = "HiGHS"

    def settings(self, task: Task) -> dict[str, Any]:
        """Limits, gaps, seed, threads and tolerances in HiGHS's terms."""
        options, unit_s = task.options, float(task.model.objective_unit_s)
        left = task.deadline.left()
        return {
            "time_limit": left,
            "mip_rel_gap": options.rel_gap,
            "mip_abs_gap": options.abs_gap / unit_s,
            "mip_feasibility_tolerance": min(max(options.feas_tol, 1e-10), 1e-3),
            "random_seed": options.seed,
            "threads": options.threads,
        }

    def arranged(self, common: dict[str, Any], native: dict[str, Any]) -> dict[str, Any]:
        """Common and native options as CVXPY wants them; native ones win."""
        return {"highs_options": {**common, **native}}

    def verdict(self, raw: Any) -> Verdict:
        """By HiGHS's own model status, and whether its vector is a point."""
        words, info = str(raw["model_status"]), raw["info"]
        return Verdict(
            _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR),
            words,
            has_point=int(info.primal_solution_status) == _FEASIBLE_SOLUTION,
            nodes=int(info.mip_node_count),
            iterations=int(info.simplex_iteration_count),
            shows_duals=False,
        )


class Highs(Solver):
    """HiGHS: branch and cut."""

    name = "highs"
    kind = "global"
    formulations = ("joint-grid-milp",)
    honours = frozenset(
        {"time_limit", "rel_gap", "abs_gap", "threads", "seed", "feas_tol", "x0", "tee"}
    )
    summary = "HiGHS (through CVXPY): mixed-integer linear programmes, branch and cut"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for an option that HiGHS does not take."""
        return run_problem(HighsEngine(), task)


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install highspy cvxpy")


def _solve_probe() -> Availability:
    from importlib.metadata import version

    return probe_problem(HighsEngine(), "cvxpy", engine_version=f"HiGHS {version('highspy')}")


SOLVER = Highs()
