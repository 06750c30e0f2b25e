"""From a solver's outcome to verified statements: the only road into a Result.

A solver's point is turned into a plan with the best shares for its cuts, options and keep
fractions, and the judge recomputes it. A claim that the judge refutes is an error, said so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import numpy as np

from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived
from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, Plan, Provenance
from sftopt.core.result import SolverVersion
from sftopt.core.status import Point, Promise, Termination
from sftopt.core.verify import Verification, Violation, verify_plan
from sftopt.formulations.base import Formulation
from sftopt.solvers.base import Outcome
from sftopt.solvers.heuristics.repair import keep_as_is, repair
from sftopt.solvers.options import Options
from sftopt.solvers.point import Array, IntegralPoint, to_plan

CLAIM_TOLERANCE = 1e-4
"""A claimed objective may be this much (relative) better than the verified one, not more."""
BOUND_TOLERANCE = 1e-6
"""A bound may exceed a verified objective by this much (relative) through rounding, not more."""


@dataclass(frozen=True)
class Judged:
    """What may be said of a run."""

    termination: Termination
    point: Point = Point.NONE
    objective_s: float | None = None
    bound_s: float | None = None
    bound_source: str | None = None
    gap_rel: float | None = None
    breakdown: Breakdown | None = None
    violations: tuple[Violation, ...] = ()
    plan: Plan | None = None
    message: str = ""


def own_version() -> str:
    """The installed version of sftopt; empty in a source tree that is not installed."""
    try:
        return version_of("sftopt")
    except PackageNotFoundError:
        return ""


def judge(
    instance: Instance,
    derived: Derived,
    formulation: Formulation,
    version: SolverVersion,
    outcome: Outcome,
    options: Options,
    channel: RoundChannel | None = None,
) -> Judged:
    """Verify the outcome's point, compare claim and bound with the verified objective."""
    said = Judged(outcome.termination, bound_s=outcome.bound_s, bound_source=outcome.bound_source)
    if outcome.termination is Termination.INFEASIBLE_PROVEN:
        # The instance was checked to be feasible before the solver ran.
        text = "the solver claims infeasibility, but the instance has a feasible plan"
        return replace(said, termination=Termination.ERROR, message=text)
    if outcome.candidate is None:
        return said
    garbled = _garbled(derived, outcome.candidate)
    if garbled is not None:
        text = f"the solver's point cannot be read: {garbled}"
        return replace(said, termination=Termination.ERROR, message=text)
    provenance = Provenance(
        sftopt_version=own_version(),
        formulation=formulation.name,
        solver=version.name,
        engine_version=version.engine_version,
        seed=options.seed,
    )
    point, how = _integral_point(instance, derived, formulation, outcome, options, provenance)
    if point is None:
        return replace(said, message=how)
    provenance = provenance.model_copy(update={"note": how})
    plan = to_plan(derived, point, provenance, instance.name, outcome.candidate.shares)
    found = verify_plan(instance, plan, feas_tol=options.feas_tol, channel=channel)
    said = _stated(said, plan, found, how)
    if not found.feasible:
        refuted = ", ".join(
            f"{v.family.value} {v.index} by {v.amount:.3g}" for v in found.violations
        )
        text = f"the judge refutes the solver's point: {refuted}"
        return replace(said, termination=Termination.ERROR, message=text)
    return _compared(said, formulation, outcome, options)


def _garbled(derived: Derived, candidate: Candidate) -> str | None:
    """Why no plan can be made of a candidate, not even an infeasible one; None where one can."""
    count, options = derived.devices, len(derived.options)
    arrays: tuple[tuple[str, Array, tuple[int, ...]], ...] = (
        ("cuts", candidate.cuts, (count,)),
        ("option_weights", candidate.option_weights, (count, options)),
        ("keep", candidate.keep, (count,)),
    )
    if candidate.shares is not None:
        arrays += tuple((f"{k} shares", v, (count,)) for k, v in vars(candidate.shares).items())
    for name, values, shape in arrays:
        if values.shape != shape:
            return f"{name} has the shape {values.shape}, not {shape}"
        if not np.isfinite(values).all():
            return f"{name} holds values that are not finite"
    whole = np.rint(candidate.cuts)
    if np.any(whole < 0) or np.any(whole >= derived.blocks):
        return f"cuts outside 0..{derived.blocks - 1}: {whole.min():g} to {whole.max():g}"
    return None


def _integral_point(
    instance: Instance,
    derived: Derived,
    formulation: Formulation,
    outcome: Outcome,
    options: Options,
    provenance: Provenance,
) -> tuple[IntegralPoint | None, str]:
    """The point to verify and how it was made.

    Points of exact formulations must hold by themselves, up to the tolerance; only their last
    digits are settled. Points of the others are rounded and repaired.
    """
    candidate = outcome.candidate
    assert candidate is not None
    exact = formulation.promise in (Promise.EXACT, Promise.RESTRICTION)
    if not exact or not candidate.is_integral():
        point = repair(derived, candidate)
        if point is None:
            return None, "rounding and repair found no plan"
        return point, "heuristic: rounded and repaired"
    raw = IntegralPoint(
        np.rint(candidate.cuts).astype(np.int64),
        candidate.choices().astype(np.int64),
        candidate.keep,
    )
    if candidate.shares is not None:  # problem (14): all but the shares was given, and stays
        return raw, ""
    plan = to_plan(derived, raw, provenance, instance.name)
    if not verify_plan(instance, plan, feas_tol=options.feas_tol).feasible:
        return raw, ""
    # whoever brings shares solved (14) for the keep fractions as they are
    polished = candidate.shares is None
    return keep_as_is(derived, candidate, polished=polished) or raw, ""


def _stated(said: Judged, plan: Plan, found: Verification, how: str) -> Judged:
    return replace(
        said,
        point=Point.FEASIBLE if found.feasible else Point.INFEASIBLE,
        objective_s=found.objective_s,
        breakdown=found.breakdown,
        violations=found.violations,
        plan=plan.model_copy(update={"breakdown": found.breakdown}),
        message=how,
    )


def _compared(said: Judged, formulation: Formulation, outcome: Outcome, options: Options) -> Judged:
    """Claim against verified objective, bound against both, and whether that proves optimality."""
    objective = said.objective_s
    assert objective is not None
    claimed, bound = outcome.claimed_s, said.bound_s
    if (
        formulation.promise is Promise.EXACT
        and claimed is not None
        and claimed < objective * (1.0 - CLAIM_TOLERANCE)
    ):
        text = f"the solver claims {claimed:.9g} s, the judge finds {objective:.9g} s"
        return replace(said, termination=Termination.ERROR, message=text)
    if bound is None:
        return said
    if bound > objective * (1.0 + BOUND_TOLERANCE):
        text = (
            f"the bound {bound:.9g} s ({said.bound_source}) is above the verified objective "
            f"{objective:.9g} s; it is withdrawn"
        )
        return replace(
            said, termination=Termination.ERROR, bound_s=None, bound_source=None, message=text
        )
    bound = min(bound, objective)
    gap = (objective - bound) / objective if objective > 0.0 else 0.0
    allowed = max(options.rel_gap, options.abs_gap / objective if objective > 0.0 else 0.0)
    proven = gap <= allowed * (1.0 + 1e-9) + 1e-12
    return replace(
        said,
        bound_s=bound,
        gap_rel=gap,
        point=Point.OPTIMAL if proven else Point.FEASIBLE,
    )
