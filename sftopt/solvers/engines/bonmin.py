"""Bonmin through CasADi: branch and bound over Ipopt, a heuristic on these non-convex models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, INTEGER
from sftopt.solvers.base import Availability, Outcome, Takes, Task
from sftopt.solvers.engines.casadi_nlp import CasadiNlp, End
from sftopt.solvers.engines.local_nlp import by_the_clock, checked_convergence, nlp_outcome
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import linked_library, probe_verdict
from sftopt.solvers.engines.silence import quiet
from sftopt.solvers.engines.working_folder import in_an_empty_folder

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


class Bonmin(CasadiNlp):
    """Bonmin's B-BB unless ``algorithm`` says otherwise.

    Native options carry the names of Bonmin (``bonmin.node_limit``) or Ipopt (``max_iter``).
    It cannot be asked to stop; whoever runs it ends its process. It looks at its time limit between
    nodes only: one dive at the root may take three times the limit at N = 200.
    """

    name = "bonmin"
    takes = (Takes("pyomo", INTEGER | CONTINUOUS),)
    default = "joint-product"
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "seed", "feas_tol", "x0", "tee"})
    summary = "Bonmin (inside CasADi): branch and bound without a bound on non-convex models"
    plugin = "bonmin"
    title = "Bonmin"
    takes_integers = True
    our_derivatives = True
    stoppable = False
    # CasADi hands options to Bonmin when it solves, so that is when it finds fault with them
    option_faults = ("No such BONMIN option", "Invalid options", "type mismatch")

    def native(self, task: Task) -> dict[str, Any]:
        """Return the native options, without the prefix that those of Bonmin's own carry."""
        named = task.options.native_numbers().items()
        return {name.removeprefix("bonmin."): value for name, value in named}

    def solve(self, task: Task, nlp: Nlp) -> Outcome:
        """Solve ``nlp``, unseen by a ``bonmin.opt`` that happens to lie in the working folder."""
        with in_an_empty_folder():
            return super().solve(task, nlp)

    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return common and native options, each under CasADi's prefix."""
        chosen = {**_common(task), **native}
        return {
            **{f"bonmin.{name}": value for name, value in chosen.items()},
            "discrete": nlp.discrete.tolist(),
        }

    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate Bonmin's status; what violates the model is no point."""
        status = end.statistics["return_status"]
        termination = by_the_clock(task, _TERMINATIONS.get(status, Termination.NUMERICAL_ERROR))
        termination, message = checked_convergence(
            termination, f"Bonmin status {status}", nlp.violation(end.x), POINT_TOLERANCE
        )
        return nlp_outcome(task, nlp, termination, end.x, None, None, message, POINT_TOLERANCE)

    def probe(self) -> Availability:
        """Solve min (x - 1.2)^2 + (y - 2.5)^2, x integer, x + y <= 3: (1, 2)."""
        import casadi

        x = casadi.SX.sym("x", 2)
        problem = {"x": x, "f": (x[0] - 1.2) ** 2 + (x[1] - 2.5) ** 2, "g": x[0] + x[1]}
        with quiet(), in_an_empty_folder():
            options: dict[str, Any] = {"discrete": [True, False], "print_time": False}
            solver = casadi.nlpsol("probe", "bonmin", problem, options)
            point = solver(x0=0, lbx=0, ubx=5, ubg=3)["x"].full().ravel().tolist()
        return probe_verdict((point[0], point[1]), (1.0, 2.0), "casadi", **self.versions(""))

    def versions(self, said: str) -> dict[str, str]:
        """Read Bonmin's version from the wheel's pkg-config file: it cannot be asked."""
        import casadi

        note = Path(casadi.__file__).parent / "pkgconfig" / "bonmin.pc"
        text = note.read_text() if note.exists() else ""
        found = re.search(r"^Version: *(\S+)", text, re.M)
        return {
            "engine_version": f"Bonmin {found.group(1) if found else ''}".strip(),
            "linked_library": linked_library("libbonmin"),
        }


def _common(task: Task) -> dict[str, Any]:
    """Return the common options in Bonmin's terms."""
    options = task.options
    loud = int(options.tee)
    return {
        "algorithm": "B-BB",
        "time_limit": min(task.deadline.left(), 1e10),
        "allowable_fraction_gap": options.rel_gap,
        "allowable_gap": options.abs_gap / task.unit_s,
        "random_generator_seed": options.seed,
        "constr_viol_tol": options.engine_tol,
        "integer_tolerance": min(options.engine_tol, POINT_TOLERANCE),
        "bb_log_level": loud,
        "nlp_log_level": loud,
        "print_level": 0,
        "sb": "yes",
    }


SOLVER = Bonmin()
