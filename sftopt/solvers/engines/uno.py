"""Uno through CasADi: sequential quadratic programming with a filter and a trust region."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.ipopt_common import continuous_nlp
from sftopt.solvers.engines.local_nlp import iteration_callback, nlp_outcome, why_stopped
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
)

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
WORDS = frozenset({
    "preset", "globalization_mechanism", "globalization_strategy",
    "constraint_relaxation_strategy", "inequality_handling_method", "hessian_model",
    "inertia_correction_strategy", "QP_solver", "LP_solver", "linear_solver", "progress_norm",
    "residual_norm", "filter_type",
})  # fmt: skip


class Uno(Solver):
    """Uno's ``filtersqp`` preset with BQPD. Native options carry Uno's own names.

    Uno passes over names and values it does not know without a word, so they are checked here.
    """

    name = "uno"
    kind = "local"
    formulations = ("spectrum-nlp",)
    honours = frozenset({"time_limit", "feas_tol", "x0", "tee"})
    summary = "Uno (inside CasADi): filter SQP with a trust region"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that Uno does not take."""
        with quiet(task.options.tee):
            nlp = continuous_nlp(task, self.name)
            return nlp if isinstance(nlp, Outcome) else _solve(task, nlp)


def _options(task: Task) -> dict[str, Any]:
    common = {
        "preset": "filtersqp",
        "logger": "INFO" if task.options.tee else "SILENT",
        "primal_tolerance": min(TOLERANCE, task.options.feas_tol),
        "dual_tolerance": TOLERANCE,
        "max_iterations": 10_000,
        "time_limit": min(max(task.deadline.left(), 1e-3), 1e20),
    }
    native = {name: as_number(value) for name, value in task.options.native.items()}
    for name, value in native.items():
        if name not in NUMBERS | WORDS:
            raise InputError(
                f"Uno does not take the option '{name}'; it takes: "
                f"{', '.join(sorted(NUMBERS | WORDS))}"
            )
        if isinstance(value, int | float) != (name in NUMBERS):
            kind = "a number" if name in NUMBERS else "a word"
            raise InputError(f"Uno's option '{name}' must be {kind}, not {value!r}")
    return {**common, **native}


def _solve(task: Task, nlp: Nlp) -> Outcome:
    import casadi

    options = _options(task)
    watch = iteration_callback(task, nlp)
    problem = {"x": nlp.x, "f": nlp.f, "g": nlp.g}
    settings = {"uno": options, "print_time": False, "iteration_callback": watch}
    try:
        solver = casadi.nlpsol("solver", "uno", problem, settings)
        found = solver(**nlp.limits)
    except RuntimeError as error:
        if watch.error is not None:
            raise watch.error from None
        if not task.options.native:
            raise
        text = f"Uno does not take the options {task.options.native}: {last_line(error)}"
        raise InputError(text) from None
    if watch.error is not None:
        raise watch.error
    statistics = solver.stats()
    words = str(statistics["return_status"])
    return nlp_outcome(
        task,
        nlp,
        _termination(task, words, str(statistics["unified_return_status"])),
        np.array(found["x"].full()).ravel(),
        np.array(found["lam_g"].full()).ravel(),
        int(statistics["iter_count"]),
        f"Uno status {words}",
    )


def _termination(task: Task, words: str, unified: str) -> Termination:
    if words in _TERMINATIONS:
        return _TERMINATIONS[words]
    if task.stop_requested() or task.deadline.passed():
        return why_stopped(task)
    limited = unified == "SOLVER_RET_LIMITED"
    return Termination.ITERATION_LIMIT if limited else Termination.NUMERICAL_ERROR


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install casadi")


def _solve_probe() -> Availability:
    answer, said = casadi_probe("uno", {})
    banner = re.search(r"Uno (\d[\d.]*\d)", said)
    engine = f"Uno {banner.group(1)}" if banner else "Uno"
    return probe_verdict(
        answer,
        PROBE_ANSWER,
        "casadi",
        engine_version=engine,
        linked_library=linked_library("libuno"),
    )


SOLVER = Uno()
