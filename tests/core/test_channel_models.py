"""Channels over time: 3GPP path loss by hand, fading laws by their moments, seeds by name."""

from __future__ import annotations

import numpy as np
import pytest

from sftopt.core.channel_models import ChannelKind, ChannelModel, SimulatedChannel, at_means
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.path_loss import URBAN_MACRO, URBAN_MICRO
from tests.samples import sample_instance


def gains(model: ChannelModel, seed: int, rounds: int, **radio: object) -> np.ndarray:
    """Fading over the mean, shape (rounds, devices, blocks)."""
    instance = sample_instance(3, 0, radio=radio)
    samples = SimulatedChannel(model, seed).samples(instance, rounds, rounds)
    return np.array([s.channel.uplink_gain / s.uplink_mean_gain[:, None] for s in samples])


def test_path_loss_by_hand() -> None:
    # TR 38.901 table 7.4.1-1 at 3.5 GHz, 100 m on the ground, device at 1.5 m
    sight = np.array([True, False])
    at = np.array([100.0, 100.0])
    macro = URBAN_MACRO.path_loss_db(at, 3.5e9, sight)
    distance = np.hypot(100.0, 23.5)
    assert macro[0] == pytest.approx(28.0 + 22 * np.log10(distance) + 20 * np.log10(3.5))
    assert macro[1] == pytest.approx(13.54 + 39.08 * np.log10(distance) + 20 * np.log10(3.5))
    micro = URBAN_MICRO.path_loss_db(at, 3.5e9, sight)
    distance = np.hypot(100.0, 8.5)
    assert micro[0] == pytest.approx(32.4 + 21 * np.log10(distance) + 20 * np.log10(3.5))
    assert micro[1] == pytest.approx(22.4 + 35.3 * np.log10(distance) + 21.3 * np.log10(3.5))


@pytest.mark.parametrize("scenario", [URBAN_MACRO, URBAN_MICRO])
def test_path_loss_has_no_step_at_the_breakpoint_and_no_sight_is_never_better(
    scenario: object,
) -> None:
    ground = np.linspace(40.0, 900.0, 20_000)
    clear = scenario.path_loss_db(ground, 3.5e9, np.ones(len(ground), dtype=bool))
    blocked = scenario.path_loss_db(ground, 3.5e9, np.zeros(len(ground), dtype=bool))
    assert np.abs(np.diff(clear)).max() < 0.05
    assert np.all(np.diff(clear) > 0.0)
    assert np.all(blocked >= clear)
    chance = scenario.sight_probability(ground)
    assert np.all((chance > 0.0) & (chance <= 1.0))
    assert np.all(np.diff(chance) < 0.0)


def test_fading_has_the_law_behind_the_statistics() -> None:
    # mean of n_c exponential powers: mean 1, variance 1 / n_c
    seen = gains(ChannelModel(correlation=0.0), 1, 4000, diversity_branches=4)
    assert seen.mean() == pytest.approx(1.0, abs=0.01)
    assert seen.var() == pytest.approx(0.25, abs=0.01)


def test_rates_average_to_those_of_the_large_problem() -> None:
    instance = sample_instance(3, 0)
    samples = SimulatedChannel(ChannelModel(correlation=0.0), 3).samples(instance, 2000, 2000)
    rates = np.mean([derive(instance, s.channel).uplink_full_bits_per_s for s in samples], axis=0)
    np.testing.assert_allclose(rates, derive(instance).uplink_full_bits_per_s, rtol=0.02)


def test_rician_fading_varies_less() -> None:
    seen = gains(ChannelModel(correlation=0.0, rician_k_db=10.0), 1, 2000, diversity_branches=1)
    factor = 10.0  # variance (2 K + 1) / (K + 1)^2
    assert seen.mean() == pytest.approx(1.0, abs=0.02)
    assert seen.var() == pytest.approx((2 * factor + 1) / (factor + 1) ** 2, rel=0.1)


@pytest.mark.parametrize("coefficient", [0.0, 0.6, 0.95])
def test_rounds_are_correlated_as_asked(coefficient: float) -> None:
    # |h|^2 of a complex autoregression has the coefficient squared
    seen = gains(ChannelModel(correlation=coefficient), 2, 4000, diversity_branches=1)
    flat = seen.reshape(len(seen), -1) - 1.0
    measured = (flat[1:] * flat[:-1]).mean() / (flat**2).mean()
    assert measured == pytest.approx(coefficient**2, abs=0.05)


def test_correlation_one_and_no_fading_stand_still() -> None:
    still = gains(ChannelModel(correlation=1.0), 2, 3)
    np.testing.assert_allclose(still[0], still[2], rtol=1e-12)
    assert np.all(gains(ChannelModel(), 0, 3, fading="none") == 1.0)


def test_doppler_makes_the_coefficient() -> None:
    assert ChannelModel(speed_m_per_s=0.0).coefficient == 1.0
    slow = ChannelModel(speed_m_per_s=0.5).coefficient
    fast = ChannelModel(speed_m_per_s=2.0).coefficient
    assert 0.0 <= fast < slow < 1.0
    assert ChannelModel(speed_m_per_s=30.0, sample_interval_s=0.0095).coefficient >= 0.0


def test_the_seed_decides_and_a_longer_run_begins_the_same() -> None:
    short, long = gains(ChannelModel(), 5, 4), gains(ChannelModel(), 5, 9)
    np.testing.assert_array_equal(short, long[:4])
    assert not np.array_equal(short, gains(ChannelModel(), 6, 4))


@pytest.mark.parametrize("kind", [ChannelKind.UMA, ChannelKind.UMI])
def test_cells_have_new_means_every_frame_and_devices_stay_inside(kind: ChannelKind) -> None:
    instance = sample_instance(20, 0)
    model = ChannelModel(kind=kind, frame_distance_m=60.0, cell_radius_m=150.0)
    samples = list(SimulatedChannel(model, 1).samples(instance, 30, 3))
    frames = {s.frame: s.uplink_mean_gain for s in samples}
    assert len(frames) == 10
    decibel = 10.0 * np.log10(np.array(list(frames.values())))
    assert np.all((decibel > -150.0) & (decibel < -40.0))
    assert np.all(np.abs(np.diff(decibel, axis=0)).max(axis=1) > 0.1)


def test_frame_instances_have_their_own_hash() -> None:
    instance = sample_instance(3, 0)
    plain, moved = (
        next(SimulatedChannel(ChannelModel(kind=kind), 0).samples(instance, 1, 1))
        for kind in (ChannelKind.INSTANCE, ChannelKind.UMI)
    )
    assert instance.hash  # cached before the copy is made
    assert at_means(instance, plain) is instance
    other = at_means(instance, moved)
    assert other.hash != instance.hash
    assert other.devices[1].uplink_gain == moved.uplink_mean_gain[1]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        next(SimulatedChannel(ChannelModel(), -1).samples(sample_instance(2, 0), 1, 1))
