"""Compiled: every device's item at given prices, the limit on the mean loss met by steps.

Where operating points leave few keep fractions to take up what the limit leaves, items that are
least at one price of loss miss it by up to a device's step. Here each device's items that are least
at any price are listed, with their keeps of the given one, and devices step along their lists, the
cheapest loss first: the greedy way with a knapsack of several choices. Heuristics only; shares no
function with the bound.
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
from sftopt.solvers.certify.plan.swaps import DevicePrices, price_device

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_STEPS = 6
"""Items listed of a device on either side of its own: more loss and less; set by hand."""
_GUESS = 0.3
"""First guess of every keep fraction."""
_TURNS = 4
"""Prices of loss tried at most: the last one that was paid comes next."""
_HALVINGS = 40
"""Halvings of the range of prices at most."""
_CLOSED = 1e-4
"""A range of prices this narrow, relative, is closed: few steps are left in it."""
_SAME = 0.1
"""Prices that differ by less than this part count as the same."""
_WIDTH = 0.5
"""Items with free keeps are listed up to this part of what a device's even part of the loss allowed
is worth above its least item; set by hand."""
_FILLS = 24
"""Steps at most that spend what the last one left of the loss allowed; set by hand."""


class Steps(NamedTuple):
    """Each device's items that are least at some price of loss, by falling loss; S of them."""

    first: Integers
    """(N + 1,) where the items of each device begin."""
    own: Integers
    """(N,) the item taken."""
    cut: Integers
    """(S,)"""
    option: Integers
    """(S,)"""
    keep: Array
    """(S,)"""
    seconds: Array
    """(S,) what an item costs, but for its loss."""
    loss: Array
    """(S,) its part of the mean loss."""
    price: Array
    """(S,) what the step to the device's next item costs for each unit of loss saved."""


@njit(cache=True, error_model="numpy")
def choose_within_loss(
    data: PlanData, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, more: Array, blocks: BlockCosts, items: PlanItems,
) -> float:  # fmt: skip
    """Write every device's item at these prices and barrier times in seconds into ``items``.

    Their mean loss is within its limit, as far as the items listed allow; that of ``prices`` is a
    guess of its price. Returns the price found, -1 where a device has no item at these barriers.
    """
    N = len(data.weight)
    steps, shape = _new_steps(N), (data.s1_base.shape[1], data.low.shape[1])
    costs = DevicePrices(np.empty(shape), np.empty(shape), np.empty(shape))
    priced, now = _new_priced(data.low.size), prices
    for turn in range(_TURNS):
        if not _list_steps(
            data, allowed, tau_up, tau_down, now, rates, more, blocks, costs, priced, steps
        ):
            return -1.0
        total, price = _save_loss(data.budget, steps)
        if price <= 0.0 or turn == _TURNS - 1 or abs(price - now.loss) <= _SAME * now.loss:
            break
        now = Multipliers(prices.uplink, prices.downlink, price, prices.memory)
    if total > data.budget:
        total = _last_step(data.budget, total, steps)
    _spend_loss(data.budget, total, steps)
    for n in range(N):
        i = steps.own[n]
        items.cuts[n], items.choice[n] = steps.cut[i], steps.option[i]
        items.keep[n] = steps.keep[i]
    return float(price if price > 0.0 else now.loss)


@njit(cache=True)
def _new_steps(devices: int) -> Steps:
    """Make room for the items of so many devices."""
    most = devices * (2 * _STEPS + 1)
    return Steps(
        np.zeros(devices + 1, dtype=np.int64), np.empty(devices, dtype=np.int64),
        np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64), np.empty(most),
        np.empty(most), np.empty(most), np.empty(most),
    )  # fmt: skip


class Priced(NamedTuple):
    """A device's items at a given price of loss, as far as they are worth listing; M of them."""

    cut: Integers
    """(M,)"""
    option: Integers
    """(M,)"""
    keep: Array
    """(M,)"""
    seconds: Array
    """(M,) what an item costs, but for its loss."""
    loss: Array
    """(M,) its part of the mean loss."""
    less: Integers
    """(steps,) those that follow the least one towards less loss."""
    more: Integers
    """(steps,) those towards more."""


@njit(cache=True)
def _new_priced(items: int) -> Priced:
    """Make room for so many items of a device."""
    return Priced(
        np.empty(items, dtype=np.int64), np.empty(items, dtype=np.int64), np.empty(items),
        np.empty(items), np.empty(items), np.empty(_STEPS, dtype=np.int64),
        np.empty(_STEPS, dtype=np.int64),
    )  # fmt: skip


@uncounted_ieee
def _list_steps(
    data: PlanData, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers,
    rates: UplinkRates, more: Array, blocks: BlockCosts, costs: DevicePrices, priced: Priced,
    steps: Steps,
) -> bool:  # fmt: skip
    """List the devices' items that are least at some price of loss, the least at the given one
    taken; False where a device has none."""
    width, end = _WIDTH * prices.loss * data.budget / len(data.weight), 0
    for n in range(len(data.weight)):
        price_device(data, n, tau_up, tau_down, prices, rates, blocks, costs)
        count, best = _price_items(data, allowed, n, prices, width, more, costs, priced)
        if best < 0:
            return False
        steps.first[n] = end
        saving = _next_steps(priced.seconds, priced.loss, count, best, priced.less)
        spending = _next_steps(priced.loss, priced.seconds, count, best, priced.more)
        for j in range(spending - 1, -1, -1):
            end = _add_step(priced, priced.more[j], steps, end)
        steps.own[n] = end
        end = _add_step(priced, best, steps, end)
        for j in range(saving):
            end = _add_step(priced, priced.less[j], steps, end)
        for i in range(steps.first[n], end - 1):
            paid = steps.seconds[i + 1] - steps.seconds[i]
            steps.price[i] = paid / (steps.loss[i] - steps.loss[i + 1])
    steps.first[len(data.weight)] = end
    return True


@njit(cache=True, error_model="numpy", inline="always")
def _price_items(
    data: PlanData, allowed: AllowedItems, n: int, prices: Multipliers, width: float, more: Array,
    costs: DevicePrices, priced: Priced,
) -> tuple[int, int]:  # fmt: skip
    """Price a device's items; returns how many are listed, and the least one or -1."""
    count, best, least, price = 0, -1, np.inf, prices.loss
    for o in range(len(data.low) - 1, -1, -1):  # points come last, and are priced at once
        if (allowed.options[n] >> o) & 1 == 0:
            continue
        g = data.group[o]
        for cut in range(allowed.cut_low[n, g], allowed.cut_high[n] + 1):
            if data.low[o, cut] > data.high[o, cut] or costs.up[g, cut] == np.inf:
                continue
            up, down, fixed = costs.up[g, cut], costs.down[g, cut], costs.fixed[g, cut]
            free = data.low[o, cut] < data.high[o, cut]  # points are cheap to price
            if free and fixed > least + width:
                continue
            if free and _below(data, n, o, cut, up, down, fixed, price) > least + width:
                continue
            priced.cut[count], priced.option[count] = cut, o
            priced.keep[count], priced.seconds[count], priced.loss[count] = _priced(
                data, n, o, cut, up, down, fixed, price
            )
            if more.shape[1]:
                priced.seconds[count] += _more_seconds(
                    data, n, o, priced.keep[count], up, prices.uplink, more
                )
            cost = priced.seconds[count] + price * priced.loss[count]
            if cost < least:
                best, least = count, cost
            count += 1
    return count, best


@njit(cache=True, error_model="numpy", inline="always")
def _below(
    data: PlanData, n: int, o: int, cut: int, up: float, down: float, fixed: float, price: float
) -> float:
    """Return about a lower estimate of the cost of an item with a free keep: that without the bits
    of a mask; minus infinity where keeping costs no accuracy."""
    curve = price * data.weight[n] * data.loss_keep * data.factor[cut] * data.loss[o, 0]
    if curve <= 0.0:
        return -np.inf
    slope = up * data.up[o, 0] + down * data.down[o, 0] + price * data.weight[n] * data.loss[o, 1]
    still = fixed + up * data.up[o, 2] + down * data.down[o, 1]
    still += price * data.weight[n] * data.still[o, cut]
    return float(still + slope * (math.log(data.decay * curve / slope) + 1.0) / data.decay)


@njit(cache=True, error_model="numpy", inline="always")
def _priced(
    data: PlanData, n: int, o: int, cut: int, up: float, down: float, fixed: float, price: float
) -> tuple[float, float, float]:
    """Return an item's keep, its seconds and its part of the mean loss at a price of loss."""
    seconds = fixed + up * data.up[o, 2] + down * data.down[o, 1]
    slope, mask = up * data.up[o, 0] + down * data.down[o, 0], up * data.up[o, 1]
    curve = data.weight[n] * data.loss_keep * data.factor[cut] * data.loss[o, 0]
    noise, loss = data.weight[n] * data.loss[o, 1], data.weight[n] * data.still[o, cut]
    low, high = data.low[o, cut], data.high[o, cut]
    keep = low
    if curve > 0.0:
        unit = price * curve
        if low < high and unit > 0.0:
            keep = rough_keep(
                data.decay, mask / unit, (slope + price * noise) / unit, low, high, _GUESS
            )
        loss += curve * math.exp(-data.decay * keep)
    return keep, seconds + slope * keep + mask * entropy(keep), loss + noise * keep


@njit(cache=True, error_model="numpy", inline="always")
def _more_seconds(
    data: PlanData, n: int, o: int, keep: float, up: float, price: float, more: Array
) -> float:
    """Return the seconds that an item's uplink share costs beyond its first linear estimate."""
    bits = data.up[o, 0] * keep + data.up[o, 1] * entropy(keep) + data.up[o, 2]
    most = 0.0
    for f in range(more.shape[1]):
        most = max(most, bits * up * (more[n, f, 0] - 1.0) + price * more[n, f, 1])
    return most


@uncounted_ieee
def _next_steps(paid: Array, saved: Array, count: int, start: int, found: Integers) -> int:
    """Write the items after ``start`` on the lower convex hull, each the cheapest way on.

    What is ``paid`` for what is ``saved``. Returns how many there are.
    """
    at, steps = start, 0
    while steps < len(found):
        least, following = np.inf, -1
        for i in range(count):
            gain = saved[at] - saved[i]
            if gain > 0.0 and paid[i] - paid[at] < least * gain:
                least, following = (paid[i] - paid[at]) / gain, i
        if following < 0:
            break
        found[steps] = at = following
        steps += 1
    return steps


@njit(cache=True, inline="always")
def _add_step(priced: Priced, i: int, steps: Steps, end: int) -> int:
    """Copy an item to the end of the lists; returns the new end."""
    steps.cut[end], steps.option[end] = priced.cut[i], priced.option[i]
    steps.keep[end], steps.seconds[end] = priced.keep[i], priced.seconds[i]
    steps.loss[end] = priced.loss[i]
    return end + 1


@uncounted_ieee
def _save_loss(budget: float, steps: Steps) -> tuple[float, float]:
    """Step from the most loss to less at one price of it, just below the one that meets the limit.

    Returns the loss and that price, 0 where none has to be saved.
    """
    own, total, highest = steps.own, 0.0, 0.0
    for n in range(len(own)):
        own[n] = steps.first[n]
        total += steps.loss[own[n]]
        if own[n] < steps.first[n + 1] - 1:
            highest = max(highest, steps.price[steps.first[n + 1] - 2])
    if total <= budget or highest <= 0.0:
        return total, 0.0
    low, high = 0.0, highest * 1.001
    for _ in range(_HALVINGS):
        price = 0.5 * (low + high) if low == 0.0 else math.sqrt(low * high)
        saved = 0.0
        for n in range(len(own)):
            for i in range(steps.first[n], steps.first[n + 1] - 1):
                if steps.price[i] >= price:
                    break
                saved += steps.loss[i] - steps.loss[i + 1]
        if total - saved > budget:
            low = price
        else:
            high = price
        if high - low <= _CLOSED * high:
            break
    for n in range(len(own)):
        while own[n] < steps.first[n + 1] - 1 and steps.price[own[n]] < low:
            total += steps.loss[own[n] + 1] - steps.loss[own[n]]
            own[n] += 1
    return total, high


@uncounted_ieee
def _last_step(budget: float, total: float, steps: Steps) -> float:
    """Take the cheapest step that meets the limit, whichever device's and however far; returns the
    loss."""
    least, chosen, last = np.inf, -1, -1
    for n in range(len(steps.own)):
        own = steps.own[n]
        for i in range(own + 1, steps.first[n + 1]):
            if total - steps.loss[own] + steps.loss[i] > budget:
                continue
            more = steps.seconds[i] - steps.seconds[own]
            if more < least:
                least, chosen, last = more, n, i
    if chosen >= 0:
        total += steps.loss[last] - steps.loss[steps.own[chosen]]
        steps.own[chosen] = last
    return total


@uncounted_ieee
def _spend_loss(budget: float, total: float, steps: Steps) -> None:
    """Step towards more loss while the limit allows it, each time what saves most seconds."""
    for _ in range(_FILLS):
        most, chosen, last = 0.0, -1, -1
        for n in range(len(steps.own)):
            own = steps.own[n]
            for i in range(own - 1, steps.first[n] - 1, -1):
                if total - steps.loss[own] + steps.loss[i] > budget:
                    break
                saved = steps.seconds[own] - steps.seconds[i]
                if saved > most:
                    most, chosen, last = saved, n, i
        if chosen < 0:
            break
        total += steps.loss[last] - steps.loss[steps.own[chosen]]
        steps.own[chosen] = last
