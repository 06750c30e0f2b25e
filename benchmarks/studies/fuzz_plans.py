"""Plans at the very edge of what the judge accepts: what fuzz holds bounds against.

A solver's plan is pushed: shares that use up the tolerance, keep fractions as low as the judge lets
them go, a block more or less. Where there is said to be no plan, one is looked for without the
solvers' arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, Instance, Mode, ModeKind
from sftopt.core.payload import keep_limit
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.point import best_delay, from_plan
from sftopt.core.verify import verify_plan

_PUSHED_DEVICES = 4
"""Up to so many devices keep fractions and cuts are pushed too."""
_HALVINGS = 12
"""Steps of the search for the largest relative decrease of a keep fraction, in logs of it."""
_LEAST_DECREASE = 1e-16
"""Smallest relative decrease of a keep fraction that is tried."""
_TRIED_CUTS = 64
"""Combinations of cuts tried where there is said to be no plan."""
_GRID = 129
"""Keep fractions among which the most accurate one is looked for."""


def value_s(instance: Instance, plan: Plan, feas_tol: float) -> float:
    """Return the judge's delay of a plan in seconds; infinite where it is not accepted."""
    found = verify_plan(instance, plan, feas_tol=feas_tol)
    return math.inf if not found.feasible or found.objective_s is None else found.objective_s


def least_accepted_s(instance: Instance, derived: Derived, plan: Plan) -> float:
    """Return the least delay in seconds that pushing ``plan`` gives and the judge accepts."""
    tolerance = derived.feas_tol
    plan = plan.model_copy(update={"feas_tol": tolerance})
    best = value_s(instance, plan, tolerance)
    best = min(best, value_s(instance, _wide(plan, tolerance), tolerance))
    if len(instance.devices) > _PUSHED_DEVICES or not math.isfinite(best):
        return best
    lower = _least_keeps(instance, derived, plan)
    plans = [lower, *_neighbours(instance, derived, lower)]
    for found in plans:
        best = min(best, value_s(instance, _wide(found, tolerance), tolerance))
    return best


def _wide(plan: Plan, tolerance: float) -> Plan:
    """The plan with shares that sum to all that the tolerance allows."""
    names = ("uplink_share", "downlink_share", "adapter_uplink_share")
    factors = {}
    for name in names:
        total = math.fsum(getattr(part, name) or 0.0 for part in plan.devices)
        factors[name] = (1.0 + tolerance) * (1.0 - 4e-16) / total if total > 0.0 else 1.0
    devices = tuple(
        part.model_copy(
            update={name: (getattr(part, name) or 0.0) * factors[name] for name in names}
        )
        for part in plan.devices
    )
    return plan.model_copy(update={"devices": devices})


def _with_best_shares(derived: Derived, plan: Plan) -> Plan:
    """The plan at the shares of least delay for its decisions."""
    shares = best_delay(derived, from_plan(derived, plan)).shares
    devices = tuple(
        part.model_copy(
            update={
                "uplink_share": float(shares.uplink[n]),
                "downlink_share": float(shares.downlink[n]),
                "adapter_uplink_share": float(shares.adapter[n]),
            }
        )
        for n, part in enumerate(plan.devices)
    )
    return plan.model_copy(update={"devices": devices})


def _with_keep(plan: Plan, places: range, factor: float) -> Plan:
    devices = list(plan.devices)
    for n in places:
        keep = devices[n].keep_fraction * factor
        devices[n] = devices[n].model_copy(update={"keep_fraction": keep})
    return plan.model_copy(update={"devices": tuple(devices)})


def _least_keeps(instance: Instance, derived: Derived, plan: Plan) -> Plan:
    """The plan with keep fractions lowered, one device after another, as far as is accepted."""
    count = len(plan.devices)
    common = instance.accuracy.scope is AccuracyScope.COMMON
    groups = [range(count)] if common else [range(n, n + 1) for n in range(count)]
    for places in groups:
        if any(plan.devices[n].mode is not ModeKind.TOPK for n in places):
            continue
        refused, taken = 0.0, math.log(_LEAST_DECREASE) - 1.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (refused + taken)
            tried = _with_keep(plan, places, 1.0 - math.exp(middle))
            if verify_plan(instance, tried, feas_tol=derived.feas_tol).feasible:
                taken = middle
            else:
                refused = middle
        if taken > math.log(_LEAST_DECREASE):
            plan = _with_keep(plan, places, 1.0 - math.exp(taken))
    return _with_best_shares(derived, plan)


def _neighbours(instance: Instance, derived: Derived, plan: Plan) -> Iterator[Plan]:
    """The plan with a block more or less on one device, where a model has such a cut."""
    for n, part in enumerate(plan.devices):
        for blocks in (part.blocks - 1, part.blocks + 1):
            if 0 <= blocks < instance.workload.blocks:
                devices = list(plan.devices)
                devices[n] = part.model_copy(update={"blocks": blocks})
                yield _with_best_shares(
                    derived, plan.model_copy(update={"devices": tuple(devices)})
                )


def some_accepted(instance: Instance, feas_tol: float, seed: int) -> Plan | None:
    """Find any plan that the judge accepts: cuts over a sample, each mode at its most accurate.

    None where none is found, which proves nothing.
    """
    blocks, count = instance.workload.blocks, len(instance.devices)
    for mode in instance.compression.modes:
        for cuts in _cuts(blocks, count, seed):
            parts = tuple(
                DevicePlan(
                    id=device.id, blocks=cut, mode_name=mode.label, mode=mode.kind,
                    bits=instance.workload.reference_bits if mode.kind is ModeKind.NONE
                    else mode.bits,
                    keep_fraction=_most_accurate_keep(instance, mode, max(cuts), feas_tol),
                    uplink_share=1.0 / count, downlink_share=1.0 / count,
                    adapter_uplink_share=1.0 / count,
                )
                for device, cut in zip(instance.devices, cuts, strict=True)
            )  # fmt: skip
            plan = Plan(instance_hash=instance.hash, devices=parts, feas_tol=feas_tol)
            if math.isfinite(value_s(instance, plan, feas_tol)):
                return plan
    return None


def _cuts(blocks: int, count: int, seed: int) -> Iterator[tuple[int, ...]]:
    if blocks**count <= _TRIED_CUTS:
        yield from itertools.product(range(blocks), repeat=count)
        return
    draw = np.random.default_rng([seed, 9])
    for cut in range(blocks):
        yield (cut,) * count
    for _ in range(_TRIED_CUTS - blocks):
        yield tuple(int(cut) for cut in draw.integers(0, blocks, count))


def _most_accurate_keep(instance: Instance, mode: Mode, cut: int, feas_tol: float) -> float:
    if mode.kind is not ModeKind.TOPK:
        return 1.0
    low = instance.keep_min - min(feas_tol, 0.5 * instance.keep_min)
    high = min(keep_limit(mode, instance) + feas_tol, 1.0)
    keeps = [low, *np.linspace(instance.keep_min, high, _GRID).tolist()]
    return float(
        max(keeps, key=lambda keep: predicted_accuracy(instance.accuracy, mode, keep, cut) or 0.0)
    )
