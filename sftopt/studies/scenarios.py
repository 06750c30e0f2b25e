"""The large problem as a sample average: cuts, modes and keep fractions shared by S draws.

min over l, q, rho of (1/S) SUM_s T(l, q, rho; gains of draw s), the spectrum shares free in every
draw (recourse). Section 6 of ``MODEL.md``. A heuristic with a proven bound: the mean of the draws'
own certified bounds, each with cuts, modes and keep fractions to itself (wait and see).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.limits import choice_fits
from sftopt.core.plan import Plan, Provenance
from sftopt.core.point import IntegralPoint, from_plan, to_plan
from sftopt.core.verify import tolerance_of, verify_plan
from sftopt.solvers.base import Deadline
from sftopt.solvers.heuristics.polish import average_delay_s, polish
from sftopt.solvers.run import solve

_MOVE_ROUNDS = 3
"""Price renewals while moves are compared; the winner is polished to the end."""
_LEAST_GAIN = 1e-9
"""Relative gain from which on a change of the plan is taken."""


@dataclass(frozen=True)
class ScenarioPlan:
    """The plan of least mean delay that was found, and what it is measured against."""

    plan: Plan
    average_s: float
    """Mean delay over the draws, shares free in each."""
    nominal_average_s: float
    """The same for the plan made from the channel's statistics."""
    bound_s: float
    """No plan has a smaller mean over these draws."""
    scenarios: int

    @property
    def gap_rel(self) -> float:
        """Return the relative gap (average - bound) / average."""
        return (self.average_s - self.bound_s) / self.average_s


def plan_for_scenarios(
    instance: Instance,
    nominal: Plan,
    channels: Sequence[RoundChannel],
    *,
    time_limit_s: float = 60.0,
    rel_gap: float = 1e-3,
) -> ScenarioPlan:
    """Return the best plan found for the mean over ``channels``, as good as ``nominal`` or better.

    Starts are ``nominal`` and every draw's own plan; the best is improved device by device.
    Raises InputError where a draw leaves a device in outage.
    """
    if not channels:
        raise InputError("no scenarios were given; at least 1 is needed")
    deadline = Deadline(time_limit_s)
    feas_tol = tolerance_of(nominal)
    draws = [derive(instance, channel, feas_tol) for channel in channels]
    base = derive(instance, feas_tol=feas_tol)
    start = from_plan(base, nominal)
    found = [start]
    bounds = []
    for number, channel in enumerate(channels):
        limit = max(0.5 * deadline.left() / (len(channels) - number), 0.2)
        own = solve(
            instance, solver="certify", rel_gap=rel_gap, time_limit=limit, channel=channel,
            x0=nominal, feas_tol=feas_tol,
        ).raise_if_interrupted()  # fmt: skip
        if own.bound_s is None or own.plan is None:
            raise InputError(f"scenario {number} has no plan: {own.message}")
        bounds.append(own.bound_s)
        found.append(from_plan(base, own.plan))
    polished = [polish(base, point, scenarios=draws) or point for point in found]
    best = min([start, *polished], key=lambda point: average_delay_s(draws, point))
    best = _moved(base, draws, best, deadline)
    provenance = Provenance(formulation="sample-average", solver="scenarios")
    plan = to_plan(base, best, provenance, instance.name)
    verdict = verify_plan(instance, plan)
    assert verdict.feasible, verdict.violations
    return ScenarioPlan(
        plan=plan.model_copy(update={"breakdown": verdict.breakdown}),
        average_s=average_delay_s(draws, best),
        nominal_average_s=average_delay_s(draws, start),
        bound_s=float(np.mean(bounds)),
        scenarios=len(channels),
    )


def _moved(
    base: Derived, draws: Sequence[Derived], point: IntegralPoint, deadline: Deadline
) -> IntegralPoint:
    """Passes over the devices, each moved to its best cut or option, until none helps."""
    best_s = average_delay_s(draws, point)
    improved = True
    while improved and not deadline.passed():
        improved = False
        for device in range(base.devices):
            for trial in _neighbours(base, point, device):
                if deadline.passed():
                    break
                moved = polish(base, trial, rounds=_MOVE_ROUNDS, scenarios=draws)
                if moved is None:
                    continue
                value = average_delay_s(draws, moved)
                if value < best_s * (1.0 - _LEAST_GAIN):
                    point, best_s, improved = moved, value, True
    return polish(base, point, scenarios=draws) or point


def _neighbours(base: Derived, point: IntegralPoint, device: int) -> Iterator[IntegralPoint]:
    """One block more or less on a device, or another option (of all devices in scope common)."""
    for step in (-1, 1):
        cuts = point.cuts.copy()
        cuts[device] += step
        if choice_fits(base, cuts, point.choice):
            yield IntegralPoint(cuts, point.choice, point.keep)
    common = base.scope is AccuracyScope.COMMON
    if common and device > 0:
        return
    for option in range(len(base.options)):
        if option != point.choice[device]:
            choice = point.choice.copy()
            choice[slice(None) if common else device] = option
            if choice_fits(base, point.cuts, choice):
                yield IntegralPoint(point.cuts, choice, point.keep)
