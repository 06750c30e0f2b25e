"""alpaqa through CasADi: an augmented Lagrangian of other make, to check ours against, (15).

ALM with PANOC (a proximal gradient method with L-BFGS directions) inside, on ``joint-relaxed``:
the same relaxation as :mod:`sftopt.solvers.heuristics.augmented_lagrangian` works on, with shares
as variables and the modelling layer's derivatives; then the same rounding and repair.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.ipopt_common import continuous_nlp
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import (
    PROBE_ANSWER,
    as_number,
    casadi_probe,
    last_line,
    linked_library,
    probe_verdict,
    probed,
    quiet,
    read_candidate,
)

CLAIM_VIOLATION = 1e-5
"""Above this violation the objective of a point is no claim."""
POINT_VIOLATION = 1e-2
"""Above this violation a vector is not even a start for rounding: the relaxation was not solved."""

_TERMINATIONS = {
    "SOLVER_RET_SUCCESS": Termination.CONVERGED_LOCAL,
    "SOLVER_RET_LIMITED": Termination.ITERATION_LIMIT,
}
"""CasADi's ``unified_return_status``, the only one this plug-in sets; others are errors."""

_GROUPS = ("alm.", "panoc.", "lbfgs.")


class Alpaqa(Solver):
    """alpaqa's ALM with PANOC and L-BFGS, as CasADi wraps it.

    Native options carry alpaqa's own names, with their group: ``alm.tolerance``,
    ``alm.penalty_update_factor``, ``panoc.max_iter``, ``lbfgs.memory``. It cannot be asked to stop;
    whoever runs it ends its process.
    """

    name = "alpaqa"
    kind = "local"
    formulations = ("joint-relaxed",)
    honours = frozenset({"time_limit", "feas_tol", "x0", "tee"})
    summary = "alpaqa (inside CasADi): augmented Lagrangian on the relaxation, rounded to a plan"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that alpaqa does not take."""
        with quiet(task.options.tee):
            nlp = continuous_nlp(task, self.name)
            return nlp if isinstance(nlp, Outcome) else _solve(task, nlp)


def _solve(task: Task, nlp: Nlp) -> Outcome:
    import casadi

    native = {name: as_number(value) for name, value in task.options.native.items()}
    strange = [name for name in native if not name.startswith(_GROUPS)]
    if strange:
        raise InputError(
            f"alpaqa does not take the options {', '.join(strange)}: a name starts with one of "
            f"{', '.join(_GROUPS)}"
        )
    problem = {"x": nlp.x, "f": nlp.f, "g": nlp.g}
    settings: dict[str, Any] = {
        "print_time": False,
        "show_eval_warnings": False,  # trial points outside a domain are part of its line search
        "alpaqa": {**_common(task), **native},
    }
    solver = casadi.nlpsol("solver", "alpaqa", problem, settings)
    try:
        found = solver(**nlp.limits)
    except RuntimeError as error:
        if not native or "Invalid " not in str(error):
            raise
        raise InputError(f"alpaqa does not take the options {native}: {last_line(error)}") from None
    status = str(solver.stats()["unified_return_status"])
    x = np.array(found["x"].full()).ravel()
    return _outcome(task, nlp, status, x, np.array(found["lam_g"].full()).ravel())


def _common(task: Task) -> dict[str, Any]:
    """The common options in alpaqa's terms, and limits that suit these models."""
    left = min(task.deadline.left(), 1e6)
    return {
        "alm.max_time": f"{max(int(left * 1e3), 1)}ms",
        "alm.max_iter": 200,
        "alm.tolerance": 1e-6,
        "alm.dual_tolerance": min(task.options.feas_tol, 1e-6),
        "panoc.max_iter": 2000,
        "lbfgs.memory": 30,
    }


def _outcome(task: Task, nlp: Nlp, status: str, x: Any, multipliers: Any) -> Outcome:
    """alpaqa's answer. No bound: a local optimum of a non-convex model proves nothing."""
    termination = _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
    violation = nlp.violation(x)
    message = f"alpaqa status {status}"
    if termination is Termination.ITERATION_LIMIT and task.deadline.left() < 0.05:
        termination = Termination.TIME_LIMIT
    if violation > CLAIM_VIOLATION:
        message += f"; its point violates the model by {violation:.1e}"
        if termination is Termination.CONVERGED_LOCAL:
            termination = Termination.NUMERICAL_ERROR
    usable = violation <= POINT_VIOLATION
    unit_s = float(task.model.objective_unit_s)
    if usable:
        nlp.nl.load(x)
    return Outcome(
        termination,
        candidate=read_candidate(task) if usable else None,
        claimed_s=nlp.objective(x) * unit_s if violation <= CLAIM_VIOLATION else None,
        duals=nlp.duals(multipliers, unit_s) if termination is Termination.CONVERGED_LOCAL else {},
        start_used="yes",
        message=message,
    )


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install casadi")


def _solve_probe() -> Availability:
    answer, _ = casadi_probe("alpaqa", {})
    library = linked_library("libalpaqa")
    return probe_verdict(
        answer,
        PROBE_ANSWER,
        "casadi",
        engine_version="alpaqa 1.0" if "so.1.0" in library else "alpaqa",
        linked_library=library,
    )


SOLVER = Alpaqa()
