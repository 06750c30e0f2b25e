"""SCIP through PySCIPOpt: spatial branch and bound on the exact formulations, with a bound.

SCIP reads the ``.nl`` file that Pyomo writes, start values included. A proof by one solver on one
formulation is not the last word: the two product and ratio forms exist to be compared.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, INTEGER
from sftopt.solvers.base import Availability, Outcome, Progress, Takes, Task
from sftopt.solvers.engines.cvxpy_bridge import WITHOUT_EXPONENTIALS
from sftopt.solvers.engines.engine import PROVES_BOUNDS, infeasible, out_of_time, read_candidate
from sftopt.solvers.engines.messages import complaint, last_line
from sftopt.solvers.engines.nl_bridge import NlFile, TriviallyInfeasible, write_nl
from sftopt.solvers.engines.probe import linked_library, probe_verdict
from sftopt.solvers.engines.scip_conic import (
    LARGEST_FEASTOL,
    SCIP_INFINITY,
    TERMINATIONS,
    ScipOnCones,
    scip_gap,
)
from sftopt.solvers.engines.scip_events import heard
from sftopt.solvers.engines.silence import STANDARD_ERROR, listening, quiet

LOOK_EVERY_S = 0.05
"""How often the clock and Ctrl-C are looked at, at most."""
REPORT_EVERY_S = 0.25
"""How often a bound without a new solution is sent, at most."""
COST_SHARE = 0.1
"""Reading and sending new solutions takes at most this share of the time."""
ROOM_IN_TOLERANCES = 5.0
"""By how many tolerances SCIP's gap is set tighter (at most halved): the verified one must hold."""


class Scip(ScipOnCones):
    """SCIP, global on algebraic models and, by way of CVXPY, on those of second-order cones.

    One thread; seeds shift its random decisions. Native options carry SCIP's own names
    (``limits/nodes``, ``limits/gap`` ...).
    """

    name = "scip"
    takes = (Takes("pyomo", INTEGER | CONTINUOUS), Takes("cvxpy", WITHOUT_EXPONENTIALS))
    default = "joint-product"
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "seed", "feas_tol", "x0", "tee"})
    summary = "SCIP: global branch and bound with a proven bound"
    fix = "pip install pyscipopt"

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that SCIP does not take."""
        if task.formulation.layer == "cvxpy":
            return super().run(task)
        with quiet(task.options.tee):
            return _run(task)

    def engine_version(self) -> str:
        """Return SCIP's version."""
        import pyscipopt

        scip = pyscipopt.Model()
        parts = (scip.getMajorVersion(), scip.getMinorVersion(), scip.getTechVersion())
        return ".".join(str(number) for number in parts)

    def probe(self) -> Availability:
        """Solve min x + y, x y >= 2, x >= 1 integer, 0.5 <= y <= 1.5: (2, 1)."""
        import pyscipopt

        with quiet():
            scip = pyscipopt.Model()
            scip.hideOutput()
            x = scip.addVar("x", vtype="I", lb=1, ub=4)
            y = scip.addVar("y", lb=0.5, ub=1.5)
            scip.addCons(x * y >= 2)
            scip.setObjective(x + y)
            scip.optimize()
            point = (float(scip.getVal(x)), float(scip.getVal(y)))
        return probe_verdict(
            point,
            (2.0, 1.0),
            "pyscipopt",
            engine_version=f"SCIP {self.engine_version()}",
            linked_library=linked_library("libscip"),
        )


def _run(task: Task) -> Outcome:
    import pyscipopt

    scip = pyscipopt.Model()
    _set_options(scip, task)
    # the file is gone before SCIP starts: a killed run leaves nothing behind
    with TemporaryDirectory(prefix="sftopt-") as folder:
        try:
            nl = write_nl(task.model, Path(folder) / "model.nl")
        except TriviallyInfeasible as error:
            return infeasible(task, str(error))
        scip.readProblem(str(nl.path))
    if task.deadline.passed():
        return out_of_time("building")
    if "limits/time" not in task.options.native:
        scip.setParam("limits/time", min(task.deadline.left(), SCIP_INFINITY))
    watch = _Watch(task, scip, nl)
    handler = heard(scip, watch.look)
    scip.optimize()
    if handler.error is not None:
        raise handler.error
    return _outcome(task, scip, watch)


def _set_options(scip: Any, task: Task) -> None:
    """Common options in SCIP's terms, then the native ones."""
    options = task.options
    if not options.tee:
        scip.hideOutput()
    scip.setParam("misc/catchctrlc", False)
    # SCIP's points hold to its tolerance only, so the judge finds them a little longer than claimed
    room = ROOM_IN_TOLERANCES * options.engine_tol
    gap = max(options.rel_gap - room, 0.5 * options.rel_gap)
    scip.setParam("limits/gap", scip_gap(gap))
    abs_gap = options.abs_gap / task.unit_s
    scip.setParam("limits/absgap", min(max(abs_gap - room, 0.5 * abs_gap), SCIP_INFINITY))
    scip.setParam("numerics/feastol", min(options.engine_tol, LARGEST_FEASTOL))
    scip.setParam("randomization/randomseedshift", options.seed)
    for name, value in options.native.items():
        try:
            with listening(STANDARD_ERROR) as said:
                scip.setParam(name, _switch(value))
        except KeyError:
            raise InputError(f"option '{name}': SCIP has no parameter of that name") from None
        except (ValueError, TypeError, OverflowError) as error:
            reason = complaint(said.text) or last_line(error)
            raise InputError(f"option '{name}' of SCIP cannot be {value!r}: {reason}") from None


def _switch(value: Any) -> Any:
    """Text true/false as SCIP's settings files have it; anything else is for PySCIPOpt to parse."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


class _Watch:
    """Looks at a running SCIP: sends news, passes on Ctrl-C and the deadline."""

    def __init__(self, task: Task, scip: Any, nl: NlFile) -> None:
        self.task = task
        self.scip = scip
        self.nl = nl
        self.unit_s = task.unit_s
        self.columns = _columns(scip, nl)
        self.start_used = _offer_start(scip)
        self.stopped_for: Termination | None = None
        self._solutions_sent = 0
        self._looked = self._sent = -math.inf
        self._cost_s = 0.0

    def look(self) -> None:
        """Look at clock and news; called on SCIP's events."""
        now = time.monotonic()
        fresh = self.scip.getNSols() > 0 and self.scip.getNSolsFound() != self._solutions_sent
        if now - self._sent >= (self._cost_s / COST_SHARE if fresh else REPORT_EVERY_S):
            self._send(fresh)
            self._sent = time.monotonic()
            self._cost_s = self._sent - now
        if now - self._looked < LOOK_EVERY_S:
            return
        self._looked = now
        if self.task.stop_requested():
            self._stop(Termination.INTERRUPTED)
        elif self.task.deadline.passed() and "limits/time" not in self.task.options.native:
            self._stop(Termination.TIME_LIMIT)

    def _stop(self, reason: Termination) -> None:
        self.stopped_for = self.stopped_for or reason
        self.scip.interruptSolve()

    def _send(self, fresh: bool) -> None:
        self._solutions_sent = self.scip.getNSolsFound()
        self.task.report(
            Progress(
                incumbent_s=self.incumbent_s(),
                bound_s=self.bound_s(),
                candidate=self.candidate() if fresh else None,
                bound_source=self.bound_source(),
            )
        )

    def incumbent_s(self) -> float | None:
        """Return the objective of the best solution in seconds; None without one."""
        if self.scip.getNSols() == 0:
            return None
        return float(self.scip.getSolObjVal(self.scip.getBestSol())) * self.unit_s

    def bound_s(self) -> float | None:
        """Return the dual bound in seconds where it holds for problem (13); else None."""
        bound = float(self.scip.getDualbound())
        if self.task.formulation.promise not in PROVES_BOUNDS or abs(bound) >= SCIP_INFINITY:
            return None
        return bound * self.unit_s

    def bound_source(self) -> str | None:
        """Say who proved the bound, on what."""
        return f"SCIP on {self.task.formulation.name}" if self.bound_s() is not None else None

    def values(self) -> NDArray[np.float64]:
        """Return the best solution by column (columns,)."""
        best = self.scip.getBestSol()
        return np.array([self.scip.getSolVal(best, column) for column in self.columns])

    def candidate(self) -> Candidate:
        """Read the best solution as the formulation does."""
        self.nl.load(self.values())
        return read_candidate(self.task)


def _columns(scip: Any, nl: NlFile) -> list[Any]:
    """SCIP's variables in column order: its reader names them by type letter and column."""
    by_column = {int(v.name[1:]): v for v in scip.getVars() if v.name[1:].isdigit()}
    if sorted(by_column) != list(range(len(nl.variables))):
        raise RuntimeError("SCIP's reader of .nl files names variables in an unknown way")
    return [by_column[column] for column in range(len(nl.variables))]


def _offer_start(scip: Any) -> str:
    """Offer the file's start values as a solution; says whether SCIP finds it feasible.

    SCIP's reader offers them too, but leaves the variable it adds for the objective's constant at
    0, outside its bounds, so that its version is always rejected.
    """
    if scip.getNSols() == 0:
        return "none"
    given = scip.getSols()[0]
    start = scip.createOrigSol()
    for variable in scip.getVars():
        low, high = variable.getLbOriginal(), variable.getUbOriginal()
        scip.setSolVal(start, variable, low if low == high else given[variable])
    feasible = scip.checkSol(start, printreason=False, original=True)
    scip.addSol(start)
    return "yes" if feasible else "rejected as infeasible"


def _outcome(task: Task, scip: Any, watch: _Watch) -> Outcome:
    status = scip.getStatus()
    termination = TERMINATIONS.get(status, Termination.ITERATION_LIMIT)
    if termination is Termination.INTERRUPTED and watch.stopped_for is not None:
        termination = watch.stopped_for
    if termination is Termination.INFEASIBLE_PROVEN:
        return infeasible(task, "SCIP found no point in the whole model")
    some = scip.getNSols() > 0
    return Outcome(
        termination,
        candidate=watch.candidate() if some else None,
        claimed_s=watch.incumbent_s(),
        bound_s=watch.bound_s(),
        bound_source=watch.bound_source(),
        iterations=int(scip.getNLPIterations()),
        nodes=int(scip.getNTotalNodes()),
        start_used=watch.start_used,
        message=f"SCIP status {status}",
    )


SOLVER = Scip()
