"""Plans of decisions that are made: what each device holds, in which mode, at plain shares."""

from __future__ import annotations

from collections.abc import Sequence

from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import DevicePlan, Order, Plan, SequentialPower
from sftopt.core.schemes.base import Scheme


def plan_of(
    instance: Instance,
    scheme: Scheme,
    mode: Mode,
    cuts: Sequence[int],
    ranks: Sequence[int | None],
    speeds: Sequence[float | None],
    power: SequentialPower = SequentialPower.BAND,
) -> Plan:
    """Return the plan of these decisions at equal shares, or the whole band in a sequence."""
    share = 1.0 if scheme.order is Order.SEQUENTIAL else 1.0 / len(instance.devices)
    bits = instance.workload.reference_bits if mode.kind is ModeKind.NONE else mode.bits
    parts = [
        DevicePlan(
            id=device.id,
            blocks=cut,
            mode=mode.kind,
            mode_name=mode.label,
            bits=bits,
            keep_fraction=1.0,
            uplink_share=share,
            downlink_share=share,
            adapter_uplink_share=share,
            rank=rank,
            server_flops_per_s=speed,
        )
        for device, cut, rank, speed in zip(instance.devices, cuts, ranks, speeds, strict=True)
    ]
    return Plan(
        instance_hash=instance.hash,
        instance_name=instance.name,
        order=scheme.order,
        sequential_power=power,
        aggregation=scheme.aggregation,
        scheme=scheme.name,
        devices=tuple(parts),
    )
