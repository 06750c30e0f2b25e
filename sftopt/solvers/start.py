"""The feasible point every run begins with: the plan given as x0, or a constructed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance, PowerLaw
from sftopt.core.least_time import least_time
from sftopt.core.limits import feasible_point
from sftopt.core.plan import Plan
from sftopt.core.point import IntegralPoint, best_delay, from_plan, plan_shares
from sftopt.core.spectrum import ConcaveRate, LinearRate
from sftopt.formulations.base import Formulation, Start
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.heuristics.constructive import first_point, improve
from sftopt.solvers.heuristics.polish import load_polish
from sftopt.solvers.heuristics.repair import keep_as_is

IMPROVED_DEVICES = 40
"""Devices up to which a constructed start is improved, under ``psd``; beyond it takes seconds."""
_NAMED = 5
"""Devices that a message names."""
START_SHARE = 0.25
"""Share of the time limit after which a constructed start is made no better."""


@cache
def load_start() -> None:
    """Import and compile, once a process, what making a start needs.

    A run calls this before its clock starts: neither is the solver's time.
    """
    fixed, payload = np.zeros(1), np.ones(1)
    least_time(fixed, payload, LinearRate(np.ones(1)))
    least_time(fixed, payload, ConcaveRate(1.0, np.ones((1, 1)), 1.0))
    load_polish()


def quick_start(derived: Derived) -> Start | None:
    """Make the most accurate feasible plan, at once for any size; None where there is no plan."""
    point = feasible_point(derived)
    return None if point is None else _start(derived, _integral(point))


def foreign_cell(instance: Instance, plan: Plan) -> str:
    """Return the hash of the cell that a start plan was made for; empty where it is this one.

    Raises InputError, naming them, where the plan's devices are not the instance's.
    """
    wanted = [device.id for device in instance.devices]
    named = [part.id for part in plan.devices]
    own, other = set(wanted), set(named)
    missing, odd = [i for i in wanted if i not in other], [i for i in named if i not in own]
    twice = [i for i, count in Counter(named).items() if count > 1]
    said = [
        f"{what} {_listed(ids)}"
        for what, ids in (
            ("no entry for device", missing),
            ("an entry for an unknown device", odd),
            ("several entries for device", twice),
        )
        if ids
    ]
    if said:
        raise InputError(
            f"x0 has {', '.join(said)}; give a plan of a cell with the {len(wanted)} devices of "
            f"instance '{instance.name}'"
        )
    return "" if instance.answers_to(plan.instance_hash) else plan.instance_hash


def adopted(instance: Instance, plan: Plan | None) -> tuple[Plan | None, str]:
    """Return a start plan as one of ``instance``, and the hash of the cell it was made for.

    The hash is empty where it is this cell. Raises InputError for other devices.
    """
    if plan is None:
        return None, ""
    cell = foreign_cell(instance, plan)
    return plan.model_copy(update={"instance_hash": instance.hash}), cell


def _listed(ids: list[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in ids[:_NAMED]) + more


def adoption_note(cell: str) -> str:
    """Say that x0 was made for another ``cell``, a hash; '' where it was not."""
    return f"x0: repaired: plan was made for cell {cell}." if cell else ""


def first_start(
    derived: Derived, formulation: Formulation, given: Plan | None, deadline: Deadline,
    *, foreign: bool = False, settles: bool = False,
) -> Start | None:  # fmt: skip
    """Make a feasible start: ``given``, repaired where it breaks a limit, or a constructed point.

    A constructed one is the best of those that there is time for. None where the instance has no
    plan. ``foreign``: the plan is another cell's, so its shares are found anew. ``settles``: the
    solver finds the best keep fractions itself.
    """
    if given is None:
        return _start(derived, first_point(derived, lambda: _late(deadline)))
    candidate = x0_candidate(derived, given)
    point = keep_as_is(derived, candidate, polished=not (formulation.keeps_start or settles))
    return _start(derived, point, None if foreign else plan_shares(derived, given))


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


def repair_note(
    derived: Derived, formulation: Formulation, given: Plan, start: Start, foreign: str = ""
) -> str:
    """Say what of the plan ``given`` as x0 had to change to meet the limits; '' if nothing.

    ``foreign``: the hash of the cell that it was made for, where it is another one. Keep
    fractions are told where the formulation takes them from the start.
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
    said = [adoption_note(foreign)]
    if changed:
        said.append(f"x0 breaks a limit; the start has other {' and '.join(changed)}.")
    return " ".join(said).strip()


def _start(
    derived: Derived, point: IntegralPoint | None, shares: Shares | None = None
) -> Start | None:
    if point is None:
        return None
    return Start(point.candidate(derived), best_delay(derived, point).round_s, shares)


def x0_candidate(derived: Derived, plan: Plan) -> Candidate:
    """Read the point of a start plan, which has the devices of ``derived``."""
    return from_plan(derived, plan).candidate(derived)
