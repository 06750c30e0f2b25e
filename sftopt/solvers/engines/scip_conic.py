"""SCIP on CVXPY problems: mixed-integer second-order cones; it has no exponential ones."""

from __future__ import annotations

from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, Verdict, run_problem

_TERMINATIONS = {
    "optimal": Termination.CONVERGED_GLOBAL,
    "gaplimit": Termination.GAP_LIMIT,
    "timelimit": Termination.TIME_LIMIT,
    "userinterrupt": Termination.INTERRUPTED,
    "infeasible": Termination.INFEASIBLE_PROVEN,
    "unbounded": Termination.NUMERICAL_ERROR,
    "inforunbd": Termination.NUMERICAL_ERROR,
    "unknown": Termination.NUMERICAL_ERROR,
}
"""SCIP's words; all others are limits on nodes, solutions, memory and so on."""

SCIP_INFINITY = 1e20


class ScipEngine(CvxpyEngine):
    """Native options carry SCIP's own names (``limits/nodes``, ``limits/gap`` ...)."""

    cvxpy_name = "SCIP"
    title = "SCIP"

    def settings(self, task: Task) -> dict[str, Any]:
        """Limits, gaps, seed and tolerance in SCIP's terms."""
        options, unit_s = task.options, float(task.model.objective_unit_s)
        gap = options.rel_gap
        return {
            "limits/time": min(task.deadline.left(), SCIP_INFINITY),
            # (p - d)/min(p, d) <= r/(1 - r) is (p - d)/p <= r for 0 < d <= p
            "limits/gap": min(gap / (1.0 - gap), SCIP_INFINITY) if gap < 1.0 else SCIP_INFINITY,
            "limits/absgap": options.abs_gap / unit_s,
            "numerics/feastol": min(options.feas_tol, 1e-3),
            "randomization/randomseedshift": options.seed,
            "misc/catchctrlc": False,
        }

    def arranged(self, common: dict[str, Any], native: dict[str, Any]) -> dict[str, Any]:
        """Common and native options as CVXPY wants them; native ones win."""
        return {"scip_params": {**common, **native}}

    def verdict(self, raw: Any) -> Verdict:
        """By SCIP's own status word; a point is there where SCIP has a solution."""
        words = str(raw["scip_status"])
        return Verdict(
            _TERMINATIONS.get(words, Termination.ITERATION_LIMIT),
            words,
            has_point="primal" in raw,
            nodes=int(raw["model"].getNTotalNodes()),
            iterations=int(raw["model"].getNLPIterations()),
            shows_duals=False,
        )


def run_conic(task: Task) -> Outcome:
    """Solve ``task.model``, a ``cvxpy.Problem``. Raises InputError for an unknown option."""
    return run_problem(ScipEngine(), task)
