"""What the two roads to Ipopt (CasADi's plug-in and cyipopt) share: options, statuses, outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import RefusedError
from sftopt.core.status import Promise, Termination
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engines.local_nlp import nlp_outcome, why_stopped
from sftopt.solvers.engines.nl_bridge import Nlp, TriviallyInfeasible, bridge
from sftopt.solvers.engines.probe import infeasible, out_of_time

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Ipopt's ``tol``: tight enough that two builds agree on the relaxation to 1e-6 relative."""
RESTRICTION_TOLERANCE = 1e-12
"""``tol`` for a restriction: its point is kept as it is, nothing settles its last digits."""

TERMINATIONS = {
    "Solve_Succeeded": Termination.CONVERGED_LOCAL,
    "Solved_To_Acceptable_Level": Termination.ACCEPTABLE,
    "Feasible_Point_Found": Termination.ACCEPTABLE,
    "Infeasible_Problem_Detected": Termination.INFEASIBLE_LOCAL,
    "Maximum_Iterations_Exceeded": Termination.ITERATION_LIMIT,
    "Maximum_CpuTime_Exceeded": Termination.TIME_LIMIT,
    "Maximum_WallTime_Exceeded": Termination.TIME_LIMIT,
    "User_Requested_Stop": Termination.INTERRUPTED,
}
"""Ipopt's words; all others are numerical errors."""


def common_options(task: Task) -> dict[str, Any]:
    """The common options in Ipopt's terms."""
    options = task.options
    kept = task.formulation.promise is Promise.RESTRICTION
    return {
        "tol": RESTRICTION_TOLERANCE if kept else TOLERANCE,
        "bound_relax_factor": 0.0 if kept else 1e-8,
        "constr_viol_tol": options.feas_tol,
        "acceptable_constr_viol_tol": options.feas_tol,
        "max_wall_time": min(max(task.deadline.left(), 1e-3), 1e20),
        "print_level": 5 if options.tee else 0,
        "sb": "yes",
    }


def continuous_nlp(task: Task, solver: str) -> Nlp | Outcome:
    """The model as an NLP, or the outcome that is already known."""
    try:
        nlp = bridge(task.model)
    except TriviallyInfeasible as error:
        return infeasible(task, str(error))
    if nlp.discrete.any():
        raise RefusedError(
            f"{solver} does not take integer variables, and {task.formulation.name} has "
            f"{int(nlp.discrete.sum())}; use joint-relaxed, or the solver bonmin or scip"
        )
    return out_of_time("building") if task.deadline.passed() else nlp


def outcome(
    task: Task, nlp: Nlp, status: str, x: Array, multipliers: Array, iterations: int | None
) -> Outcome:
    """Ipopt's answer. No bound: a local optimum of a non-convex model proves nothing."""
    termination = TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
    if termination is Termination.INTERRUPTED:
        termination = why_stopped(task)
    return nlp_outcome(task, nlp, termination, x, multipliers, iterations, f"Ipopt status {status}")
