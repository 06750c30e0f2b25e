"""From a solver's outcome to verified statements: the only road into a Result.

A solver's point becomes a plan with the best shares for its decisions, and the judge recomputes it.
What a solver decided is changed in two cases only, and the result says so: points of relaxations,
approximations and heuristics (and fractional ones) are rounded and repaired, and the keep fractions
of plans of exact formulations are polished. A claim that the judge refutes is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import numpy as np

from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived
from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, Plan, Provenance
from sftopt.core.point import (
    Array,
    IntegralPoint,
    best_delay,
    from_plan,
    plan_shares,
    to_plan,
)
from sftopt.core.settle import settled_keep
from sftopt.core.status import Point, PointFrom, Promise, ProvenFor, Termination
from sftopt.core.verify import Verification, Violation, verify_plan
from sftopt.formulations.base import Formulation, Start
from sftopt.solvers.base import Outcome, Solver
from sftopt.solvers.bound import BOUND_TOLERANCE, proves_optimality, what_is_proven
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.heuristics.nudge import within_limits
from sftopt.solvers.heuristics.repair import keep_as_is, repair
from sftopt.solvers.options import Options
from sftopt.solvers.registry import is_built_in

CUT_SHORT = (Termination.TIME_LIMIT, Termination.ITERATION_LIMIT, Termination.INTERRUPTED)
"""Ends of a run whose solver might have had a point later: the start is kept where it has none."""
CLAIM_TOLERANCE = 1e-4
"""A claimed objective may be this much (relative) better than the verified one, not more."""
JUDGED_S_PER_DEVICE = 1e-4
"""What it takes to make a plan of a point and verify it, in seconds for each device."""
POLISHED_S_PER_DEVICE = 1.5e-4
"""What it takes to polish an answer and verify it again, in seconds for each device."""
POLISHED_LATE_S = 0.05
"""A polish that takes no longer, in seconds, is made even where the limit has passed."""
POLISH_TOLERANCE = 1e-9
"""A polish that moves the objective by less (relative) only settled last digits."""


@dataclass(frozen=True)
class Judged:
    """What may be said of a run."""

    termination: Termination
    point: Point = Point.NONE
    point_from: PointFrom | None = None
    proven_for: ProvenFor = "none"
    objective_s: float | None = None
    objective_answered_s: float | None = None
    bound_s: float | None = None
    bound_source: str | None = None
    gap_rel: float | None = None
    breakdown: Breakdown | None = None
    violations: tuple[Violation, ...] = ()
    plan: Plan | None = None
    message: str = ""


@dataclass(frozen=True)
class Case:
    """One run as the judge hears it."""

    instance: Instance
    derived: Derived
    formulation: Formulation
    solver: Solver
    options: Options
    provenance: Provenance
    channel: RoundChannel | None = None
    kept_start: bool = False
    """Whether the outcome's point is the run's own start."""
    start: Start | None = None
    """The run's start, where there is one: a run cut short may have something worse than that."""
    deadline: Deadline = field(default_factory=lambda: Deadline(None))
    """The run's limit: what is left decides whether an answer is polished."""


@dataclass(frozen=True)
class _Answer:
    """A plan, the judge's verdict on it, and how it came from the solver's point."""

    plan: Plan
    found: Verification
    point_from: PointFrom
    answered_s: float | None
    """The verdict on the solver's own decisions; None where there was no plan in them."""
    how: str = ""


@cache
def own_version() -> str:
    """Return the installed version of sftopt; empty in a source tree that is not installed."""
    try:
        return version_of("sftopt")
    except PackageNotFoundError:
        return ""


def reserve_s(derived: Derived, limit_s: float | None) -> float:
    """Return the seconds before the time limit at which a solver has to end, for the judge's sake.

    Three fifths of the limit at most.
    """
    if limit_s is None:
        return 0.0
    return min(JUDGED_S_PER_DEVICE * derived.devices, 0.6 * limit_s)


def judge(case: Case, outcome: Outcome) -> Judged:
    """Verify the outcome's point, compare claim and bound with the verified objective."""
    said = Judged(outcome.termination, bound_s=outcome.bound_s, bound_source=outcome.bound_source)
    if outcome.termination is Termination.INFEASIBLE_PROVEN:
        return _infeasible(case, said)
    if outcome.candidate is None:
        return _proven(case, said)
    garbled = why_no_plan(case.derived, outcome.candidate)
    if garbled is not None:
        text = f"the solver's point cannot be read: {garbled}"
        return replace(said, termination=Termination.ERROR, message=text)
    settled = outcome.settled and is_built_in(case.solver)
    fallback = case.start if outcome.termination in CUT_SHORT else None
    answer = _answer(case, outcome.candidate, settled, fallback)
    if answer is None:
        return _proven(case, replace(said, message="rounding and repair found no plan"))
    said = _stated(said, answer)
    if not answer.found.feasible:
        refuted = ", ".join(
            f"{v.family.value} {v.index} by {v.amount:.3g}" for v in answer.found.violations
        )
        text = f"the judge refutes the solver's point: {refuted}"
        return replace(said, termination=Termination.ERROR, message=text)
    said = _compared(case, said, outcome, answer)
    return _proven(case, _no_slower_than_given(case, said, outcome))


def _no_slower_than_given(case: Case, said: Judged, outcome: Outcome) -> Judged:
    """``said`` of x0 in place of a slower plan, whichever solver answered it.

    x0 counts as it was given, with its own shares, and where it holds.
    """
    given = case.options.x0
    if given is None or case.start is None or said.objective_s is None:
        return said
    if said.termination is Termination.ERROR:
        return said
    point = from_plan(case.derived, given)
    own = point.candidate(case.derived)
    own = replace(own, shares=plan_shares(case.derived, given))
    if why_no_plan(case.derived, own) is not None:  # of another order, say
        return said
    if best_delay(case.derived, point).round_s >= said.objective_s * (1.0 - POLISH_TOLERANCE):
        return said  # not even with the best shares, which is soon seen
    answer = _answer(replace(case, kept_start=True), own)
    found_s = None if answer is None else answer.found.objective_s
    if answer is None or found_s is None or not answer.found.feasible:
        return said
    if found_s >= said.objective_s * (1.0 - POLISH_TOLERANCE):
        return said
    text = f"the solver's own plan is slower ({said.objective_s:.6g} s); x0 is kept"
    kept = replace(_stated(said, answer), gap_rel=None, message=text)
    return _compared(case, kept, replace(outcome, claimed_s=None), answer)


def _infeasible(case: Case, said: Judged) -> Judged:
    """Infeasibility as a solver claims it. The instance was checked to have plans before."""
    if case.formulation.promise in (Promise.EXACT, Promise.RELAXATION):
        text = "the solver claims infeasibility, but the instance has a feasible plan"
        return replace(said, termination=Termination.ERROR, message=text)
    return replace(said, proven_for="formulation" if is_built_in(case.solver) else "none")


def _proven(case: Case, said: Judged) -> Judged:
    """``said`` with what termination and bound prove."""
    proven = what_is_proven(
        case.solver,
        case.formulation,
        said.termination,
        said.bound_source,
        said.point is Point.OPTIMAL,
    )
    return replace(said, proven_for=proven)


def why_no_plan(derived: Derived, candidate: Candidate) -> str | None:
    """Say why no plan can be made of a candidate, not even an infeasible one; None where it can."""
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


def _answer(
    case: Case, candidate: Candidate, settled: bool = False, fallback: Start | None = None
) -> _Answer | None:
    """The plan of a solver's point; None where rounding and repair find none.

    Where they find one that is worse than ``fallback``, or none, that is it.

    Decisions of exact formulations and restrictions, of rounds with known gains and of kept starts
    stand as they were answered, whatever the judge finds in them. Of these only plans of exact
    formulations are polished, if they hold and are not ``settled``.
    """
    promise = case.formulation.promise
    stands = case.kept_start or promise in (Promise.EXACT, Promise.RESTRICTION)
    if not stands or not candidate.is_integral():
        point = repair(case.derived, candidate)
        if fallback is not None and _worse(case.derived, point, fallback):
            return _answer(replace(case, kept_start=True), fallback.candidate)
        if point is None:
            return None
        how = "heuristic: rounded and repaired"
        plan, found = _verified(case, point, None, how)
        return _Answer(plan, found, "polish", None, how)
    candidate = within_limits(case.derived, candidate)
    raw = IntegralPoint(
        np.rint(candidate.cuts).astype(np.int64),
        candidate.choices().astype(np.int64),
        candidate.keep,
    )
    plan, found = _verified(case, raw, candidate)
    whose: PointFrom = "start" if case.kept_start else "solver"
    answer = _Answer(plan, found, whose, found.objective_s)
    polishes = promise is Promise.EXACT and case.channel is None and not case.kept_start
    if not found.feasible or not polishes or settled or candidate.shares is not None:
        return answer
    polishing_s = POLISHED_S_PER_DEVICE * case.derived.devices
    if polishing_s > max(case.deadline.left(), POLISHED_LATE_S):
        return answer
    return _polished(case, candidate, answer)


def _worse(derived: Derived, point: IntegralPoint | None, start: Start) -> bool:
    return point is None or best_delay(derived, point).round_s > start.objective_s * (
        1.0 + POLISH_TOLERANCE
    )


def _polished(case: Case, candidate: Candidate, answer: _Answer) -> _Answer:
    """The answer with better keep fractions where there are some, and its last digits settled."""
    point = keep_as_is(case.derived, candidate)
    if point is None:
        return answer
    plan, found = _verified(case, point, None)
    before, after = answer.found.objective_s, found.objective_s
    if not found.feasible or before is None or after is None:
        return answer
    moved = abs(before - after) > POLISH_TOLERANCE * after
    return _Answer(plan, found, "polish" if moved else "solver", before)


def _verified(
    case: Case, point: IntegralPoint, candidate: Candidate | None, how: str = ""
) -> tuple[Plan, Verification]:
    """The plan of ``point``, at the candidate's shares where it has some, and the verdict on it."""
    shares = None if candidate is None else candidate.shares
    provenance = case.provenance.model_copy(update={"note": how})
    plan = to_plan(case.derived, point, provenance, case.instance.name, shares)
    return plan, verify_plan(
        case.instance, plan, feas_tol=case.options.feas_tol, channel=case.channel
    )


def _as_answered_s(case: Case, candidate: Candidate | None) -> float:
    """The delay of a solver's own decisions, before anything is settled for the judge.

    That can make a difference where accuracy hardly depends on what is kept: the claim is sound,
    and the plan is further above the bound than the solver knew.
    """
    if candidate is None or candidate.shares is not None or not candidate.is_integral():
        return np.inf
    cuts = np.rint(candidate.cuts).astype(np.int64)
    point = IntegralPoint(cuts, candidate.choices().astype(np.int64), candidate.keep)
    if np.all(settled_keep(case.derived, cuts, point.choice, point.keep) == point.keep):
        return np.inf
    return best_delay(case.derived, point).round_s


def _stated(said: Judged, answer: _Answer) -> Judged:
    found = answer.found
    moved = answer.point_from == "polish" and answer.answered_s is not None
    return replace(
        said,
        point=Point.FEASIBLE if found.feasible else Point.INFEASIBLE,
        point_from=answer.point_from,
        objective_s=found.objective_s,
        objective_answered_s=answer.answered_s if moved else None,
        breakdown=found.breakdown,
        violations=found.violations,
        plan=answer.plan.model_copy(update={"breakdown": found.breakdown}),
        message=answer.how,
    )


def _compared(case: Case, said: Judged, outcome: Outcome, answer: _Answer) -> Judged:
    """Claim against the answer's value, bound against the plan's, and whether that is optimal."""
    objective = said.objective_s
    assert objective is not None
    claimed, bound = outcome.claimed_s, said.bound_s
    answered = objective if answer.answered_s is None else answer.answered_s
    if (
        case.formulation.promise is Promise.EXACT
        and claimed is not None
        and claimed < answered * (1.0 - CLAIM_TOLERANCE)
        and claimed < _as_answered_s(case, outcome.candidate) * (1.0 - CLAIM_TOLERANCE)
    ):
        text = f"the solver claims {claimed:.9g} s, the judge finds {answered:.9g} s"
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
    asked = max(case.options.rel_gap, case.options.abs_gap / objective if objective > 0.0 else 0.0)
    optimal = proves_optimality(case.solver, case.formulation, said.bound_source, gap, asked)
    return replace(
        said,
        bound_s=bound,
        gap_rel=gap,
        point=Point.OPTIMAL if optimal else Point.FEASIBLE,
    )
