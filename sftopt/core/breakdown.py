"""The judge's breakdown of a round: delay by parts, memory, accuracy, bytes and energy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.delay import PARALLEL_ROUND, Conduct, Decision, server_rank
from sftopt.core.energy import device_energy_j, radiated_w_max, server_energy_j
from sftopt.core.instance import AccuracyScope, Device, Instance
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.orders import RoundDelay
from sftopt.core.plan import Breakdown, DeviceBreakdown, Order, RoundParts


def accuracies(instance: Instance, decisions: Sequence[Decision]) -> list[float | None]:
    """Return the accuracy of every device in the unit of the metric, equation (12); None where it
    is not known.
    """
    return [predicted_accuracy(instance.accuracy, d.mode, d.keep, d.blocks) for d in decisions]


def mean_accuracy(instance: Instance, values: Sequence[float]) -> float:
    """Return SUM w_n a_n / SUM w_n in the unit of the metric; weights sum to 1 up to rounding."""
    weights = [device.weight for device in instance.devices]
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)


def overall_accuracy(instance: Instance, values: Sequence[float | None]) -> float | None:
    """Return the accuracy that the limit is held against, in the unit of the metric: the mean, or
    under scopes each and common the least; None where one device's is not known.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    mean = instance.accuracy.scope is AccuracyScope.MEAN
    return mean_accuracy(instance, known) if mean else min(known)


def device_need_bytes(
    instance: Instance, device: Device, decision: Decision, conduct: Conduct
) -> float:
    """Return what a device's decision needs of its memory in bytes, equation (10)."""
    return device_memory_bytes(
        instance.workload,
        device,
        decision.blocks,
        rank=decision.rank,
        with_head=conduct.order is Order.FEDERATED,
    )


def server_need_bytes(instance: Instance, decisions: Sequence[Decision], conduct: Conduct) -> float:
    """Return what all decisions need of the server's memory in bytes, equation (11)."""
    return server_memory_bytes(
        instance,
        [decision.blocks for decision in decisions],
        tokens=[decision.mode.tokens for decision in decisions],
        rank=server_rank(instance.workload, decisions),
        order=conduct.order,
    )


def breakdown_of(
    instance: Instance,
    decisions: Sequence[Decision],
    delay: RoundDelay,
    conduct: Conduct = PARALLEL_ROUND,
) -> Breakdown:
    """Return the delay by parts with what is left of the limits, equations (4)-(12)."""
    values = accuracies(instance, decisions)
    overall = overall_accuracy(instance, values)
    waits = conduct.order is not Order.SEQUENTIAL  # a device's turn has no barrier to wait at
    devices = []
    for device, decision, times, value in zip(
        instance.devices, decisions, delay.devices, values, strict=True
    ):
        used = device_need_bytes(instance, device, decision, conduct)
        devices.append(
            DeviceBreakdown(
                id=device.id,
                s1_s=times.s1_s,
                s2_s=times.s2_s,
                s3_s=times.s3_s,
                s4_s=times.s4_s,
                s5_s=times.s5_s,
                slack_u_s=delay.tau_u_s - times.s1_s - times.s2_s if waits else 0.0,
                slack_d_s=delay.tau_d_s - times.s4_s - times.s5_s if waits else 0.0,
                memory_bytes=used,
                memory_slack_bytes=device.memory_bytes - used,
                accuracy=value,
                uplink_bits_per_step=times.uplink_bits,
                downlink_bits_per_step=times.downlink_bits,
            )
        )
    server_used = server_need_bytes(instance, decisions, conduct)
    return Breakdown(
        round_s=delay.round_s,
        step_s=delay.step_s,
        tau_u_s=delay.tau_u_s,
        server_s=delay.server_s,
        tau_d_s=delay.tau_d_s,
        tau_a_s=delay.tau_a_s,
        accuracy=overall,
        accuracy_slack=None if overall is None else overall - instance.accuracy.minimum,
        server_memory_bytes=server_used,
        server_memory_slack_bytes=instance.server.memory_bytes - server_used,
        devices=tuple(devices),
        energy_server_j=server_energy_j(instance, decisions, delay),
        energy_device_j=device_energy_j(instance, decisions, delay, conduct),
        radiated_w_max=radiated_w_max(instance, decisions, delay, conduct),
        parts=RoundParts(**delay.parts),
        **_round_bytes(instance, delay),
    )


def _round_bytes(instance: Instance, delay: RoundDelay) -> dict[str, float]:
    """Return what crosses the air in one round, in bytes."""
    steps = instance.training.local_steps
    return {
        "bytes_up": steps * math.fsum(times.uplink_bits for times in delay.devices) / 8.0,
        "bytes_down": steps * math.fsum(times.downlink_bits for times in delay.devices) / 8.0,
        "bytes_side": steps * math.fsum(times.side_bits for times in delay.devices) / 8.0,
        "bytes_adapters": delay.exchange.adapter_bits / 8.0,
        "bytes_head": delay.exchange.head_bits / 8.0,
    }
