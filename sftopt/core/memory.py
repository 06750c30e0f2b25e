"""The judge's memory model, equations (10) and (11), in bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sftopt.core.instance import Device, Instance, ServerOrder, Workload


def device_memory_bytes(workload: Workload, device: Device, blocks: int) -> float:
    """Return the memory a device needs in bytes, the left side of equation (10)."""
    return (
        workload.device_base_bytes
        + device.batch * workload.sample_base_bytes
        + blocks * (workload.block_weight_bytes + workload.block_adapter_bytes)
        + device.batch * blocks * workload.block_activation_bytes
    )


def server_memory_bytes(instance: Instance, blocks: Sequence[int]) -> float:
    """Return the memory the server needs in bytes, the left side of equation (11); ``blocks`` in
    the order of the instance's devices.
    """
    workload = instance.workload
    saved = [
        device.batch * (workload.blocks - held) * workload.block_activation_bytes
        for device, held in zip(instance.devices, blocks, strict=True)
    ]
    heads = [device.batch * workload.sample_head_bytes for device in instance.devices]
    boundary = sum(device.batch * workload.sample_base_bytes for device in instance.devices)
    model = workload.blocks * (workload.block_weight_bytes + workload.block_adapter_bytes)
    if instance.server_order is ServerOrder.IN_TURN:
        in_use = max(saved) + max(heads)
    else:
        in_use = sum(saved) + sum(heads)
    return in_use + boundary + model + workload.server_base_bytes
