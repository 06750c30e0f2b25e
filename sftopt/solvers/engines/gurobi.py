"""Gurobi through CVXPY, where it is installed and licensed: mixed-integer conic programmes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, Verdict, probe_problem, run_problem
from sftopt.solvers.engines.probe import probed

_TERMINATIONS = {
    2: Termination.CONVERGED_GLOBAL,
    3: Termination.INFEASIBLE_PROVEN,
    7: Termination.ITERATION_LIMIT,
    8: Termination.ITERATION_LIMIT,
    9: Termination.TIME_LIMIT,
    10: Termination.ITERATION_LIMIT,
    11: Termination.INTERRUPTED,
    13: Termination.ACCEPTABLE,
    16: Termination.ITERATION_LIMIT,
    17: Termination.ITERATION_LIMIT,
}
"""Gurobi's ``Status`` numbers; all others are numerical trouble, unboundedness included."""


class GurobiEngine(CvxpyEngine):
    """Native options carry Gurobi's own names (``NodeLimit``, ``MIPFocus`` ...)."""

    cvxpy_name = "GUROBI"
    title = "Gurobi"

    def settings(self, task: Task) -> dict[str, Any]:
        """Limits, gaps, seed, threads and tolerances in Gurobi's terms."""
        options, unit_s = task.options, float(task.model.objective_unit_s)
        left = task.deadline.left()
        limit = {"TimeLimit": left} if left < float("inf") else {}
        return {
            "MIPGap": options.rel_gap,
            "MIPGapAbs": options.abs_gap / unit_s,
            "FeasibilityTol": min(max(options.feas_tol, 1e-9), 1e-2),
            "Seed": options.seed,
            "Threads": options.threads,
            **limit,
        }

    def verdict(self, raw: Any) -> Verdict:
        """By Gurobi's own status number; a point is there where it counts a solution."""
        model = raw["model"]
        status = int(model.Status)
        return Verdict(
            _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR),
            str(status),
            has_point=int(model.SolCount) > 0 and "primal" in raw,
            nodes=int(model.NodeCount),
            iterations=int(model.IterCount),
            shows_duals=False,
        )


class Gurobi(Solver):
    """Gurobi: branch and cut; needs a licence of one's own."""

    name = "gurobi"
    kind = "global"
    formulations = ("joint-grid-conic", "joint-fixed-socp", "joint-grid-milp")
    honours = frozenset(
        {"time_limit", "rel_gap", "abs_gap", "threads", "seed", "feas_tol", "x0", "tee"}
    )
    summary = "Gurobi (through CVXPY): mixed-integer conic programmes; commercial"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for an option that Gurobi does not take."""
        return run_problem(GurobiEngine(), task)


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install 'sftopt[gurobi]' (and a licence: gurobi.com)")


def _solve_probe() -> Availability:
    import gurobipy

    version = ".".join(str(part) for part in gurobipy.gurobi.version())
    return probe_problem(GurobiEngine(), "cvxpy", engine_version=f"Gurobi {version}")


SOLVER = Gurobi()
