"""Compiled: the items that may be part of a better plan, corner by corner, priced for a knapsack.

Statement 17. Items are compared at several prices of loss: at none, which tells exactly what points
cost, and at some around the given one, between which keep fractions make up what points leave.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    EDGE,
    BoundData,
    Box,
    LivePlaces,
    Region,
    is_allowed,
    tangent,
    touching_room,
)
from sftopt.solvers.certify.bound.keep_cost import KeepCost, KeepRange, below_cost, least_over_keeps
from sftopt.solvers.certify.bound.keep_minimum import entropy_bits
from sftopt.solvers.certify.bound.rate_tangents import share_tangent
from sftopt.solvers.certify.compiled import uncounted
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PRICES = (0.0, 0.7, 1.0, 1.4, 2.0)
"""Prices of loss that choices are compared at, as multiples of the given one; set by hand."""
GIVEN = 2
"""The place among them of the given price itself."""

UP = 0
"""Column of figures: uplink share per bit of an element at the low end; next, at the high one."""
DOWN = 2
"""As ``UP``, on the downlink."""
OFFSET = 4
"""Column: the constant part of the uplink share (``total``)."""
COST = 5
"""Column: seconds of a round whatever is sent."""
HELD = 6
"""Column: server memory, scaled by the budget."""
ETA_UP = 7
"""Column: uplink bits per element that grow with the keep fraction."""
OMEGA = 8
"""Column: uplink bits per element that grow with the entropy of the mask."""
SIGMA_UP = 9
"""Column: uplink bits per element whatever is kept."""
ETA_DOWN = 10
"""Column: as ``ETA_UP``, on the downlink."""
SIGMA_DOWN = 11
"""Column: as ``SIGMA_UP``, on the downlink."""
NOISE = 12
"""Column: weighted loss whatever is kept."""
NOISE_SLOPE = 13
"""Column: weighted loss that grows with the keep fraction."""
CURVE = 14
"""Column: weighted loss of keeping nothing."""
RANGE = 15
"""The first of seven columns: those of :class:`KeepRange`, which begins with both ends."""
KEEP_LOW = 22
"""Column: the least keep fraction that the region allows."""
KEEP_HIGH = 23
"""Column: the largest keep fraction that the region allows."""
FIGURES = 24
"""Columns of figures."""


class LossItems(NamedTuple):
    """The items of all devices at each corner, device after device; A prices of loss."""

    first: Integers
    """(4, N + 1) where the items of each device begin."""
    item: Integers
    """(4, M) place * O + option."""
    low: Array
    """(4, M) least part of the mean loss."""
    value: Array
    """(4, M, A) least cost in seconds at each price of loss."""
    keep: Array
    """(4, M, A) the keep fraction there."""
    figures: Array
    """(4, M, FIGURES) what an item's cost is made of."""
    total: Array
    """(4,) seconds of the least items at the given price; infinite where a device has none."""
    listed: Integers
    """(places * options,) items of one device that the region allows, place * O + option."""
    below: Array
    """(places * options,) lower estimates of their costs at the box's highest corner."""
    own: Array
    """(places * options, FIGURES) their figures."""


def new_items(data: BoundData, count: int) -> LossItems:
    """Make room for ``count`` items of all devices at each corner."""
    N, most, A = len(data.weight), max(len(data.allowed), 1), len(PRICES)
    return LossItems(
        np.zeros((CORNERS, N + 1), dtype=np.int64), np.zeros((CORNERS, count), dtype=np.int64),
        np.zeros((CORNERS, count)), np.zeros((CORNERS, count, A)), np.zeros((CORNERS, count, A)),
        np.zeros((CORNERS, count, FIGURES)), np.zeros(CORNERS), np.zeros(most, dtype=np.int64),
        np.zeros(most), np.zeros((most, FIGURES)),
    )  # fmt: skip


@uncounted
def list_items(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, slack: Array,
    every: bool, items: LossItems,
) -> bool:  # fmt: skip
    """List each device's items within ``slack`` (4,) seconds of its least one at each corner.

    Corners without slack get none. Without ``every`` those that another one beats are left out.
    False where there is no room for them. Estimates dismiss items
    by Statement 4; shares under ``total`` are those of Statement 8, touching where a point sends,
    else where the place's last item did; the rest is Statement 17.
    """
    options, own, listed, below = len(data.eta_up), items.own, items.listed, items.below
    eta_up, omega, sigma_up = data.eta_up, data.omega, data.sigma_up
    eta_down, sigma_down, tables = data.eta_down, data.sigma_down, data.tables
    bits_now, tangents, first_allowed, allowed = (
        data.tangents.bits, data.tangents, data.first, data.allowed,
    )  # fmt: skip
    for k in range(CORNERS):
        items.total[k], items.first[k, 0] = 0.0, 0
    for n in range(len(data.weight)):
        weight = data.weight[n]
        count, best = 0, 0
        for j in range(live.first[n], live.first[n + 1]):
            place = live.places[j]
            if not is_allowed(data, region, n, place):
                continue
            s1, s5 = data.s1[n, place], data.s5[n, place]
            if s1 > box.up_high * (1.0 + EDGE) or s5 > box.down_high * (1.0 + EDGE):
                continue
            up_low, up_high = tangent(box.up_low, box.up_high, s1)
            down_low, down_high = tangent(box.down_low, box.down_high, s5)
            room = touching_room(box.up_low, box.up_high, s1)
            for at in range(first_allowed[place], first_allowed[place + 1]):
                o = allowed[at]
                if (region.options[n] >> o) & 1 == 0:
                    continue
                row = own[count]
                low, high = data.low[o, place], data.high[o, place]
                row[RANGE], row[RANGE + 1] = low, high
                row[RANGE + 2] = data.end_low[o, place, 0]
                row[RANGE + 3] = data.end_low[o, place, 1]
                row[RANGE + 4] = data.end_high[o, place, 0]
                row[RANGE + 5] = data.end_high[o, place, 1]
                row[RANGE + 6] = data.cap[o, place]
                row[KEEP_LOW], row[KEEP_HIGH] = region.keep_low[n], region.keep_high[n]
                row[ETA_UP], row[OMEGA], row[SIGMA_UP] = eta_up[o], omega[o], sigma_up[o]
                row[ETA_DOWN], row[SIGMA_DOWN] = eta_down[o], sigma_down[o]
                row[NOISE] = weight * data.noise_constant[o, place]
                row[NOISE_SLOPE] = weight * data.noise_slope[o]
                row[CURVE] = weight * (data.loss_keep * data.factor[place] * data.scale[o])
                row[COST], row[HELD] = data.cost[n, place], data.held[n, place]
                slope, row[OFFSET] = data.up[n], 0.0
                if data.total:
                    bits = bits_now[n, place]
                    if low == high:
                        bits = eta_up[o] * low + omega[o] * row[RANGE + 2] + sigma_up[o]
                    per_bit, row[OFFSET] = share_tangent(tangents, n, data.up[n] * bits / room)
                    slope *= per_bit
                row[UP], row[UP + 1] = slope * up_low, slope * up_high
                row[DOWN], row[DOWN + 1] = data.down[n] * down_low, data.down[n] * down_high
                listed[count], below[count] = place * options + o, -np.inf
                if len(tables) > 0 or low == high:
                    below[count] = below_cost(data, o, place, cost_of(row, 3, m, m.loss))
                if below[count] < below[best]:
                    best = count
                count += 1
        for k in range(CORNERS):
            begin = items.first[k, n]
            items.first[k, n + 1] = begin
            if slack[k] > 0.0:
                end = _list_corner(m, data.decay, n, k, count, best, slack[k], every, items)
                if end < 0:
                    return False
                items.first[k, n + 1] = end
    return True


@njit(cache=True)
def cost_of(row: Array, k: int, m: Multipliers, price: float) -> KeepCost:
    """Return an item's cost at a corner and a price of loss, by its figures; Statement 2."""
    up, down = m.uplink * row[UP + (k & 1)], m.downlink * row[DOWN + (k >> 1)]
    constant = row[COST] + m.memory * row[HELD] + m.uplink * row[OFFSET]
    constant += up * row[SIGMA_UP] + down * row[SIGMA_DOWN] + price * row[NOISE]
    slope = up * row[ETA_UP] + down * row[ETA_DOWN] + price * row[NOISE_SLOPE]
    return KeepCost(constant, up * row[OMEGA], slope, price * row[CURVE])


@njit(cache=True)
def _least(row: Array, decay: float, cost: KeepCost) -> tuple[float, float]:
    """Return an item's least cost in seconds and its keep; Statement 3."""
    keeps = KeepRange(
        row[RANGE], row[RANGE + 1], row[RANGE + 2], row[RANGE + 3], row[RANGE + 4], row[RANGE + 5],
        row[RANGE + 6],
    )  # fmt: skip
    value, keep = least_over_keeps(cost, decay, keeps, row[KEEP_LOW], row[KEEP_HIGH], -1.0)
    return cost.constant + value, keep


@njit(cache=True)
def loss_of(row: Array, decay: float, keep: float) -> float:
    """Return an item's part of the mean loss at a keep fraction."""
    return float(row[NOISE] + row[NOISE_SLOPE] * keep + row[CURVE] * math.exp(-decay * keep))


@njit(cache=True)
def _least_loss(row: Array, decay: float) -> float:
    """Return the least part of the mean loss that an item can have."""
    low, high = max(row[RANGE], row[KEEP_LOW]), min(row[RANGE + 1], row[KEEP_HIGH])
    curved = least_curve_loss(row[NOISE_SLOPE], row[CURVE], decay, low, high)
    return float(row[NOISE] + curved)


@njit(cache=True, inline="always")
def least_curve_loss(slope: float, curve: float, decay: float, low: float, high: float) -> float:
    """Return slope rho + curve exp(-decay rho) at its least on [low, high], from below.

    Convex: at ``high`` where it still falls there, as it does up to the best keep; else it is above
    its tangent at ``high``.
    """
    fall = curve * math.exp(-decay * high)
    rising = max(slope - decay * fall, 0.0)
    return float(slope * high + fall - rising * (high - low))


@njit(cache=True)
def _list_corner(
    m: Multipliers, decay: float, n: int, k: int, count: int, best: int, slack: float,
    every: bool, items: LossItems,
) -> int:  # fmt: skip
    """List a device's items at one corner, priced at every price; Statement 17.

    Returns where they end, -1 where there is no room.
    """
    begin, least, own, below = items.first[k, n], np.inf, items.own, items.below
    value, keep, item = items.value[k], items.keep[k], items.item[k]
    end = begin
    for turn in range(-1 if count > 0 else 0, count):
        # the most promising item first: it makes the others easy to dismiss
        at = best if turn < 0 else turn
        if turn >= 0 and (at == best or below[at] > least + slack):
            continue
        found, kept = _least(own[at], decay, cost_of(own[at], k, m, m.loss))
        if found > least + slack or found == np.inf:
            continue
        if end == len(item):
            return -1
        item[end], value[end, GIVEN], keep[end, GIVEN] = at, found, kept
        least = min(least, found)
        end += 1
    items.total[k] += least
    last, end = end, begin
    for i in range(begin, last):
        # the least one may have come late
        if value[i, GIVEN] <= least + slack:
            _price(m, decay, k, i, end, items)
            end = end + 1 if every else _with_item(k, begin, end, items)
    return int(end)


@njit(cache=True)
def _price(m: Multipliers, decay: float, k: int, i: int, to: int, items: LossItems) -> None:
    """Price the item at ``i``, an index of those listed, at all prices of loss; moved to ``to``."""
    value, keep, at = items.value[k], items.keep[k], items.item[k, i]
    row, given, kept = items.own[at], value[i, GIVEN], keep[i, GIVEN]
    low = _least_loss(row, decay)
    for a in range(len(PRICES)):
        if a == GIVEN:
            value[to, a], keep[to, a] = given, kept
        elif row[RANGE] == row[RANGE + 1]:
            value[to, a], keep[to, a] = given + m.loss * (PRICES[a] - 1.0) * low, kept
        else:
            cost = cost_of(row, k, m, m.loss * PRICES[a])
            value[to, a], keep[to, a] = _least(row, decay, cost)
    items.item[k, to], items.low[k, to] = items.listed[at], low
    for j in range(FIGURES):
        items.figures[k, to, j] = row[j]


@njit(cache=True)
def _with_item(k: int, first: int, last: int, items: LossItems) -> int:
    """Keep the item at ``last`` among those from ``first`` on unless one of them beats it.

    Those that it beats are dropped; returns where the next item goes.
    """
    low, value = items.low[k], items.value[k]
    for i in range(first, last):
        if _beats(low, value, i, last):
            return last
    left = first
    for i in range(first, last + 1):
        if i == last or not _beats(low, value, last, i):
            items.item[k, left], low[left] = items.item[k, i], low[i]
            for a in range(len(PRICES)):
                value[left, a], items.keep[k, left, a] = value[i, a], items.keep[k, i, a]
            for j in range(FIGURES):
                items.figures[k, left, j] = items.figures[k, i, j]
            left += 1
    return left


@njit(cache=True)
def _beats(low: Array, value: Array, one: int, other: int) -> bool:
    """Tell whether an item has no more loss and costs no more at any price than another."""
    beats = low[one] <= low[other]
    for a in range(len(PRICES)):
        beats = beats and value[one, a] <= value[other, a]
    return bool(beats)


@njit(cache=True)
def sum_choice(
    k: int, taken: Integers, a: int, decay: float, items: LossItems, plane: Array
) -> None:
    """Write what a choice costs as a linear function of the multipliers.

    ``taken`` (N,): the items, at their keeps of the price in place ``a``. ``plane`` (5,): the
    constant and the coefficients.
    """
    plane[:] = 0.0
    for i in taken:
        row, keep = items.figures[k, i], items.keep[k, i, a]
        bits = row[ETA_UP] * keep + row[OMEGA] * entropy_bits(keep) + row[SIGMA_UP]
        plane[0] += row[COST]
        plane[1] += row[OFFSET] + row[UP + (k & 1)] * bits
        plane[2] += row[DOWN + (k >> 1)] * (row[ETA_DOWN] * keep + row[SIGMA_DOWN])
        plane[3] += loss_of(row, decay, keep)
        plane[4] += row[HELD]
