"""The virtual clock against the judge's delay model: same work, same bytes, same delays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import Decision
from sftopt.core.instance import Instance, ModeKind
from sftopt.core.orders import RoundDelay, round_delay
from sftopt.core.plan import DevicePlan, Plan
from sftopt.training.loop import RoundRow
from sftopt.training.run.clock import RoundDelays, VirtualClock, outages
from sftopt.training.split import Phase, PhaseTimes, StepReport
from tests.samples import VARIANTS, sample_instance

pytestmark = pytest.mark.train

SPEED = 3.7e10
CUTS = (2, 0, 5)
SHARES = (0.2, 0.5, 0.3)


def decided(instance: Instance, shared: bool) -> list[Decision]:
    """Some decision; ``shared``: with shares of the adapter exchange."""
    modes = instance.compression.modes
    return [
        Decision(cut, mode := modes[n % len(modes)], 0.2 if mode.kind is ModeKind.TOPK else 1.0,
                 share, SHARES[-1 - n], 0.5 if shared and cut else None)
        for n, (cut, share) in enumerate(zip(CUTS, SHARES, strict=True))
    ]  # fmt: skip


def plan_of(instance: Instance, decisions: list[Decision]) -> Plan:
    parts = tuple(
        DevicePlan(
            id=device.id, blocks=d.blocks, mode=d.mode.kind, bits=d.mode.bits,
            keep_fraction=d.keep, uplink_share=d.uplink_share, downlink_share=d.downlink_share,
            adapter_uplink_share=d.adapter_share,
        )
        for device, d in zip(instance.devices, decisions, strict=True)
    )  # fmt: skip
    return Plan(instance_hash=instance.hash, devices=parts)


def as_measured(
    instance: Instance, decisions: list[Decision], judged: RoundDelay
) -> tuple[StepReport, RoundRow]:
    """The step and round of a machine of SPEED that does exactly the counted work."""
    work = instance.workload
    times, up, side, down = {}, {}, {}, {}
    for device, d, step in zip(instance.devices, decisions, judged.devices, strict=True):
        forward = work.embedding_forward_flops + d.blocks * work.block_forward_flops
        rest = (work.blocks - d.blocks) * (work.block_forward_flops + work.block_backward_flops)
        cpu = {
            Phase.DEVICE_FORWARD: 0.75 * device.batch * forward / SPEED,
            Phase.DEVICE_ENCODE: 0.25 * device.batch * forward / SPEED,
            Phase.SERVER_DECODE: 1.0,
            Phase.SERVER_COMPUTE: device.batch * (rest + work.head_flops) / SPEED,
            Phase.SERVER_ENCODE: 2.0,
            Phase.DEVICE_DECODE: 0.0,
            Phase.DEVICE_BACKWARD: device.batch * d.blocks * work.block_backward_flops / SPEED,
            Phase.UPDATE: 4.0,
        }
        times[device.id] = PhaseTimes(cpu, cpu)
        up[device.id], down[device.id] = step.uplink_bits / 8.0, step.downlink_bits / 8.0
        side[device.id] = step.side_bits / 8.0
    update = PhaseTimes({Phase.UPDATE: 8.0}, {})
    report = StepReport({name: 1.0 for name in times}, up, side, down, times, update)  # type: ignore[arg-type]
    bits = work.adapter_bits_per_block
    row = RoundRow(
        round=1, participants=tuple(times), losses=dict.fromkeys(times, 1.0), metric=None,
        device_metrics={}, cpu_s={}, wall_s={},
        byte_counts={
            device.id: {
                "uplink_adapters_bytes": d.blocks * bits / 8.0,
                "downlink_adapters_bytes": d.blocks * bits / 8.0,
            }
            for device, d in zip(instance.devices, decisions, strict=True)
        },
    )  # type: ignore[arg-type]  # fmt: skip
    return report, row


def clocked(
    instance: Instance, decisions: list[Decision], judged: RoundDelay, channel: RoundChannel
) -> RoundDelays:
    report, row = as_measured(instance, decisions, judged)
    clock = VirtualClock(instance, plan_of(instance, decisions), SPEED)
    for _ in range(instance.training.local_steps):
        clock.add(report)
    return clock.finish(row, channel)


@pytest.mark.parametrize("shared", [False, True], ids=["best", "given"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_counted_work_takes_the_judges_time(variant: str, shared: bool) -> None:
    options: dict[str, Any] = VARIANTS[variant]
    instance = sample_instance(3, 4, **options)
    shared = shared or variant == "total power"
    decisions = decided(instance, shared)
    rng = np.random.default_rng(1)
    gains = RoundChannel(*(10 ** rng.uniform(-12, -9, (2, 3, 4))))
    for channel in (statistical_channel(instance), gains):
        judged = round_delay(instance, decisions, channel)
        found = clocked(instance, decisions, judged, channel).planned
        for name in ("round_s", "step_s", "tau_u_s", "server_s", "tau_d_s", "tau_a_s"):
            assert getattr(found, name) == pytest.approx(getattr(judged, name), rel=1e-9), name
        for device, step in zip(instance.devices, judged.devices, strict=True):
            for name in ("s1_s", "s2_s", "s3_s", "s4_s", "s5_s"):
                expected = getattr(step, name)
                assert getattr(found.devices[device.id], name) == pytest.approx(expected, rel=1e-9)


def test_unscaled_is_this_machines_speed_and_the_rest_is_apart() -> None:
    instance = sample_instance(3, 4)
    decisions = decided(instance, False)
    judged = round_delay(instance, decisions)
    found = clocked(instance, decisions, judged, statistical_channel(instance))
    for device in instance.devices:
        planned, here = found.planned.devices[device.id], found.unscaled.devices[device.id]
        assert planned.s1_s == pytest.approx(here.s1_s * SPEED / device.compute_flops_per_s)
        assert (planned.s2_s, planned.s4_s) == (here.s2_s, here.s4_s)
    assert found.unscaled.tau_a_s == found.planned.tau_a_s
    assert found.server_codec_s == pytest.approx(3 * 3.0)
    assert found.update_s == pytest.approx(3 * 4.0 + 8.0)


def test_steps_are_summed_and_a_disturbed_one_is_no_typical_step() -> None:
    instance = sample_instance(3, 4)
    decisions = decided(instance, False)
    judged = round_delay(instance, decisions)
    report, row = as_measured(instance, decisions, judged)
    slow = {
        name: PhaseTimes({phase: 100.0 * value for phase, value in times.cpu_s.items()}, {})
        for name, times in report.times.items()
    }
    disturbed = StepReport(
        report.losses,
        report.uplink_bytes,
        report.side_bytes,
        report.downlink_bytes,
        slow,
        report.server_update,
    )
    clock = VirtualClock(instance, plan_of(instance, decisions), SPEED)
    for step in (report, disturbed, report):
        clock.add(step)
    found = clock.finish(row, statistical_channel(instance)).planned
    assert found.step_s == pytest.approx(judged.step_s)
    assert found.round_s > 10 * judged.step_s
    for _ in range(2):
        clock.add(report)
    again = clock.finish(row, statistical_channel(instance)).planned
    assert again.round_s == pytest.approx(2 * judged.step_s + judged.tau_a_s), (
        "nothing is left over"
    )


def test_who_is_in_outage_is_named() -> None:
    instance = sample_instance(3, 4)
    channel = statistical_channel(instance)
    assert outages(instance, channel) == ()
    up, down = channel.uplink_gain.copy(), channel.downlink_gain.copy()
    up[0], down[2] = 0.0, 1e-22
    assert outages(instance, RoundChannel(up, down)) == ("dev0", "dev2")
