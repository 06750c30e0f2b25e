"""Bonmin through CasADi: branch and bound over Ipopt, a heuristic on these non-convex models."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Solver, Task
from sftopt.solvers.engines.nl_bridge import Nlp, TriviallyInfeasible, bridge
from sftopt.solvers.engines.probe import (
    as_number,
    infeasible,
    last_line,
    linked_library,
    out_of_time,
    probe_verdict,
    probed,
    quiet,
    read_candidate,
)

POINT_TOLERANCE = 1e-5
"""What a returned vector may violate and still be passed on: after a limit it may be anything."""

_TERMINATIONS = {
    "SUCCESS": Termination.CONVERGED_LOCAL,
    # nodes are cut off by local solves: nothing is proven on a non-convex model
    "INFEASIBLE": Termination.INFEASIBLE_LOCAL,
    "LIMIT_EXCEEDED": Termination.ITERATION_LIMIT,
    "USER_INTERRUPT": Termination.INTERRUPTED,
}
"""CasADi's ``return_status``; all others are numerical errors."""

_OPTION_FAULTS = ("No such BONMIN option", "Invalid options", "type mismatch")
"""CasADi hands options to Bonmin when it solves, so that is when it finds fault with them."""


class Bonmin(Solver):
    """Bonmin's B-BB unless ``algorithm`` says otherwise.

    Native options carry the names of Bonmin (``bonmin.node_limit``) or Ipopt (``max_iter``).
    It cannot be asked to stop; whoever runs it ends its process. It looks at its time limit between
    nodes only: one dive at the root may take three times the limit at N = 200.
    """

    name = "bonmin"
    kind = "local"
    formulations = ("joint-product", "joint-ratio")
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "seed", "feas_tol", "x0", "tee"})
    summary = "Bonmin (inside CasADi): branch and bound without a bound on non-convex models"

    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""
        return _probe()

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that Bonmin does not take."""
        with quiet(task.options.tee):
            try:
                nlp = bridge(task.model)
            except TriviallyInfeasible as error:
                return infeasible(task, str(error))
            if task.deadline.passed():
                return out_of_time("building")
            return _solve(task, nlp)


def _solve(task: Task, nlp: Nlp) -> Outcome:
    native = {
        name.removeprefix("bonmin."): as_number(value)
        for name, value in task.options.native.items()
    }
    solver = nlp.nlpsol(
        "bonmin",
        {
            **{f"bonmin.{name}": value for name, value in (_common(task) | native).items()},
            "discrete": nlp.discrete.tolist(),
            "print_time": False,
        },
    )
    try:
        found = solver(**nlp.limits)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _OPTION_FAULTS):
            raise
        raise InputError(f"Bonmin does not take the options {native}: {last_line(error)}") from None
    return _outcome(task, nlp, solver.stats()["return_status"], found)


def _common(task: Task) -> dict[str, Any]:
    """The common options in Bonmin's terms."""
    options = task.options
    loud = int(options.tee)
    return {
        "algorithm": "B-BB",
        "time_limit": min(task.deadline.left(), 1e10),
        "allowable_fraction_gap": options.rel_gap,
        "allowable_gap": options.abs_gap / float(task.model.objective_unit_s),
        "random_generator_seed": options.seed,
        "constr_viol_tol": options.feas_tol,
        "integer_tolerance": min(options.feas_tol, POINT_TOLERANCE),
        "bb_log_level": loud,
        "nlp_log_level": loud,
        "print_level": 0,
        "sb": "yes",
    }


def _outcome(task: Task, nlp: Nlp, status: str, found: Any) -> Outcome:
    termination = _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR)
    message = f"Bonmin status {status}"
    if termination is Termination.ITERATION_LIMIT and task.deadline.left() < 0.05:
        termination = Termination.TIME_LIMIT
    x = np.array(found["x"].full()).ravel()
    violation = nlp.violation(x)
    usable = violation <= POINT_TOLERANCE and termination is not Termination.INFEASIBLE_LOCAL
    if termination is Termination.CONVERGED_LOCAL and not usable:
        termination = Termination.NUMERICAL_ERROR
        message += f", but its point violates the model by {violation:.1e}"
    if usable:
        nlp.nl.load(x)
    return Outcome(
        termination,
        candidate=read_candidate(task) if usable else None,
        claimed_s=nlp.objective(x) * float(task.model.objective_unit_s) if usable else None,
        start_used="yes",
        message=message,
    )


@lru_cache(maxsize=1)
def _probe() -> Availability:
    return probed(_solve_probe, fix="pip install casadi")


def _solve_probe() -> Availability:
    """min (x - 1.2)^2 + (y - 2.5)^2, x integer, x + y <= 3: (1, 2)."""
    import casadi

    x = casadi.SX.sym("x", 2)
    problem = {"x": x, "f": (x[0] - 1.2) ** 2 + (x[1] - 2.5) ** 2, "g": x[0] + x[1]}
    with quiet():
        options: dict[str, Any] = {"discrete": [True, False], "print_time": False}
        solver = casadi.nlpsol("probe", "bonmin", problem, options)
        point = solver(x0=0, lbx=0, ubx=5, ubg=3)["x"].full().ravel().tolist()
    return probe_verdict(
        (point[0], point[1]),
        (1.0, 2.0),
        "casadi",
        engine_version=f"Bonmin {_packaged_version(Path(casadi.__file__).parent)}".strip(),
        linked_library=linked_library("libbonmin"),
    )


def _packaged_version(folder: Path) -> str:
    """Bonmin cannot be asked for its version; the wheel's pkg-config file has it."""
    note = folder / "pkgconfig" / "bonmin.pc"
    found = re.search(r"^Version: *(\S+)", note.read_text(), re.M) if note.exists() else None
    return found.group(1) if found else ""


SOLVER = Bonmin()
