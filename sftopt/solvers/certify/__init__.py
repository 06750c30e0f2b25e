"""``certify``: the native solver of problem (13) that returns a plan and a proven lower bound."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from sftopt.core.derived import Derived
from sftopt.core.limits import feasible_point
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Solver, Takes, Task
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE

if TYPE_CHECKING:  # numba is heavy: loaded on first use
    from sftopt.solvers.certify.search import Search

LOGGER = logging.getLogger(__name__)
"""Where it is told that a search gave up."""

_ENUMERATED = 3
"""Up to so many devices a long search gives way to enumeration."""
_ENUMERATED_POINTS = 4
"""As ``_ENUMERATED``, where operating points are on offer: mixing them gains more."""
_PATIENCE = 1000
"""Boxes after which it does."""
_MOST_OPTIONS = 62
"""Options allowed are bits of a signed word of 64 bits."""


class CertifySolver(Solver):
    """Lagrangian bounds over boxes of the time scalars, branching, and recovered plans."""

    name = "certify"
    kind = "global"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "x0"})
    native_options = False
    wants_start = False
    settles_start = True
    in_process = True
    summary = "certified optimum by Lagrangian bounds on boxes of the barrier times; any size"

    def available(self) -> Availability:
        """Compile and run a function with a known answer."""
        try:
            import numba

            from sftopt.solvers.certify.bound.keep_minimum import convexity_peak
        except ImportError as error:
            return Availability(False, f"numba is missing: {error}", "pip install numba")
        found = float(convexity_peak(2.0))
        if abs(found - 2.0 / (4.0 + 8.0**0.5)) > 1e-12:
            return Availability(False, f"the probe gave {found!r}")
        return Availability(True, engine_version=f"Numba {numba.__version__}")

    def refusal(self, task_derived: Derived) -> str | None:
        """Refuse more options than a word has bits."""
        if len(task_derived.options) > _MOST_OPTIONS:
            return (
                f"certify takes at most {_MOST_OPTIONS} compression options, the instance has"
                f" {len(task_derived.options)}: offer fewer modes, or modes whose mask overhead has"
                " fewer intervals"
            )
        return None

    def run(self, task: Task) -> Outcome:
        """Search until the gap is closed; on a limit plan and bound are kept."""
        from sftopt.solvers.certify.search import Search

        most = _ENUMERATED if task.derived.plain else _ENUMERATED_POINTS
        few = task.derived.devices <= most and EXHAUSTIVE.refusal(task.derived) is None
        search = Search(task, most_nodes=_PATIENCE if few else None)
        try:
            found = search.run()
        except (ArithmeticError, ValueError) as error:
            return _given_up(search, error)
        if found.termination is not Termination.ITERATION_LIMIT:
            return found
        return _enumerated(task, found)


def _given_up(search: Search, error: Exception) -> Outcome:
    """Give the best plan and bound so far where numbers leave the doubles; else a feasible plan."""
    said = f"the search gave up on extreme numbers ({type(error).__name__}: {error})"
    known = search.so_far()
    if known.candidate is None:
        known = replace(known, candidate=feasible_point(search.derived))
    LOGGER.warning("%s; the plan is the best so far", said)
    return replace(known, termination=Termination.NUMERICAL_ERROR, message=said)


def _enumerated(task: Task, found: Outcome) -> Outcome:
    """Enumerate a cell whose duality gap takes too many boxes to close; returns what is proven."""
    exact = EXHAUSTIVE.run(task)
    values = [value for value in (found.claimed_s, exact.claimed_s) if value is not None]
    bounds = [bound for bound in (found.bound_s, exact.bound_s) if bound is not None]
    value, bound = min(values, default=math.inf), max(bounds, default=-math.inf)
    options = task.options
    closed = value - bound <= max(options.rel_gap * value, options.abs_gap)
    return replace(
        found if found.claimed_s == value else exact,
        termination=Termination.GAP_LIMIT if closed else exact.termination,
        bound_s=bound if bounds else None,
        bound_source="certify" if bounds else None,
        nodes=found.nodes,
        iterations=found.iterations,
        message=f"cuts and modes were enumerated after {found.nodes} boxes",
    )


SOLVER = CertifySolver()
