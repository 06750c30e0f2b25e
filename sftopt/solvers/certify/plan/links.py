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
from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any kernel

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LN2 = math.log(2.0)


class Plain(NamedTuple):
    """Arrays of problem (13) for the primal side; shapes (N,) unless said."""

    steps: float
    decay: float
    loss_keep: float
    budget: float
    mean: bool
    total: bool
    parallel: bool
    multicast: bool
    bandwidth: float
    efficiency_cap: float
    adapter_bits: float
    s1_base: Array
    s1_block: Array
    s3_base: Array
    s3_block: Array
    s5_base: Array
    s5_block: Array
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
    """(O, 3): factor on a_1, noise with rho, noise without."""
    low: Array
    """(O, L) least keep fraction; above 1: not allowed."""
    high: Array
    factor: Array


@njit(cache=True, inline="always")
def rate_at(p: Plain, n: int, share: float) -> tuple[float, float]:
    """R^u_n(share) and its slope."""
    if not p.total:
        return share * p.rate_up[n], p.rate_up[n]
    count = p.snr_terms.shape[1]
    value, slope = 0.0, 0.0
    for k in range(count):
        ratio = p.snr_terms[n, k] / share
        each = math.log1p(ratio) / _LN2
        if each >= p.efficiency_cap:
            value += p.efficiency_cap
            slope += p.efficiency_cap
        else:
            value += each
            if ratio < 1e-5:
                slope += ratio * ratio * 0.5 / _LN2
            else:
                slope += each - ratio / (1.0 + ratio) / _LN2
    scale = p.bandwidth / count
    return share * value * scale, slope * scale


@njit(cache=True)
def linear_rates(p: Plain, shares: Array) -> tuple[Array, Array]:
    """(N,) share per bit/s and its constant part, linear at these shares."""
    per_bit, constant = np.empty(len(shares)), np.empty(len(shares))
    for n in range(len(shares)):
        value, slope = rate_at(p, n, shares[n])
        per_bit[n], constant[n] = 1.0 / slope, shares[n] - value / slope
    return per_bit, constant


@njit(cache=True)
def barrier(p: Plain, uplink: bool, fixed: Array, bits: Array, shares: Array) -> float:
    """Least tau with SUM shares = 1, and the shares; equation (14). ``shares`` hold a guess."""
    if not uplink:
        return float(linear_round(fixed, bits, p.rate_down, shares))
    if not p.total:
        return float(linear_round(fixed, bits, p.rate_up, shares))
    tau, converged = concave_round(fixed, bits, p.snr_terms, p.bandwidth, p.efficiency_cap, shares)
    if not converged:  # the shares sum to at most 1, so what they take is an upper bound
        tau = 0.0
        for n in range(len(fixed)):
            rate = rate_at(p, n, shares[n])[0] if shares[n] > 0.0 else 0.0
            tau = max(tau, fixed[n] + bits[n] / rate if rate > 0.0 else np.inf)
    return float(tau)


@njit(cache=True)
def adapter_time(p: Plain, cuts: Integers) -> float:
    """tau_a, equation (8)."""
    N = len(cuts)
    up, down, held, top = 0.0, 0.0, 0, 0
    for n in range(N):
        up += cuts[n] * p.adapter_bits / p.rate_up[n]
        down += cuts[n] * p.adapter_bits / p.rate_down[n]
        held += cuts[n] > 0
        top = max(top, cuts[n])
    if held == 0 or p.adapter_bits == 0.0:
        return 0.0
    if p.multicast:
        slowest = np.zeros(top + 1)
        for n in range(N):
            slowest[cuts[n]] = max(slowest[cuts[n]], p.adapter_bits / p.rate_down[n])
        down, worst = 0.0, 0.0
        for k in range(top, 0, -1):
            worst = max(worst, slowest[k])
            down += worst
    if p.total:
        bits = np.empty(N)
        for n in range(N):
            bits[n] = cuts[n] * p.adapter_bits
        up = barrier(p, True, np.zeros(N), bits, np.zeros(N))
    return up + down
