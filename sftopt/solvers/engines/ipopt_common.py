"""What the two roads to Ipopt (CasADi's plug-in and cyipopt) share: options, statuses, outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.status import Promise, Termination
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engines.local_nlp import nlp_outcome, why_stopped
from sftopt.solvers.engines.nl_bridge import Nlp

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Ipopt's ``tol``: tight enough that two builds agree on the relaxation to 1e-6 relative."""
RESTRICTION_TOLERANCE = 1e-12
"""``tol`` for a restriction: its point is kept as it is, nothing settles its last digits."""

NO_FILE = {"option_file_name": ""}
"""Keeps Ipopt from reading an ``ipopt.opt`` that happens to lie in the working folder."""

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
    """Return the common options in Ipopt's terms."""
    options = task.options
    kept = task.formulation.promise is Promise.RESTRICTION
    return {
        "tol": RESTRICTION_TOLERANCE if kept else TOLERANCE,
        "bound_relax_factor": 0.0 if kept else 1e-8,
        "constr_viol_tol": options.engine_tol,
        "acceptable_constr_viol_tol": options.engine_tol,
        "max_wall_time": min(max(task.deadline.left(), 1e-3), 1e20),
        "print_level": 5 if options.tee else 0,
        "sb": "yes",
        **NO_FILE,
    }


def ipopt_outcome(
    task: Task, nlp: Nlp, status: str, x: Array, multipliers: Array, iterations: int | None
) -> Outcome:
    """Translate Ipopt's answer at ``x`` (n,) with ``multipliers`` (m,)."""
    termination = TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
    if termination is Termination.INTERRUPTED:
        termination = why_stopped(task)
    return nlp_outcome(task, nlp, termination, x, multipliers, iterations, f"Ipopt status {status}")
