"""The judge: recomputes everything from instance and plan and states distances.

One function per constraint family; each returns the violations of its family, with the amount by
which the limit is missed. Imports no formulation, no solver and not :mod:`sftopt.core.derived`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sftopt.core.asked import asked_plainly
from sftopt.core.breakdown import accuracies, breakdown_of, mean_accuracy
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import (
    Decision,
    downlink_rate_bits_per_s,
    round_delay,
    uplink_rate_bits_per_s,
)
from sftopt.core.domain import Miss, mode_misses, mode_of, uncounted
from sftopt.core.fields import Reported
from sftopt.core.instance import (
    AccuracyScope,
    Instance,
    Mode,
    ModeKind,
    PowerLaw,
)
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.payload import keep_limit
from sftopt.core.plan import Breakdown, DevicePlan, Plan
from sftopt.core.tolerance import (
    FEASIBILITY_TOLERANCE,
    OLD_PLANS_TOLERANCE,
    ROUNDING,
    Tolerance,
)


class Family(StrEnum):
    """The constraint families a violation can belong to."""

    UPLINK_SHARE = "uplink_share"
    DOWNLINK_SHARE = "downlink_share"
    ADAPTER_SHARE = "adapter_share"
    DEVICE_MEMORY = "device_memory"
    SERVER_MEMORY = "server_memory"
    ACCURACY = "accuracy"
    ACCURACY_EACH = "accuracy_each"
    OUTAGE = "outage"
    DOMAIN = "domain"


class Violation(Reported):
    """A limit that is missed: by ``amount`` in ``unit``, where ``tolerance`` would be forgiven.

    ``index`` is the device's id, with the field behind a dot for ``domain``, or ``all`` for a
    limit over the whole cell.
    """

    family: Family
    index: str
    amount: float
    unit: str
    tolerance: float


@dataclass(frozen=True)
class Verification:
    """What the judge found. ``objective_s`` is None where the plan has no finite delay."""

    feasible: bool
    objective_s: float | None
    breakdown: Breakdown | None
    violations: tuple[Violation, ...]
    hash_matches: bool


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
    by_id = {part.id: part for part in plan.devices}
    parts = [by_id[device.id] for device in instance.devices]
    modes = [mode_of(instance, part) for part in parts]
    violations = domain_violations(instance, parts, modes, tolerance)
    beyond = uncounted(instance, plan, parts, modes)
    violations += [_domain(miss) for miss in beyond]
    decisions = None if beyond else _decisions(parts, modes, instance)
    if decisions is None:
        return Verification(False, None, None, tuple(violations), hash_matches)
    for family in _FAMILIES:
        violations += family(instance, decisions, tolerance)
    violations += outage_violations(instance, tolerance, channel)
    delay = round_delay(instance, decisions, channel)
    finite = math.isfinite(delay.round_s)
    breakdown = breakdown_of(instance, decisions, delay) if finite else None
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


def _decisions(
    parts: Sequence[DevicePlan], modes: Sequence[Mode | None], instance: Instance
) -> list[Decision] | None:
    """The plan as plain values, or None where no delay can be computed from it."""
    decisions = []
    for part, mode in zip(parts, modes, strict=True):
        if mode is None or not 0 <= part.blocks <= instance.workload.blocks:
            return None
        if not 0.0 <= part.keep_fraction <= 1.0:
            return None
        if instance.accuracy.cut_factor is not None and part.blocks >= instance.workload.blocks:
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
) -> list[Violation]:
    """Check every device's blocks, mode and keep fraction; under ``common`` that all agree."""
    found: list[Violation] = []

    def add(name: str, amount: float, unit: str, forgiven: float = 0.0) -> None:
        if amount > 0.0:
            found.append(_domain(Miss(name, amount, unit), forgiven))

    masked = {mode for mode in modes if mode is not None and mode.kind is ModeKind.TOPK}
    limits = {mode: keep_limit(mode, instance) for mode in masked}
    for device, part, mode in zip(instance.devices, parts, modes, strict=True):
        high = instance.workload.blocks - 1
        if device.blocks_max is not None:
            high = min(high, device.blocks_max)
        add(f"{part.id}.blocks", device.blocks_min - part.blocks, "blocks")
        add(f"{part.id}.blocks", part.blocks - high, "blocks")
        keep_name = f"{part.id}.keep_fraction"
        found += [_domain(miss) for miss in mode_misses(instance, part, mode)]
        if mode is None:
            continue
        keep, least, most = part.keep_fraction, instance.keep_min, 1.0
        if mode.kind is ModeKind.TOPK:
            most = limits[mode]
            if keep < tolerance.least_keep(least):
                add(keep_name, least - keep, "fraction", least - tolerance.least_keep(least))
            if keep > tolerance.most_keep(most):
                add(keep_name, keep - most, "fraction", tolerance.feas_tol)
        elif abs(keep - 1.0) > tolerance.feas_tol:
            add(keep_name, abs(keep - 1.0), "fraction", tolerance.feas_tol)
    if instance.accuracy.scope is AccuracyScope.COMMON:
        first = parts[0]
        for part, mode in zip(parts, modes, strict=True):
            if mode is not modes[0]:
                add(f"{part.id}.mode", 1.0, "mode differs from the first device's")
            # one keep fraction for all is one number: no limit that could be missed by a little
            if mode is not None and mode.kind is ModeKind.TOPK:
                spread = abs(part.keep_fraction - first.keep_fraction)
                add(f"{part.id}.keep_fraction", spread, "fraction from the first device's")
    return found


def _share_violations(
    family: Family, names: Sequence[str], shares: Sequence[float], feas_tol: float
) -> list[Violation]:
    """Every share of a device that sends is above 0, none is negative, they sum to at most 1."""
    found = [
        Violation(family=family, index=name, amount=max(-share, 0.0) or 1.0,
                  unit="share" if share < 0.0 else "share (none given, one is needed)",
                  tolerance=feas_tol if share < 0.0 else 0.0)
        for name, share in zip(names, shares, strict=True)
        if share < -feas_tol or share <= 0.0
    ]  # fmt: skip
    excess = math.fsum(shares) - 1.0
    if excess > feas_tol:
        found.append(Violation(family=family, index="all", amount=excess, unit="share",
                               tolerance=feas_tol))  # fmt: skip
    return found


def uplink_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check that x_n > 0 (every boundary payload is positive) and SUM x_n <= 1."""
    names = [device.id for device in instance.devices]
    return _share_violations(
        Family.UPLINK_SHARE, names, [d.uplink_share for d in decisions], tolerance.feas_tol
    )


def downlink_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check that y_n > 0 and SUM y_n <= 1."""
    names = [device.id for device in instance.devices]
    return _share_violations(
        Family.DOWNLINK_SHARE, names, [d.downlink_share for d in decisions], tolerance.feas_tol
    )


def adapter_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check that x^a_n > 0 where l_n >= 1 and SUM x^a_n <= 1; under psd all may be left out."""
    if instance.radio.power is PowerLaw.PSD and all(d.adapter_share is None for d in decisions):
        return []
    senders = [
        (device.id, decision.adapter_share or 0.0)
        for device, decision in zip(instance.devices, decisions, strict=True)
        if (decision.blocks >= 1 and instance.workload.adapter_bits_per_block > 0.0)
        or (decision.adapter_share or 0.0) != 0.0
    ]
    return _share_violations(
        Family.ADAPTER_SHARE, [name for name, _ in senders], [s for _, s in senders],
        tolerance.feas_tol,
    )  # fmt: skip


def device_memory_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check every device's memory, equation (10)."""
    found = []
    for device, decision in zip(instance.devices, decisions, strict=True):
        used = device_memory_bytes(instance.workload, device, decision.blocks)
        if used > tolerance.most_bytes(device.memory_bytes):
            found.append(Violation(family=Family.DEVICE_MEMORY, index=device.id,
                                   amount=used - device.memory_bytes, unit="bytes",
                                   tolerance=tolerance.feas_tol * device.memory_bytes))  # fmt: skip
    return found


def server_memory_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check the server's memory, equation (11)."""
    used = server_memory_bytes(instance, [decision.blocks for decision in decisions])
    limit = instance.server.memory_bytes
    if used <= tolerance.most_bytes(limit):
        return []
    return [Violation(family=Family.SERVER_MEMORY, index="all", amount=used - limit, unit="bytes",
                      tolerance=tolerance.feas_tol * limit)]  # fmt: skip


def accuracy_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance
) -> list[Violation]:
    """Check the accuracy, equation (12): the mean under scope ``mean``, else every device's."""
    limits = instance.accuracy
    values = accuracies(instance, decisions)
    rounding = ROUNDING * max(1.0, abs(limits.uncompressed), abs(limits.minimum))

    def missed(family: Family, index: str, value: float, least: float) -> list[Violation]:
        if value >= tolerance.least_accuracy(least) - rounding:
            return []
        return [Violation(family=family, index=index, amount=least - value, unit=limits.metric,
                          tolerance=tolerance.feas_tol)]  # fmt: skip

    if limits.scope is AccuracyScope.MEAN:
        mean = mean_accuracy(instance, values)
        found = missed(Family.ACCURACY, "all", mean, limits.minimum)
        family = Family.ACCURACY_EACH
    else:
        found, family = [], Family.ACCURACY
    for device, value in zip(instance.devices, values, strict=True):
        found += missed(family, device.id, value, limits.floor_each)
    return found


def outage_violations(
    instance: Instance, tolerance: Tolerance, channel: RoundChannel | None
) -> list[Violation]:
    """Check R^u_n(1) >= R_min and R^d_n(1) >= R_min, of equation (13), for every device."""
    known = statistical_channel(instance) if channel is None else channel.of(instance)
    limit = instance.radio.outage_rate_bits_per_s
    found = []
    for device, up, down in zip(
        instance.devices, known.uplink_gain, known.downlink_gain, strict=True
    ):
        rates = {
            "uplink": uplink_rate_bits_per_s(instance, device, 1.0, up),
            "downlink": downlink_rate_bits_per_s(instance, 1.0, down),
        }
        for link, rate in rates.items():
            if rate < tolerance.least_rate(limit):
                found.append(Violation(family=Family.OUTAGE, index=device.id,
                                       amount=limit - rate, unit=f"bit/s ({link}, whole band)",
                                       tolerance=tolerance.feas_tol * limit))  # fmt: skip
    return found


_FAMILIES: tuple[Callable[[Instance, Sequence[Decision], Tolerance], list[Violation]], ...] = (
    uplink_share_violations,
    downlink_share_violations,
    adapter_share_violations,
    device_memory_violations,
    server_memory_violations,
    accuracy_violations,
)
"""The families of constraints on decisions, in the order of a report."""
