"""The small problem (14): the least barrier time of one link, by vectorised root searches.

Given every device's fixed time a_n and payload D_n, the least tau with
SUM x_n <= 1 and tau >= a_n + D_n / R_n(x_n). At the optimum every device with a payload ends at
tau, so the shares are x_n = R_n^-1(D_n / (tau - a_n)) and tau is the root of SUM x_n(tau) = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MAX_STEPS = 200


@dataclass(frozen=True)
class LinearRate:
    """R_n(x) = x * full_bits_per_s[n]: the ``psd`` law and every downlink, equation (3)."""

    full_bits_per_s: Array

    def inverse(self, rate: Array) -> tuple[Array, Array]:
        """Shares that give ``rate`` and their derivative in the rate, both shape (N,)."""
        return rate / self.full_bits_per_s, 1.0 / self.full_bits_per_s

    def rate(self, share: Array) -> Array:
        """Rates at ``share``, shape (N,)."""
        return share * self.full_bits_per_s

    def select(self, keep: NDArray[np.bool_]) -> LinearRate:
        """The same law for a subset of devices."""
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
        """Rates at ``share`` > 0, shape (N,)."""
        return self._value_and_slope(share)[0]

    def _value_and_slope(self, share: Array) -> tuple[Array, Array]:
        ratio = self.snr_terms / share[:, None]
        each = np.log2(1.0 + ratio)
        capped = each >= self.cap_bits_per_s_hz
        efficiency = np.where(capped, self.cap_bits_per_s_hz, each)
        fall = np.where(capped, 0.0, ratio / (1.0 + ratio) / np.log(2.0))
        value = self.bandwidth_hz * share * efficiency.mean(axis=1)
        slope = self.bandwidth_hz * (efficiency - fall).mean(axis=1)
        return value, slope

    def inverse(self, rate: Array) -> tuple[Array, Array]:
        """Shares that give ``rate`` and their derivative; infinite where no share gives it.

        R is concave, so Newton's step from the left of the root never passes it.
        """
        ceiling = self.bandwidth_hz * self.snr_terms.mean(axis=1) / np.log(2.0)
        possible = rate < ceiling * (1.0 - 1e-12)
        target = np.where(possible, rate, 0.0)
        share = np.maximum(target / (self.bandwidth_hz * self.cap_bits_per_s_hz), 1e-300)
        for _ in range(_MAX_STEPS):
            value, slope = self._value_and_slope(share)
            step = (target - value) / np.maximum(slope, 1e-300)
            share = np.maximum(share + np.maximum(step, 0.0), 1e-300)
            if not np.any(step > 1e-15 * share):
                break
        slope = self._value_and_slope(share)[1]
        share = np.where(possible, share, np.inf)
        return share, np.where(possible, 1.0 / np.maximum(slope, 1e-300), np.inf)

    def select(self, keep: NDArray[np.bool_]) -> ConcaveRate:
        """The same law for a subset of devices."""
        return ConcaveRate(self.bandwidth_hz, self.snr_terms[keep], self.cap_bits_per_s_hz)


RateLaw = LinearRate | ConcaveRate


def least_time(fixed_s: Array, payload_bits: Array, law: RateLaw) -> tuple[float, Array]:
    """(tau, shares) of one link: equation (14). Infinite tau where a device has no rate.

    ``fixed_s`` and ``payload_bits`` have shape (N,). Devices without payload get share 0 but
    still hold the barrier. SUM x_n(tau) falls and is convex, and 1/SUM is close to linear: Newton
    on 1/SUM - 1, from a tau below the root, with bisection as a guard.
    """
    shares = np.zeros_like(fixed_s)
    sends = payload_bits > 0.0
    floor = float(fixed_s.max(initial=0.0))
    if not np.any(sends):
        return floor, shares
    fixed, bits, part = fixed_s[sends], payload_bits[sends], law.select(sends)
    full = part.rate(np.ones_like(bits))
    if np.any(full <= 0.0):
        return np.inf, shares
    low = float((fixed + bits / full).max())
    high = float(fixed.max() + (bits / full).sum() * 2.0) + low
    tau, tau_shares = low, np.ones_like(bits)
    for _ in range(_MAX_STEPS):
        total, slope, tau_shares = _demand(tau, fixed, bits, part)
        if total > 1.0:
            low = tau
        else:
            high = tau
        if abs(total - 1.0) <= 4e-16 * len(bits) or high - low <= 2e-16 * high:
            break
        # d(1/SUM - 1) / dtau = -slope / SUM^2
        step = (1.0 - total) * total / slope if np.isfinite(total) and slope < 0.0 else np.nan
        tau_next = tau + step
        if tau_next == tau:
            break
        tau = tau_next if low < tau_next < high else 0.5 * (low + high)
    total, _, tau_shares = _demand(tau, fixed, bits, part)
    if total > 1.0:
        tau_shares = tau_shares / total  # rounding only: at most a few ulp
        tau = float((fixed + bits / part.rate(tau_shares)).max())
    if tau < floor:  # a device without payload holds the barrier
        tau = floor
        _, _, tau_shares = _demand(tau, fixed, bits, part)
    shares[sends] = tau_shares
    return tau, shares


def _demand(tau: float, fixed: Array, bits: Array, law: RateLaw) -> tuple[float, float, Array]:
    """SUM x_n(tau), its derivative in tau, and the shares."""
    room = tau - fixed
    if np.any(room <= 0.0):
        return np.inf, -np.inf, np.full_like(bits, np.inf)
    rate = bits / room
    share, slope = law.inverse(rate)
    return float(share.sum()), -float((slope * rate / room).sum()), share
