"""The judge: recomputes everything from instance and plan and states distances.

One function per order of a round (:mod:`sftopt.core.orders`: parallel, sequential, federated) over
the same step times, one per constraint family (:mod:`sftopt.core.violations`), each with the amount
by which a limit is missed. Imports no formulation, no solver and not :mod:`sftopt.core.derived`.

What a plan says beyond blocks, modes, keep fractions and shares, and what is read of it:

* ``order``: sequential wants every share at 1 (an adapter share may be left out), federated wants
  blocks = L and mode ``none``, on offer or not, and reads no boundary share;
* ``sequential_power``: order sequential only, power over the whole band;
* ``aggregation`` and ``rank`` per device: what the adapters' exchange moves
  (:mod:`sftopt.core.adapters`); the server's copy has the largest rank of all devices;
* ``server_flops_per_s`` per device: the server's speed while it works for it, in [f_min, f_max].

``Breakdown.parts`` says where the round's time goes; the five parts sum to it in every order.
``Breakdown.accuracy`` is None where a mode's loss was not measured: such a plan has all its numbers
and is not feasible, as an accuracy that is not known cannot be certified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sftopt.core.asked import asked_plainly
from sftopt.core.breakdown import breakdown_of
from sftopt.core.channel import RoundChannel
from sftopt.core.delay import Conduct, Decision
from sftopt.core.domain import Miss, mode_misses, modes_of, server_speed_misses, uncounted
from sftopt.core.instance import AccuracyScope, Instance, Mode, ModeKind
from sftopt.core.orders import round_delay
from sftopt.core.payload import keep_limit, tolerated_keep
from sftopt.core.plan import Breakdown, DevicePlan, Order, Plan
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, OLD_PLANS_TOLERANCE, Tolerance
from sftopt.core.violations import (
    Family,
    Violation,
    accuracy_violations,
    adapter_share_violations,
    device_memory_violations,
    downlink_share_violations,
    outage_violations,
    server_memory_violations,
    uplink_share_violations,
)

__all__ = ["Family", "Verification", "Violation", "domain_violations", "roster_violations",
           "tolerance_of", "verify_plan"]  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """What the judge found. ``objective_s`` is None where the plan has no finite delay."""

    feasible: bool
    objective_s: float | None
    breakdown: Breakdown | None
    violations: tuple[Violation, ...]
    hash_matches: bool

    @property
    def broken(self) -> list[Violation]:
        """Return the violations of limits whose amount is known, in any order's round.

        An accuracy that nobody measured breaks no limit, though such a plan is not feasible: nobody
        can say that it keeps it.
        """
        known = self.breakdown is None or self.breakdown.accuracy is not None
        return [v for v in self.violations if known or v.family is not Family.ACCURACY]


@asked_plainly
def verify_plan(
    instance: Instance,
    plan: Plan,
    *,
    feas_tol: float | None = None,
    channel: RoundChannel | None = None,
) -> Verification:
    """Recompute delay, memory and accuracy of ``plan`` and list every violated limit.

    ``feas_tol``: by what limits may be missed; None: what :func:`tolerance_of` finds in the plan.
    ``channel``: judge one round at its gains, problem (14), in place of the channel's statistics.

    Never raises for a bad plan: a plan for another instance, a missing device or an impossible
    value is reported. ``feasible`` is true only if nothing is violated and the hash matches.
    Raises InputError for a ``feas_tol`` that is out of range.
    """
    tolerance = Tolerance(tolerance_of(plan) if feas_tol is None else feas_tol)
    hash_matches = instance.answers_to(plan.instance_hash)
    problems = roster_violations(instance, plan)
    if problems:
        return Verification(False, None, None, tuple(problems), hash_matches)
    conduct = Conduct.of(plan)
    by_id = {part.id: part for part in plan.devices}
    parts = [by_id[device.id] for device in instance.devices]
    modes = modes_of(instance, parts, conduct)
    violations = domain_violations(instance, parts, modes, tolerance, conduct)
    beyond = uncounted(instance, parts, modes, conduct)
    violations += [_domain(miss) for miss in beyond]
    decisions = None if beyond else decisions_of(parts, modes, instance, conduct)
    if decisions is None:
        return Verification(False, None, None, tuple(violations), hash_matches)
    for family in _FAMILIES:
        violations += family(instance, decisions, tolerance, conduct)
    violations += outage_violations(instance, tolerance, channel, conduct)
    delay = round_delay(instance, decisions, channel, conduct)
    finite = math.isfinite(delay.round_s)
    breakdown = breakdown_of(instance, decisions, delay, conduct) if finite else None
    return Verification(
        feasible=not violations and hash_matches and finite,
        objective_s=delay.round_s if finite else None,
        breakdown=breakdown,
        violations=tuple(violations),
        hash_matches=hash_matches,
    )


def tolerance_of(plan: Plan) -> float:
    """Return the tolerance a plan is judged by where none is given, as a fraction of a limit.

    Its own; one that a release before this field wrote was judged by 1e-6.
    """
    if plan.feas_tol is not None:
        return plan.feas_tol
    return OLD_PLANS_TOLERANCE if plan.provenance.sftopt_version else FEASIBILITY_TOLERANCE


def roster_violations(instance: Instance, plan: Plan) -> list[Violation]:
    """Check that the plan names every device of the instance once and no other."""
    wanted = [device.id for device in instance.devices]
    named = [part.id for part in plan.devices]
    counts: dict[str, int] = {}
    for name in named:
        counts[name] = counts.get(name, 0) + 1
    known = set(wanted)
    odd = [(name, 1.0) for name in wanted if name not in counts]
    odd += [(name, float(count)) for name, count in counts.items() if name not in known]
    odd += [(name, count - 1.0) for name, count in counts.items() if name in known and count > 1]
    return [Violation(family=Family.DOMAIN, index=f"{name}.id", amount=amount,
                      unit="device entries", tolerance=0.0) for name, amount in odd]  # fmt: skip


def decisions_of(
    parts: Sequence[DevicePlan], modes: Sequence[Mode | None], instance: Instance, conduct: Conduct
) -> list[Decision] | None:
    """Return the plan as plain values, or None where no delay can be computed from it."""
    federated = conduct.order is Order.FEDERATED  # no boundary: keep fractions are not read
    by_cut = instance.accuracy.cut_factor is not None and not federated
    decisions = []
    for part, mode in zip(parts, modes, strict=True):
        if mode is None or not 0 <= part.blocks <= instance.workload.blocks:
            return None
        if not federated and not 0.0 <= part.keep_fraction <= 1.0:
            return None
        if part.blocks >= instance.workload.blocks and (by_cut or isinstance(mode.loss, tuple)):
            return None
        keep = part.keep_fraction if mode.kind is ModeKind.TOPK else 1.0
        decisions.append(
            Decision(
                part.blocks,
                mode,
                keep,
                part.uplink_share,
                part.downlink_share,
                part.adapter_uplink_share,
                part.rank,
                part.server_flops_per_s,
            )
        )
    return decisions


def _domain(miss: Miss, tolerance: float = 0.0) -> Violation:
    return Violation(family=Family.DOMAIN, index=miss.index, amount=miss.amount, unit=miss.unit,
                     tolerance=tolerance)  # fmt: skip


def domain_violations(
    instance: Instance,
    parts: Sequence[DevicePlan],
    modes: Sequence[Mode | None],
    tolerance: Tolerance,
    conduct: Conduct,
) -> list[Violation]:
    """Check every device's blocks, mode and keep fraction; under ``common`` that all agree.

    Order federated has no boundary: blocks alone are looked at, and :func:`uncounted` at the rest.
    """
    found: list[Violation] = []

    def add(name: str, amount: float, unit: str, forgiven: float = 0.0) -> None:
        if amount > 0.0:
            found.append(_domain(Miss(name, amount, unit), forgiven))

    federated = conduct.order is Order.FEDERATED
    masked = {mode for mode in modes if mode is not None and mode.kind is ModeKind.TOPK}
    limits = {mode: keep_limit(mode, instance) for mode in masked}
    tolerated = {
        mode: tolerated_keep(mode, limit, tolerance.feas_tol) for mode, limit in limits.items()
    }
    last = instance.workload.blocks - (0 if federated else 1)
    for device, part, mode in zip(instance.devices, parts, modes, strict=True):
        high = last if device.blocks_max is None else min(last, device.blocks_max)
        low = device.blocks_min
        if mode is not None and mode.kind is ModeKind.TOKENS:
            low = max(low, 1)  # the device's own blocks say which tokens matter
        add(f"{part.id}.blocks", low - part.blocks, "blocks")
        add(f"{part.id}.blocks", part.blocks - high, "blocks")
        if federated:
            continue
        keep_name = f"{part.id}.keep_fraction"
        found += [_domain(miss) for miss in mode_misses(instance, part, mode)]
        if mode is None:
            continue
        keep, least, most = part.keep_fraction, instance.keep_min, 1.0
        if mode.kind is ModeKind.TOPK:
            most = limits[mode]
            if keep < tolerance.least_keep(least):
                add(keep_name, least - keep, "fraction", least - tolerance.least_keep(least))
            if keep > tolerated[mode]:
                add(keep_name, keep - most, "fraction", tolerance.feas_tol)
        elif abs(keep - 1.0) > tolerance.feas_tol:
            add(keep_name, abs(keep - 1.0), "fraction", tolerance.feas_tol)
    found += [_domain(miss) for miss in server_speed_misses(instance, parts)]
    if instance.accuracy.scope is AccuracyScope.COMMON and not federated:
        first = parts[0]
        for part, mode in zip(parts, modes, strict=True):
            if mode is not modes[0]:
                add(f"{part.id}.mode", 1.0, "mode differs from the first device's")
            # one keep fraction for all is one number: no limit that could be missed by a little
            if mode is not None and mode.kind is ModeKind.TOPK:
                spread = abs(part.keep_fraction - first.keep_fraction)
                add(f"{part.id}.keep_fraction", spread, "fraction from the first device's")
    return found


_FAMILIES: tuple[
    Callable[[Instance, Sequence[Decision], Tolerance, Conduct], list[Violation]], ...
] = (
    uplink_share_violations,
    downlink_share_violations,
    adapter_share_violations,
    device_memory_violations,
    server_memory_violations,
    accuracy_violations,
)
"""The families of constraints on decisions, in the order of a report."""
