"""Compiled: every device's best item at given prices, and plans settled at fixed items.

At prices of uplink share, downlink share and mean loss every device picks its best cut, option and
keep fraction; at fixed cuts and options the keep fractions and the barrier times are made exact.
Heuristics only; shares no function with the bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices
from sftopt.solvers.certify.plan.keep_fractions import (
    entropy,
    mean_loss,
    priced_keep,
    reprice,
    rough_keep,
    spend,
)
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
_GUESS = 0.3
"""First guess of every keep fraction."""
_NO_PRICE = 1e-300
"""Prices of loss up to this are none."""


class AllowedItems(NamedTuple):
    """What every device may take; arrays (N,)."""

    cut_low: Integers
    cut_high: Integers
    options: Integers
    """Bit o is set where option o may be taken."""


class PlanItems(NamedTuple):
    """What every device takes; arrays (N,)."""

    cuts: Integers
    choice: Integers
    keep: Array


class UplinkRates(NamedTuple):
    """Uplink shares as linear functions of the rate; arrays (N,)."""

    per_bit: Array
    """Share per bit/s."""
    offset: Array
    """The constant part (law ``total``)."""


class BlockCosts(NamedTuple):
    """What a block on a device costs beside its time; arrays (N,)."""

    adapters: Array
    """Seconds of the adapters' exchange per block held."""
    saved: Array
    """Server memory freed per block, scaled as the price of memory is."""


class CutPrices(NamedTuple):
    """What a device's cuts cost at given prices; arrays (L,)."""

    fixed: Array
    """Seconds whatever is sent."""
    up: Array
    """Seconds for each uplink bit per element."""
    down: Array
    """Seconds for each downlink bit per element."""
    below: Array
    """A lower estimate of the cost; infinite where the cut leaves no time."""


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
def _least_bits(data: PlanData) -> tuple[Array, Array]:
    """Return the fewest bits per element of any option, up and down, (L,); infinite if none."""
    options, blocks = data.low.shape
    p_up, p_down = data.up, data.down
    up, down = np.full(blocks, np.inf), np.full(blocks, np.inf)
    for cut in range(blocks):
        for o in range(options):
            low = data.low[o, cut]
            if low <= data.high[o, cut]:
                bits = p_up[o, 0] * low + p_up[o, 1] * entropy(low) + p_up[o, 2]
                up[cut] = min(up[cut], bits)
                down[cut] = min(down[cut], p_down[o, 0] * low + p_down[o, 1])
    return up, down


@njit(cache=True, error_model="numpy")
def choose(
    data: PlanData, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, blocks: BlockCosts, items: PlanItems, gains: Array, own_gain: bool,
) -> bool:  # fmt: skip
    """Write every device's best item at given prices and barrier times in seconds into ``items``.

    With ``own_gain`` the items given are priced first and ``gains`` (N,) says what the change
    saves in seconds. False where a device has no item at these barriers.
    """
    cuts = data.low.shape[1]
    least_up, least_down = _least_bits(data)
    costs = CutPrices(np.empty(cuts), np.empty(cuts), np.empty(cuts), np.empty(cuts))
    near = np.empty(len(data.up))
    for n in range(len(data.weight)):
        first = _price_cuts(
            data, allowed, n, tau_up, tau_down, prices, rates, blocks, least_up, least_down, costs
        )
        best, own, cut, o, keep = _best_item(
            data, allowed, n, prices, costs, first, items, near, own_gain
        )
        if cut < 0:
            return False
        unit_price = prices.loss * data.weight[n] if data.mean else 0.0
        unit = unit_price * data.loss_keep * data.factor[cut] * data.loss[o, 0]
        if data.mean and unit > _NO_PRICE and data.low[o, cut] < data.high[o, cut]:
            up, down = costs.up[cut], prices.downlink * data.elements[n] / data.rate_down[n]
            down /= tau_down - data.s5_base[n] - cut * data.s5_block[n]
            slope = up * data.up[o, 0] + down * data.down[o, 0] + unit_price * data.loss[o, 1]
            mask = up * data.up[o, 1]
            at = priced_keep(
                data.decay, mask / unit, slope / unit, data.low[o, cut], data.high[o, cut], keep
            )
            best += slope * (at - keep) + mask * (entropy(at) - entropy(keep))
            best += unit * (math.exp(-data.decay * at) - math.exp(-data.decay * keep))
            keep = at
        items.cuts[n], items.choice[n], items.keep[n] = cut, o, keep
        gains[n] = own - best
    return True


@njit(cache=True, error_model="numpy", inline="always")
def _price_cuts(
    data: PlanData, allowed: AllowedItems, n: int, tau_up: float, tau_down: float,
    prices: Multipliers, rates: UplinkRates, blocks: BlockCosts, least_up: Array,
    least_down: Array, costs: CutPrices,
) -> int:  # fmt: skip
    """Write for a device's cuts what no option changes; returns the cut that may be least, or -1.

    ``least_up``, ``least_down`` (L,): the fewest bits per element of any option.
    """
    top_up, block_up = tau_up - data.s1_base[n], data.s1_block[n]
    top_down, block_down = tau_down - data.s5_base[n], data.s5_block[n]
    up = prices.uplink * data.elements[n] * rates.per_bit[n]
    down, rate_down = prices.downlink * data.elements[n], data.rate_down[n]
    per_block = blocks.adapters[n] - prices.memory * blocks.saved[n]
    idle, server = prices.uplink * rates.offset[n], data.s3_block[n]
    steps, in_turn = data.steps, not data.parallel
    fixed, ups, downs, below = costs.fixed, costs.up, costs.down, costs.below
    first = -1
    for cut in range(allowed.cut_low[n], allowed.cut_high[n] + 1):
        room_up = top_up - cut * block_up
        room_down = top_down - cut * block_down
        below[cut] = np.inf
        if room_up <= 0.0 or room_down <= 0.0:
            continue
        fixed[cut] = cut * per_block + idle
        if in_turn:
            fixed[cut] -= steps * cut * server
        ups[cut] = up / room_up
        downs[cut] = down / (rate_down * room_down)
        below[cut] = fixed[cut] + ups[cut] * least_up[cut] + downs[cut] * least_down[cut]
        if first < 0 or below[cut] < below[first]:
            first = cut
    return first


@njit(cache=True, error_model="numpy", inline="always")
def _best_item(
    data: PlanData, allowed: AllowedItems, n: int, prices: Multipliers, costs: CutPrices,
    first: int, items: PlanItems, near: Array, own_gain: bool,
) -> tuple[float, float, int, int, float]:  # fmt: skip
    """Return a device's best cost in seconds, that of its own item, and the best cut, option, keep.

    ``near`` (O,) is scratch: the last keep of each option.
    """
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    p_up, p_down, p_loss, p_low, p_high = data.up, data.down, data.loss, data.low, data.high
    decay, loss_keep, mean, factor = data.decay, data.loss_keep, data.mean, data.factor
    fixed, ups, downs, below = costs.fixed, costs.up, costs.down, costs.below
    cut_low, cut_high, taken = allowed.cut_low[n], allowed.cut_high[n], allowed.options[n]
    own_cut, own_choice, own_keep = items.cuts[n], items.choice[n], items.keep[n]
    near[:] = _GUESS
    best, best_l, best_o, best_keep, own = np.inf, -1, -1, 0.0, np.inf
    unit_price = prices.loss * data.weight[n] if mean else 0.0
    # the most promising cut first: it makes the others easy to dismiss
    for turn in range(cut_low - 1, cut_high + 1):
        cut = first if turn < cut_low else turn
        if cut < 0 or (turn >= cut_low and cut == first):
            continue
        asked = own_gain and cut == own_cut
        if below[cut] == np.inf or (below[cut] >= best and not asked):
            continue
        up, down = ups[cut], downs[cut]
        for o in range(len(p_up)):
            low, high = p_low[o, cut], p_high[o, cut]
            if low > high or (taken >> o) & 1 == 0:
                continue
            is_own = asked and o == own_choice
            unit = unit_price * loss_keep * factor[cut] * p_loss[o, 0]
            slope = up * p_up[o, 0] + down * p_down[o, 0] + unit_price * p_loss[o, 1]
            mask = up * p_up[o, 1]
            still = fixed[cut] + up * p_up[o, 2] + down * p_down[o, 1]
            still += unit_price * p_loss[o, 2]
            at = low
            if mean and low < high and unit > _NO_PRICE:
                S = slope / unit
                rest = math.log(decay / S) / decay
                if still + slope * (rest + 1.0 / decay) >= best and not is_own:
                    continue  # already so without the mask's bits
                at = rough_keep(decay, mask / unit, S, low, high, near[o])
                near[o] = at
            value = still + slope * at + mask * entropy(at) + unit * math.exp(-decay * at)
            if is_own:
                own = still + slope * own_keep + mask * entropy(own_keep)
                own += unit * math.exp(-decay * own_keep)
            if value < best:
                best, best_l, best_o, best_keep = value, cut, o, at
    return best, own, best_l, best_o, best_keep


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
            keep[n] = min(max(keep[n], low[n]), high[n])
        spend(data, cuts, choice, high, keep)
    per_up, per_down, bold, trial = np.empty(N), np.empty(N), np.empty(N), keep.copy()
    best, back = np.inf, 0
    for turn in range(rounds + 1):
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
        links.fixed_up[n] = data.s1_base[n] + cuts[n] * data.s1_block[n]
        links.fixed_down[n] = data.s5_base[n] + cuts[n] * data.s5_block[n]
        work = data.s3_base[n] - cuts[n] * data.s3_block[n]
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
