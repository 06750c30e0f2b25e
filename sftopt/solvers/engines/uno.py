"""Uno through CasADi: sequential quadratic programming with a filter and a trust region."""

from __future__ import annotations

import re
from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, Problem
from sftopt.solvers.base import Outcome, Takes, Task
from sftopt.solvers.engines.casadi_nlp import CasadiNlp, End
from sftopt.solvers.engines.local_nlp import nlp_outcome, why_stopped
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import linked_library

TOLERANCE = 1e-10
"""Primal and dual: the shares are kept as they are, nothing settles their last digits."""

_TERMINATIONS = {
    "Converged with feasible KKT point": Termination.CONVERGED_LOCAL,
    "Terminated with feasible small step": Termination.ACCEPTABLE,
    "Converged with feasible FJ point": Termination.ACCEPTABLE,
    "Converged with infeasible stationary point": Termination.INFEASIBLE_LOCAL,
}
"""Uno's words for its point; else its unified status tells a limit from trouble."""

NUMBERS = frozenset({
    "max_iterations", "primal_tolerance", "dual_tolerance", "loose_primal_tolerance",
    "loose_dual_tolerance", "loose_tolerance_iteration_threshold", "time_limit", "TR_radius",
    "TR_min_radius", "TR_increase_factor", "TR_decrease_factor", "filter_beta",
    "filter_gamma", "filter_ubd", "filter_fact", "filter_capacity",
    "armijo_decrease_fraction", "armijo_tolerance", "quasi_newton_memory_size",
})  # fmt: skip
"""Uno's options that are numbers."""
WORDS = frozenset({
    "preset", "globalization_mechanism", "globalization_strategy",
    "constraint_relaxation_strategy", "inequality_handling_method", "hessian_model",
    "inertia_correction_strategy", "QP_solver", "LP_solver", "linear_solver", "progress_norm",
    "residual_norm", "filter_type",
})  # fmt: skip
"""Uno's options that are words."""


class Uno(CasadiNlp):
    """Uno's ``filtersqp`` preset with BQPD. Native options carry Uno's own names.

    Uno passes over names and values it does not know without a word, so they are checked here.
    """

    name = "uno"
    takes = (Takes("pyomo", CONTINUOUS, Problem.ROUND),)
    default = "spectrum-nlp"
    summary = "Uno (inside CasADi): filter SQP with a trust region"
    plugin = "uno"
    title = "Uno"
    option_faults = ("",)

    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return the options. Raises InputError for a name or kind of value that Uno lacks."""
        common = {
            "preset": "filtersqp",
            "logger": "INFO" if task.options.tee else "SILENT",
            "primal_tolerance": min(TOLERANCE, task.options.engine_tol),
            "dual_tolerance": TOLERANCE,
            "max_iterations": 10_000,
            "time_limit": min(max(task.deadline.left(), 1e-3), 1e20),
        }
        for name, value in native.items():
            if name not in NUMBERS | WORDS:
                raise InputError(
                    f"Uno does not take the option '{name}'; it takes: "
                    f"{', '.join(sorted(NUMBERS | WORDS))}"
                )
            if isinstance(value, int | float) != (name in NUMBERS):
                kind = "a number" if name in NUMBERS else "a word"
                raise InputError(f"Uno's option '{name}' must be {kind}, not {value!r}")
        return {"uno": {**common, **native}}

    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate Uno's words; no bound comes of it."""
        words = str(end.statistics["return_status"])
        termination = _termination(task, words, str(end.statistics["unified_return_status"]))
        iterations = int(end.statistics["iter_count"])
        return nlp_outcome(
            task, nlp, termination, end.x, end.multipliers, iterations, f"Uno status {words}"
        )

    def versions(self, said: str) -> dict[str, str]:
        """Read Uno's version from its banner."""
        banner = re.search(r"Uno (\d[\d.]*\d)", said)
        return {
            "engine_version": f"Uno {banner.group(1)}" if banner else "Uno",
            "linked_library": linked_library("libuno"),
        }


def _termination(task: Task, words: str, unified: str) -> Termination:
    if words in _TERMINATIONS:
        return _TERMINATIONS[words]
    if task.stop_requested() or task.deadline.passed():
        return why_stopped(task)
    limited = unified == "SOLVER_RET_LIMITED"
    return Termination.ITERATION_LIMIT if limited else Termination.NUMERICAL_ERROR


SOLVER = Uno()
