"""Compiled: every device's best item at given prices.

At prices of uplink share, downlink share and mean loss every device picks its best cut, option and
keep fraction. Heuristics only; shares no function with the bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.guidance import Multipliers
from sftopt.solvers.certify.plan.keep_fractions import entropy, priced_keep, rough_keep
from sftopt.solvers.certify.plan.links import PlanData

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_GUESS = 0.3
"""First guess of every keep fraction."""
_NO_PRICE = 1e-300
"""Prices of loss up to this are none."""


class AllowedItems(NamedTuple):
    """What every device may take; arrays (N,) unless said."""

    cut_low: Integers
    """(N, G)"""
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
    """What a block on a device costs beside its time."""

    adapters: Array
    """(N,) seconds of the adapters' exchange per block held."""
    saved: Array
    """(N, G) server memory freed per block, scaled as the price of memory is."""


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


class FoundItem(NamedTuple):
    """A device's best item so far."""

    best: float
    """Its cost in seconds."""
    own: float
    """The cost of the item that the device has, infinite where it was not asked for."""
    cut: int
    """-1: none yet."""
    choice: int
    keep: float


@njit(cache=True, error_model="numpy")
def _least_bits(data: PlanData) -> tuple[Array, Array]:
    """Return the fewest bits per element of any option of a group, up and down, (G, L).

    Infinite if none.
    """
    options, blocks = data.low.shape
    p_up, p_down = data.up, data.down
    shape = data.s1_base.shape[1], blocks
    up, down = np.full(shape, np.inf), np.full(shape, np.inf)
    for cut in range(blocks):
        for o in range(options):
            low, g = data.low[o, cut], data.group[o]
            if low <= data.high[o, cut]:
                bits = p_up[o, 0] * low + p_up[o, 1] * entropy(low) + p_up[o, 2]
                up[g, cut] = min(up[g, cut], bits)
                down[g, cut] = min(down[g, cut], p_down[o, 0] * low + p_down[o, 1])
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
        found = FoundItem(np.inf, np.inf, -1, -1, 0.0)
        for g in range(data.s1_base.shape[1]):
            first = _price_cuts(
                data, allowed, n, g, tau_up, tau_down, prices, rates, blocks, least_up, least_down,
                costs,
            )  # fmt: skip
            if first >= 0:
                found = _best_item(
                    data, allowed, n, g, prices, costs, first, items, near, own_gain, found
                )
        best, own, cut, o, keep = found
        if cut < 0:
            return False
        unit_price = prices.loss * data.weight[n] if data.mean else 0.0
        unit = unit_price * data.loss_keep * data.factor[cut] * data.loss[o, 0]
        if data.mean and unit > _NO_PRICE and data.low[o, cut] < data.high[o, cut]:
            g = data.group[o]
            up = prices.uplink * data.elements[n] * rates.per_bit[n]
            up /= tau_up - data.s1_base[n, g] - cut * data.s1_block[n]
            down = prices.downlink * data.elements[n] / data.rate_down[n]
            down /= tau_down - data.s5_base[n, g] - cut * data.s5_block[n]
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
    data: PlanData, allowed: AllowedItems, n: int, g: int, tau_up: float, tau_down: float,
    prices: Multipliers, rates: UplinkRates, blocks: BlockCosts, least_up: Array,
    least_down: Array, costs: CutPrices,
) -> int:  # fmt: skip
    """Write for a device's cuts what no option of a group changes.

    Returns the cut that may be least, or -1. ``least_up``, ``least_down`` (G, L): the fewest bits
    per element of any option.
    """
    if not data.same_times[g]:
        _price_bits(data, allowed, n, g, tau_up, tau_down, prices, rates, costs)
    per_block = blocks.adapters[n] - prices.memory * blocks.saved[n, g]
    idle, server = prices.uplink * rates.offset[n], data.s3_block[n, g]
    # what the group costs beside the first one, whatever the cut
    more = prices.memory * (blocks.saved[n, g] - blocks.saved[n, 0]) * len(costs.up)
    steps, in_turn = data.steps, not data.parallel
    if in_turn:
        more += steps * (data.s3_base[n, g] - data.s3_base[n, 0])
    fixed, ups, downs, below = costs.fixed, costs.up, costs.down, costs.below
    first = -1
    for cut in range(allowed.cut_low[n, g], allowed.cut_high[n] + 1):
        below[cut] = np.inf
        if ups[cut] == np.inf:
            continue
        fixed[cut] = cut * per_block + idle + more
        if in_turn:
            fixed[cut] -= steps * cut * server
        below[cut] = fixed[cut] + ups[cut] * least_up[g, cut] + downs[cut] * least_down[g, cut]
        if first < 0 or below[cut] < below[first]:
            first = cut
    return first


@njit(cache=True, error_model="numpy", inline="always")
def _price_bits(
    data: PlanData, allowed: AllowedItems, n: int, g: int, tau_up: float, tau_down: float,
    prices: Multipliers, rates: UplinkRates, costs: CutPrices,
) -> None:  # fmt: skip
    """Write for a device's cuts the prices of bits, infinite where a cut leaves no time."""
    top_up, block_up = tau_up - data.s1_base[n, g], data.s1_block[n]
    top_down, block_down = tau_down - data.s5_base[n, g], data.s5_block[n]
    up = prices.uplink * data.elements[n] * rates.per_bit[n]
    down, rate_down = prices.downlink * data.elements[n], data.rate_down[n]
    ups, downs = costs.up, costs.down
    low = allowed.cut_low[n, 0]
    for other in range(1, allowed.cut_low.shape[1]):
        low = min(low, allowed.cut_low[n, other])
    for cut in range(low, allowed.cut_high[n] + 1):
        room_up = top_up - cut * block_up
        room_down = top_down - cut * block_down
        ups[cut] = np.inf
        if room_up > 0.0 and room_down > 0.0:
            ups[cut] = up / room_up
            downs[cut] = down / (rate_down * room_down)


@njit(cache=True, error_model="numpy", inline="always")
def _best_item(
    data: PlanData, allowed: AllowedItems, n: int, g: int, prices: Multipliers, costs: CutPrices,
    first: int, items: PlanItems, near: Array, own_gain: bool, found: FoundItem,
) -> FoundItem:  # fmt: skip
    """Return a device's best item: of one group, or as ``found`` in those before.

    ``near`` (O,) is scratch: the last keep of each option.
    """
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    p_up, p_down, p_loss, p_low, p_high = data.up, data.down, data.loss, data.low, data.high
    decay, loss_keep, mean, factor = data.decay, data.loss_keep, data.mean, data.factor
    fixed, ups, downs, below, p_still = costs.fixed, costs.up, costs.down, costs.below, data.still
    cut_low, cut_high, taken = allowed.cut_low[n, g], allowed.cut_high[n], allowed.options[n]
    own_cut, own_choice, own_keep = items.cuts[n], items.choice[n], items.keep[n]
    members, begin, end = data.members, data.first[g], data.first[g + 1]
    near[:] = _GUESS
    best, own, best_l, best_o, best_keep = found
    unit_price = prices.loss * data.weight[n] if mean else 0.0
    # the most promising cut first: it makes the others easy to dismiss
    for turn in range(cut_low - 1, cut_high + 1):
        cut = first if turn < cut_low else turn
        if turn >= cut_low and cut == first:
            continue
        asked = own_gain and cut == own_cut and data.group[own_choice] == g
        if below[cut] == np.inf or (below[cut] >= best and not asked):
            continue
        up, down = ups[cut], downs[cut]
        for i in range(begin, end):
            o = members[i]
            low, high = p_low[o, cut], p_high[o, cut]
            if low > high or (taken >> o) & 1 == 0:
                continue
            is_own = asked and o == own_choice
            unit = unit_price * loss_keep * factor[cut] * p_loss[o, 0]
            slope = up * p_up[o, 0] + down * p_down[o, 0] + unit_price * p_loss[o, 1]
            mask = up * p_up[o, 1]
            still = fixed[cut] + up * p_up[o, 2] + down * p_down[o, 1]
            still += unit_price * p_still[o, cut]
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
    return FoundItem(best, own, best_l, best_o, best_keep)
