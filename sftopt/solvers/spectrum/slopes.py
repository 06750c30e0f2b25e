"""Derivatives of a link's barrier time, problem (14), in payloads, fixed times and bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.entropy import LN2
from sftopt.core.least_time import least_time
from sftopt.core.spectrum import LinearRate, RateLaw

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinkSlopes:
    """Derivatives of one link's barrier time: by bit (N,), by fixed time (N,), by bandwidth."""

    per_bit: Array
    per_fixed_s: Array
    per_hz: float


def link_slopes(
    fixed_s: Array, bits: Array, law: RateLaw, bandwidth_hz: float, full_slope: Array
) -> LinkSlopes:
    """Differentiate the least time of problem (14) by the implicit function rule.

    ``full_slope`` is dR_n(1)/dB, shape (N,). Devices without payload have slopes of 0.
    """
    zero = np.zeros_like(fixed_s)
    sends = bits > 0.0
    if not sends.any():
        return LinkSlopes(zero, zero, 0.0)
    tau, shares = least_time(fixed_s, bits, law)
    part = law.select(sends)
    room = np.maximum(tau - fixed_s[sends], 1e-300)
    rate = bits[sends] / room
    share, slope = part.inverse(rate, near=shares[sends])
    fall = float((slope * rate / room).sum())
    per_bit, per_fixed = zero.copy(), zero.copy()
    per_bit[sends] = slope / room / fall
    per_fixed[sends] = slope * rate / room / fall
    if isinstance(part, LinearRate):
        saved = float((share * full_slope[sends] / part.full_bits_per_s).sum())
    else:
        saved = float(share.sum()) / bandwidth_hz
    return LinkSlopes(per_bit, per_fixed, -saved / fall)


class Band:
    """One direction's rates over its whole band as a function of the bandwidth, power fixed."""

    def __init__(self, bandwidth_hz: float, snr_terms: Array, cap: float) -> None:
        self.bandwidth_hz, self.snr_terms, self.cap = bandwidth_hz, snr_terms, cap

    def terms(self, bandwidth_hz: float) -> Array:
        """Return s_n h_k / Gamma, ratios of signal to noise, at another bandwidth, shape (N, k)."""
        return self.snr_terms * (self.bandwidth_hz / bandwidth_hz)

    def full(self, bandwidth_hz: float) -> Array:
        """Return R_n(1) in bits per second, shape (N,); equation (3)."""
        each = np.log1p(self.terms(bandwidth_hz)) / LN2
        return np.asarray(bandwidth_hz * np.minimum(each, self.cap).mean(axis=1))

    def full_slope(self) -> Array:
        """Return dR_n(1)/dB in bits per second and hertz, shape (N,)."""
        each = np.log1p(self.snr_terms) / LN2
        slope = each - self.snr_terms / (1.0 + self.snr_terms) / LN2
        return np.asarray(np.where(each >= self.cap, self.cap, slope).mean(axis=1))
