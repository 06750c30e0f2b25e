"""The small problem (14): the least barrier time of one link, by vectorised root searches.

Given every device's fixed time a_n and payload D_n, the least tau with
SUM x_n <= 1 and tau >= a_n + D_n / R_n(x_n). At the optimum every device with a payload ends at
tau, so the shares are x_n = R_n^-1(D_n / (tau - a_n)) and tau is the root of SUM x_n(tau) = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.entropy import LN2

Array = NDArray[np.float64]

_MAX_STEPS = 200
"""Most steps of any root search here; far more than a search needs."""
_WEAK = 4e-12
"""Relative time given away where a rate hardly depends on its share; :meth:`ConcaveRate.inverse`
calls no rate possible that is within a quarter of it of the ceiling."""
_NOTHING_BITS = 1e-200
"""Payloads up to this are none: their products would leave the doubles."""


@dataclass(frozen=True)
class LinearRate:
    """R_n(x) = x * full_bits_per_s[n]: the ``psd`` law and every downlink, equation (3)."""

    full_bits_per_s: Array

    def full(self) -> Array:
        """Return the rates R_n(1) of the whole band in bit/s, shape (N,)."""
        return self.full_bits_per_s

    def inverse(self, rate: Array, near: Array | None = None) -> tuple[Array, Array]:
        """Return the shares that give ``rate`` and their derivative, both of shape (N,)."""
        return rate / self.full_bits_per_s, 1.0 / self.full_bits_per_s

    def rate(self, share: Array) -> Array:
        """Return the rates at ``share`` in bit/s, shape (N,)."""
        return share * self.full_bits_per_s

    def select(self, keep: NDArray[np.bool_]) -> LinearRate:
        """Return the same law for a subset of devices."""
        return LinearRate(self.full_bits_per_s[keep])


@dataclass(frozen=True)
class ConcaveRate:
    """R_n(x) = x B mean_k min(log2(1 + a_nk / x), C): the ``total`` law, equation (3).

    ``snr_terms`` holds a_nk = s_n h_k / Gamma, shape (N, k).
    """

    bandwidth_hz: float
    snr_terms: Array
    cap_bits_per_s_hz: float

    def rate(self, share: Array) -> Array:
        """Return the rates at ``share`` > 0 in bit/s, shape (N,)."""
        return self._value_and_slope(share)[0]

    def _value_and_slope(self, share: Array) -> tuple[Array, Array]:
        ratio = self.snr_terms / share[:, None]
        each = np.log1p(ratio) / LN2
        capped = each >= self.cap_bits_per_s_hz
        efficiency = np.where(capped, self.cap_bits_per_s_hz, each)
        # d(x log2(1 + a/x))/dx, by its series where the two terms would cancel
        tiny = np.minimum(ratio, 1e-5)
        small = tiny * tiny * (0.5 - tiny * (2.0 / 3.0)) / LN2
        slope = np.where(ratio < 1e-5, small, each - ratio / (1.0 + ratio) / LN2)
        slope = np.where(capped, self.cap_bits_per_s_hz, slope)
        value = self.bandwidth_hz * share * efficiency.mean(axis=1)
        return value, self.bandwidth_hz * slope.mean(axis=1)

    def full(self) -> Array:
        """Return the rates R_n(1) of the whole band in bit/s, shape (N,)."""
        return self.rate(np.ones(len(self.snr_terms)))

    def inverse(self, rate: Array, near: Array | None = None) -> tuple[Array, Array]:
        """Return the shares that give ``rate`` and their derivative, both shape (N,); infinite
        where no share gives it.

        R is concave, so Newton's step from the left of the root never passes it, and one step
        from the right lands on the left. ``near`` are guesses that save steps.
        """
        ceiling = self.bandwidth_hz * self.snr_terms.mean(axis=1) / LN2
        possible = rate < ceiling * (1.0 - 1e-12)
        target = np.where(possible, rate, 0.0)
        least = np.maximum(target / (self.bandwidth_hz * self.cap_bits_per_s_hz), 1e-300)
        share = least if near is None else np.maximum(np.where(np.isfinite(near), near, 0.0), least)
        for turn in range(_MAX_STEPS):
            value, slope = self._value_and_slope(share)
            step = (target - value) / np.maximum(slope, 1e-300)
            after = np.maximum(share + (step if turn == 0 else np.maximum(step, 0.0)), least)
            moved = np.abs(after - share) > 1e-15 * share
            share = after
            if not moved.any():
                break
        share = np.where(possible, share, np.inf)
        return share, np.where(possible, 1.0 / np.maximum(slope, 1e-300), np.inf)

    def select(self, keep: NDArray[np.bool_]) -> ConcaveRate:
        """Return the same law for a subset of devices."""
        return ConcaveRate(self.bandwidth_hz, self.snr_terms[keep], self.cap_bits_per_s_hz)


RateLaw = LinearRate | ConcaveRate


def least_time(fixed_s: Array, payload_bits: Array, law: RateLaw) -> tuple[float, Array]:
    """Solve equation (14) for one link: return the least time tau in seconds and the shares, shape
    (N,). tau is infinite where a device has no rate. Infinite tau where a device has no rate.

    ``fixed_s`` and ``payload_bits`` have shape (N,). Devices without payload get share 0 but
    still hold the barrier.
    """
    floor = float(fixed_s.max(initial=0.0))
    sends = payload_bits > _NOTHING_BITS
    if sends.all() and len(sends):
        return _all_send(fixed_s, payload_bits, law, floor)
    shares = np.zeros_like(fixed_s)
    if not sends.any():
        return floor, shares
    tau, shares[sends] = _all_send(fixed_s[sends], payload_bits[sends], law.select(sends), floor)
    return tau, shares


def _all_send(fixed: Array, bits: Array, law: RateLaw, floor: float) -> tuple[float, Array]:
    """:func:`least_time` where every device has a payload; tau is at least ``floor``.

    Rooms tau - a_n are kept as u + gap_n, u = tau - max a_n: no digits are lost where the fixed
    times are long against the payload times.
    """
    full = law.full()
    if full.min() <= 0.0:
        return np.inf, np.zeros_like(bits)
    longest = float(fixed.max())
    gap = longest - fixed
    alone = bits / full
    spare, found = _root(gap, bits, alone, law)
    tau = longest + spare
    if tau < floor:  # a device without payload holds the barrier
        tau = floor
        _, _, found = _demand(floor - longest, gap, bits, law, found)
    total = float(found.sum())
    return tau, found if total <= 1.0 else found / total  # rounding only: at most a few ulp


def _lower_spare(gap: Array, alone: Array) -> float:
    """A u at which the demand is at least 1, for either law.

    Every device alone needs u + gap_n >= c_n, its time on the whole band; and as SUM c/(u + gap)
    >= C^2 / SUM c (u + gap), C = SUM c (Cauchy-Schwarz), also u >= C - SUM c gap / C under the
    linear law. The concave law needs less than the linear one, so only the first bound is used
    there (see :func:`_root`).
    """
    return max(float((alone - gap).max()), 1e-300)


def _root(gap: Array, bits: Array, alone: Array, law: RateLaw) -> tuple[float, Array]:
    """(u, shares), u > 0 with SUM x_n(u + gap_n) = 1.

    The sum falls and is convex in u, and 1/sum is concave and close to linear: Newton on
    1/sum - 1 from a u below the root never passes it; bisection is the guard against rounding.
    """
    low = _lower_spare(gap, alone)
    high = float(alone.sum())
    if isinstance(law, LinearRate):
        low = max(low, high - float(alone @ gap) / high)
    spare, shares = low, np.minimum(alone / (low + gap), 1.0)
    enough = 4e-16 * len(bits)
    for _ in range(_MAX_STEPS):
        total, slope, shares = _demand(spare, gap, bits, law, shares)
        if total > 1.0:
            low = spare
        else:
            high = spare
        if abs(total - 1.0) <= enough or high - low <= 4e-16 * high:
            break
        # d(1/sum - 1) / du = -slope / sum^2
        step = (1.0 - total) * total / slope if slope < 0.0 and total < np.inf else np.nan
        if abs(step) <= 1e-16 * spare:
            break
        after = spare + step
        spare = after if low < after < high else _between(low, high)
    if not np.isfinite(total):  # so weak a signal that its rate is the same at every share
        spare = high + _WEAK * float(alone.max())
        _, _, shares = _demand(spare, gap, bits, law, np.ones_like(bits))
    return spare, shares


def _between(low: float, high: float) -> float:
    """The middle of a bracket; the geometric one where it spans decades."""
    return float(np.sqrt(low * high)) if low > 0.0 and high > 16.0 * low else 0.5 * (low + high)


def _demand(
    spare: float, gap: Array, bits: Array, law: RateLaw, near: Array
) -> tuple[float, float, Array]:
    """SUM x_n at u = ``spare``, its derivative in u, and the shares; ``near`` are guesses."""
    room = spare + gap
    rate = bits / room
    share, slope = law.inverse(rate, near)
    return float(share.sum()), -float((slope * rate / room).sum()), share
