"""Compiled: plans settled at fixed cuts and options.

Keep fractions and barrier times are made exact there. Heuristics only; shares no function with the
bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.guidance import TimesAndPrices
from sftopt.solvers.certify.plan.decode import PlanItems
from sftopt.solvers.certify.plan.keep_fractions import entropy, mean_loss, reprice, spend
from sftopt.solvers.certify.plan.links import PlanData, adapter_time, barrier, rate_at

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_FEW = 6
"""Settling in up to so many turns is rough."""
_ROUGH = 1e-9
"""Gain, relative, at which rough settling ends."""
_FINE = 1e-11
"""Gain, relative, at which settling in more turns ends."""
_PACE = 4.0
"""Settling ends where so many times its last gain would not reach the ceiling."""
_BACK = 2
"""Steps back, each halfway, after keeps that made a plan no better."""


class Links(NamedTuple):
    """Both links of a plan; arrays (N,)."""

    fixed_up: Array
    """Device times in seconds before the uplink."""
    fixed_down: Array
    """Device times in seconds after the downlink."""
    bits_up: Array
    bits_down: Array
    shares_up: Array
    shares_down: Array


@njit(cache=True, error_model="numpy", inline="always")
def _bits_up(data: PlanData, n: int, o: int, keep: float) -> float:
    """Return the uplink payload of a device in bits."""
    up = data.up
    return float(data.elements[n] * (up[o, 0] * keep + up[o, 1] * entropy(keep) + up[o, 2]))


@njit(cache=True, error_model="numpy")
def settle(
    data: PlanData, items: PlanItems, rounds: int, ceiling: float, loss_price: float,
    shares: Array,
) -> tuple[float, TimesAndPrices]:  # fmt: skip
    """Make the keeps feasible and good at fixed cuts and options; returns the delay in seconds.

    Infinite where no keeps are feasible. Gives up where it will not get below ``ceiling`` at the
    pace of its last turn. ``loss_price``: a guess, 0 for none; ``shares`` (N,) of the uplink:
    guesses, and written.
    """
    cuts, choice, keep = items.cuts, items.choice, items.keep
    N = len(cuts)
    links = Links(np.empty(N), np.empty(N), np.empty(N), np.empty(N), shares, np.zeros(N))
    low, high, constant = _fixed_parts(data, items, links)
    tau_up, tau_down, price_up, price_down = 0.0, 0.0, 0.0, 0.0
    free = data.mean and mean_loss(data, cuts, choice, low) > data.budget
    if np.any(low > high) or (free and mean_loss(data, cuts, choice, high) > data.budget):
        return np.inf, TimesAndPrices(0.0, 0.0, loss_price, 0.0, 0.0)
    if not free:
        keep[:] = low
    else:
        for n in range(N):
            keep[n] = min(max(keep[n], low[n]), high[n]) if keep[n] < np.inf else high[n]
        spend(data, cuts, choice, high, keep)
    per_up, per_down, bold, trial = np.empty(N), np.empty(N), np.empty(N), keep.copy()
    best, back = np.inf, 0
    for turn in range(rounds + 1):
        if not trial.sum() < np.inf:  # prices where a link's time vanishes beside a device's own
            loss_price = 0.0
            break
        now_up, now_down = _barriers(data, choice, trial, links)
        value = data.steps * (now_up + now_down) + constant
        improved, gained = value < best, best - value
        small = gained <= (_FINE if rounds > _FEW else _ROUGH) * value
        hopeless = turn > 0 and improved and value - _PACE * gained > ceiling
        if improved:
            best, tau_up, tau_down = value, now_up, now_down
            keep[:] = trial
            price_up, price_down = _link_prices(data, links, tau_up, tau_down, per_up, per_down)
        if not free or turn == rounds or (turn > 0 and small and improved) or hopeless:
            break
        if not improved:
            if back >= _BACK:
                break
            back += 1
            for n in range(N):
                trial[n] = 0.5 * (trial[n] + keep[n])
            spend(data, cuts, choice, high, trial)
            continue
        loss_price = reprice(
            data, cuts, choice, keep, low, high, per_up, per_down, loss_price, trial, bold
        )
    if free and rounds > 0:
        # the shares of the best point, not of the last trial
        tau_up, tau_down = _barriers(data, choice, keep, links)
    return best, TimesAndPrices(tau_up, tau_down, loss_price, price_up, price_down)


@njit(cache=True, error_model="numpy")
def _fixed_parts(data: PlanData, items: PlanItems, links: Links) -> tuple[Array, Array, float]:
    """Write the device times; returns the keeps' limits, (N,) each, and the seconds of a round
    that fixed cuts leave fixed."""
    cuts, choice = items.cuts, items.choice
    N = len(cuts)
    low, high = np.empty(N), np.empty(N)
    longest, server = 0.0, 0.0
    for n in range(N):
        low[n], high[n] = data.low[choice[n], cuts[n]], data.high[choice[n], cuts[n]]
        g = data.group[choice[n]]
        links.fixed_up[n] = data.s1_base[n, g] + cuts[n] * data.s1_block[n]
        links.fixed_down[n] = data.s5_base[n, g] + cuts[n] * data.s5_block[n]
        work = data.s3_base[n, g] - cuts[n] * data.s3_block[n, g]
        server += work
        longest = max(longest, work)
    constant = data.steps * (longest if data.parallel else server) + adapter_time(data, cuts)
    return low, high, constant


@njit(cache=True, error_model="numpy")
def _barriers(data: PlanData, choice: Integers, keep: Array, links: Links) -> tuple[float, float]:
    """Return the least barrier times in seconds; writes payloads and shares."""
    for n in range(len(keep)):
        o = choice[n]
        links.bits_up[n] = _bits_up(data, n, o, keep[n])
        per_element = data.down[o, 0] * keep[n] + data.down[o, 1]
        links.bits_down[n] = data.elements[n] * per_element
    return (
        barrier(data, True, links.fixed_up, links.bits_up, links.shares_up),
        barrier(data, False, links.fixed_down, links.bits_down, links.shares_down),
    )


@njit(cache=True, error_model="numpy")
def _link_prices(
    data: PlanData, links: Links, tau_up: float, tau_down: float, per_up: Array, per_down: Array
) -> tuple[float, float]:
    """Return the prices of uplink and downlink shares in seconds.

    Writes those of one bit per element, (N,) each.
    """
    N = len(per_up)
    weight_up, weight_down = 0.0, 0.0
    for n in range(N):
        room_up, room_down = tau_up - links.fixed_up[n], tau_down - links.fixed_down[n]
        rate = links.bits_up[n] / room_up
        slope = rate_at(data, n, links.shares_up[n])[1]
        weight_up += rate / (room_up * slope)
        weight_down += links.shares_down[n] / room_down
        per_up[n] = 1.0 / (slope * room_up)
    price_up, price_down = data.steps / weight_up, data.steps / weight_down
    for n in range(N):
        per_up[n] *= price_up * data.elements[n]
        per_down[n] = price_down * data.elements[n]
        per_down[n] /= data.rate_down[n] * (tau_down - links.fixed_down[n])
    return price_up, price_down
