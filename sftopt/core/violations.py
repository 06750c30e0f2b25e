"""The judge's limits: one function per constraint family, each states by how much it is missed.

Part of the judge: like :mod:`sftopt.core.verify` it knows neither formulations nor solvers. All
functions take the decisions in the order of the instance's devices, and how the round is conducted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from sftopt.core.adapters import head_bits
from sftopt.core.block_work import adapter_bits_of_block
from sftopt.core.breakdown import (
    accuracies,
    device_need_bytes,
    mean_accuracy,
    server_need_bytes,
)
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import (
    Conduct,
    Decision,
    Links,
)
from sftopt.core.fields import Reported
from sftopt.core.instance import AccuracyScope, Instance, PowerLaw
from sftopt.core.plan import Order
from sftopt.core.tolerance import Tolerance, accuracy_rounding


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


def _whole_band_violations(
    family: Family, instance: Instance, shares: Sequence[float], feas_tol: float
) -> list[Violation]:
    """Order sequential: every device has the whole band in its turn, a share of 1."""
    return [
        Violation(family=family, index=device.id, amount=abs(share - 1.0),
                  unit="share from 1, the whole band of order sequential", tolerance=feas_tol)
        for device, share in zip(instance.devices, shares, strict=True)
        if abs(share - 1.0) > feas_tol
    ]  # fmt: skip


def _boundary_share_violations(
    family: Family,
    instance: Instance,
    shares: Sequence[float],
    tolerance: Tolerance,
    order: Order,
) -> list[Violation]:
    if order is Order.FEDERATED:  # nothing crosses a boundary
        return []
    if order is Order.SEQUENTIAL:
        return _whole_band_violations(family, instance, shares, tolerance.feas_tol)
    names = [device.id for device in instance.devices]
    return _share_violations(family, names, shares, tolerance.feas_tol)


def uplink_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check that x_n > 0 (every boundary payload is positive) and SUM x_n <= 1."""
    shares = [d.uplink_share for d in decisions]
    family = Family.UPLINK_SHARE
    return _boundary_share_violations(family, instance, shares, tolerance, conduct.order)


def downlink_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check that y_n > 0 and SUM y_n <= 1."""
    shares = [d.downlink_share for d in decisions]
    family = Family.DOWNLINK_SHARE
    return _boundary_share_violations(family, instance, shares, tolerance, conduct.order)


def adapter_share_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check that x^a_n > 0 where l_n >= 1 and SUM x^a_n <= 1; under psd all may be left out."""
    if conduct.order is Order.SEQUENTIAL:
        given = [1.0 if d.adapter_share is None else d.adapter_share for d in decisions]
        return _whole_band_violations(Family.ADAPTER_SHARE, instance, given, tolerance.feas_tol)
    if instance.radio.power is PowerLaw.PSD and all(d.adapter_share is None for d in decisions):
        return []
    work = instance.workload
    head = head_bits(work) if conduct.order is Order.FEDERATED else 0.0
    senders = [
        (device.id, decision.adapter_share or 0.0)
        for device, decision in zip(instance.devices, decisions, strict=True)
        if decision.blocks * adapter_bits_of_block(work, decision.rank) + head > 0.0
        or (decision.adapter_share or 0.0) != 0.0
    ]
    return _share_violations(
        Family.ADAPTER_SHARE, [name for name, _ in senders], [s for _, s in senders],
        tolerance.feas_tol,
    )  # fmt: skip


def device_memory_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check every device's memory, equation (10)."""
    found = []
    for device, decision in zip(instance.devices, decisions, strict=True):
        used = device_need_bytes(instance, device, decision, conduct)
        if used > tolerance.most_bytes(device.memory_bytes):
            found.append(Violation(family=Family.DEVICE_MEMORY, index=device.id,
                                   amount=used - device.memory_bytes, unit="bytes",
                                   tolerance=tolerance.feas_tol * device.memory_bytes))  # fmt: skip
    return found


def server_memory_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check the server's memory, equation (11)."""
    used = server_need_bytes(instance, decisions, conduct)
    limit = instance.server.memory_bytes
    if used <= tolerance.most_bytes(limit):
        return []
    return [Violation(family=Family.SERVER_MEMORY, index="all", amount=used - limit, unit="bytes",
                      tolerance=tolerance.feas_tol * limit)]  # fmt: skip


def accuracy_violations(
    instance: Instance, decisions: Sequence[Decision], tolerance: Tolerance, conduct: Conduct
) -> list[Violation]:
    """Check the accuracy, equation (12): the mean under scope ``mean``, else every device's.

    An accuracy that is not known cannot be certified: that is a violation of its own, one for each
    mode without a measured loss, and the mean is not known either. Those that are known are held
    against the limit of every device.
    """
    limits = instance.accuracy
    values = accuracies(instance, decisions)

    def missed(family: Family, index: str, value: float, least: float) -> list[Violation]:
        rounding = accuracy_rounding(limits.uncompressed, least)
        if value >= tolerance.least_accuracy(least) - rounding:
            return []
        return [Violation(family=family, index=index, amount=least - value, unit=limits.metric,
                          tolerance=tolerance.feas_tol)]  # fmt: skip

    found = _unknown_accuracies(decisions, values, limits.metric)
    known = [value for value in values if value is not None]
    if limits.scope is AccuracyScope.MEAN:
        if len(known) == len(values):
            found += missed(Family.ACCURACY, "all", mean_accuracy(instance, known), limits.minimum)
        family = Family.ACCURACY_EACH
    else:
        family = Family.ACCURACY
    for device, value in zip(instance.devices, values, strict=True):
        if value is not None:
            found += missed(family, device.id, value, limits.floor_each)
    return found


def _unknown_accuracies(
    decisions: Sequence[Decision], values: Sequence[float | None], metric: str
) -> list[Violation]:
    unknown = Counter(
        decision.mode.label
        for decision, value in zip(decisions, values, strict=True)
        if value is None
    )
    return [
        Violation(family=Family.ACCURACY, index="all", amount=float(count), tolerance=0.0,
                  unit=f"devices whose {metric} is not known, so that it cannot be certified: mode "
                  f"'{label}' has no measured loss (compression.modes[].loss)")
        for label, count in unknown.items()
    ]  # fmt: skip


def outage_violations(
    instance: Instance, tolerance: Tolerance, channel: RoundChannel | None, conduct: Conduct
) -> list[Violation]:
    """Check R^u_n(1) >= R_min and R^d_n(1) >= R_min, of equation (13), for every device.

    At the power that the order gives it over the whole band.
    """
    known = statistical_channel(instance) if channel is None else channel.of(instance)
    links = Links(instance, conduct.channel(known))
    limit = instance.radio.outage_rate_bits_per_s
    found = []
    for n, device in enumerate(instance.devices):
        rates = {"uplink": links.up_bits_per_s(n, 1.0), "downlink": links.down_bits_per_s(n, 1.0)}
        for link, rate in rates.items():
            if rate < tolerance.least_rate(limit):
                found.append(Violation(family=Family.OUTAGE, index=device.id,
                                       amount=limit - rate, unit=f"bit/s ({link}, whole band)",
                                       tolerance=tolerance.feas_tol * limit))  # fmt: skip
    return found
