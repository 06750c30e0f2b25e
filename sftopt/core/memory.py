"""The judge's memory model, equations (10) and (11), in bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sftopt.core.block_work import block_activation_bytes, block_adapter_bytes
from sftopt.core.instance import Device, Instance, ServerOrder, Workload
from sftopt.core.plan import Order


def device_memory_bytes(
    workload: Workload,
    device: Device,
    blocks: int,
    *,
    rank: int | None = None,
    with_head: bool = False,
) -> float:
    """Return the memory a device needs in bytes, the left side of equation (10).

    ``rank``: of its adapters, None for the workload's. ``with_head``: in order federated the head
    is on the device too, m_head and b_n m_h; no codec is, nor what one remembers.
    """
    needed = (
        workload.device_base_bytes
        + device.batch * workload.sample_base_bytes
        + blocks * (workload.block_weight_bytes + block_adapter_bytes(workload, rank))
        + device.batch * blocks * block_activation_bytes(workload, rank=rank)
    )
    if with_head:
        return needed + (workload.head_bytes or 0.0) + device.batch * workload.sample_head_bytes
    return needed + (device.remembered_bytes or 0.0)


def server_memory_bytes(
    instance: Instance,
    blocks: Sequence[int],
    *,
    tokens: Sequence[int | None] | None = None,
    rank: int | None = None,
    order: Order = Order.PARALLEL,
) -> float:
    """Return the memory the server needs in bytes, the left side of equation (11); ``blocks`` in
    the order of the instance's devices, likewise ``tokens``, S' where a device sends tokens.

    ``rank``: r_s of the server's adapters, None for the workload's. Order sequential: what one
    device's samples need, not all of them. Order federated: no sample is at the server, it keeps
    the model, its adapters and what else it holds whatever the batch.
    """
    workload = instance.workload
    model = workload.blocks * (workload.block_weight_bytes + block_adapter_bytes(workload, rank))
    if order is Order.FEDERATED:
        return model + workload.server_base_bytes
    sent = [None] * len(blocks) if tokens is None else tokens
    saved = [
        device.batch
        * (workload.blocks - held)
        * block_activation_bytes(workload, tokens=count, rank=rank)
        for device, held, count in zip(instance.devices, blocks, sent, strict=True)
    ]
    heads = [device.batch * workload.sample_head_bytes for device in instance.devices]
    samples = [device.batch * workload.sample_base_bytes for device in instance.devices]
    remembered = sum(device.remembered_bytes or 0.0 for device in instance.devices)
    if order is Order.SEQUENTIAL:
        turn = max(held + base for held, base in zip(saved, samples, strict=True))
        return turn + max(heads) + model + workload.server_base_bytes + remembered
    if instance.server_order is ServerOrder.IN_TURN:
        in_use = max(saved) + max(heads)
    else:
        in_use = sum(saved) + sum(heads)
    return in_use + sum(samples) + model + workload.server_base_bytes + remembered
