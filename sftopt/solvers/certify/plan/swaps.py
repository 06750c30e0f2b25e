"""Compiled: one or two devices at a time change their items, the mean loss kept within its limit.

Where operating points leave few keep fractions to take up what the limit on the mean loss leaves,
the items that are least at any one price of loss waste up to a device's step of it. Here seconds
and loss are compared apart, at the prices of both links; keep fractions of all devices follow one
price of loss, that at which the limit is met. Heuristics only; shares no function with the bound.

Constants were set by hand on cells with token modes: validity does not depend on them, speed does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.compiled import uncounted_ieee
from sftopt.solvers.certify.guidance import Multipliers
from sftopt.solvers.certify.plan.decode import AllowedItems, BlockCosts, PlanItems, UplinkRates
from sftopt.solvers.certify.plan.keep_fractions import entropy, rough_keep
from sftopt.solvers.certify.plan.links import PlanData

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_PRICES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.35, 2.0, 4.0)
"""Prices of loss that keep fractions are taken at, as multiples of the given one; rising."""
_GIVEN = 4
"""The place among them of the given price itself."""
_STEP = 0.4
"""Items that cost more than a device's least one by this part of what its even part of the loss
allowed is worth take no part."""
_CROWD = 100.0
"""Among more devices than this even changes that cost less are many: that part falls with them."""
_GUESS = 0.3
"""First guess of every keep fraction."""
_RANKED = (1, 2, 4, 6, 7)
"""Places of the prices at which items are ranked: points may trade loss at another price than that
of keep fractions."""
_PAIRED = 30
"""So many of the items that cost least beside a device's own at such a price are tried in
pairs."""
_WORTH = 1e-7
"""A swap must save this part of what the loss allowed is worth."""


class SwapItems(NamedTuple):
    """The items that devices may swap, device after device; M of all, A prices of loss."""

    device: Integers
    """(M,)"""
    cut: Integers
    """(M,)"""
    option: Integers
    """(M,)"""
    keep: Array
    """(M, A)"""
    seconds: Array
    """(M, A) what an item costs, but for its loss."""
    loss: Array
    """(M, A) its part of the mean loss."""


class DevicePrices(NamedTuple):
    """What the items of a device cost at given prices and barrier times."""

    up: Array
    """(G, L) seconds for each uplink bit per element; infinite where there is no time."""
    down: Array
    """(G, L) as ``up``, on the downlink."""
    fixed: Array
    """(G, L) seconds whatever is sent."""


@njit(cache=True, error_model="numpy")
def swap(
    data: PlanData, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, blocks: BlockCosts, items: PlanItems, most: int,
) -> float:  # fmt: skip
    """Return the seconds saved, at these prices, by swapping items of ``items`` while that saves.

    ``most`` times at most.
    """
    N, A = len(data.weight), len(_PRICES)
    listed, own = _list_items(data, allowed, tau_up, tau_down, prices, rates, blocks, items)
    seconds, loss = np.zeros(A), np.zeros(A)
    for n in range(N):
        seconds += listed.seconds[own[n]]
        loss += listed.loss[own[n]]
    first, _ = _met(seconds, loss, data.budget)
    now, least = first, _WORTH * prices.loss * data.budget
    for _ in range(most):
        after, one, other = _best_swap(
            listed, own, prices.loss, seconds, loss, data.budget, now - least
        )
        if one < 0:
            break
        now = after
        for i in (one, other):
            if i >= 0:
                n = listed.device[i]
                seconds += listed.seconds[i] - listed.seconds[own[n]]
                loss += listed.loss[i] - listed.loss[own[n]]
                own[n] = i
    _, at = _met(seconds, loss, data.budget)
    for n in range(N):
        i = own[n]
        items.cuts[n], items.choice[n] = listed.cut[i], listed.option[i]
        items.keep[n] = listed.keep[i, at]
    return first - now if first < np.inf else np.inf


@njit(cache=True, error_model="numpy", inline="always")
def _met(seconds: Array, loss: Array, budget: float) -> tuple[float, int]:
    """Return the seconds at the price of loss where a limit is met, and the place of the price
    from there on; infinite where none meets it."""
    a = _GIVEN
    while a > 0 and loss[a - 1] <= budget:
        a -= 1
    while a < len(loss) and loss[a] > budget:
        a += 1
    if a == len(loss):
        return np.inf, a - 1
    if a == 0 or loss[a - 1] <= loss[a]:
        return seconds[a], a
    part = (budget - loss[a]) / (loss[a - 1] - loss[a])
    return seconds[a] + part * (seconds[a - 1] - seconds[a]), a


@njit(cache=True, error_model="numpy")
def _best_swap(
    listed: SwapItems, own: Integers, price: float, seconds: Array, loss: Array, budget: float,
    most: float,
) -> tuple[float, int, int]:  # fmt: skip
    """Return the least seconds below ``most`` after a change of one or two items, and which.

    -1 where there is none. What items cost with their loss at the given price says how far a change
    may lead: seconds where the limit is met are no less than seconds with loss there.
    """
    best, one, other = most, -1, -1
    new_seconds, new_loss = np.empty_like(seconds), np.empty_like(loss)
    order, more = _promising(listed, own, price)
    base = seconds[_GIVEN] + price * (loss[_GIVEN] - budget)
    for j in range(len(order)):
        i = order[j]
        if base + more[i] + min(more[order[0]], 0.0) >= best:
            break
        before = own[listed.device[i]]
        for a in range(len(loss)):
            new_seconds[a] = seconds[a] + listed.seconds[i, a] - listed.seconds[before, a]
            new_loss[a] = loss[a] + listed.loss[i, a] - listed.loss[before, a]
        after = _met(new_seconds, new_loss, budget)[0]
        if after < best:
            best, one, other = after, i, -1
        for k in range(j):
            i2 = order[k]
            if base + more[i] + more[i2] >= best:
                break
            if listed.device[i2] == listed.device[i]:
                continue
            after = _met_with(listed, i2, own[listed.device[i2]], new_seconds, new_loss, budget)
            if after < best:
                best, one, other = after, i, i2
    return best, one, other


@njit(cache=True, error_model="numpy")
def _promising(listed: SwapItems, own: Integers, price: float) -> tuple[Integers, Array]:
    """Return the items that cost least beside their devices' own, at some price of loss each.

    In the order of what they cost more at the given price, in seconds, which comes second, (M,).
    """
    M = len(listed.cut)
    chosen, more, given = np.zeros(M, dtype=np.bool_), np.empty(M), np.empty(M)
    for a in _RANKED:
        for i in range(M):
            before = own[listed.device[i]]
            more[i] = listed.seconds[i, a] - listed.seconds[before, a]
            more[i] += price * _PRICES[a] * (listed.loss[i, a] - listed.loss[before, a])
            if i == before:
                more[i] = np.inf
        if a == _GIVEN:
            given[:] = more
        _mark_least(more, min(_PAIRED, M - len(own)), chosen)
    places = np.flatnonzero(chosen)
    return places[np.argsort(given[places])], given


@njit(cache=True, error_model="numpy")
def _mark_least(values: Array, count: int, chosen: NDArray[np.bool_]) -> None:
    """Mark the places of the ``count`` least values, which are few, in ``chosen``."""
    if count <= 0:
        return
    least, places, held = np.empty(count), np.empty(count, dtype=np.int64), 0
    for i in range(len(values)):
        value = values[i]
        if held == count and value >= least[held - 1]:
            continue
        held = min(held + 1, count)
        at = held - 1
        while at > 0 and least[at - 1] > value:
            least[at], places[at] = least[at - 1], places[at - 1]
            at -= 1
        least[at], places[at] = value, i
    for j in range(held):
        chosen[places[j]] = True


@njit(cache=True, error_model="numpy", inline="always")
def _met_with(
    listed: SwapItems, i: int, before: int, seconds: Array, loss: Array, budget: float
) -> float:
    """Return what :func:`_met` does, after one item more has changed."""
    new, old = listed.loss[i], listed.loss[before]
    a = _GIVEN
    while a > 0 and loss[a - 1] + new[a - 1] - old[a - 1] <= budget:
        a -= 1
    while a < len(loss) and loss[a] + new[a] - old[a] > budget:
        a += 1
    if a == len(loss):
        return np.inf
    at = float(seconds[a] + listed.seconds[i, a] - listed.seconds[before, a])
    if a == 0:
        return at
    high, low = loss[a - 1] + new[a - 1] - old[a - 1], loss[a] + new[a] - old[a]
    if high <= low:
        return at
    cheap = seconds[a - 1] + listed.seconds[i, a - 1] - listed.seconds[before, a - 1]
    return float(at + (budget - low) / (high - low) * (cheap - at))


@njit(cache=True, error_model="numpy")
def _list_items(
    data: PlanData, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, blocks: BlockCosts, items: PlanItems,
) -> tuple[SwapItems, Integers]:  # fmt: skip
    """List what devices may take, none beaten in both seconds and loss at the given price, and the
    place of each device's own item, (N,)."""
    N, (options, cuts) = len(data.weight), data.low.shape
    shape = data.s1_base.shape[1], cuts
    found = _new_lists(options * cuts + 1, len(_PRICES))
    costs = DevicePrices(np.empty(shape), np.empty(shape), np.empty(shape))
    out, value = _new_lists(16 * N, len(_PRICES)), np.empty(options * cuts + 1)
    own, end = np.empty(N, dtype=np.int64), 0
    width = _STEP * prices.loss * data.budget / N * min(1.0, _CROWD / N)
    for n in range(N):
        count, best = _price_items(
            data, allowed, n, tau_up, tau_down, prices, rates, blocks, width, costs, items, found,
            value,
        )  # fmt: skip
        least = np.inf
        for i in np.argsort(found.loss[:count, _GIVEN]):
            if i == 0:  # the device's own item, beaten or not
                own[n] = end
            elif value[i] > best + width or found.seconds[i, _GIVEN] >= least:
                continue
            else:
                least = found.seconds[i, _GIVEN]
            if end == len(out.cut):
                out = _with_room(out)
            out.device[end], out.cut[end], out.option[end] = n, found.cut[i], found.option[i]
            out.keep[end], out.loss[end] = found.keep[i], found.loss[i]
            out.seconds[end] = found.seconds[i]
            end += 1
    return SwapItems(
        out.device[:end], out.cut[:end], out.option[:end], out.keep[:end], out.seconds[:end],
        out.loss[:end],
    ), own  # fmt: skip


@uncounted_ieee
def _price_items(
    data: PlanData, allowed: AllowedItems, n: int, tau_up: float, tau_down: float,
    prices: Multipliers, rates: UplinkRates, blocks: BlockCosts, width: float, costs: DevicePrices,
    items: PlanItems, found: SwapItems, value: Array,
) -> tuple[int, float]:  # fmt: skip
    """Write a device's items that may be within ``width`` of its least one, its own item first.

    Returns how many there are and the least of their seconds with loss, at the given price.
    """
    price_device(data, n, tau_up, tau_down, prices, rates, blocks, costs)
    price, own_option, own_cut = prices.loss, items.choice[n], items.cuts[n]
    _price_item(data, n, own_option, own_cut, price, costs, 0, found, np.inf)
    value[0] = -np.inf
    count, best = 1, np.inf
    for o in range(len(data.low) - 1, -1, -1):  # points come last, and are priced at once
        g = data.group[o]
        if (allowed.options[n] >> o) & 1 == 0:
            continue
        for cut in range(allowed.cut_low[n, g], allowed.cut_high[n] + 1):
            if data.low[o, cut] > data.high[o, cut] or costs.up[g, cut] == np.inf:
                continue
            if o == own_option and cut == own_cut:
                continue
            least = costs.fixed[g, cut] + costs.up[g, cut] * data.up[o, 2]
            least += costs.down[g, cut] * data.down[o, 1]
            least += price * data.weight[n] * data.still[o, cut]
            if least > best + width:
                continue
            _price_item(data, n, o, cut, price, costs, count, found, best + width)
            value[count] = found.seconds[count, _GIVEN] + price * found.loss[count, _GIVEN]
            best = min(best, value[count])
            count += value[count] <= best + width
    return count, best


@njit(cache=True, error_model="numpy", inline="always")
def price_device(
    data: PlanData, n: int, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, blocks: BlockCosts, costs: DevicePrices,
) -> None:  # fmt: skip
    """Write what a device's cuts cost in each group of options."""
    G, L = costs.up.shape
    up = prices.uplink * data.elements[n] * rates.per_bit[n]
    down = prices.downlink * data.elements[n] / data.rate_down[n]
    for g in range(G):
        for cut in range(L):
            room_up = tau_up - data.s1_base[n, g] - cut * data.s1_block[n]
            room_down = tau_down - data.s5_base[n, g] - cut * data.s5_block[n]
            costs.up[g, cut] = costs.down[g, cut] = np.inf
            if room_up > 0.0 and room_down > 0.0:
                costs.up[g, cut], costs.down[g, cut] = up / room_up, down / room_down
            held = prices.memory * blocks.saved[n, g] * (L - cut)
            costs.fixed[g, cut] = prices.uplink * rates.offset[n] + cut * blocks.adapters[n] + held
            if not data.parallel:
                work = data.s3_base[n, g] - cut * data.s3_block[n, g]
                costs.fixed[g, cut] += data.steps * work


@njit(cache=True, error_model="numpy", inline="always")
def _price_item(
    data: PlanData, n: int, o: int, cut: int, price: float, costs: DevicePrices, at: int,
    found: SwapItems, most: float,
) -> None:  # fmt: skip
    """Write an item's seconds, loss and keep at all prices of loss.

    At the given price alone, where seconds and what the loss is worth are above ``most``.
    """
    g = data.group[o]
    up, down = costs.up[g, cut], costs.down[g, cut]
    fixed = costs.fixed[g, cut] + up * data.up[o, 2] + down * data.down[o, 1]
    slope, mask = up * data.up[o, 0] + down * data.down[o, 0], up * data.up[o, 1]
    curve = data.weight[n] * data.loss_keep * data.factor[cut] * data.loss[o, 0]
    noise, still = data.weight[n] * data.loss[o, 1], data.weight[n] * data.still[o, cut]
    found.cut[at], found.option[at] = cut, o
    low, high = data.low[o, cut], data.high[o, cut]
    curved = low < high and curve > 0.0
    for turn in range(len(_PRICES)):
        a = (_GIVEN + turn) % len(_PRICES)  # the given price first
        keep = low
        if curved:
            unit, steep = price * _PRICES[a] * curve, slope + price * _PRICES[a] * noise
            keep = rough_keep(data.decay, mask / unit, steep / unit, low, high, _GUESS)
        if curved or turn == 0:
            lost = curve * math.exp(-data.decay * keep) if curve > 0.0 else 0.0
            found.seconds[at, a] = fixed + slope * keep + mask * entropy(keep)
            found.loss[at, a] = lost + noise * keep + still
            if turn == 0 and found.seconds[at, a] + price * found.loss[at, a] > most:
                break
        else:
            found.seconds[at, a] = found.seconds[at, _GIVEN]
            found.loss[at, a] = found.loss[at, _GIVEN]
        found.keep[at, a] = keep


@njit(cache=True)
def _new_lists(count: int, prices: int) -> SwapItems:
    """Make room for so many items."""
    return SwapItems(
        np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64),
        np.empty(count, dtype=np.int64), np.empty((count, prices)), np.empty((count, prices)),
        np.empty((count, prices)),
    )  # fmt: skip


@njit(cache=True)
def _with_room(lists: SwapItems) -> SwapItems:
    """Return the lists with twice the room."""
    count, prices = lists.keep.shape
    out = _new_lists(2 * count, prices)
    out.device[:count], out.cut[:count], out.option[:count] = lists.device, lists.cut, lists.option
    out.keep[:count], out.seconds[:count], out.loss[:count] = lists.keep, lists.seconds, lists.loss
    return out
