"""Compiled: an item's cost as a function of its keep fraction, and the least of it.

Statements 3 and 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from sftopt.solvers.certify.bound.arrays import BoundData
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    least_phi,
    table_bound,
)


class KeepCost(NamedTuple):
    """A device's cost in rho: constant + entropy H2(rho) + slope rho + fall exp(-a_2 rho)."""

    constant: float
    entropy: float
    slope: float
    fall: float


class KeepRange(NamedTuple):
    """The keep fractions that an item can have, and what its cost needs at the ends."""

    low: float
    high: float
    entropy_low: float
    fall_low: float
    entropy_high: float
    fall_high: float
    cap: float


@njit(cache=True, inline="always")
def keep_cost(
    data: BoundData,
    o: int,
    place: int,
    base: float,
    up: float,
    down: float,
    price: float,
    curve: float,
) -> KeepCost:
    """Return an item's cost as a function of its keep fraction; Statement 3."""
    constant = base + up * data.sigma_up[o] + down * data.sigma_down[o]
    constant = constant + price * data.noise_constant[o, place]
    slope = up * data.eta_up[o] + down * data.eta_down[o] + price * data.noise_slope[o]
    return KeepCost(constant, up * data.omega[o], slope, price * curve)


@njit(cache=True, inline="always")
def keep_range(data: BoundData, o: int, place: int) -> KeepRange:
    """Return the keep fractions of an option at a place; Statement 6."""
    return KeepRange(
        data.low[o, place], data.high[o, place],
        data.end_low[o, place, 0], data.end_low[o, place, 1],
        data.end_high[o, place, 0], data.end_high[o, place, 1],
        data.cap[o, place],
    )  # fmt: skip


@njit(cache=True, inline="always")
def table_cost(data: BoundData, o: int, cost: KeepCost) -> float:
    """Return a lower estimate in seconds of the least of ``cost``, whose ``fall`` is positive.

    By the table of option ``o``; Statement 4.
    """
    inverse = 1.0 / cost.fall
    below = table_bound(data.tables, o, data.nodes, cost.entropy * inverse, cost.slope * inverse)
    return float(cost.constant + cost.fall * below)


@njit(cache=True, inline="always")
def below_cost(data: BoundData, o: int, place: int, cost: KeepCost) -> float:
    """Return a lower estimate in seconds of the least of ``cost`` at a place; Statement 4."""
    if cost.fall > 0.0 and data.low[o, place] < data.high[o, place]:
        return table_cost(data, o, cost)
    below = cost.constant + cost.slope * data.low[o, place]
    below += cost.entropy * data.end_low[o, place, 0]
    below += cost.fall * data.end_low[o, place, 1]
    return float(below)


@njit(cache=True)
def least_over_keeps(
    cost: KeepCost, decay: float, keeps: KeepRange, keep_low: float, keep_high: float, guess: float
) -> tuple[float, float]:
    """Return the least of ``cost`` without its constant, in seconds, and its keep; Statement 3.

    The range is cut to [``keep_low``, ``keep_high``].
    """
    entropy, slope, fall = cost.entropy, cost.slope, cost.fall
    low, high, cap = keeps.low, keeps.high, keeps.cap
    at_low = slope * low + entropy * keeps.entropy_low + fall * keeps.fall_low
    at_high = slope * high + entropy * keeps.entropy_high + fall * keeps.fall_high
    if low < keep_low or high > keep_high:
        low, high = max(low, keep_low), min(high, keep_high)
        if low > high:
            return np.inf, low
        at_low = slope * low + entropy * entropy_bits(low) + fall * math.exp(-decay * low)
        at_high = slope * high + entropy * entropy_bits(high) + fall * math.exp(-decay * high)
        cap = convexity_cap(decay, low, high)
    if fall <= 0.0 or low == high or cap * fall <= entropy:
        if at_low <= at_high:
            return at_low, low
        return at_high, high
    P, S = entropy / fall, slope / fall
    if guess < 0.0:
        guess = math.log(decay / (S + 2.0 * P + 1e-300)) / decay
    phi, keep = least_phi(P, S, decay, low, high, at_low / fall, at_high / fall, guess)
    return fall * phi, keep
