"""The virtual clock against the judge, order by order: same work, same bytes, same delays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.adapters import adapter_messages
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import Conduct, Decision
from sftopt.core.instance import Instance
from sftopt.core.orders import RoundDelay, round_delay
from sftopt.core.plan import Aggregation, Order, Plan, SequentialPower
from sftopt.training.loop import RoundRow
from sftopt.training.run.clock import RoundDelays, VirtualClock
from sftopt.training.split import Phase, PhaseTimes, StepReport
from tests.samples import sample_instance
from tests.training.run.test_clock import SPEED, as_measured, decided, plan_of

pytestmark = pytest.mark.train

HEAD = {"head_parameters": 7690, "head_bytes": 1e5, "adapted_matrices": 2}
Measured = tuple[list[StepReport], RoundRow]


def only(report: StepReport, name: str) -> StepReport:
    """The report of a step that one device took alone."""
    parts = {
        field: {name: getattr(report, field)[name]}
        for field in ("losses", "uplink_bytes", "side_bytes", "downlink_bytes", "times")
    }
    return replace(report, **parts)


def measured(
    instance: Instance, decisions: list[Decision], judged: RoundDelay, conduct: Conduct
) -> Measured:
    """K steps, in turns where the order says so, that take and move what is counted."""
    report, row = as_measured(instance, decisions, judged)
    factor = {d.server_flops_per_s or instance.server.compute_flops_per_s for d in decisions}
    assert len(factor) == 1 or conduct.order is Order.SEQUENTIAL
    found = adapter_messages(instance.workload, decisions, conduct)
    counts = {
        device.id: {
            "uplink_adapters_bytes": up / 8.0, "downlink_adapters_bytes": down / 8.0,
            "uplink_head_bytes": found.head / 8.0, "downlink_head_bytes": found.head / 8.0,
        }
        for device, up, down in zip(instance.devices, found.up, found.down, strict=True)
    }  # fmt: skip
    row = replace(row, byte_counts=counts)  # type: ignore[arg-type]
    steps = [report] * instance.training.local_steps
    if conduct.order is Order.SEQUENTIAL:
        steps = [only(report, d.id) for d in instance.devices for _ in steps]
    if conduct.order is Order.FEDERATED:
        steps = [alone(instance, decisions, report) for _ in steps]
    return steps, row


def alone(instance: Instance, decisions: list[Decision], report: StepReport) -> StepReport:
    work = instance.workload
    per_block = work.block_forward_flops + work.block_backward_flops
    times = {}
    for device in instance.devices:
        flops = work.embedding_forward_flops + work.blocks * per_block + work.head_flops
        seconds = device.batch * flops / SPEED
        cpu = {Phase.DEVICE_FORWARD: 0.3 * seconds, Phase.DEVICE_BACKWARD: 0.7 * seconds}
        times[device.id] = PhaseTimes(cpu, cpu)
    nothing = dict.fromkeys(times, 0)
    return replace(
        report, times=times, uplink_bytes=nothing, side_bytes=nothing, downlink_bytes=nothing
    )


def conducted(order: Order, instance: Instance, **change: Any) -> tuple[list[Decision], Plan]:
    decisions = decided(instance, shared=False)
    if order is Order.SEQUENTIAL:
        decisions = [replace(d, uplink_share=1.0, downlink_share=1.0) for d in decisions]
    if order is Order.FEDERATED:
        decisions = [replace(d, blocks=instance.workload.blocks) for d in decisions]
    plan = plan_of(instance, decisions).model_copy(update={"order": order, **change})
    return decisions, plan


def assert_the_judges(found: RoundDelays, judged: RoundDelay, instance: Instance) -> None:
    for name in ("round_s", "step_s", "tau_u_s", "server_s", "tau_d_s", "tau_a_s"):
        assert getattr(found.planned, name) == pytest.approx(getattr(judged, name), rel=1e-9), name
    for device, step in zip(instance.devices, judged.devices, strict=True):
        for name in ("s1_s", "s2_s", "s3_s", "s4_s", "s5_s"):
            value = getattr(found.planned.devices[device.id], name)
            assert value == pytest.approx(getattr(step, name), rel=1e-9, abs=1e-12), name


CASES: list[tuple[Order, dict[str, Any], dict[str, Any]]] = [
    (Order.SEQUENTIAL, {}, {}),
    (Order.SEQUENTIAL, {"sequential_power": SequentialPower.SHARE}, {"server_order": "parallel"}),
    (Order.FEDERATED, {"aggregation": Aggregation.AVERAGING}, {}),
    (Order.FEDERATED, {"aggregation": Aggregation.CONCATENATION}, {}),
    (Order.FEDERATED, {}, {"radio": {"adapter_downlink": "multicast"}}),
    (Order.PARALLEL, {"aggregation": Aggregation.CONCATENATION}, {}),
    (Order.PARALLEL, {"aggregation": Aggregation.CORRECTED}, {}),
]


@pytest.mark.parametrize(("order", "change", "options"), CASES)
def test_the_counted_work_takes_the_judges_time(
    order: Order, change: dict[str, Any], options: dict[str, Any]
) -> None:
    instance = sample_instance(3, 4, workload=HEAD, **options)
    decisions, plan = conducted(order, instance, **change)
    conduct = Conduct.of(plan)
    gains = RoundChannel(*(10 ** np.random.default_rng(1).uniform(-12, -9, (2, 3, 4))))
    for channel in (statistical_channel(instance), gains):
        judged = round_delay(instance, decisions, channel, conduct)
        clock = VirtualClock(instance, plan, SPEED)
        steps, row = measured(instance, decisions, judged, conduct)
        for step in steps:
            clock.add(step)
        assert_the_judges(clock.finish(row, channel), judged, instance)


def test_a_server_that_works_at_a_speed_of_its_own_for_each_device() -> None:
    instance = sample_instance(3, 4)
    decisions, plan = conducted(Order.SEQUENTIAL, instance)
    speeds = [0.5e13, 1e13, 2e13]
    decisions = [replace(d, server_flops_per_s=s) for d, s in zip(decisions, speeds, strict=True)]
    parts = [p.model_copy(update={"server_flops_per_s": s})
             for p, s in zip(plan.devices, speeds, strict=True)]  # fmt: skip
    plan = plan.model_copy(update={"devices": tuple(parts)})
    judged = round_delay(instance, decisions, None, Conduct.of(plan))
    steps, row = measured(instance, decisions, judged, Conduct.of(plan))
    clock = VirtualClock(instance, plan, SPEED)
    for step in steps:
        clock.add(step)
    assert_the_judges(clock.finish(row, statistical_channel(instance)), judged, instance)


def test_a_turn_that_is_missed_costs_nothing() -> None:
    instance = sample_instance(3, 4)
    decisions, plan = conducted(Order.SEQUENTIAL, instance)
    judged = round_delay(instance, decisions, None, Conduct.of(plan))
    steps, row = measured(instance, decisions, judged, Conduct.of(plan))
    gone = instance.devices[1].id
    row = replace(row, participants=tuple(d.id for d in instance.devices if d.id != gone))
    clock = VirtualClock(instance, plan, SPEED)
    for step in steps:
        if gone not in step.times:
            clock.add(step)
    found = clock.finish(row, statistical_channel(instance)).planned
    one = judged.devices[1]
    missed = one.s1_s + one.s2_s + one.s3_s + one.s4_s + one.s5_s
    assert found.step_s == pytest.approx(judged.step_s - missed, rel=1e-9)
