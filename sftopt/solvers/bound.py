"""The bound of a run: whose it is, what it bounds, and when it proves a plan optimal."""

from __future__ import annotations

import math
from dataclasses import replace

from sftopt.core.derived import Derived
from sftopt.core.limits import elementary_bound_s
from sftopt.core.status import Promise, ProvenFor, Termination
from sftopt.formulations.base import Formulation, Start
from sftopt.formulations.registry import is_built_in as is_built_in_formulation
from sftopt.solvers.base import Outcome, Solver
from sftopt.solvers.news import finite
from sftopt.solvers.registry import is_built_in

BOUND_TOLERANCE = 1e-6
"""A bound may exceed a verified objective by this much (relative) through rounding, not more."""
ELEMENTARY = "elementary"
"""The source of the bound that needs no solver; see :func:`elementary_bound_s`."""
OPTIMAL_GAP = 1e-3
"""However wide a gap is asked for, a plan further above its bound (relative) is not optimal."""
GLOBAL_CLAIMS = frozenset({Termination.CONVERGED_GLOBAL, Termination.GAP_LIMIT})
"""Terminations that claim a global optimum of the formulation, up to the gap asked for."""


def with_bound(
    outcome: Outcome,
    solver: Solver,
    formulation: Formulation,
    derived: Derived | None,
    start: Start | None,
) -> Outcome:
    """Return ``outcome`` with a bound that may be stated: finite, labelled, or the elementary one.

    The elementary bound is that of ``derived``; without, none is put in. Solvers prove bounds for
    shares that sum to 1; what is returned holds for sums of 1 + feas_tol, which the judge accepts.
    A third party's bound names it. A bound above the delay of the feasible ``start`` is withdrawn
    and makes the run an error, point or no point.
    """
    outcome = _finite(outcome)
    if outcome.bound_s is not None:
        bound = outcome.bound_s
        if derived is not None and outcome.bound_source != ELEMENTARY:
            bound *= derived.shortest  # proven for share sums of 1
        source = _labelled(outcome, solver, formulation)
        outcome = _below_start(replace(outcome, bound_s=bound, bound_source=source), start)
    if outcome.bound_s is None and derived is not None:
        bound = elementary_bound_s(derived)
        outcome = replace(outcome, bound_s=bound, bound_source=ELEMENTARY)
    return outcome


def proves_optimality(
    solver: Solver, formulation: Formulation, source: str | None, gap: float, asked: float
) -> bool:
    """Say whether a bound from ``source``, ``gap`` (relative) below a plan, proves it optimal.

    Only provers that are named here do, up to the gap ``asked`` for and :data:`OPTIMAL_GAP`: the
    elementary bound, a bound that a formulation of ours evaluates by itself, and our own or
    bundled global solvers on our exact formulations.
    """
    if gap > min(asked, OPTIMAL_GAP) * (1.0 + 1e-9) + 1e-12:
        return False
    if source == ELEMENTARY:
        return True
    if source is None or not is_built_in(solver) or not is_built_in_formulation(formulation):
        return False
    if formulation.promise is Promise.RELAXATION:
        return formulation.evaluates_bound
    return formulation.promise is Promise.EXACT and solver.kind == "global"


def what_is_proven(
    solver: Solver,
    formulation: Formulation,
    termination: Termination,
    source: str | None,
    optimal: bool,
) -> ProvenFor:
    """Say what termination and bound together prove; see ``Result.proven_for``."""
    if optimal:
        return "problem"
    claims = termination in GLOBAL_CLAIMS
    if not is_built_in(solver) and (claims or source != ELEMENTARY):
        return "none"
    ours = is_built_in_formulation(formulation)
    if claims and not (ours and formulation.promise is Promise.EXACT):
        return "formulation"
    if source is None:
        return "none"
    bounds_problem = ours and formulation.promise in (Promise.EXACT, Promise.RELAXATION)
    return "problem" if source == ELEMENTARY or bounds_problem else "formulation"


def _labelled(outcome: Outcome, solver: Solver, formulation: Formulation) -> str:
    """Whose bound it is, and of which third party's formulation."""
    source = outcome.bound_source or solver.name
    if not is_built_in(solver):
        source = f"plug-in '{solver.name}', unchecked: {source}"
    if not is_built_in_formulation(formulation):
        source += f", on plug-in formulation '{formulation.name}'"
    return source


def _below_start(outcome: Outcome, start: Start | None) -> Outcome:
    """The start is a feasible plan, so no bound may lie above it."""
    bound = outcome.bound_s
    if bound is None or start is None or bound <= start.objective_s * (1.0 + BOUND_TOLERANCE):
        return outcome
    text = (
        f"the bound {bound:.9g} s ({outcome.bound_source}) is above {start.objective_s:.9g} s, the "
        "delay of the feasible start; it is withdrawn"
    )
    return replace(
        outcome,
        termination=Termination.ERROR,
        bound_s=None,
        bound_source=None,
        message=" ".join(part for part in (outcome.message, text) if part),
    )


def _finite(outcome: Outcome) -> Outcome:
    """``outcome`` without claims, bounds and duals that are not numbers; JSON has none of them."""
    return replace(
        outcome,
        claimed_s=finite(outcome.claimed_s),
        bound_s=finite(outcome.bound_s),
        duals={name: float(v) for name, v in outcome.duals.items() if math.isfinite(v)},
    )
