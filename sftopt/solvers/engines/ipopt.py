"""Ipopt through CasADi's plug-in: the relaxed model, locally, from pip's wheels alone."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from sftopt.core.errors import InputError
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.ipopt_common import common_options, continuous_nlp, outcome
from sftopt.solvers.engines.local_nlp import iteration_callback
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import (
    PROBE_ANSWER,
    as_number,
    casadi_probe,
    complaint,
    last_line,
    linked_library,
    listening,
    probe_verdict,
    probed,
    quiet,
)


class Ipopt(Solver):
    """CasADi's Ipopt with MUMPS. Native options carry Ipopt's own names (``max_iter``, ``tol``)."""

    name = "ipopt"
    kind = "local"
    formulations = ("joint-relaxed", "spectrum-nlp")
    honours = frozenset({"time_limit", "feas_tol", "x0", "tee"})
    summary = "Ipopt (inside CasADi): local optimum of the relaxation, rounded to a plan"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that Ipopt does not take."""
        with quiet(task.options.tee):
            nlp = continuous_nlp(task, self.name)
            return nlp if isinstance(nlp, Outcome) else _solve(task, nlp)


def _solve(task: Task, nlp: Nlp) -> Outcome:
    watch = iteration_callback(task, nlp)
    native = {name: as_number(value) for name, value in task.options.native.items()}
    chosen = {**common_options(task), **native}
    try:
        with listening() as heard:
            solver = nlp.nlpsol(
                "ipopt",
                {
                    **{f"ipopt.{name}": value for name, value in chosen.items()},
                    "print_time": False,
                    "iteration_callback": watch,
                },
            )
    except (RuntimeError, NotImplementedError) as error:
        if not native:
            raise
        reason = complaint(heard.text) or last_line(error)
        raise InputError(f"Ipopt does not take the options {native}: {reason}") from None
    found = solver(**nlp.limits)
    if watch.error is not None:
        raise watch.error
    statistics = solver.stats()
    return outcome(
        task,
        nlp,
        statistics["return_status"],
        np.array(found["x"].full()).ravel(),
        np.array(found["lam_g"].full()).ravel(),
        int(statistics["iter_count"]),
    )


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install casadi")


def _solve_probe() -> Availability:
    answer, said = casadi_probe("ipopt", {})
    banner = re.search(r"Ipopt version (\d[\d.]*\d)", said)
    engine = banner.group(1) if banner else ""
    return probe_verdict(
        answer,
        PROBE_ANSWER,
        "casadi",
        engine_version=f"Ipopt {engine}".strip(),
        linked_library=linked_library("libipopt", engine),
    )


SOLVER = Ipopt()
