"""The feasible point every run begins with: the plan given as x0, or a constructed one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.errors import InputError
from sftopt.core.instance import PowerLaw
from sftopt.core.least_time import least_time
from sftopt.core.limits import feasible_point
from sftopt.core.plan import Plan
from sftopt.core.point import IntegralPoint, best_delay, from_plan, plan_shares
from sftopt.core.spectrum import ConcaveRate, LinearRate
from sftopt.formulations.base import Formulation, Start
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.heuristics.constructive import first_point, improve
from sftopt.solvers.heuristics.repair import keep_as_is

IMPROVED_DEVICES = 40
"""Devices up to which a constructed start is improved, under ``psd``; beyond it takes seconds."""
START_SHARE = 0.25
"""Share of the time limit after which a constructed start is made no better."""


def load_start() -> None:
    """Import and compile, once a process, what making a start needs.

    A run calls this before its clock starts: neither is the solver's time.
    """
    fixed, payload = np.zeros(1), np.ones(1)
    least_time(fixed, payload, LinearRate(np.ones(1)))
    least_time(fixed, payload, ConcaveRate(1.0, np.ones((1, 1)), 1.0))


def quick_start(derived: Derived) -> Start | None:
    """Make the most accurate feasible plan, at once for any size; None where there is no plan."""
    point = feasible_point(derived)
    return None if point is None else _start(derived, _integral(point))


def first_start(
    derived: Derived, formulation: Formulation, given: Plan | None, deadline: Deadline
) -> Start | None:
    """Make a feasible start: ``given``, repaired where it breaks a limit, or a constructed point.

    A constructed one is the best of those that there is time for. None where the instance has no
    plan. Raises InputError where ``given`` is for another instance.
    """
    if given is None:
        return _start(derived, first_point(derived, lambda: _late(deadline)))
    candidate = x0_candidate(derived, given)
    point = keep_as_is(derived, candidate, polished=not formulation.keeps_start)
    return _start(derived, point, plan_shares(derived, given))


def improved_start(
    derived: Derived, start: Start, deadline: Deadline, stop_requested: Callable[[], bool]
) -> Start:
    """Improve a constructed start where that is quick: it tightens the bounds of models."""
    if derived.devices > IMPROVED_DEVICES or derived.power is not PowerLaw.PSD:
        return start

    better = improve(
        derived,
        _integral(start.candidate),
        deadline=deadline,
        stop_requested=lambda: _late(deadline) or stop_requested(),
    )
    return _start(derived, better) or start


def _late(deadline: Deadline) -> bool:
    """Whether the start has had its share of the time."""
    return deadline.elapsed() > START_SHARE * (deadline.elapsed() + deadline.left())


def _integral(candidate: Candidate) -> IntegralPoint:
    """The point of a candidate whose cuts and choices are whole."""
    cuts = np.rint(candidate.cuts).astype(np.int64)
    return IntegralPoint(cuts, candidate.choices().astype(np.int64), candidate.keep)


def repair_note(derived: Derived, formulation: Formulation, given: Plan, start: Start) -> str:
    """Say what of the plan ``given`` as x0 had to change to meet the limits; '' if nothing.

    Keep fractions are told where the formulation takes them from the start.
    """
    own, used = x0_candidate(derived, given), start.candidate
    changed = [
        word
        for word, differs in (
            ("cuts", np.any(own.cuts != used.cuts)),
            ("modes", np.any(own.choices() != used.choices())),
            ("keep fractions", formulation.keeps_start and np.any(own.keep != used.keep)),
        )
        if differs
    ]
    if not changed:
        return ""
    return f"x0 breaks a limit; the start has other {' and '.join(changed)}."


def _start(
    derived: Derived, point: IntegralPoint | None, shares: Shares | None = None
) -> Start | None:
    if point is None:
        return None
    return Start(point.candidate(derived), best_delay(derived, point).round_s, shares)


def x0_candidate(derived: Derived, plan: Plan) -> Candidate:
    """Read the point of a start plan. Raises InputError where it is for another instance."""
    if plan.instance_hash != derived.instance_hash:
        raise InputError(
            "x0 is a plan for another instance "
            f"(hash {plan.instance_hash[:12]}..., this instance is "
            f"{derived.instance_hash[:12]}...); give a plan of this instance"
        )
    try:
        return from_plan(derived, plan).candidate(derived)
    except KeyError as error:
        raise InputError(f"x0 has no entry for device {error}") from None
