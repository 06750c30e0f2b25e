"""The round at fixed cuts and payloads: known answers, and two roads to every number.

Values are compared to 1e-12 and not digit by digit: compiled sums and vectorised logarithms differ
in their last digits from one processor to the next.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sftopt.core import spectrum
from sftopt.core.candidate import Candidate, Shares
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import AdapterDownlink, PowerLaw, ServerOrder
from sftopt.core.limits import least_loss_candidate
from sftopt.core.plan import Provenance
from sftopt.core.point import best_delay, to_plan
from sftopt.core.round import least_round, payload_rooms_s, round_problem, round_s, server_s
from sftopt.core.verify import verify_plan
from sftopt.formulations.base import Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.heuristics.constructive import first_point
from tests.samples import VARIANTS, sample_instance


def by_hand(**changes: object) -> Derived:
    """Two devices whose round can be calculated by hand."""
    numbers = {
        "s1_base_s": [1.0, 2.0], "s1_block_s": [0.5, 0.5],
        "s3_base_s": [3.0, 4.0], "s3_block_s": [0.5, 0.5],
        "s5_base_s": [0.0, 0.0], "s5_block_s": [1.0, 1.0],
        "uplink_full_bits_per_s": [4.0, 4.0], "downlink_full_bits_per_s": [8.0, 4.0],
    }  # fmt: skip
    arrays = {name: np.array(values) for name, values in numbers.items()}
    derived = replace(
        derive(sample_instance(2)), steps=10, power=PowerLaw.PSD, adapter_bits_per_block=8.0,
        server_order=ServerOrder.IN_TURN, adapter_downlink=AdapterDownlink.UNICAST, **arrays,
    )  # fmt: skip
    return replace(derived, **changes)  # type: ignore[arg-type]


CUTS = np.array([2, 0])
BITS_UP = np.array([4.0, 4.0])
BITS_DOWN = np.array([8.0, 4.0])


def test_the_round_by_hand() -> None:
    """Up: 2 s each, then 1 s each on the whole band. Down: 1/(t - 2) + 1/t = 1."""
    found = least_round(by_hand(), CUTS, BITS_UP, BITS_DOWN)
    assert found.tau_up_s == pytest.approx(4.0, rel=1e-14)
    assert found.shares.uplink == pytest.approx([0.5, 0.5], rel=1e-14)
    tau_down = 2.0 + math.sqrt(2.0)
    assert found.tau_down_s == pytest.approx(tau_down, rel=1e-14)
    assert found.shares.downlink == pytest.approx([1.0 / (tau_down - 2.0), 1.0 / tau_down])
    # adapters: 16 bits of one device, 4 s up and 2 s down
    assert found.round_s == pytest.approx(10.0 * (4.0 + 6.0 + tau_down) + 4.0 + 2.0, rel=1e-14)
    assert found.shares.adapter == pytest.approx([1.0, 0.0])


def test_times_at_cuts_and_the_servers_order() -> None:
    derived = by_hand()
    assert derived.s1_s(CUTS).tolist() == [2.0, 2.0]
    assert derived.s3_s(CUTS).tolist() == [2.0, 4.0]
    assert derived.s5_s(CUTS).tolist() == [2.0, 0.0]
    assert derived.adapter_bits(CUTS).tolist() == [16.0, 0.0]
    table = np.array([[2, 0], [1, 1]])
    assert derived.s1_s(table).tolist() == [[2.0, 2.0], [1.5, 2.5]]
    assert server_s(derived, CUTS) == 6.0
    assert server_s(by_hand(server_order=ServerOrder.PARALLEL), CUTS) == 4.0
    up, down = payload_rooms_s(derived, CUTS, 5.0, 1.0)
    assert up.tolist() == [3.0, 3.0]
    assert down.tolist() == [-1.0, 1.0]  # the first device is late


def test_multicast_sends_a_block_once_and_parallel_servers_work_side_by_side() -> None:
    both = np.array([2, 1])
    unicast = least_round(by_hand(), both, BITS_UP, BITS_DOWN)
    changed = by_hand(adapter_downlink=AdapterDownlink.MULTICAST)
    multicast = least_round(changed, both, BITS_UP, BITS_DOWN)
    # 1 s a block to the first, 2 s to the second: 4 s one by one, 2 s + 1 s together
    assert unicast.round_s - multicast.round_s == pytest.approx(1.0, rel=1e-12)
    parallel = by_hand(server_order=ServerOrder.PARALLEL)
    saved = unicast.round_s - least_round(parallel, both, BITS_UP, BITS_DOWN).round_s
    assert saved == pytest.approx(10.0 * 2.0, rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_judge_finds_the_same_round_at_any_shares(variant: str) -> None:
    instance = sample_instance(4, 1, **VARIANTS[variant])
    draw = np.random.default_rng(7)
    gains = [
        np.array([d.uplink_gain for d in instance.devices])[:, None] * draw.gamma(4, 0.25, (4, 3))
        for _ in range(2)
    ]
    channel = RoundChannel(gains[0], gains[1])
    derived = derive(instance, channel)
    point = first_point(derive(instance))
    assert point is not None
    problem = round_problem(derived, point.candidate(derived))
    assert problem.devices == 4
    assert set(problem.links()) <= {"uplink", "downlink", "adapter"}
    for _ in range(5):
        up, down = draw.dirichlet(np.ones(4)), draw.dirichlet(np.ones(4))
        adapter = draw.dirichlet(np.ones(4))
        if problem.adapter is None:  # psd: x^a is eliminated, (8)
            alone = point.cuts / derived.uplink_full_bits_per_s
            adapter = alone / alone.sum()
        shares = Shares(up, down, adapter)
        plan = to_plan(derived, point, Provenance(), instance.name, shares)
        found = verify_plan(instance, plan, channel=channel)
        assert found.feasible, found.violations
        assert round_s(problem, shares) == pytest.approx(found.objective_s, rel=1e-12)
    best = best_delay(derived, point)
    assert round_s(problem, best.shares) == pytest.approx(best.round_s, rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_two_searches_and_two_sums_give_one_round(variant: str, seed: int) -> None:
    """The compiled search summed as (9) writes it, and the guarded one link by link."""
    derived = derive(sample_instance(4, seed, **VARIANTS[variant]))
    point = first_point(derived)
    assert point is not None
    best = best_delay(derived, point)
    problem = round_problem(derived, point.candidate(derived))
    tau = {
        name: spectrum.least_time(link.fixed_s, link.payload_bits, link.law)[0]
        for name, link in problem.links().items()
    }
    assert tau["uplink"] == pytest.approx(best.tau_up_s, rel=1e-12)
    assert tau["downlink"] == pytest.approx(best.tau_down_s, rel=1e-12)
    total = problem.steps * (tau["uplink"] + tau["downlink"]) + tau.get("adapter", 0.0)
    assert total + problem.constant_s == pytest.approx(best.round_s, rel=1e-12)


def test_a_keep_fraction_counts_only_where_the_option_has_a_mask() -> None:
    derived = derive(sample_instance(3, 2, **VARIANTS["dense and none"]))
    plain = [index for index, option in enumerate(derived.options) if not option.has_mask]
    choices = np.array([plain[0], plain[-1], plain[0]])
    problems = [
        round_problem(derived, Candidate.of(derived.cut_low, choices, np.full(3, keep), 4))
        for keep in (1.0, 0.1, np.nan)
    ]
    for other in problems[1:]:
        assert np.array_equal(other.uplink.payload_bits, problems[0].uplink.payload_bits)
        assert np.array_equal(other.downlink.payload_bits, problems[0].downlink.payload_bits)


def test_a_payload_without_a_share_never_ends() -> None:
    derived = derive(sample_instance(3, 2))
    problem = round_problem(derived, least_loss_candidate(derived))
    half = np.array([0.5, 0.5, 0.0])
    assert round_s(problem, Shares(half, half, half)) == np.inf
    third = np.full(3, 1 / 3)
    assert np.isfinite(round_s(problem, Shares(third, third, third)))


def test_the_start_fixes_all_but_the_shares() -> None:
    derived = derive(sample_instance(3, 2))
    assert np.array_equal(least_loss_candidate(derived).cuts, derived.cut_low)
    point = first_point(derived)
    assert point is not None
    form = get_formulation("spectrum-native")
    problem = form.build(derived, Start(point.candidate(derived), 1.0))
    assert np.array_equal(problem.uplink.fixed_s, derived.s1_s(point.cuts))
    least = form.build(derived, None)
    assert np.array_equal(least.uplink.fixed_s, derived.s1_s(derived.cut_low))
