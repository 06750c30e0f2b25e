"""Compiled: linear lower estimates of uplink shares under the ``total`` law; Statement 8.

R(x) = x B mean_k min(log2(1 + a_k / x), C) is concave, so for every touching point x_c
R(x) >= r asks for x >= x_c + (r - R(x_c)) / R'(x_c): a constant plus a multiple of the rate, to
which all statements about ``psd`` apply. Used by the bound alone.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.kernels import Cell, Region
from sftopt.solvers.certify.least import LN2, entropy_bits

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SAFE = 2e-12
_STEPS = 60


@njit(cache=True)
def rate_and_slope(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """R and R' at one share."""
    value, slope = 0.0, 0.0
    for a in terms:
        ratio = a / share
        each = math.log1p(ratio) / LN2
        if each >= cap:
            value += cap
            slope += cap
            continue
        value += each
        if ratio < 1e-3:
            series = ratio * ratio * (0.5 - ratio * (2.0 / 3.0 - ratio * (0.75 - 0.8 * ratio)))
            slope += series / LN2
        else:
            slope += each - ratio / (1.0 + ratio) / LN2
    scale = bandwidth / len(terms)
    return share * value * scale, slope * scale


@njit(cache=True)
def share_near(rate: float, terms: Array, bandwidth: float, cap: float) -> float:
    """About the share that gives ``rate``; at most 1. Any value is a valid touching point."""
    share = min(max(rate / (bandwidth * cap), 1e-12), 1.0)
    for _ in range(_STEPS):
        value, slope = rate_and_slope(share, terms, bandwidth, cap)
        step = (rate - value) / max(slope, 1e-300)
        share = min(share + step, 1.0)
        if step <= 1e-9 * share or share >= 1.0:
            break
    return share


@njit(cache=True)
def tangent_of(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """(share per bit/s, constant) of the lower estimate that touches at ``share``, made safe."""
    value, slope = rate_and_slope(share, terms, bandwidth, cap)
    per_bit = 1.0 / slope
    return per_bit, share - value * per_bit - _SAFE * (share + value * per_bit)


@njit(cache=True)
def touch(
    cell: Cell, region: Region, box: Array, keeps: Array, terms: Array, bandwidth: float,
    cap: float, slack: float,
) -> None:  # fmt: skip
    """Touch every item's estimate at the share it needs at the box's middle with ``keeps`` (N,)."""
    N = len(cell.weight)
    options = len(cell.eta_up)
    slopes, offsets, s1, ups = cell.slope, cell.offset, cell.s1, cell.up
    eta_up, omega, sigma_up, low, high = (
        cell.eta_up, cell.omega, cell.sigma_up, cell.low, cell.high,
    )  # fmt: skip
    middle = 0.5 * (box[0] + box[1])
    for n in range(N):
        for cut in range(region.cut_low[n], region.cut_high[n] + 1):
            room = max(middle - s1[n, cut], slack * middle)
            for o in range(options):
                if low[o, cut] > high[o, cut]:
                    continue
                keep = min(max(keeps[n], low[o, cut]), high[o, cut])
                bits = eta_up[o] * keep + omega[o] * entropy_bits(keep) + sigma_up[o]
                share = share_near(ups[n] * bits / room, terms[n], bandwidth, cap)
                slopes[n, cut, o], offsets[n, cut, o] = tangent_of(share, terms[n], bandwidth, cap)


@njit(cache=True)
def touch_items(
    cell: Cell,
    items: Integers,
    keeps: Array,
    box: Array,
    terms: Array,
    bandwidth: float,
    cap: float,
) -> None:
    """The same for the recorded items (rows, N) alone, at their own keeps."""
    options = len(cell.eta_up)
    slopes, offsets, s1, ups = cell.slope, cell.offset, cell.s1, cell.up
    eta_up, omega, sigma_up = cell.eta_up, cell.omega, cell.sigma_up
    middle = 0.5 * (box[0] + box[1])
    for n in range(items.shape[1]):
        last = -1
        for k in range(items.shape[0]):
            item = items[k, n]
            if item == last:
                continue
            last = item
            cut, o = item // options, item % options
            keep = keeps[k, n]
            bits = eta_up[o] * keep + omega[o] * entropy_bits(keep) + sigma_up[o]
            room = max(middle - s1[n, cut], 0.02 * middle)
            share = share_near(ups[n] * bits / room, terms[n], bandwidth, cap)
            slopes[n, cut, o], offsets[n, cut, o] = tangent_of(share, terms[n], bandwidth, cap)


@njit(cache=True)
def adapter_prices(
    cuts: NDArray[np.int64], bits: float, terms: Array, bandwidth: float, cap: float, full: Array
) -> Array:
    """Seconds per block, (N,), with tau_a's uplink part >= SUM prices l_n for all
    cuts; Statement 11."""
    N = len(cuts)
    prices = np.zeros(N)
    if bits == 0.0:
        return prices
    high = 0.0
    for n in range(N):
        high += max(cuts[n], 1) * bits / full[n]
    low = 0.0
    shares = np.zeros(N)
    for _ in range(40):
        tau = 0.5 * (low + high)
        total = 0.0
        for n in range(N):
            shares[n] = share_near(max(cuts[n], 0.05) * bits / tau, terms[n], bandwidth, cap)
            total += shares[n]
        if total > 1.0:
            low = tau
        else:
            high = tau
    constant = 0.0
    for n in range(N):
        prices[n], offset = tangent_of(shares[n], terms[n], bandwidth, cap)
        constant += offset
    for n in range(N):
        prices[n] *= bits / (1.0 - constant) * (1.0 - 1e-12)
    return prices
