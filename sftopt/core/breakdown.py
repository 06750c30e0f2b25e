"""The judge's breakdown of a round: delay by parts, memory, accuracy and bytes, by device."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.delay import Decision, RoundDelay
from sftopt.core.instance import AccuracyScope, AdapterDownlink, Instance
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.plan import Breakdown, DeviceBreakdown


def accuracies(instance: Instance, decisions: Sequence[Decision]) -> list[float]:
    """Return the accuracy of every device in the unit of the metric, equation (12)."""
    return [predicted_accuracy(instance.accuracy, d.mode, d.keep, d.blocks) for d in decisions]


def mean_accuracy(instance: Instance, values: Sequence[float]) -> float:
    """Return SUM w_n a_n / SUM w_n in the unit of the metric; weights sum to 1 up to rounding."""
    weights = [device.weight for device in instance.devices]
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / math.fsum(weights)


def breakdown_of(instance: Instance, decisions: Sequence[Decision], delay: RoundDelay) -> Breakdown:
    """Return the delay by parts with what is left of the limits, equations (4)-(12)."""
    values = accuracies(instance, decisions)
    limits = instance.accuracy
    overall = mean_accuracy(instance, values) if limits.scope is AccuracyScope.MEAN else min(values)
    devices = []
    for device, decision, times, value in zip(
        instance.devices, decisions, delay.devices, values, strict=True
    ):
        used = device_memory_bytes(instance.workload, device, decision.blocks)
        devices.append(
            DeviceBreakdown(
                id=device.id,
                s1_s=times.s1_s,
                s2_s=times.s2_s,
                s3_s=times.s3_s,
                s4_s=times.s4_s,
                s5_s=times.s5_s,
                slack_u_s=delay.tau_u_s - times.s1_s - times.s2_s,
                slack_d_s=delay.tau_d_s - times.s4_s - times.s5_s,
                memory_bytes=used,
                memory_slack_bytes=device.memory_bytes - used,
                accuracy=value,
                uplink_bits_per_step=times.uplink_bits,
                downlink_bits_per_step=times.downlink_bits,
            )
        )
    server_used = server_memory_bytes(instance, [decision.blocks for decision in decisions])
    return Breakdown(
        round_s=delay.round_s,
        step_s=delay.step_s,
        tau_u_s=delay.tau_u_s,
        server_s=delay.server_s,
        tau_d_s=delay.tau_d_s,
        tau_a_s=delay.tau_a_s,
        accuracy=overall,
        accuracy_slack=overall - limits.minimum,
        server_memory_bytes=server_used,
        server_memory_slack_bytes=instance.server.memory_bytes - server_used,
        devices=tuple(devices),
        **_round_bytes(instance, decisions, delay),
    )


def _round_bytes(
    instance: Instance, decisions: Sequence[Decision], delay: RoundDelay
) -> dict[str, float]:
    """Return what crosses the air in one round, in bytes: boundary up and down, and adapters."""
    steps = instance.training.local_steps
    held = [decision.blocks for decision in decisions]
    once = instance.radio.adapter_downlink is AdapterDownlink.MULTICAST
    adapters = sum(held) + (max(held) if once else sum(held))
    return {
        "bytes_up": steps * math.fsum(times.uplink_bits for times in delay.devices) / 8.0,
        "bytes_down": steps * math.fsum(times.downlink_bits for times in delay.devices) / 8.0,
        "bytes_adapters": adapters * instance.workload.adapter_bits_per_block / 8.0,
    }
