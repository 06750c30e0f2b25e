"""The compiled small problem (14): certificates in 50 digits, properties, many rounds at once."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq

from sftopt.core import least_time_compiled, spectrum
from sftopt.core.errors import InputError
from sftopt.core.least_time import least_time, least_times
from sftopt.core.spectrum import ConcaveRate, LinearRate, RateLaw

Array = NDArray[np.float64]
Link = tuple[Array, Array, RateLaw]


def draw_link(seed: int, devices: int, spread: float, total: bool) -> Link:
    """A random link: ``spread`` decades in fixed times, payloads and gains."""
    draw = np.random.default_rng(seed)

    def decades() -> Array:
        return np.asarray(10 ** draw.uniform(-spread / 2, spread / 2, devices))

    fixed, bits, gain = draw.uniform(0, 1, devices) * decades(), decades(), decades()
    if not total:
        return fixed, bits, LinearRate(gain)
    terms = gain[:, None] * draw.gamma(4, 0.25, (devices, int(draw.choice([1, 4, 16]))))
    return fixed, bits, ConcaveRate(float(decades()[0]), terms, float(draw.choice([0.1, 2, 7.4])))


def exact_ends(fixed: Array, bits: Array, law: RateLaw, shares: Array) -> list[Decimal]:
    """When each device ends, in 50 digits, at its part of the sum of ``shares``."""
    with localcontext() as context:
        context.prec = 50
        total = sum(Decimal(x) for x in shares.tolist())
        ends = []
        for n, share in enumerate(Decimal(x) / total for x in shares.tolist()):
            if isinstance(law, LinearRate):
                rate = share * Decimal(float(law.full_bits_per_s[n]))
            else:
                cap, terms = Decimal(law.cap_bits_per_s_hz), law.snr_terms[n].tolist()
                each = [(1 + Decimal(a) / share).ln() / Decimal(2).ln() for a in terms]
                mean = sum(min(one, cap) for one in each) / len(terms)
                rate = share * Decimal(law.bandwidth_hz) * mean
            ends.append(Decimal(float(fixed[n])) + Decimal(float(bits[n])) / rate)
        return ends


def assert_certified(link: Link, tau: float, shares: Array) -> None:
    """At shares that sum to 1 the optimum lies between the first and the last end.

    Were every end below it, every device would hold more than its best share. So tau is proven to
    the distance of the two, by arithmetic that has nothing in common with the compiled functions.
    """
    ends = exact_ends(*link, shares)
    assert shares.sum() == pytest.approx(1.0, abs=4e-15)
    assert shares.sum() <= 1.0 + 4e-16 * len(shares)
    for end in (min(ends), max(ends)):
        assert abs(float(end / Decimal(tau)) - 1.0) <= 2e-14


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    devices=st.integers(1, 12),
    spread=st.floats(0.0, 9.0),
    total=st.booleans(),
)
def test_tau_is_certified_to_fourteen_digits(
    seed: int, devices: int, spread: float, total: bool
) -> None:
    link = draw_link(seed, devices, spread, total)
    tau, shares = least_time(*link)
    assert_certified(link, tau, shares)


@pytest.mark.parametrize("devices", [2, 10, 100])
@pytest.mark.parametrize("total", [False, True])
def test_tau_equals_a_scalar_root_search(devices: int, total: bool) -> None:
    """Against brentq on SUM x_n(tau) = 1 with brentq for every x_n(tau)."""
    fixed, bits, law = draw_link(devices, devices, 2.0, total)

    def share_of(n: int, tau: float) -> float:
        one, rate = law.select(np.arange(devices) == n), bits[n] / (tau - fixed[n])

        def lack(log_share: float) -> float:
            return float(np.log(one.rate(np.exp([log_share]))[0] / rate))

        return 1.0 if lack(0.0) < 0.0 else float(np.exp(brentq(lack, -60.0, 0.0, xtol=1e-14)))

    alone = fixed + bits / law.full()
    low, high = float(alone.max()), float(fixed.max() + (bits / law.full()).sum())
    root = brentq(
        lambda tau: sum(share_of(n, tau) for n in range(devices)) - 1.0,
        low * (1.0 + 1e-12), high * (1.0 + 1e-9), xtol=1e-12 * low, rtol=1e-13,
    )  # fmt: skip
    assert least_time(fixed, bits, law)[0] == pytest.approx(root, rel=1e-11)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), total=st.booleans(), factor=st.floats(1.0, 100.0))
def test_more_work_or_less_signal_never_ends_sooner(seed: int, total: bool, factor: float) -> None:
    fixed, bits, law = draw_link(seed, 6, 3.0, total)
    tau, shares = least_time(fixed, bits, law)
    up = np.where(np.arange(6) == seed % 6, factor, 1.0)
    weaker: RateLaw = (
        LinearRate(law.full_bits_per_s / up)
        if isinstance(law, LinearRate)
        else ConcaveRate(law.bandwidth_hz, law.snr_terms / up[:, None], law.cap_bits_per_s_hz)
    )
    for other in ((fixed * up, bits, law), (fixed, bits * up, law), (fixed, bits, weaker)):
        assert least_time(*other)[0] >= tau * (1.0 - 1e-14)
    draw = np.random.default_rng(seed)
    for _ in range(5):  # no other shares end sooner
        tried = draw.dirichlet(shares * 50.0 + 1e-3)
        with np.errstate(divide="ignore"):
            assert (fixed + bits / law.rate(np.maximum(tried, 1e-300))).max() >= tau * (1 - 1e-14)


def test_closed_forms() -> None:
    bits, rate = np.array([3.0, 5.0, 2.0]), np.array([1.0, 2.0, 4.0])
    tau, shares = least_time(np.full(3, 7.0), bits, LinearRate(rate))
    assert tau == pytest.approx(7.0 + (bits / rate).sum(), rel=1e-15)
    assert shares == pytest.approx(bits / rate / (bits / rate).sum(), rel=1e-14)
    law = ConcaveRate(2.0, np.full((4, 3), 5.0), 7.4)  # four alike: a quarter each
    tau, shares = least_time(np.full(4, 1.0), np.full(4, 3.0), law)
    assert shares == pytest.approx(np.full(4, 0.25), rel=1e-15)
    assert tau == pytest.approx(1.0 + 3.0 / (0.25 * 2.0 * np.log2(21.0)), rel=1e-15)
    tau, shares = least_time(np.ones(1), np.full(1, 8.0), ConcaveRate(4.0, np.ones((1, 1)), 7.4))
    assert (tau, shares[0]) == (pytest.approx(3.0, rel=1e-15), 1.0)  # alone: the whole band


@pytest.mark.parametrize("total", [False, True])
def test_a_device_whose_computing_exceeds_all_others(total: bool) -> None:
    """1e9 s of computing against 1 s of payload: the shares still settle the last digits."""
    _, bits, law = draw_link(3, 4, 1.0, total)
    fixed = np.array([1e9, 0.0, 1.0, 2.0])
    tau, shares = least_time(fixed, bits, law)
    assert_certified((fixed, bits, law), tau, shares)
    assert shares[0] > 0.999
    own_s = float(bits[0] / law.full()[0])
    assert own_s <= tau - 1e9 <= own_s * 1.001 + 1e-6


@pytest.mark.parametrize("total", [False, True])
def test_devices_without_payload_get_nothing_but_hold_the_barrier(total: bool) -> None:
    fixed, bits, law = draw_link(5, 6, 2.0, total)
    bits[[1, 4]] = 0.0
    tau, shares = least_time(fixed, bits, law)
    assert np.all(shares[[1, 4]] == 0.0)
    sends = bits > 0.0
    part = (fixed[sends], bits[sends], law.select(sends))
    assert tau == pytest.approx(least_time(*part)[0], rel=2e-15)
    fixed[1] = 3.0 * tau
    tau, shares = least_time(fixed, bits, law)
    assert tau == fixed[1]
    assert shares.sum() < 1.0
    room = tau - fixed[sends]
    assert law.select(sends).rate(shares[sends]) == pytest.approx(bits[sends] / room, rel=1e-12)
    assert least_time(fixed, np.zeros(6), law) == (fixed[1], pytest.approx(np.zeros(6), abs=0.0))


def test_no_rate_no_time_and_nearly_no_rate_a_long_one() -> None:
    bits = np.ones(3)
    for dead, law in (
        (0.0, LinearRate(np.array([1.0, 0.0, 1.0]))),
        (0.0, ConcaveRate(1.0, np.array([[1.0], [0.0], [1.0]]), 7.4)),
    ):
        tau, shares = least_time(np.zeros(3), bits, law)
        assert tau == np.inf
        assert np.all(shares == dead)
    weak = ConcaveRate(1e6, np.array([[1e3, 1e2], [1e-12, 1e-13], [1e1, 1e1]]), 7.4)
    tau, shares = least_time(np.zeros(3), np.full(3, 1e6), weak)
    assert_certified((np.zeros(3), np.full(3, 1e6), weak), tau, shares)
    # all its power on any band: R -> B mean(a) / ln 2
    assert tau == pytest.approx(np.log(2.0) / 5.5e-13, rel=1e-6)


@pytest.mark.parametrize("cap", [0.01, 0.1, 0.3])
def test_kinks_at_which_full_steps_circle(cap: float) -> None:
    """Caps of a fraction of a bit/s/Hz: full Newton steps alone circle in 3 % of such draws."""
    for seed in range(60):
        draw = np.random.default_rng(seed)
        terms = 10 ** draw.uniform(-2, 2, (60, 1)) * 10 ** draw.uniform(-6, 6, (60, 2))
        link = (np.zeros(60), 10 ** draw.uniform(-2, 2, 60), ConcaveRate(1.0, terms, cap))
        tau, shares = least_time(*link)
        ends = link[1] / link[2].rate(shares)
        assert shares.sum() == pytest.approx(1.0, abs=4e-15)
        assert ends.max() == pytest.approx(tau, rel=2e-14)
        assert ends.min() == pytest.approx(tau, rel=2e-14)


def test_without_convergence_the_guarded_search_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*arguments: object) -> tuple[float, bool]:
        return 0.5, False

    def gives_up_once(*arguments: Array) -> int:
        arguments[-2][:] = [-1.0, 1.0]
        return 1

    link = draw_link(4, 5, 2.0, True)
    expected = spectrum.least_time(*link)
    monkeypatch.setattr(least_time_compiled, "concave_round", gives_up)
    monkeypatch.setattr(least_time_compiled, "concave_rounds", gives_up_once)
    tau, shares = least_time(*link)
    assert tau == expected[0]
    assert np.array_equal(shares, expected[1])
    many, rows = least_times(np.vstack([link[0], link[0]]), link[1], link[2])
    assert many.tolist() == [expected[0], 1.0]
    assert np.array_equal(rows[0], expected[1])


@pytest.mark.parametrize("total", [False, True])
def test_the_plain_implementation_agrees(total: bool) -> None:
    for seed in range(40):
        link = draw_link(seed, 1 + seed, 4.0, total)
        tau, shares = least_time(*link)
        plain_tau, plain_shares = spectrum.least_time(*link)
        assert tau == pytest.approx(plain_tau, rel=1e-13)
        assert shares == pytest.approx(plain_shares, rel=1e-8)


def many_rounds(total: bool, rounds: int = 7, devices: int = 9) -> Link:
    draw = np.random.default_rng(11)
    fixed = draw.uniform(0, 2, (rounds, devices))
    bits = draw.uniform(0.5, 5, (rounds, devices)) * (draw.random((rounds, devices)) < 0.9)
    gain = 10 ** draw.uniform(-2, 2, (rounds, devices))
    if not total:
        return fixed, bits, LinearRate(gain)
    return fixed, bits, ConcaveRate(3.0, gain[..., None] * draw.gamma(4, 0.25, (*gain.shape, 4)), 6)


def one_round(law: RateLaw, t: int) -> RateLaw:
    if isinstance(law, LinearRate):
        return LinearRate(law.full_bits_per_s[t])
    return ConcaveRate(law.bandwidth_hz, law.snr_terms[t], law.cap_bits_per_s_hz)


@pytest.mark.parametrize("total", [False, True])
def test_many_rounds_are_single_rounds_to_the_last_digits(total: bool) -> None:
    # a processor's vector units may sum in another order when rounds are solved in one loop
    fixed, bits, law = many_rounds(total)
    tau, shares = least_times(fixed, bits, law)
    shared_tau, shared = least_times(fixed[0], bits[0], law)
    for t in range(len(tau)):
        alone_tau, alone = least_time(fixed[t], bits[t], one_round(law, t))
        assert tau[t] == pytest.approx(alone_tau, rel=1e-14)
        assert shares[t] == pytest.approx(alone, rel=1e-12)
        alone_tau, alone = least_time(fixed[0], bits[0], one_round(law, t))
        assert shared_tau[t] == pytest.approx(alone_tau, rel=1e-14)
        assert shared[t] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("total", [False, True])
def test_an_outage_spoils_its_own_round_only(total: bool) -> None:
    fixed, bits, law = many_rounds(total)
    before, _ = least_times(fixed, bits, law)
    rates = law.full_bits_per_s if isinstance(law, LinearRate) else law.snr_terms
    bits[3, 2], before[3] = 1.0, np.inf
    rates[3, 2] = 0.0
    after, shares = least_times(fixed, bits, law)
    assert after == pytest.approx(before, rel=1e-14)
    assert np.all(shares[3] == 0.0)


def test_the_last_rounds_shares_are_a_start_and_nothing_more() -> None:
    fixed, bits, law = many_rounds(True)
    tau, shares = least_times(fixed, bits, law)
    near = np.roll(shares, 1, axis=0)
    again, warm = least_times(fixed, bits, law, near)
    assert again == pytest.approx(tau, rel=1e-14)
    assert warm == pytest.approx(shares, rel=1e-12)
    for useless in (np.zeros(9), np.full(9, 1e-9), np.ones(9)):
        again, _ = least_times(fixed, bits, law, useless)
        assert again == pytest.approx(tau, rel=1e-14)


def test_rounds_that_do_not_fit_are_refused() -> None:
    fixed, bits, law = many_rounds(False)
    with pytest.raises(InputError, match="rounds and devices must agree"):
        least_times(fixed[:, :5], bits, law)
    with pytest.raises(InputError, match="rounds and devices must agree"):
        least_times(fixed[:3], bits, law)
