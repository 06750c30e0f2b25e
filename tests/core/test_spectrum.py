"""The small problem (14) against closed forms, an independent solver, and its own optimality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from sftopt.core.spectrum import ConcaveRate, LinearRate, least_time


def test_equal_fixed_times_have_a_closed_form() -> None:
    bits, rate = np.array([3.0, 5.0, 2.0]), np.array([1.0, 2.0, 4.0])
    tau, shares = least_time(np.full(3, 7.0), bits, LinearRate(rate))
    assert tau == pytest.approx(7.0 + (bits / rate).sum(), rel=1e-15)
    assert shares == pytest.approx(bits / rate / (bits / rate).sum(), rel=1e-14)


def test_one_device_gets_the_whole_band() -> None:
    tau, shares = least_time(np.array([1.0]), np.array([8.0]), LinearRate(np.array([4.0])))
    assert (tau, shares[0]) == (pytest.approx(3.0), pytest.approx(1.0))


def test_devices_without_payload_get_nothing_but_hold_the_barrier() -> None:
    tau, shares = least_time(
        np.array([9.0, 1.0]), np.array([0.0, 8.0]), LinearRate(np.array([1.0, 4.0]))
    )
    assert tau == 9.0
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(8.0 / 8.0 / 4.0)


def test_no_rate_no_time() -> None:
    tau, _ = least_time(np.zeros(2), np.ones(2), LinearRate(np.array([1.0, 0.0])))
    assert tau == np.inf
    assert least_time(np.zeros(2), np.zeros(2), LinearRate(np.ones(2)))[0] == 0.0


def test_a_device_whose_computing_exceeds_all_others() -> None:
    fixed = np.array([1e9, 0.0, 0.0])
    tau, shares = least_time(fixed, np.ones(3), LinearRate(np.ones(3)))
    assert tau >= 1e9
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    devices=st.integers(1, 40),
    spread=st.floats(0.0, 9.0),
    total=st.booleans(),
)
def test_the_root_is_right_for_any_spread(
    seed: int, devices: int, spread: float, total: bool
) -> None:
    """Shares sum to 1, every device ends at tau, against brentq on the same equation."""
    draw = np.random.default_rng(seed)
    fixed = draw.uniform(0, 1, devices) * 10 ** draw.uniform(-spread / 2, spread / 2, devices)
    bits = 10 ** draw.uniform(-spread / 2, spread / 2, devices)
    scale = 10 ** draw.uniform(-spread / 2, spread / 2, devices)
    law: LinearRate | ConcaveRate = LinearRate(scale)
    if total:
        law = ConcaveRate(1.0, scale[:, None] * draw.gamma(4, 0.25, (devices, 16)), 7.4)
    tau, shares = least_time(fixed, bits, law)
    assert np.all(shares > 0.0)
    assert shares.sum() == pytest.approx(1.0, abs=1e-9)
    assert shares.sum() <= 1.0 + 4e-16 * devices
    ends = fixed + bits / law.rate(shares)
    assert ends.max() == pytest.approx(tau, rel=1e-9)

    def excess(log_room: float) -> float:
        room = np.exp(log_room) + (fixed.max() - fixed)
        demand, _ = law.inverse(bits / room)
        return float(min(demand.sum(), 1e300)) - 1.0

    root = brentq(excess, -60.0, 80.0, xtol=1e-13)
    assert tau == pytest.approx(float(fixed.max() + np.exp(root)), rel=1e-8)


def test_the_concave_law_inverts_its_rate() -> None:
    draw = np.random.default_rng(0)
    law = ConcaveRate(2e7, 10 ** draw.uniform(-2, 4, (50, 16)), 7.4)
    share = 10 ** draw.uniform(-6, 0, 50)
    found, slope = law.inverse(law.rate(share))
    assert found == pytest.approx(share, rel=1e-10)
    step = 1e-6 * share
    difference = (law.rate(share + step) - law.rate(share - step)) / (2 * step)
    assert 1.0 / slope == pytest.approx(difference, rel=1e-4)


def test_a_rate_beyond_any_share_is_infinite() -> None:
    law = ConcaveRate(1.0, np.ones((1, 16)), 7.4)
    share, _ = law.inverse(np.array([2.0]))  # at most 1 / ln 2 = 1.44
    assert share[0] == np.inf
