"""Rounds of every order and scheme by hand: two devices with round numbers (0.5 s).

Everything expected is worked out here from the model's equations in plain arithmetic, on the cell
of ``tests/hand_cell.py``.
"""

from __future__ import annotations

import math

import pytest

from sftopt.core.verify import Family, verify_plan
from tests.hand_cell import BLOCK, L2, L8, UP, cell, judged, misses, plan_of

# --- parallel -----------------------------------------------------------------------------------


def test_splitlora_by_hand() -> None:
    """Cut 1, no compression, equal shares: 100 elements of 32 bits a sample, 50 bit/s of 100."""
    made = judged(cell(), plan_of(cell(), (1, 1)))
    # a: 2 (0.5 + 1)/1 + 0.2 of codec + 6400/100; b: (0.5 + 1)/2 + 3200/200
    up = (3.2 + 64.0, 0.75 + 16.0)
    server = 2 * (3 * 3 + 1) / 10 + (3 * 3 + 1) / 10
    down = (6400 / (0.5 * L2) + 4.0 + 0.2, 3200 / (0.5 * L8) + 1.0)
    adapters = max(BLOCK / 100, BLOCK / 200) + BLOCK / L2 + BLOCK / L8
    assert made.round_s == pytest.approx(10 * (max(up) + server + max(down)) + adapters)
    assert made.parts is not None
    assert made.parts.device_s == pytest.approx(10 * (3.2 + 4.2))  # a is last, up and down
    assert made.parts.uplink_s == pytest.approx(640.0)
    assert made.parts.adapters_s == pytest.approx(adapters)
    assert (made.bytes_up, made.bytes_down) == (10 * 9600 / 8, 10 * 9600 / 8)
    assert (made.bytes_adapters, made.bytes_head) == (4 * BLOCK / 8, 0.0)
    assert made.accuracy == 0.9


def test_side_bits_go_up_with_the_boundary() -> None:
    instance = cell(**{"workload.side_bits": 50.0})
    made = judged(instance, plan_of(instance, (1, 1)))
    assert made.devices[0].s2_s == pytest.approx((6400 + 100) / 100)
    assert made.devices[0].uplink_bits_per_step == 6400
    assert made.bytes_side == 10 * (100 + 50) / 8


def test_hsplitlora_by_hand() -> None:
    """Ranks 4 and 1 on cuts 2 and 1, P = 100, r_0 = 2: everything that follows the rank.

    F^f(r) = 1e9 + 2 10 100 (r - 2), F^b(r) likewise with 4; m_s = 3 bytes a rank, and each rank
    saves 10 tokens x 5 matrices x 2 bytes more.
    """
    rows = ({"rank": 4, "adapter_uplink_share": None}, {"rank": 1, "adapter_uplink_share": None})
    instance = cell()
    made = judged(instance, plan_of(instance, (2, 1), rows=rows))
    a, b = made.devices
    assert a.s1_s == pytest.approx(2 * (5e8 + 2 * (1e9 + 4000)) / 1e9 + 0.2, rel=1e-12)
    assert a.s5_s == pytest.approx(2 * 2 * (2e9 + 8000) / 1e9 + 0.2, rel=1e-12)
    assert b.s1_s == pytest.approx((5e8 + 1e9 - 2000) / 2e9, rel=1e-12)
    # the server's copy has the largest rank, 4, on all that it runs
    per_block = 3e9 + 12000
    assert a.s3_s == pytest.approx(2 * (2 * per_block + 1e9) / 1e10, rel=1e-12)
    assert b.s3_s == pytest.approx((3 * per_block + 1e9) / 1e10, rel=1e-12)
    assert a.memory_bytes == 100 + 2 * 10 + 2 * (50 + 12) + 2 * 2 * (2000 + 200)
    assert b.memory_bytes == 100 + 10 + (50 + 3) + (2000 - 100)
    assert made.server_memory_bytes == (max(2 * 2, 1 * 3) * 2200 + 2 * 3 + 30 + 4 * (50 + 12) + 7)
    # A(r) = 1600 r. Block 1, held by both: 4 and 1; block 2: a's 4, and the server's copy for b.
    # The dense update of 5 matrices with one side of 10: 10 (100 - 50) x 16 = 8000 caps both
    first, second = min(8000, 1600 * 5), min(8000, 1600 * (4 + 4))
    up = 2 * 6400 / UP[0] + 1600 / UP[1]
    assert made.tau_a_s == pytest.approx(up + (first + second) / L2 + first / L8)
    assert made.bytes_adapters == (2 * 6400 + 1600 + 2 * first + second) / 8
    # down once per block, at the rate of its weakest holder
    once = cell(**{"radio.adapter_downlink": "multicast"})
    made = judged(once, plan_of(once, (2, 1), rows=rows))
    assert made.tau_a_s == pytest.approx(up + first / L2 + second / L2)
    assert made.bytes_adapters == (2 * 6400 + 1600 + first + second) / 8


def test_concatenation_below_the_dense_update() -> None:
    """Ranks 1 and 2: 1600 and 3200 bits; where someone does not hold a block, the server's 3200."""
    rows = ({"rank": 1}, {"rank": 2})
    instance = cell()
    made = judged(instance, plan_of(instance, (1, 3), rows=rows))
    both, alone = 1600 + 3200, 3200 + 3200
    up = max(1600 / 100, 3 * 3200 / 200)
    assert made.tau_a_s == pytest.approx(up + both / L2 + (both + 2 * alone) / L8)


def test_equal_ranks_are_averaged_unless_concatenation_is_asked() -> None:
    instance = cell()
    rows = ({"rank": 2}, {"rank": 2})
    plain = judged(instance, plan_of(instance, (1, 3)))
    assert judged(instance, plan_of(instance, (1, 3), rows=rows)) == plain  # to the last bit
    asked = judged(instance, plan_of(instance, (1, 3), aggregation="concatenation"))
    both, alone = 2 * BLOCK, 2 * BLOCK
    up = max(BLOCK / 100, 3 * BLOCK / 200)
    assert asked.tau_a_s == pytest.approx(up + both / L2 + (both + 2 * alone) / L8)
    assert asked.step_s == plain.step_s
    four = judged(instance, plan_of(instance, (1, 3), rows=({"rank": 4}, {"rank": 4})))
    assert four.tau_a_s == pytest.approx(2 * plain.tau_a_s)
    uneven = plan_of(instance, (1, 3), rows=({"rank": 4}, {}), aggregation="averaging")
    assert (
        "ranks from 2 to 4 have no average"
        in misses(verify_plan(instance, uneven))["all.aggregation"]
    )


def test_tsflora_by_hand() -> None:
    """4 of 10 tokens in 8 bits: the device works on 10, the server on 4.

    F^f(4) = (1e9 - 4 100 10) 0.4 + 4 16 10, F^b with 8; m_a(4) = (2000 - 8 100) 0.4 + 8 16.
    """
    instance = cell()
    plan = plan_of(instance, (1, 2), "tokens4-8")
    made = judged(instance, plan, feasible=False)
    a, b = made.devices
    forward, backward = (1e9 - 4000) * 0.4 + 640, (2e9 - 8000) * 0.4 + 1280
    assert a.s1_s == pytest.approx(2 * 1.5 + 0.2)
    assert a.s2_s == pytest.approx(2 * 40 * 8 / 100)
    assert a.s3_s == pytest.approx(2 * (3 * (forward + backward) + 1e9) / 1e10, rel=1e-12)
    assert b.s3_s == pytest.approx((2 * (forward + backward) + 1e9) / 1e10, rel=1e-12)
    assert a.s4_s == pytest.approx(2 * 40 * 8 / (0.5 * L2))
    assert a.memory_bytes == 100 + 20 + 56 + 2 * 2000
    saved = (2000 - 800) * 0.4 + 128
    assert made.server_memory_bytes == pytest.approx(6 * saved + 2 * 3 + 30 + 4 * 56 + 7)
    # its accuracy is nobody's guess: all numbers are there, and the plan is not certified
    assert made.accuracy is None
    assert made.accuracy_slack is None
    assert (a.accuracy, b.accuracy) == (None, None)
    (violation,) = verify_plan(instance, plan).violations
    assert (violation.family, violation.index, violation.amount) == (Family.ACCURACY, "all", 2.0)
    assert "accuracy is not known, so that it cannot be certified" in violation.unit
    assert "'tokens4-8' has no measured loss" in violation.unit
    # measured: a loss, and bits of the gradient
    made = judged(instance, plan_of(instance, (1, 2), "measured"))
    assert made.accuracy == pytest.approx(0.88)
    assert made.devices[0].s4_s == pytest.approx(2 * 40 * 3 / (0.5 * L2))
    # the option of the cell comes first: reference bits for the tokens that were sent
    dense = cell(**{"radio.downlink": "dense"})
    made = judged(dense, plan_of(dense, (1, 2), "measured"))
    assert made.devices[0].s4_s == pytest.approx(2 * 40 * 32 / (0.5 * L2))


def test_tokens_need_a_block_an_encoder_and_the_workloads_heads() -> None:
    instance = cell()
    found = verify_plan(instance, plan_of(instance, (0, 1), "measured"))
    assert misses(found) == {"a.blocks": "blocks"}
    assert found.objective_s is not None
    decoder = cell(**{"workload.is_decoder": True})
    found = verify_plan(decoder, plan_of(decoder, (1, 1), "measured"))
    assert "needs an encoder with a CLS token" in misses(found)["a.mode"]
    assert found.objective_s is None
    bare = cell(**{"workload.heads": None, "workload.element_bytes": None})
    found = verify_plan(bare, plan_of(bare, (1, 1), "measured"))
    assert set(misses(found)) == {"all.workload.heads"} | {"all.workload.element_bytes"}
    assert verify_plan(bare, plan_of(bare, (1, 1))).feasible  # without tokens nothing is missing


def test_an_operating_point_by_hand() -> None:
    """1.5 bits up, 0.75 down, three times the codec seconds, a loss for each cut."""
    instance = cell()
    made = judged(instance, plan_of(instance, (1, 3), "codec"))
    a, b = made.devices
    assert a.s1_s == pytest.approx(3.0 + 3 * 0.2)
    assert a.s2_s == pytest.approx(2 * 100 * 1.5 / 100)
    assert a.s4_s == pytest.approx(2 * 100 * 0.75 / (0.5 * L2))
    assert a.s5_s == pytest.approx(4.0 + 3 * 0.2)
    assert (a.accuracy, b.accuracy) == (pytest.approx(0.88), pytest.approx(0.86))
    assert made.accuracy == pytest.approx(0.25 * 0.88 + 0.75 * 0.86)


def test_int8_by_hand() -> None:
    made = judged(cell(), plan_of(cell(), (1, 1), "dense8"))
    assert made.devices[0].s2_s == pytest.approx(2 * 100 * 8.25 / 100)
    assert made.devices[1].s4_s == pytest.approx(100 * 8.25 / (0.5 * L8))


# --- sequential ---------------------------------------------------------------------------------


def test_sl_by_hand_at_both_powers() -> None:
    """One device after another over the whole band; p_n / 2 halves the SNRs: 1.5 and 7.5."""
    instance = cell()
    for power, rates in (
        ("band", UP),
        ("share", (100 * math.log2(2.5), 100 * math.log2(8.5))),
    ):
        plan = plan_of(instance, (1, 3), share=1.0, order="sequential", sequential_power=power)
        made = judged(instance, plan)
        a = 3.2 + 6400 / rates[0] + 2 * (3 * 3 + 1) / 10 + 6400 / L2 + 4.2
        b = 1.75 + 3200 / rates[1] + (1 * 3 + 1) / 10 + 3200 / L8 + 3.0
        adapters = BLOCK * (1 / L2 + 1 / rates[0]) + 3 * BLOCK * (1 / L8 + 1 / rates[1])
        assert made.round_s == pytest.approx(10 * (a + b) + adapters)
        assert made.tau_a_s == pytest.approx(adapters)
        assert {(d.slack_u_s, d.slack_d_s) for d in made.devices} == {(0.0, 0.0)}
        # (11) of one device at a time: max b (m_0b + (L - l) m_a), and the head's largest
        assert made.server_memory_bytes == 2 * (10 + 3 * 2000) + 2 * 3 + 4 * 56 + 7
        assert made.bytes_adapters == 2 * 4 * BLOCK / 8
        assert made.radiated_w_max == (1.0 if power == "band" else 0.5)
        assert made.parts is not None
        assert made.parts.uplink_s == pytest.approx(10 * (6400 / rates[0] + 3200 / rates[1]))


def test_card_has_a_server_speed_for_each_device() -> None:
    instance = cell(
        **{"server.compute_min_flops_per_s": 2e9, "server.compute_max_flops_per_s": 2e10}
    )
    rows = ({"server_flops_per_s": 2e9}, {"server_flops_per_s": 2e10})
    made = judged(instance, plan_of(instance, (1, 3), share=1.0, rows=rows, order="sequential"))
    assert made.devices[0].s3_s == pytest.approx(2 * 10 / 2)
    assert made.devices[1].s3_s == pytest.approx(4 / 20)
    # kappa_s f^2 FLOP of each: 2e-30 x (4e18 x 2e10 + 4e20 x 4e9), ten steps
    assert made.energy_server_j == pytest.approx(10 * 2e-30 * (8e28 + 1.6e30))
    slow = ({"server_flops_per_s": 1e9}, {"server_flops_per_s": 2.5e9})
    found = verify_plan(
        instance, plan_of(instance, (1, 3), share=1.0, rows=slow, order="sequential")
    )
    (violation,) = found.violations
    assert (violation.index, violation.amount) == ("a.server_flops_per_s", 1e9)
    assert found.objective_s is not None
    # where no range is given it is a quarter of f_s, and f_s
    found = verify_plan(cell(), plan_of(cell(), (1, 3), rows=slow))
    assert {v.index: v.amount for v in found.violations} == {"a.server_flops_per_s": 1.5e9}


def test_a_sequential_plan_has_the_whole_band() -> None:
    instance = cell()
    found = verify_plan(instance, plan_of(instance, (1, 3), order="sequential"))
    assert {(v.family, v.index, v.amount) for v in found.violations} == {
        (family, name, 0.5)
        for family in (Family.UPLINK_SHARE, Family.DOWNLINK_SHARE, Family.ADAPTER_SHARE)
        for name in "ab"
    }
    asked = plan_of(instance, (1, 3), share=1.0, order="sequential", aggregation="averaging")
    assert (
        "hands adapters from one device to the next"
        in misses(verify_plan(instance, asked))["all.aggregation"]
    )


# --- federated ----------------------------------------------------------------------------------


def test_fedlora_by_hand() -> None:
    """The whole model on the device, the head too: 25 x 16 = 400 bits each way."""
    instance = cell()
    plan = plan_of(instance, (4, 4), order="federated")
    made = judged(instance, plan)
    # b (0.5 + 4 x 3 + 1) / f
    a, b = 2 * 13.5 / 1, 13.5 / 2
    up = (4 * BLOCK + 400) / 100
    down = (4 * BLOCK + 400) * (1 / L2 + 1 / L8)
    assert made.round_s == pytest.approx(10 * a + up + down)
    assert [d.s1_s for d in made.devices] == [pytest.approx(a), pytest.approx(b)]
    assert made.devices[1].slack_u_s == pytest.approx(a - b)
    assert made.devices[0].memory_bytes == 100 + 20 + 4 * 56 + 2 * 4 * 2000 + 11 + 2 * 3
    assert made.server_memory_bytes == 4 * 56 + 7
    assert (made.bytes_up, made.bytes_down, made.bytes_side) == (0.0, 0.0, 0.0)
    assert (made.bytes_adapters, made.bytes_head) == (4 * 4 * BLOCK / 8, 4 * 400 / 8)
    assert made.energy_server_j == 0.0
    assert made.accuracy == 0.9
    # mode none need not be on offer, the best adapter shares equalise the uploads
    few = cell(**{"compression.modes": [{"bits": 4}]})
    rows = ({"adapter_uplink_share": None}, {"adapter_uplink_share": None})
    free = plan_of(instance, (4, 4), rows=rows, order="federated")
    made = judged(few, free.model_copy(update={"instance_hash": few.hash}))
    assert made.tau_a_s == pytest.approx((4 * BLOCK + 400) * (1 / 200 + 1 / 400) + down)


def test_what_a_federated_plan_needs() -> None:
    instance = cell()
    found = verify_plan(instance, plan_of(instance, (3, 4), order="federated"))
    assert misses(found) == {"a.blocks": "blocks: order federated trains all 4 on the device"}
    assert found.objective_s is None
    found = verify_plan(instance, plan_of(instance, (4, 4), "dense8", order="federated"))
    assert "it has to be none" in misses(found)["a.mode"]
    bare = cell(**{"workload.head_parameters": None})
    found = verify_plan(bare, plan_of(bare, (4, 4), order="federated"))
    assert set(misses(found)) == {"all.workload.head_parameters"}
    most = cell(**{"devices[b].blocks_max": 2})
    found = verify_plan(most, plan_of(most, (4, 4), order="federated"))
    assert {v.index: v.amount for v in found.violations} == {"b.blocks": 2.0}
    tight = cell(**{"devices[a].memory_bytes": 16360.0})  # 16361 are needed
    found = verify_plan(tight, plan_of(tight, (4, 4), order="federated"))
    assert {(v.family, v.index, v.amount) for v in found.violations} == {
        (Family.DEVICE_MEMORY, "a", 1.0)
    }
    # a boundary has no such end: all blocks on the device are one too many
    found = verify_plan(instance, plan_of(instance, (4, 1)))
    assert misses(found) == {"a.blocks": "blocks"}


# --- energy -------------------------------------------------------------------------------------


def test_energy_by_hand_under_both_power_laws() -> None:
    """Joules: kappa f^2 FLOP, and watts times seconds sent; psd sends x_n of its power."""
    instance = cell()
    made = judged(instance, plan_of(instance, (1, 1)))
    compute = 10 * (3e-27 * 1e18 * 2 * 3.5e9 + 1e-27 * 4e18 * 3.5e9)
    # psd: half of 1 W for 64 s and 16 s a step, and for the adapters' 32 s and 16 s
    radio = 0.5 * (10 * (64 + 16) + 32 + 16)
    assert made.energy_device_j == pytest.approx(compute + radio)
    assert made.energy_server_j == pytest.approx(10 * 2e-30 * 1e20 * 3e10)
    assert made.radiated_w_max == 0.5
    # best adapter shares: each sends for as long as all, on its share: 1 W x bits / whole rate
    rows = ({"adapter_uplink_share": None}, {"adapter_uplink_share": None})
    best = judged(instance, plan_of(instance, (1, 1), rows=rows))
    radio = 0.5 * 10 * (64 + 16) + BLOCK / 200 + BLOCK / 400
    assert best.energy_device_j == pytest.approx(compute + radio)
    assert best.radiated_w_max == pytest.approx(2 / 3)  # a needs 16 of the 24 s
    # total: all of 1 W on half the band, where the SNR doubles to 6 and 30
    total = cell(**{"radio.power": "total"})
    made = judged(total, plan_of(total, (1, 1)))
    sent = 10 * (6400 / (50 * math.log2(7)) + 3200 / (50 * math.log2(31)))
    sent += BLOCK / (50 * math.log2(7)) + BLOCK / (50 * math.log2(31))
    assert made.energy_device_j == pytest.approx(compute + sent)
    assert made.radiated_w_max == 1.0


def test_a_coefficient_that_is_not_known_makes_its_energy_unknown() -> None:
    instance = cell(**{"devices[b].energy_coefficient_j_s2_per_flop3": None})
    made = judged(instance, plan_of(instance, (1, 1)))
    assert made.energy_device_j is None
    assert made.energy_server_j is not None
    instance = cell(**{"server.energy_coefficient_j_s2_per_flop3": None})
    made = judged(instance, plan_of(instance, (1, 1)))
    assert made.energy_server_j is None
    assert made.energy_device_j is not None


@pytest.mark.parametrize(("rank", "amount"), [(0, 1.0), (-3, 4.0), (11, 1.0)])
def test_a_rank_out_of_range_is_named(rank: int, amount: float) -> None:
    instance = cell()
    found = verify_plan(instance, plan_of(instance, (1, 1), rows=({"rank": rank}, {})))
    (violation,) = [v for v in found.violations if v.family is Family.DOMAIN]
    assert (violation.index, violation.amount) == ("a.rank", amount)
    assert found.objective_s is None
