"""``certify``: the native solver of problem (13) that returns a plan and a proven lower bound."""

from __future__ import annotations

import logging
from pathlib import Path

from sftopt.core.derived import Derived
from sftopt.solvers.base import Availability, Outcome, Solver, Task

LOGGER = logging.getLogger(__name__)


class CertifySolver(Solver):
    """Lagrangian bounds over boxes of the time scalars, branching, and recovered plans."""

    name = "certify"
    kind = "global"
    formulations = ("native",)
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "x0"})
    native_options = False
    wants_start = False
    in_process = True
    summary = "certified optimum by Lagrangian bounds on boxes of the barrier times; any size"

    def available(self) -> Availability:
        """Compiles and runs a kernel with a known answer."""
        try:
            import numba

            from sftopt.solvers.certify.least import convexity_peak
        except ImportError as error:
            return Availability(False, f"numba is missing: {error}", "pip install numba")
        found = float(convexity_peak(2.0))
        if abs(found - 2.0 / (4.0 + 8.0**0.5)) > 1e-12:
            return Availability(False, f"the probe gave {found!r}")
        return Availability(True, numba.__version__, f"Numba {numba.__version__}")

    def refusal(self, task_derived: Derived) -> str | None:
        """More options than bits of a word."""
        if len(task_derived.options) > 62:
            return "certify takes at most 62 compression options"
        return None

    def run(self, task: Task) -> Outcome:
        """Search until the gap is closed; on a limit plan and bound are kept."""
        if not any((Path(__file__).parent / "__pycache__").glob("*.nbi")):
            LOGGER.warning("certify compiles its kernels on first use: about half a minute, once")
        from sftopt.solvers.certify.search import Search

        return Search(task).run()


SOLVER = CertifySolver()
