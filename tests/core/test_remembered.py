"""What codecs remember counts in (10) and (11): judge, check and solvers allow the same cuts."""

from __future__ import annotations

import numpy as np
import pytest

import sftopt
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.instance import Instance, ServerOrder
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.plan import Order
from tests.samples import sample_instance

ORDERS = (ServerOrder.IN_TURN, ServerOrder.PARALLEL)


def remembering(instance: Instance, *bytes_: float | None) -> Instance:
    devices = [
        device.model_copy(update={"remembered_bytes": value})
        for device, value in zip(instance.devices, bytes_, strict=True)
    ]
    return Instance.model_validate(
        {**instance.to_dict(), "devices": [device.model_dump() for device in devices]}
    )


@pytest.mark.parametrize("order", ORDERS)
def test_it_is_added_once_at_each_end(order: ServerOrder) -> None:
    bare = sample_instance(3, server_order=order)
    kept = remembering(bare, 3e6, None, 5e6)
    for before, after, more in zip(bare.devices, kept.devices, (3e6, 0.0, 5e6), strict=True):
        held = device_memory_bytes(bare.workload, before, 2)
        assert device_memory_bytes(kept.workload, after, 2) == held + more
        whole = device_memory_bytes(bare.workload, before, 2, with_head=True)
        assert device_memory_bytes(kept.workload, after, 2, with_head=True) == whole
    for conduct, more in ((Order.PARALLEL, 8e6), (Order.SEQUENTIAL, 8e6), (Order.FEDERATED, 0.0)):
        held = server_memory_bytes(bare, [1, 2, 3], order=conduct)
        assert server_memory_bytes(kept, [1, 2, 3], order=conduct) == held + more


def test_a_cell_without_it_keeps_its_hash() -> None:
    bare = sample_instance(2)
    assert "remembered_bytes" not in str(bare.hash)
    assert remembering(bare, None, None).hash == bare.hash
    assert remembering(bare, 1.0, None).hash != bare.hash


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(8))
def test_solvers_allow_the_cuts_that_the_judge_allows(seed: int, order: ServerOrder) -> None:
    """The most blocks on each device, and the least that the server takes."""
    draw = np.random.default_rng(seed)
    instance = sample_instance(3, seed, server_order=order)
    room = [d.memory_bytes - device_memory_bytes(instance.workload, d, 1) for d in instance.devices]
    instance = remembering(instance, *(draw.uniform(0.0, 1.0) * max(free, 0.0) for free in room))
    blocks = instance.workload.blocks
    found = derive(instance)
    for device, high in zip(instance.devices, found.cut_high, strict=True):
        fits = [
            cut for cut in range(blocks)
            if device_memory_bytes(instance.workload, device, cut)
            <= device.memory_bytes * (1.0 + found.feas_tol)
        ]  # fmt: skip
        assert high == max(fits)
    cuts = [int(high) for high in found.cut_high]
    tight = server_memory_bytes(instance, cuts)
    for limit, fits in ((tight, True), (tight * (1.0 - 1e-5), False)):
        server = {"server.memory_bytes": limit}
        assert check(instance.replace(**server)).feasible is fits


def test_plans_leave_room_for_it_and_too_much_is_infeasible() -> None:
    instance = sample_instance(2, blocks=6)
    free = sftopt.solve(instance, solver="certify", time_limit=20)
    assert free.plan is not None
    device, part = instance.devices[0], free.plan.devices[0]
    need = device_memory_bytes(instance.workload, device, part.blocks)
    tight = instance.replace(**{f"devices[{device.id}].memory_bytes": need * 1.001})
    kept = remembering(tight, 0.01 * need, None)
    planned = sftopt.solve(kept, solver="certify", time_limit=20)
    assert planned.plan is not None
    assert sftopt.verify_plan(kept, planned.plan).feasible
    assert planned.plan.devices[0].blocks < part.blocks
    broken = free.plan.model_copy(update={"instance_hash": kept.hash})
    assert [v.family.value for v in sftopt.verify_plan(kept, broken).broken] == ["device_memory"]
    full = remembering(tight, 2.0 * need, None)
    assert not check(full).feasible
    assert sftopt.solve(full, solver="certify").termination.value == "infeasible_proven"
