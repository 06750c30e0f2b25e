"""The judge: hand-computed cases, agreement with the derived arrays, and mutations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    Radio,
    Server,
    Training,
    Workload,
)
from sftopt.core.memory import server_memory_bytes
from sftopt.core.plan import DevicePlan, Plan, Provenance
from sftopt.core.point import best_delay, from_plan, to_plan
from sftopt.core.spectrum import least_time
from sftopt.core.verify import Family, verify_plan
from sftopt.solvers.heuristics.constructive import first_point
from tests.samples import VARIANTS, plan_with, sample_instance


def hand_instance(**radio: object) -> Instance:
    """Two devices with round numbers, no fading, rates that are powers of two."""
    return Instance(
        workload=Workload(
            blocks=4,
            hidden=10,
            tokens=10,
            block_forward_flops=1e9,
            block_backward_flops=2e9,
            embedding_forward_flops=5e8,
            head_flops=1e9,
            lora_rank=2,
            adapter_parameters_per_rank=100.0,
            adapter_bits=16,
            device_base_bytes=100.0,
            sample_base_bytes=10.0,
            block_weight_bytes=50.0,
            block_adapter_bytes=5.0,
            block_activation_bytes=20.0,
            server_base_bytes=7.0,
        ),
        compression=Compression(modes=(Mode(bits=4, side_bits_per_element=0.5),), keep_min=0.1),
        accuracy=Accuracy(
            uncompressed=0.9, keep_loss=0.2, keep_decay=math.log(2) * 4, quantisation_loss=2.56,
            minimum=0.7,
        ),
        devices=(
            Device(id="a", compute_flops_per_s=1e9, memory_bytes=1000.0, batch=2, weight=0.25,
                   transmit_power_w=1.0, uplink_gain=3.0, codec_s_per_element=0.001),
            Device(id="b", compute_flops_per_s=2e9, memory_bytes=1000.0, batch=1, weight=0.75,
                   transmit_power_w=1.0, uplink_gain=15.0),
        ),
        server=Server(compute_flops_per_s=1e10, memory_bytes=1e4, transmit_power_w=1.0),
        radio=Radio.model_validate({"uplink_bandwidth_hz": 100.0, "downlink_bandwidth_hz": 200.0,
                                    "noise_w_per_hz": 0.01, "fading": "none",
                                    "outage_rate_bits_per_s": 1.0, **radio}),
        training=Training(local_steps=10),
    )  # fmt: skip


def hand_plan(instance: Instance) -> Plan:
    return Plan(
        instance_hash=instance.hash,
        devices=(
            DevicePlan(id="a", blocks=1, mode="topk", bits=4, keep_fraction=0.5,
                       uplink_share=0.5, downlink_share=0.25),
            DevicePlan(id="b", blocks=3, mode="topk", bits=4, keep_fraction=0.25,
                       uplink_share=0.5, downlink_share=0.75),
        ),
    )  # fmt: skip


def test_every_part_by_hand() -> None:
    """Every figure below is worked out on paper from equations (1)-(12).

    Uplink: noise 0.01 * 100 = 1 W, SNR 3 and 15, so 2 and 4 bit/s/Hz: 200 and 400 bit/s whole
    band. Downlink: noise 2 W, SNR 1.5 and 7.5: 200 log2(2.5) and 200 log2(8.5).
    """
    instance = hand_instance()
    found = verify_plan(instance, hand_plan(instance))
    parts = found.breakdown
    assert parts is not None
    a, b = parts.devices
    entropy_quarter = 2.0 - 0.75 * math.log2(3.0)
    # (1): 100 elements a sample; a: 0.5*4 + 1 + 0.5 = 3.5, b: 1 + H2(1/4) + 0.5
    assert a.uplink_bits_per_step == pytest.approx(2 * 100 * 3.5)
    assert b.uplink_bits_per_step == pytest.approx(100 * (1.5 + entropy_quarter))
    # (4): a: 2 (0.5 + 1) / 1 + 0.001 * 200; b: (0.5 + 3) / 2
    assert (a.s1_s, b.s1_s) == (pytest.approx(3.2), pytest.approx(1.75))
    assert a.s2_s == pytest.approx(700 / 100)
    assert b.s2_s == pytest.approx((150 + 100 * entropy_quarter) / 200)
    # (5): a: 2 (3*3 + 1) / 10, b: (1*3 + 1) / 10
    assert (a.s3_s, b.s3_s) == (pytest.approx(2.0), pytest.approx(0.4))
    # (6): a: 200 (2 + 0.5) bits, b: 100 (1 + 0.5) bits
    assert a.s4_s == pytest.approx(500 / (0.25 * 200 * math.log2(2.5)))
    assert b.s4_s == pytest.approx(150 / (0.75 * 200 * math.log2(8.5)))
    assert (a.s5_s, b.s5_s) == (pytest.approx(4.2), pytest.approx(3.0))
    # (7)
    assert parts.tau_u_s == pytest.approx(10.2)
    assert parts.server_s == pytest.approx(2.4)
    assert parts.tau_d_s == pytest.approx(max(a.s4_s + 4.2, b.s4_s + 3.0))
    assert b.slack_u_s == pytest.approx(10.2 - b.s1_s - b.s2_s)
    # (8): one block is 2*100*16 = 3200 bits; psd with the best shares
    down = 3200 / (200 * math.log2(2.5)) + 3 * 3200 / (200 * math.log2(8.5))
    assert parts.tau_a_s == pytest.approx(3200 / 200 + 3 * 3200 / 400 + down)
    # (9)
    assert found.objective_s == pytest.approx(10 * parts.step_s + parts.tau_a_s)
    # (10): 100 + b 10 + l 55 + b l 20
    assert (a.memory_bytes, b.memory_bytes) == (100 + 20 + 55 + 40, 100 + 10 + 165 + 60)
    # (11): max(2*3*20, 1*1*20) + 3*10 + 4*55 + 7
    assert parts.server_memory_bytes == 120 + 30 + 220 + 7
    # (12): a: .9 - .2/4 - 2.56/256 * .5; b: .9 - .2/2 - .01 * .25
    assert a.accuracy == pytest.approx(0.845)
    assert b.accuracy == pytest.approx(0.7975)
    assert parts.accuracy == pytest.approx(0.25 * 0.845 + 0.75 * 0.7975)
    assert found.feasible


def test_parallel_server_by_hand() -> None:
    data = hand_instance().to_dict()
    instance = Instance.model_validate({**data, "server_order": "parallel"})
    plan = hand_plan(instance)
    parts = verify_plan(instance, plan).breakdown
    assert parts is not None
    assert parts.server_s == pytest.approx(2.0)
    assert server_memory_bytes(instance, [1, 3]) == 120 + 20 + 30 + 220 + 7


def test_total_power_by_hand() -> None:
    """R(x) = x B log2(1 + s/x): at half the band SNRs double to 6 and 30."""
    instance = hand_instance(power="total")
    plan = hand_plan(instance)
    found = verify_plan(instance, plan)
    assert [v.family for v in found.violations] == [Family.ADAPTER_SHARE] * 2
    plan = plan_with(plan_with(plan, 0, adapter_uplink_share=0.5), 1, adapter_uplink_share=0.5)
    found = verify_plan(instance, plan)
    parts = found.breakdown
    assert found.feasible
    assert parts is not None
    assert parts.devices[0].s2_s == pytest.approx(700 / (50 * math.log2(7)))
    up = max(3200 / (50 * math.log2(7)), 3 * 3200 / (50 * math.log2(31)))
    down = 3200 / (200 * math.log2(2.5)) + 3 * 3200 / (200 * math.log2(8.5))
    assert parts.tau_a_s == pytest.approx(up + down)


def test_multicast_by_hand() -> None:
    """Block 1 is held by both and goes out at a's rate, blocks 2 and 3 at b's."""
    instance = hand_instance(adapter_downlink="multicast")
    parts = verify_plan(instance, hand_plan(instance)).breakdown
    assert parts is not None
    down = 3200 / (200 * math.log2(2.5)) + 2 * 3200 / (200 * math.log2(8.5))
    assert parts.tau_a_s == pytest.approx(3200 / 200 + 3 * 3200 / 400 + down)


def test_given_adapter_shares_count_under_psd() -> None:
    instance = hand_instance()
    plan = hand_plan(instance)
    plan = plan_with(plan_with(plan, 0, adapter_uplink_share=0.4), 1, adapter_uplink_share=0.6)
    best = verify_plan(instance, plan)  # 16 / 40 and 24 / 40 are the best shares
    left_out = verify_plan(instance, hand_plan(instance))
    assert best.objective_s == pytest.approx(left_out.objective_s)
    worse = plan_with(plan_with(plan, 0, adapter_uplink_share=0.5), 1, adapter_uplink_share=0.5)
    assert verify_plan(instance, worse).objective_s > best.objective_s  # type: ignore[operator]


def test_no_compression_has_full_accuracy_and_reference_bits() -> None:
    instance = sample_instance(modes=({"kind": "none", "bits": 32},))
    point = first_point(derive(instance))
    assert point is not None
    plan = to_plan(derive(instance), point, Provenance(), "x")
    parts = verify_plan(instance, plan).breakdown
    assert parts is not None
    assert parts.accuracy == pytest.approx(instance.accuracy.uncompressed, abs=1e-15)
    bits = instance.devices[0].batch * 197 * 768 * 32
    assert parts.devices[0].uplink_bits_per_step == bits


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("seed", range(4))
def test_judge_agrees_with_derived_arrays(name: str, seed: int) -> None:
    """Two roads from an instance to a delay: the judge's, and the arrays that solvers use."""
    instance = sample_instance(4, seed, **VARIANTS[name])
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    draw = np.random.default_rng(seed)
    cuts = draw.integers(derived.cut_low, derived.cut_high + 1)
    point = type(point)(cuts, point.choice, point.keep)
    plan = to_plan(derived, point, Provenance(), instance.name)
    found = verify_plan(instance, plan)
    expected = best_delay(derived, point)
    assert found.objective_s == pytest.approx(expected.round_s, rel=1e-12)
    parts = found.breakdown
    assert parts is not None
    assert parts.tau_u_s == pytest.approx(expected.tau_up_s, rel=1e-12)
    assert parts.tau_d_s == pytest.approx(expected.tau_down_s, rel=1e-12)
    losses = [
        float(derived.loss(derived.options[o], k, int(c)))
        for o, k, c in zip(point.choice, from_plan(derived, plan).keep, point.cuts, strict=True)
    ]
    got = [instance.accuracy.uncompressed - d.accuracy for d in parts.devices]
    assert got == pytest.approx(losses, abs=1e-14)


def good_plan(instance: Instance) -> Plan:
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    plan = to_plan(derived, point, Provenance(), instance.name)
    found = verify_plan(instance, plan)
    assert found.feasible, found.violations
    return plan


MUTATIONS = {
    "too much uplink": (Family.UPLINK_SHARE, {"uplink_share": 0.999}),
    "no uplink": (Family.UPLINK_SHARE, {"uplink_share": 0.0}),
    "negative uplink": (Family.UPLINK_SHARE, {"uplink_share": -0.1}),
    "too much downlink": (Family.DOWNLINK_SHARE, {"downlink_share": 0.999}),
    "no downlink": (Family.DOWNLINK_SHARE, {"downlink_share": 0.0}),
    "too much adapter": (Family.ADAPTER_SHARE, {"adapter_uplink_share": 1.0}),
    "negative adapter": (Family.ADAPTER_SHARE, {"adapter_uplink_share": -0.2}),
    "below the floor": (Family.DOMAIN, {"blocks": 0}),
    "negative blocks": (Family.DOMAIN, {"blocks": -1}),
    "all blocks": (Family.DOMAIN, {"blocks": 12}),
    "far too many blocks": (Family.DOMAIN, {"blocks": 99}),
    "keeps too little": (Family.DOMAIN, {"keep_fraction": 0.01}),
    "keeps too much": (Family.DOMAIN, {"keep_fraction": 0.999}),
    "keeps more than all": (Family.DOMAIN, {"keep_fraction": 1.5}),
    "bits not on offer": (Family.DOMAIN, {"bits": 5}),
    "mode not on offer": (Family.DOMAIN, {"mode": "dense", "keep_fraction": 1.0}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_plan_is_caught_under_its_family(name: str) -> None:
    family, change = MUTATIONS[name]
    instance = sample_instance(3, 1)
    broken = plan_with(good_plan(instance), 1, **change)
    found = verify_plan(instance, broken)
    assert not found.feasible
    assert family in {v.family for v in found.violations}
    assert all(v.amount > v.tolerance for v in found.violations)


def test_device_memory_is_caught_with_the_missing_bytes() -> None:
    instance = sample_instance(3, 1, workload={"block_weight_bytes": 4e8})
    derived = derive(instance)
    tight = int(np.argmin(derived.cut_high))
    cut = int(derived.cut_high[tight]) + 1
    assert cut <= 11
    found = verify_plan(instance, plan_with(good_plan(instance), tight, blocks=cut))
    (violation,) = [v for v in found.violations if v.family is Family.DEVICE_MEMORY]
    parts = found.breakdown
    assert parts is not None
    assert violation.index == f"dev{tight}"
    assert violation.amount == pytest.approx(-parts.devices[tight].memory_slack_bytes)


@pytest.mark.parametrize("order", ["in_turn", "parallel"])
def test_server_memory_is_caught(order: str) -> None:
    roomy = sample_instance(3, 1, server_order=order)
    plan = good_plan(roomy)
    needed = server_memory_bytes(roomy, [part.blocks for part in plan.devices])
    tight = sample_instance(3, 1, server_order=order, server={"memory_bytes": needed * 0.99})
    plan = plan.model_copy(update={"instance_hash": tight.hash})
    (violation,) = verify_plan(tight, plan).violations
    assert violation.family is Family.SERVER_MEMORY
    assert violation.amount == pytest.approx(needed * 0.01)


def test_mean_accuracy_is_caught() -> None:
    instance = sample_instance(3, 1)
    plan = good_plan(instance)
    for index in range(3):
        plan = plan_with(plan, index, keep_fraction=instance.keep_min)
    found = verify_plan(instance, plan)
    assert Family.ACCURACY in {v.family for v in found.violations}


def test_a_starved_device_is_caught_even_if_the_mean_holds() -> None:
    instance = sample_instance(3, 1, accuracy={"minimum_each": 0.895, "minimum": 0.6})
    plan = plan_with(good_plan(instance), 0, keep_fraction=instance.keep_min)
    found = verify_plan(instance, plan)
    assert {v.family for v in found.violations} == {Family.ACCURACY_EACH}
    assert found.violations[0].index == "dev0"


def test_scope_common_wants_one_mode_and_keep() -> None:
    instance = sample_instance(3, 1, accuracy={"scope": "common"})
    plan = good_plan(instance)
    other = plan_with(plan, 2, keep_fraction=plan.devices[2].keep_fraction + 0.01)
    found = verify_plan(instance, other)
    assert {(v.family, v.index) for v in found.violations} == {
        (Family.DOMAIN, "dev2.keep_fraction")
    }


@pytest.mark.parametrize("case", ["missing", "foreign", "twice"])
def test_the_roster_must_match(case: str) -> None:
    instance = sample_instance(3, 1)
    plan = good_plan(instance)
    parts = plan.devices
    devices = {
        "missing": parts[:2],
        "foreign": (*parts[:2], parts[2].model_copy(update={"id": "stranger"})),
        "twice": (*parts, parts[0]),
    }[case]
    found = verify_plan(instance, plan.model_copy(update={"devices": devices}))
    assert not found.feasible
    assert found.objective_s is None
    assert {v.family for v in found.violations} == {Family.DOMAIN}


def test_order_of_devices_in_the_plan_does_not_matter() -> None:
    instance = sample_instance(3, 1)
    plan = good_plan(instance)
    turned = plan.model_copy(update={"devices": plan.devices[::-1]})
    assert verify_plan(instance, turned) == verify_plan(instance, plan)


def test_a_plan_for_another_instance_is_not_accepted() -> None:
    instance = sample_instance(3, 1)
    plan = good_plan(instance)
    other = sample_instance(3, 1, radio={"uplink_bandwidth_hz": 7e6})
    found = verify_plan(other, plan)
    assert not found.hash_matches
    assert not found.feasible


def test_violations_inside_the_tolerance_are_forgiven_and_outside_are_not() -> None:
    instance = sample_instance(3, 1)
    plan = good_plan(instance)
    share = plan.devices[0].uplink_share
    assert verify_plan(instance, plan_with(plan, 0, uplink_share=share + 9e-10)).feasible
    assert not verify_plan(instance, plan_with(plan, 0, uplink_share=share + 2e-9)).feasible
    wide = plan_with(plan, 0, uplink_share=share + 9e-7)
    assert verify_plan(instance, wide, feas_tol=1e-6).feasible
    assert not verify_plan(instance, plan_with(wide, 0, uplink_share=share + 2e-6)).feasible


def test_shares_of_the_best_delay_are_the_best() -> None:
    """No shift of share between two devices makes the barrier earlier."""
    derived = derive(sample_instance(4, 2, radio={"power": "total"}))
    fixed = derived.s1_base_s + 2 * derived.s1_block_s
    bits = derived.elements * 1.5
    law = derived.uplink_law
    tau, shares = least_time(fixed, bits, law)
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)
    for giver in range(4):
        for taker in range(4):
            if giver != taker:
                moved = shares.copy()
                moved[giver] -= 1e-4
                moved[taker] += 1e-4
                assert (fixed + bits / law.rate(moved)).max() > tau
