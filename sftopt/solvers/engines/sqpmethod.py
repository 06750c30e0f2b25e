"""CasADi's sequential quadratic programming: full steps from exact second derivatives.

Every quadratic problem is solved by one of the QP solvers inside CasADi's wheel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.ipopt_common import continuous_nlp
from sftopt.solvers.engines.local_nlp import (
    KKT_TOLERANCE,
    iteration_callback,
    nlp_outcome,
    stationarity,
    why_stopped,
)
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import (
    PROBE_ANSWER,
    as_number,
    casadi_probe,
    last_line,
    listening,
    probe_verdict,
    probed,
    quiet,
)

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


class SqpMethod(Solver):
    """CasADi's ``sqpmethod``: line search on a merit function.

    Native options carry CasADi's own names (``max_iter``, ``tol_du``, ``convexify_strategy``);
    ``qpsol`` is one of :data:`QP_SOLVERS`. The Hessian is not made convex by default: it is, and
    regularising it took up to twenty times the iterations.
    """

    name = "sqpmethod"
    kind = "local"
    formulations = ("spectrum-nlp",)
    honours = frozenset({"time_limit", "feas_tol", "x0", "tee"})
    summary = "CasADi's SQP with exact Hessians, its quadratic problems by PIQP"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for an option that sqpmethod does not take."""
        with quiet(task.options.tee):
            nlp = continuous_nlp(task, self.name)
            return nlp if isinstance(nlp, Outcome) else _solve(task, nlp)


def _settings(tee: bool) -> dict[str, Any]:
    return {
        "print_header": tee,
        "print_iteration": tee,
        "print_status": tee,
        "print_time": False,
        "error_on_fail": False,
        "tol_du": TOLERANCE,
        "max_iter": 200,
        "min_step_size": 1e-16,  # the default ends converged runs before their multipliers are
    }


def _solve(task: Task, nlp: Nlp) -> Outcome:
    import casadi

    native = {name: as_number(value) for name, value in task.options.native.items()}
    qp = native.pop("qpsol", "piqp")
    if qp not in QP_SOLVERS:
        raise InputError(f"qpsol is {qp!r}; it must be one of {', '.join(QP_SOLVERS)}")
    watch = iteration_callback(task, nlp)
    settings = {
        **_settings(task.options.tee),
        "tol_pr": min(TOLERANCE, task.options.feas_tol),
        **native,
        "qpsol": qp,
        "qpsol_options": {"error_on_fail": False, **QP_SOLVERS[qp]},
        "iteration_callback": watch,
    }
    problem = {"x": nlp.x, "f": nlp.f, "g": nlp.g}
    try:
        with listening():  # a QP that fails shows in the status; its prints would not help
            solver = casadi.nlpsol("solver", "sqpmethod", problem, settings)
    except (RuntimeError, NotImplementedError) as error:
        if not native:
            raise
        text = f"sqpmethod does not take the options {native}: {last_line(error)}"
        raise InputError(text) from None
    found = solver(**nlp.limits)
    if watch.error is not None:
        raise watch.error
    statistics = solver.stats()
    x = np.array(found["x"].full()).ravel()
    words = str(statistics["return_status"])
    termination = _TERMINATIONS.get(words, Termination.NUMERICAL_ERROR)
    if words == "User_Requested_Stop":
        termination = why_stopped(task)
    multipliers = np.array(found["lam_g"].full()).ravel()
    message = f"sqpmethod status {words}"
    violation = nlp.violation(x)
    if words == NO_STEP and violation <= POINT_TOLERANCE:
        kkt = stationarity(nlp, x, multipliers)
        message += f", stationary to {kkt:.1e}"
        if kkt <= KKT_TOLERANCE:
            termination = Termination.ACCEPTABLE
    if termination is Termination.CONVERGED_LOCAL and violation > POINT_TOLERANCE:
        termination = Termination.NUMERICAL_ERROR
        message += f", but its point violates the model by {violation:.1e}"
    return nlp_outcome(
        task,
        nlp,
        termination,
        x,
        multipliers,
        int(statistics["iter_count"]),
        message,
    )


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install casadi")


def _solve_probe() -> Availability:
    chosen = {"qpsol": "piqp", "qpsol_options": QP_SOLVERS["piqp"], **_settings(False)}
    answer, _ = casadi_probe("sqpmethod", chosen)
    return probe_verdict(answer, PROBE_ANSWER, "casadi", engine_version="sqpmethod with PIQP")


SOLVER = SqpMethod()
