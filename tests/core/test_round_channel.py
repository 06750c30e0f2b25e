"""One round's known gains in place of the channel's statistics, equation (14)."""

from __future__ import annotations

import numpy as np
import pytest

import sftopt
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from tests.samples import VARIANTS, sample_instance


@pytest.mark.parametrize("variant", ["plain", "total power"])
def test_the_statistics_given_as_gains_change_nothing(variant: str) -> None:
    instance = sample_instance(**VARIANTS[variant])
    plan = sftopt.solve(instance, solver="constructive").plan
    assert plan is not None
    nominal = verify_plan(instance, plan)
    again = verify_plan(instance, plan, channel=statistical_channel(instance))
    assert again.objective_s == nominal.objective_s


@pytest.mark.parametrize("variant", ["plain", "total power"])
def test_better_gains_shorten_the_round_and_solver_and_judge_agree(variant: str) -> None:
    instance = sample_instance(**VARIANTS[variant])
    nominal = statistical_channel(instance)
    better = RoundChannel(2.0 * nominal.uplink_gain, 2.0 * nominal.downlink_gain)
    plain = sftopt.solve(instance, solver="constructive")
    faster = sftopt.solve(instance, solver="constructive", channel=better)
    assert faster.plan is not None
    assert faster.objective_s is not None
    assert plain.objective_s is not None
    assert faster.objective_s < plain.objective_s
    judged = verify_plan(instance, faster.plan, channel=better)
    assert judged.objective_s == faster.objective_s


def test_rates_average_over_blocks() -> None:
    instance = sample_instance(3, 1)
    one = statistical_channel(instance)
    split = RoundChannel(one.uplink_gain[:, :2], one.downlink_gain[:, :2])
    parts = [
        derive(instance, RoundChannel(one.uplink_gain[:, [k]], one.downlink_gain[:, [k]]))
        for k in range(2)
    ]
    mean = sum(part.uplink_full_bits_per_s for part in parts) / 2.0
    np.testing.assert_allclose(derive(instance, split).uplink_full_bits_per_s, mean, rtol=1e-14)


def test_an_outage_of_the_round_names_the_device() -> None:
    instance = sample_instance(3, 1)
    gains = statistical_channel(instance)
    dark = gains.uplink_gain.copy()
    dark[1] = 0.0
    result = sftopt.solve(instance, channel=RoundChannel(dark, gains.downlink_gain))
    assert result.termination is Termination.INFEASIBLE_PROVEN
    assert result.point is Point.NONE
    assert instance.devices[1].id in result.message


@pytest.mark.parametrize(
    ("up", "down", "said"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), "shape"),
        (np.full((3, 1), np.nan), np.ones((3, 1)), "uplink gains"),
        (np.ones((3, 1)), -np.ones((3, 1)), "downlink gains"),
    ],
)
def test_gains_that_cannot_be_are_refused(up: np.ndarray, down: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        RoundChannel(up, down)


def test_a_channel_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="has 2 devices"):
        derive(sample_instance(3, 1), RoundChannel(np.ones((2, 1)), np.ones((2, 1))))
