"""SCIP on CVXPY problems: mixed-integer second-order cones; it has no exponential ones."""

from __future__ import annotations

from functools import cache
from typing import Any

from sftopt.core.status import Termination
from sftopt.solvers.base import Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, News, Verdict
from sftopt.solvers.engines.scip_events import heard

TERMINATIONS = {
    "optimal": Termination.CONVERGED_GLOBAL,
    "gaplimit": Termination.GAP_LIMIT,
    "timelimit": Termination.TIME_LIMIT,
    "userinterrupt": Termination.INTERRUPTED,
    "terminate": Termination.INTERRUPTED,
    "infeasible": Termination.INFEASIBLE_PROVEN,
    "unbounded": Termination.NUMERICAL_ERROR,
    "inforunbd": Termination.NUMERICAL_ERROR,
    "unknown": Termination.NUMERICAL_ERROR,
}
"""SCIP's words; all others are limits on nodes, solutions, memory and so on."""

SCIP_INFINITY = 1e20
"""What SCIP takes for infinity."""
LARGEST_FEASTOL = 1e-3
"""SCIP takes no greater feasibility tolerance."""


def scip_gap(rel_gap: float) -> float:
    """Return SCIP's relative gap, (p - d)/min(p, d), for ours, (p - d)/p."""
    # (p - d)/min(p, d) <= r/(1 - r) is (p - d)/p <= r for 0 < d <= p
    return min(rel_gap / (1.0 - rel_gap), SCIP_INFINITY) if rel_gap < 1.0 else SCIP_INFINITY


class ScipOnCones(CvxpyEngine):
    """SCIP as CVXPY calls it."""

    cvxpy_name = "SCIP"
    title = "SCIP"

    def settings(self, task: Task) -> dict[str, Any]:
        """Return limits, gaps, seed and tolerance in SCIP's terms."""
        options = task.options
        return {
            "limits/time": min(task.deadline.left(), SCIP_INFINITY),
            "limits/gap": scip_gap(options.rel_gap),
            "limits/absgap": options.abs_gap / task.unit_s,
            "numerics/feastol": min(options.engine_tol, LARGEST_FEASTOL),
            "randomization/randomseedshift": options.seed,
            "misc/catchctrlc": False,
        }

    def arranged(self, common: dict[str, Any], native: dict[str, Any]) -> dict[str, Any]:
        """Return common and native options as CVXPY wants them; native ones win."""
        return {"scip_params": {**common, **native}}

    def solved(
        self, task: Task, chain: Any, data: dict[str, Any], settings: dict[str, Any], news: News
    ) -> Any:
        """Solve compiled ``data``, hearing of the engine's incumbents, bounds and stops."""
        chain.solver = _heard_scip()(news)
        return super().solved(task, chain, data, settings, news)

    def verdict(self, raw: Any) -> Verdict:
        """Translate SCIP's own status word; a point is there where SCIP has a solution."""
        words = str(raw["scip_status"])
        return Verdict(
            TERMINATIONS.get(words, Termination.ITERATION_LIMIT),
            words,
            has_point="primal" in raw,
            nodes=int(raw["model"].getNTotalNodes()),
            iterations=int(raw["model"].getNLPIterations()),
            shows_duals=False,
        )


@cache
def _heard_scip() -> Any:
    """CVXPY's way to SCIP as a class that hears it; made once CVXPY is wanted."""
    from cvxpy.reductions.solvers.conic_solvers.scip_conif import SCIP

    class HeardScip(SCIP):
        """CVXPY's SCIP, with news of the run."""

        def __init__(self, news: News) -> None:
            super().__init__()
            self.news = news

        def _solve(self, model: Any, *rest: Any) -> Any:
            def look() -> None:
                value = model.getSolObjVal(model.getBestSol()) if model.getNSols() else None
                if self.news.tell(value, model.getDualbound()):
                    model.interruptSolve()

            handler = heard(model, look)
            found = super()._solve(model, *rest)
            if handler.error is not None:
                raise handler.error
            return found

    return HeardScip
