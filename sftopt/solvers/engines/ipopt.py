"""Ipopt through CasADi's plug-in: the relaxed model, locally, from pip's wheels alone."""

from __future__ import annotations

import re
from typing import Any

from sftopt.formulations.base import CONTINUOUS
from sftopt.solvers.base import Outcome, Takes, Task
from sftopt.solvers.engines.casadi_nlp import CasadiNlp, End
from sftopt.solvers.engines.ipopt_common import NO_FILE, common_options, ipopt_outcome
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import linked_library


class Ipopt(CasadiNlp):
    """CasADi's Ipopt with MUMPS. Native options carry Ipopt's own names (``max_iter``, ``tol``)."""

    name = "ipopt"
    takes = (Takes("pyomo", CONTINUOUS),)
    default = "joint-relaxed"
    summary = "Ipopt (inside CasADi): local optimum of the relaxation, rounded to a plan"
    plugin = "ipopt"
    title = "Ipopt"
    our_derivatives = True

    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return common and native options, each under CasADi's prefix."""
        chosen = {**common_options(task), **native}
        return {f"ipopt.{name}": value for name, value in chosen.items()}

    def probe_settings(self) -> dict[str, Any]:
        """Return what keeps a file in the working folder out of the probe."""
        return {f"ipopt.{name}": value for name, value in NO_FILE.items()}

    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate Ipopt's status; no bound comes of it."""
        status, iterations = end.statistics["return_status"], int(end.statistics["iter_count"])
        return ipopt_outcome(task, nlp, status, end.x, end.multipliers, iterations)

    def versions(self, said: str) -> dict[str, str]:
        """Read Ipopt's version from its banner."""
        banner = re.search(r"Ipopt version (\d[\d.]*\d)", said)
        engine = banner.group(1) if banner else ""
        return {
            "engine_version": f"Ipopt {engine}".strip(),
            "linked_library": linked_library("libipopt", engine),
        }


SOLVER = Ipopt()
