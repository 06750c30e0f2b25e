"""Compiled: rates, shares and barrier times of a plan, equations (3), (8) and (14).

Plan side only; shares no function with the bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

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


@njit(cache=True, inline="always")
def share_for(p: Plain, n: int, rate: float, guess: float) -> float:
    """R^-1: the share that gives ``rate``; infinite where none does."""
    if not p.total:
        return float(rate / p.rate_up[n])
    ceiling = p.bandwidth * p.snr_terms[n].mean() / _LN2
    if rate >= ceiling * (1.0 - 1e-12):
        return np.inf
    share = max(rate / (p.bandwidth * p.efficiency_cap), 1e-300)
    if guess > share and rate_at(p, n, guess)[0] <= rate:
        share = guess
    for _ in range(100):
        value, slope = rate_at(p, n, share)
        step = (rate - value) / max(slope, 1e-300)
        if step <= 1e-14 * share:
            break
        share += step
    return share


@njit(cache=True)
def barrier(
    p: Plain, uplink: bool, fixed: Array, bits: Array, start: float, shares: Array
) -> float:
    """Least tau with SUM shares = 1, and the shares; equation (14)."""
    N = len(fixed)
    longest = fixed.max()
    low, high = 0.0, np.inf
    for n in range(N):
        if uplink and p.total:
            full = rate_at(p, n, 1.0)[0]
        else:
            full = p.rate_up[n] if uplink else p.rate_down[n]
        low = max(low, bits[n] / full - (longest - fixed[n]))
    spare = max(start - longest, low * (1.0 + 1e-9)) if start > longest else low * (1.0 + 1e-9)
    linear = p.rate_up if uplink else p.rate_down
    curved = uplink and p.total
    for _ in range(200):
        total, slope = 0.0, 0.0
        for n in range(N):
            room = spare + (longest - fixed[n])
            rate = bits[n] / room
            if curved:
                share = share_for(p, n, rate, shares[n])
                if share == np.inf:
                    total = np.inf
                    break
                slope -= rate / (room * rate_at(p, n, share)[1])
            else:
                share = rate / linear[n]
                slope -= share / room
            shares[n] = share
            total += share
        if total > 1.0:
            low = max(low, spare)
        else:
            high = min(high, spare)
        if abs(total - 1.0) <= 2e-15 * math.sqrt(float(N)) or (
            high < np.inf and high - low <= 4e-16 * high
        ):
            break
        after = np.inf
        if total < np.inf:
            after = spare + (1.0 - total) * total / slope
        if not low < after < high:
            after = 2.0 * spare if high == np.inf else 0.5 * (low + high)
        if abs(after - spare) <= 2e-16 * spare:
            break
        spare = after
    return float(longest + spare)


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
        low, high = 0.0, up
        for _ in range(100):
            middle = 0.5 * (low + high)
            total = 0.0
            for n in range(N):
                if cuts[n] > 0:
                    total += share_for(p, n, cuts[n] * p.adapter_bits / middle, 0.0)
                    if total > 1.0:
                        break
            if total > 1.0:
                low = middle
            else:
                high = middle
            if high - low <= 1e-14 * high:
                break
        up = high
    return up + down
