"""What the two roads to Ipopt (CasADi's plug-in and cyipopt) share: options, statuses, outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import RefusedError
from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engine import infeasible, out_of_time, read_candidate
from sftopt.solvers.nl_bridge import Nlp, TriviallyInfeasible, bridge

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Ipopt's ``tol``: tight enough that two builds agree on the relaxation to 1e-6 relative."""
CLAIM_VIOLATION = 1e-5
"""Above this violation the objective of a point is no claim."""

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
    return {
        "tol": TOLERANCE,
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
    usable = bool(np.isfinite(x).all()) and termination is not Termination.INFEASIBLE_LOCAL
    solved = termination in (Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE)
    if usable:
        nlp.nl.load(x)
    unit_s = float(task.model.objective_unit_s)
    claims = usable and nlp.violation(x) <= CLAIM_VIOLATION
    return Outcome(
        termination,
        candidate=read_candidate(task) if usable else None,
        claimed_s=nlp.objective(x) * unit_s if claims else None,
        iterations=iterations,
        duals=nlp.duals(multipliers, unit_s) if solved else {},
        start_used="yes",
        message=f"Ipopt status {status}",
    )
