"""The small problem as arrays against the judge: any shares, the same round."""

from __future__ import annotations

import numpy as np
import pytest

from sftopt.core.candidate import Shares
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import derive
from sftopt.core.plan import Provenance
from sftopt.core.verify import verify_plan
from sftopt.formulations.base import Start
from sftopt.formulations.registry import get_formulation
from sftopt.formulations.round_problem import fixed_candidate, round_problem, round_s
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.point import best_delay, to_plan
from tests.samples import VARIANTS, sample_instance


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
    best_shares = Shares(best.uplink_shares, best.downlink_shares, best.adapter_shares)
    assert round_s(problem, best_shares) == pytest.approx(best.round_s, rel=1e-12)


def test_a_payload_without_a_share_never_ends() -> None:
    derived = derive(sample_instance(3, 2))
    problem = round_problem(derived, fixed_candidate(derived, None))
    half = np.array([0.5, 0.5, 0.0])
    assert round_s(problem, Shares(half, half, half)) == np.inf
    third = np.full(3, 1 / 3)
    assert np.isfinite(round_s(problem, Shares(third, third, third)))


def test_the_start_fixes_all_but_the_shares() -> None:
    derived = derive(sample_instance(3, 2))
    least = fixed_candidate(derived, None)
    assert np.array_equal(least.cuts, derived.cut_low)
    point = first_point(derived)
    assert point is not None
    candidate = point.candidate(derived)
    assert fixed_candidate(derived, Start(candidate, 1.0)) is candidate
    problem = get_formulation("spectrum-native").build(derived, Start(candidate, 1.0))
    assert np.array_equal(
        problem.uplink.fixed_s, derived.s1_base_s + point.cuts * derived.s1_block_s
    )
