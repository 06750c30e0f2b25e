"""Compiled: rates, shares and barrier times of a plan, equations (3), (8) and (14).

Plan side only; shares no function with the bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.least_time_compiled import concave_round, linear_round
from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any compiled function

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LN2 = math.log(2.0)
"""Natural logarithm of 2: bits in nats."""
_SERIES = 1e-5
"""SNR below which the slope of the rate is taken from its series, where two terms would cancel."""


class PlanData(NamedTuple):
    """Arrays of problem (13) for plans; shapes (N,), units as in ``core.derived``.

    G groups of options: those of one group have the same device times, server time and memory.
    """

    steps: float
    """K, steps of a round."""
    decay: float
    """a_2, the rate at which loss falls with the keep fraction."""
    loss_keep: float
    """a_1, the loss of keeping nothing."""
    budget: float
    """R: the mean loss allowed."""
    mean: bool
    """True: keep fractions are free under a limit on the mean loss. False: they are given."""
    total: bool
    """True: the uplink follows the power law ``total``."""
    parallel: bool
    """True: the server works on all devices at once."""
    multicast: bool
    """True: adapters are sent to all devices at once."""
    bandwidth: float
    """B of the uplink in Hz."""
    efficiency_cap: float
    """C, the largest spectral efficiency in bit/s/Hz."""
    adapter_bits: float
    """A, adapter bits of a block."""
    s1_base: Array
    """(N, G)"""
    s1_block: Array
    s3_base: Array
    """(N, G)"""
    s3_block: Array
    """(N, G)"""
    s5_base: Array
    """(N, G)"""
    s5_block: Array
    group: Integers
    """(O,) the group of an option."""
    first: Integers
    """(G + 1,) where the options of each group begin in ``members``."""
    members: Integers
    """(O,) options, group after group."""
    same_times: NDArray[np.bool_]
    """(G,) whether a group has the device times of the one before it."""
    elements: Array
    rate_up: Array
    rate_down: Array
    snr_terms: Array
    """(N, k)"""
    weight: Array
    up: Array
    """(O, 3): eta, omega, sigma."""
    down: Array
    """(O, 2): eta, sigma."""
    loss: Array
    """(O, 2): factor on a_1, noise with rho."""
    still: Array
    """(O, L) loss whatever is kept: noise without rho, or the measured loss of a point."""
    low: Array
    """(O, L) least keep fraction; above 1: not allowed."""
    high: Array
    """(O, L) largest keep fraction."""
    factor: Array
    """(L,) factor of a cut on a_1."""


@njit(cache=True, error_model="numpy", inline="always")
def rate_at(data: PlanData, n: int, share: float) -> tuple[float, float]:
    """Return the uplink rate of device n in bit/s at a share, equation (3), and its slope."""
    if not data.total:
        return share * data.rate_up[n], data.rate_up[n]
    count = data.snr_terms.shape[1]
    value, slope = 0.0, 0.0
    for k in range(count):
        ratio = data.snr_terms[n, k] / share
        each = math.log1p(ratio) / _LN2
        if each >= data.efficiency_cap:
            value += data.efficiency_cap
            slope += data.efficiency_cap
        else:
            value += each
            if ratio < _SERIES:
                slope += ratio * ratio * 0.5 / _LN2
            else:
                slope += each - ratio / (1.0 + ratio) / _LN2
    scale = data.bandwidth / count
    return share * value * scale, slope * scale


@njit(cache=True, error_model="numpy")
def linear_rates(data: PlanData, shares: Array) -> tuple[Array, Array]:
    """Return share per bit/s and constant part of the uplink, (N,), linear at these shares."""
    per_bit, constant = np.empty(len(shares)), np.empty(len(shares))
    for n in range(len(shares)):
        value, slope = rate_at(data, n, shares[n])
        per_bit[n], constant[n] = 1.0 / slope, shares[n] - value / slope
    return per_bit, constant


@njit(cache=True, error_model="numpy")
def more_rates(data: PlanData, shares: Array, factors: Array) -> Array:
    """Return other linear estimates of the uplink's shares, (N, F, 2), below them all.

    Beside those of :func:`linear_rates`: at multiples of these shares, share per bit/s as a
    multiple of theirs, and constant part less theirs.
    """
    more = np.empty((len(shares), len(factors), 2))
    for n in range(len(shares)):
        value, slope = rate_at(data, n, shares[n])
        constant = shares[n] - value / slope
        for f in range(len(factors)):
            other = shares[n] * factors[f]
            value, other_slope = rate_at(data, n, other)
            more[n, f, 0] = slope / other_slope
            more[n, f, 1] = other - value / other_slope - constant
    return more


@njit(cache=True, error_model="numpy")
def barrier(data: PlanData, uplink: bool, fixed: Array, bits: Array, shares: Array) -> float:
    """Return the least barrier time in seconds and write the shares; equation (14).

    ``shares`` (N,) hold a guess, ``fixed`` (N,) the device times, ``bits`` (N,) the payloads.
    """
    if not uplink:
        return float(linear_round(fixed, bits, data.rate_down, shares))
    if not data.total:
        return float(linear_round(fixed, bits, data.rate_up, shares))
    tau, converged = concave_round(
        fixed, bits, data.snr_terms, data.bandwidth, data.efficiency_cap, shares
    )
    if not converged:  # the shares sum to at most 1, so what they take is an upper bound
        tau = 0.0
        for n in range(len(fixed)):
            rate = rate_at(data, n, shares[n])[0] if shares[n] > 0.0 else 0.0
            tau = max(tau, fixed[n] + bits[n] / rate if rate > 0.0 else np.inf)
    return float(tau)


@njit(cache=True, error_model="numpy")
def adapter_time(data: PlanData, cuts: Integers) -> float:
    """Return the adapters' time tau_a in seconds, equation (8)."""
    N = len(cuts)
    up, down, held, top = 0.0, 0.0, 0, 0
    for n in range(N):
        up += cuts[n] * data.adapter_bits / data.rate_up[n]
        down += cuts[n] * data.adapter_bits / data.rate_down[n]
        held += cuts[n] > 0
        top = max(top, cuts[n])
    if held == 0 or data.adapter_bits == 0.0:
        return 0.0
    if data.multicast:
        slowest = np.zeros(top + 1)
        for n in range(N):
            slowest[cuts[n]] = max(slowest[cuts[n]], data.adapter_bits / data.rate_down[n])
        down, worst = 0.0, 0.0
        for k in range(top, 0, -1):
            worst = max(worst, slowest[k])
            down += worst
    if data.total:
        bits = np.empty(N)
        for n in range(N):
            bits[n] = cuts[n] * data.adapter_bits
        up = barrier(data, True, np.zeros(N), bits, np.zeros(N))
    return up + down
