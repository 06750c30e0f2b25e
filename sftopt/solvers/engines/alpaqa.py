"""alpaqa through CasADi: an augmented Lagrangian of other make, to check ours against, (15).

ALM with PANOC (a proximal gradient method with L-BFGS directions) inside, on ``joint-relaxed``:
the same relaxation as :mod:`sftopt.solvers.heuristics.augmented_lagrangian` works on, with shares
as variables and the modelling layer's derivatives; then the same rounding and repair.
"""

from __future__ import annotations

from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, Problem
from sftopt.solvers.base import Outcome, Takes, Task
from sftopt.solvers.engines.casadi_nlp import CasadiNlp, End
from sftopt.solvers.engines.local_nlp import CLAIM_VIOLATION, by_the_clock, nlp_outcome
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import linked_library

POINT_VIOLATION = 1e-2
"""Above this violation a vector is not even a start for rounding: the relaxation was not solved."""

_TERMINATIONS = {
    "SOLVER_RET_SUCCESS": Termination.CONVERGED_LOCAL,
    "SOLVER_RET_LIMITED": Termination.ITERATION_LIMIT,
}
"""CasADi's ``unified_return_status``, the only one this plug-in sets; others are errors."""

_GROUPS = ("alm.", "panoc.", "lbfgs.")
"""What the name of an option of alpaqa starts with."""


class Alpaqa(CasadiNlp):
    """alpaqa's ALM with PANOC and L-BFGS, as CasADi wraps it.

    Native options carry alpaqa's own names, with their group: ``alm.tolerance``,
    ``alm.penalty_update_factor``, ``panoc.max_iter``, ``lbfgs.memory``. It cannot be asked to stop;
    whoever runs it ends its process.
    """

    name = "alpaqa"
    takes = (Takes("pyomo", CONTINUOUS, Problem.PLAN),)
    default = "joint-relaxed"
    summary = "alpaqa (inside CasADi): augmented Lagrangian on the relaxation, rounded to a plan"
    plugin = "alpaqa"
    title = "alpaqa"
    stoppable = False
    option_faults = ("Invalid ",)

    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return the options under alpaqa's groups. Raises InputError for one outside them."""
        strange = [name for name in native if not name.startswith(_GROUPS)]
        if strange:
            raise InputError(
                f"alpaqa does not take the options {', '.join(strange)}: a name starts with one of "
                f"{', '.join(_GROUPS)}"
            )
        return {
            # trial points outside a domain are part of its line search
            "show_eval_warnings": False,
            "alpaqa": {**_common(task), **native},
        }

    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate alpaqa's status, with what its point really is."""
        status = str(end.statistics["unified_return_status"])
        termination = by_the_clock(task, _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR))
        message = f"alpaqa status {status}"
        violation = nlp.violation(end.x)
        if violation > CLAIM_VIOLATION:
            message += f"; its point violates the model by {violation:.1e}"
            if termination is Termination.CONVERGED_LOCAL:
                termination = Termination.NUMERICAL_ERROR
        return nlp_outcome(
            task, nlp, termination, end.x, end.multipliers, None, message, POINT_VIOLATION
        )

    def versions(self, said: str) -> dict[str, str]:
        """Read alpaqa's version from the name of its library: it has no banner."""
        library = linked_library("libalpaqa")
        engine = "alpaqa 1.0" if "so.1.0" in library else "alpaqa"
        return {"engine_version": engine, "linked_library": library}


def _common(task: Task) -> dict[str, Any]:
    """Return the common options in alpaqa's terms, and limits that suit these models."""
    left = min(task.deadline.left(), 1e6)
    return {
        "alm.max_time": f"{max(int(left * 1e3), 1)}ms",
        "alm.max_iter": 200,
        "alm.tolerance": 1e-6,
        "alm.dual_tolerance": min(task.options.engine_tol, 1e-6),
        "panoc.max_iter": 2000,
        "lbfgs.memory": 30,
    }


SOLVER = Alpaqa()
