"""CasADi's sequential quadratic programming: full steps from exact second derivatives.

Every quadratic problem is solved by one of the QP solvers inside CasADi's wheel.
"""

from __future__ import annotations

from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, Problem
from sftopt.solvers.base import Outcome, Takes, Task
from sftopt.solvers.engines.casadi_nlp import CasadiNlp, End
from sftopt.solvers.engines.local_nlp import (
    KKT_TOLERANCE,
    checked_convergence,
    nlp_outcome,
    stationarity,
    why_stopped,
)
from sftopt.solvers.engines.nl_bridge import Nlp

TOLERANCE = 1e-10
"""Primal and dual: the shares are kept as they are, nothing settles their last digits."""
POINT_TOLERANCE = 1e-6
"""A convergence claimed at a greater violation is none."""

QP_SOLVERS: dict[str, dict[str, Any]] = {
    "piqp": {"piqp": {"eps_abs": 1e-12, "eps_rel": 1e-12}},
    "osqp": {
        "osqp": {
            "verbose": False, "eps_abs": 1e-12, "eps_rel": 1e-12, "max_iter": 20_000, "polish": True
        }
    },
    "qrqp": {"print_header": False, "print_iter": False, "print_info": False},
}  # fmt: skip
"""The first is the default: on rounds of 100 devices it took milliseconds and ended at 1e-11 in
every case tried; qrqp gave up on most. CasADi's HiGHS is left out: it is slow here, and crashed
beside the HiGHS of SciPy."""

_TERMINATIONS = {
    "Solve_Succeeded": Termination.CONVERGED_LOCAL,
    "Maximum_Iterations_Exceeded": Termination.ITERATION_LIMIT,
}
"""CasADi's words; all others are numerical errors."""
NO_STEP = "Search_Direction_Becomes_Too_Small"
"""Said of converged points and of infeasible problems alike: the Lagrangian's gradient decides."""


class SqpMethod(CasadiNlp):
    """CasADi's ``sqpmethod``: line search on a merit function.

    Native options carry CasADi's own names (``max_iter``, ``tol_du``, ``convexify_strategy``);
    ``qpsol`` is one of :data:`QP_SOLVERS`. The Hessian is not made convex by default: it is, and
    regularising it took up to twenty times the iterations.
    """

    name = "sqpmethod"
    takes = (Takes("pyomo", CONTINUOUS, Problem.ROUND),)
    default = "spectrum-nlp"
    summary = "CasADi's SQP with exact Hessians, its quadratic problems by PIQP"
    plugin = "sqpmethod"
    title = "sqpmethod"

    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return the options. Raises InputError for a QP solver that is not offered."""
        qp = native.get("qpsol", "piqp")
        if qp not in QP_SOLVERS:
            raise InputError(f"qpsol is {qp!r}; it must be one of {', '.join(QP_SOLVERS)}")
        return {
            **_usual(task.options.tee),
            "tol_pr": min(TOLERANCE, task.options.engine_tol),
            **native,
            "qpsol": qp,
            "qpsol_options": {"error_on_fail": False, **QP_SOLVERS[qp]},
        }

    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate the status; where the search ended without a step, by stationarity."""
        words = str(end.statistics["return_status"])
        termination = _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR)
        if words == "User_Requested_Stop":
            termination = why_stopped(task)
        message = f"sqpmethod status {words}"
        violation = nlp.violation(end.x)
        if words == NO_STEP and violation <= POINT_TOLERANCE:
            kkt = stationarity(nlp, end.x, end.multipliers)
            message += f", stationary to {kkt:.1e}"
            if kkt <= KKT_TOLERANCE:
                termination = Termination.ACCEPTABLE
        termination, message = checked_convergence(termination, message, violation, POINT_TOLERANCE)
        iterations = int(end.statistics["iter_count"])
        return nlp_outcome(task, nlp, termination, end.x, end.multipliers, iterations, message)

    def probe_settings(self) -> dict[str, Any]:
        """Return the options of the probe: PIQP solves its quadratic problems."""
        return {"qpsol": "piqp", "qpsol_options": QP_SOLVERS["piqp"], **_usual(False)}

    def versions(self, said: str) -> dict[str, str]:
        """Name the method: it has no version but CasADi's."""
        return {"engine_version": "sqpmethod with PIQP"}


def _usual(tee: bool) -> dict[str, Any]:
    return {
        "print_header": tee,
        "print_iteration": tee,
        "print_status": tee,
        "error_on_fail": False,
        "tol_du": TOLERANCE,
        "max_iter": 200,
        "min_step_size": 1e-16,  # the default ends converged runs before their multipliers are
    }


SOLVER = SqpMethod()
