"""HiGHS through CVXPY: branch and cut on mixed-integer linear programmes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sftopt.core.status import Termination
from sftopt.formulations.base import ProblemClass
from sftopt.solvers.base import Takes, Task
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, News, Verdict

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


class Highs(CvxpyEngine):
    """HiGHS: branch and cut.

    Native options carry HiGHS's own names (``mip_max_nodes``, ``presolve`` ...).
    """

    name = "highs"
    takes = (Takes("cvxpy", {ProblemClass.MILP, ProblemClass.LP}),)
    default = "joint-grid-milp"
    honours = frozenset(
        {"time_limit", "rel_gap", "abs_gap", "threads", "seed", "feas_tol", "x0", "tee"}
    )
    summary = "HiGHS (through CVXPY): mixed-integer linear programmes, branch and cut"
    fix = "pip install highspy cvxpy"
    cvxpy_name = "HIGHS"
    title = "HiGHS"

    def settings(self, task: Task) -> dict[str, Any]:
        """Return limits, gaps, seed, threads and tolerances in HiGHS's terms."""
        options = task.options
        return {
            "time_limit": task.deadline.left(),
            "mip_rel_gap": options.rel_gap,
            "mip_abs_gap": options.abs_gap / task.unit_s,
            "mip_feasibility_tolerance": min(max(options.engine_tol, 1e-10), 1e-3),
            "random_seed": options.seed,
            "threads": options.threads,
        }

    def arranged(self, common: dict[str, Any], native: dict[str, Any]) -> dict[str, Any]:
        """Return common and native options as CVXPY wants them; native ones win."""
        return {"highs_options": {**common, **native}}

    def solved(
        self, task: Task, chain: Any, data: dict[str, Any], settings: dict[str, Any], news: News
    ) -> Any:
        """Solve compiled ``data``, hearing of the engine's incumbents, bounds and stops."""
        with _heard(news):
            return super().solved(task, chain, data, settings, news)

    def verdict(self, raw: Any) -> Verdict:
        """Translate HiGHS's own model status, and whether its vector is a point."""
        words, info = str(raw["model_status"]), raw["info"]
        return Verdict(
            _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR),
            words,
            has_point=int(info.primal_solution_status) == _FEASIBLE_SOLUTION,
            nodes=max(int(info.mip_node_count), 0),  # an LP has -1,
            iterations=int(info.simplex_iteration_count),
            shows_duals=False,
        )

    def engine_version(self) -> str:
        """Return HiGHS's version."""
        from importlib.metadata import version

        return version("highspy")


@contextlib.contextmanager
def _heard(news: News) -> Iterator[None]:
    """Let every HiGHS that is made meanwhile tell its news: CVXPY makes its own, out of reach."""
    import highspy

    module: Any = highspy
    plain = module.Highs

    class HeardHighs(plain):  # type: ignore[misc, valid-type]
        """HiGHS that tells how its branch and cut goes on, and ends when it is told to."""

        def __init__(self) -> None:
            super().__init__()
            self.cbMipImprovingSolution.subscribe(tell)
            self.cbMipInterrupt.subscribe(tell)

    def tell(event: Any) -> None:
        seen = event.data_out
        if news.tell(seen.mip_primal_bound, seen.mip_dual_bound):
            event.interrupt()

    module.Highs = HeardHighs
    try:
        yield
    finally:
        module.Highs = plain


SOLVER = Highs()
