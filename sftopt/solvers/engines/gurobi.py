"""Gurobi through CVXPY, where it is installed and licensed: mixed-integer conic programmes."""

from __future__ import annotations

from typing import Any

from sftopt.core.errors import RefusedError
from sftopt.core.status import Termination
from sftopt.solvers.base import Takes, Task
from sftopt.solvers.engines.cvxpy_bridge import (
    WITHOUT_EXPONENTIALS,
    CvxpyEngine,
    News,
    Verdict,
    time_limit,
)

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
_LOADED = 1
"""Gurobi's ``Status`` of a model that it did not begin to solve."""


class Gurobi(CvxpyEngine):
    """Gurobi: branch and cut; beyond small models it needs a licence of one's own.

    Native options carry Gurobi's own names (``NodeLimit``, ``MIPFocus`` ...).
    """

    name = "gurobi"
    takes = (Takes("cvxpy", WITHOUT_EXPONENTIALS),)
    default = "joint-grid-conic"
    honours = frozenset(
        {"time_limit", "rel_gap", "abs_gap", "threads", "seed", "feas_tol", "x0", "tee"}
    )
    summary = "Gurobi (through CVXPY): mixed-integer conic programmes; commercial"
    fix = "pip install 'sftopt[gurobi]' (and a licence: gurobi.com)"
    cvxpy_name = "GUROBI"
    title = "Gurobi"

    def settings(self, task: Task) -> dict[str, Any]:
        """Return limits, gaps, seed, threads and tolerances in Gurobi's terms."""
        options = task.options
        return {
            "MIPGap": options.rel_gap,
            "MIPGapAbs": options.abs_gap / task.unit_s,
            "FeasibilityTol": min(max(options.engine_tol, 1e-9), 1e-2),
            "Seed": options.seed,
            "Threads": options.threads,
            **time_limit(task, "TimeLimit"),
        }

    def solved(
        self, task: Task, chain: Any, data: dict[str, Any], settings: dict[str, Any], news: News
    ) -> Any:
        """Solve compiled ``data``; what Gurobi does not take is a ValueError, as of other engines.

        Raises ValueError.
        """
        import gurobipy

        try:
            return super().solved(task, chain, data, settings, news)
        except gurobipy.GurobiError as error:
            raise ValueError(str(error)) from None

    def verdict(self, raw: Any) -> Verdict:
        """Translate Gurobi's own status number; a point is there where it counts a solution.

        Raises RefusedError for a model that the licence does not cover.
        """
        model = raw["model"]
        status = int(model.Status)
        if status == _LOADED:
            raise RefusedError(
                f"Gurobi did not begin: {model.NumVars} variables and {model.NumConstrs} rows are "
                "more than this licence takes (the one in the wheel: 2,000 of each, 200 variables "
                "where cones are; others: gurobi.com)"
            )
        return Verdict(
            _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR),
            str(status),
            has_point=int(model.SolCount) > 0 and "primal" in raw,
            nodes=int(model.NodeCount),
            iterations=int(model.IterCount),
            shows_duals=False,
        )

    def engine_version(self) -> str:
        """Return Gurobi's version."""
        import gurobipy

        return ".".join(str(part) for part in gurobipy.gurobi.version())


SOLVER = Gurobi()
