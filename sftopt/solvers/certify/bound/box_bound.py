"""Compiled: the box bound of Statement 2 at given multipliers, its planes, and its safe value.

Device by device: the items that a node allows are listed with lower estimates, the least item of
each corner is found among them, and what it costs is added up.
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
    CornerBounds,
    Listing,
    LivePlaces,
    Record,
    Region,
    corner_times,
    is_allowed,
    tangent,
    touching_room,
)
from sftopt.solvers.certify.bound.corner_sums import (
    CornerSums,
    add_device,
    add_tangent_loss,
    end_corners,
    end_device,
    new_sums,
    nothing_left,
)
from sftopt.solvers.certify.bound.keep_cost import (
    KeepRange,
    below_cost,
    keep_cost,
    keep_range,
    least_over_keeps,
    table_cost,
)
from sftopt.solvers.certify.bound.keep_minimum import entropy_bits
from sftopt.solvers.certify.bound.rate_tangents import enough_share, share_tangent
from sftopt.solvers.certify.compiled import uncounted
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class DeviceTangents(NamedTuple):
    """Tangents of a device's shares in the box, place by place."""

    up: Array
    """(P, 2) of 1 / (tau_u - s1), at the low and the high end."""
    down: Array
    """(P, 2) of 1 / (tau_d - s5), at the low and the high end."""
    room: Array
    """(P,) ``total``: tau_u - s1 where the tangent touches."""
    slope: Array
    """(P,) ``total``: share per bit/s, else 1."""
    offset: Array
    """(P,) ``total``: constant part of the share, else 0."""


class DeviceItems(NamedTuple):
    """A device's items that a node allows, in the order of places; M of them at most."""

    item: Integers
    """(M,) place * O + option."""
    below: Array
    """(M,) lower estimates of the items' costs at the box's highest corner."""


class LeastItems(NamedTuple):
    """A device's least items at the corners of the box; arrays of shape (4,)."""

    value: Array
    item: Integers
    keep: Array
    slope: Array
    """Share per bit/s where the item's tangent touches (``total``), else 1."""
    offset: Array
    """Constant part of its uplink share (``total``), else 0."""


@njit(cache=True, nogil=True)
def box_bounds(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, out: CornerBounds,
    record: Record, row: int, listing: Listing,
) -> None:  # fmt: skip
    """Write lower bounds in seconds at the corners of a box into ``out``; Statements 1 and 2.

    What ``live`` leaves out must be dead in the box at these multipliers (Statement 13). Choices
    are recorded from ``row`` on.
    """
    P, options = data.s1.shape[1], len(data.eta_up)
    curve = np.empty((options, P))
    for o in range(options):
        for place in range(P):
            curve[o, place] = data.loss_keep * data.factor[place] * data.scale[o]
    tangents = DeviceTangents(
        np.empty((P, 2)), np.empty((P, 2)), np.empty(P), np.ones(P), np.zeros(P)
    )
    most = len(data.allowed)
    listed = DeviceItems(np.empty(most, dtype=np.int64), np.empty(most))
    least = LeastItems(
        np.empty(CORNERS), np.empty(CORNERS, dtype=np.int64), np.empty(CORNERS),
        np.ones(CORNERS), np.zeros(CORNERS),
    )  # fmt: skip
    _sum_devices(
        data, region, live, box, m, out, record, row, listing, curve, tangents, listed, least,
        new_sums(out),
    )  # fmt: skip


@uncounted
def _sum_devices(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, out: CornerBounds,
    record: Record, row: int, listing: Listing, curve: Array, tangents: DeviceTangents,
    listed: DeviceItems, least: LeastItems, sums: CornerSums,
) -> None:  # fmt: skip
    """Do what :func:`box_bounds` does, in the places it made."""
    N = len(data.s1)
    recorded = record.items.shape[1] > 0
    live_count = 0
    for n in range(N):
        count, first = list_items(data, region, live, box, m, n, curve, tangents, listed)
        if count == 0:
            nothing_left(out)
            return
        _find_least(data, region, m, n, curve, tangents, listed, count, first, least)
        if max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3])) == np.inf:
            nothing_left(out)
            return
        own = _add_least(data, box, m, n, curve, tangents, least, sums, out.lost, listing.factor)
        if recorded:
            for k in range(CORNERS):
                record.items[row + k, n] = least.item[k]
                record.keeps[row + k, n] = least.keep[k]
        if listing.factor > 0.0:
            live_count = _list_live(data, n, listed, count, own, listing, live_count)
        end_device(sums, n, N)
    end_corners(data, box, m, sums, out)


@njit(cache=True, inline="always")
def list_items(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, n: int,
    curve: Array, tangents: DeviceTangents, listed: DeviceItems,
) -> tuple[int, int]:  # fmt: skip
    """List a device's items with lower estimates in seconds by the tables; Statement 4.

    Returns the number of items and the index of the one with the least estimate.
    """
    options, pruning = len(data.eta_up), data.priced or len(data.tables) > 0
    price = m.loss * data.weight[n] if data.mean else 0.0
    up_n, down_n = m.uplink * data.up[n], m.downlink * data.down[n]
    count, first, least = 0, -1, np.inf
    for j in range(live.first[n], live.first[n + 1]):
        place = live.places[j]
        if not is_allowed(data, region, n, place):
            continue
        late = data.s1[n, place] > box.up_high * (1.0 + EDGE)
        if late or data.s5[n, place] > box.down_high * (1.0 + EDGE):
            continue
        _touch_place(data, box, n, place, tangents)
        base = data.cost[n, place] + m.memory * data.held[n, place]
        base += m.uplink * tangents.offset[place]
        up = up_n * tangents.slope[place] * tangents.up[place, 1]
        down = down_n * tangents.down[place, 1]
        for at in range(data.first[place], data.first[place + 1]):
            o = data.allowed[at]
            if (region.options[n] >> o) & 1 == 0:
                continue
            below = -np.inf
            if pruning:
                cost = keep_cost(data, o, place, base, up, down, price, curve[o, place])
                below = below_cost(data, o, place, cost)
            listed.item[count], listed.below[count] = place * options + o, below
            if below < least or first < 0:
                least, first = below, count
            count += 1
    return count, first


@njit(cache=True, inline="always")
def _touch_place(data: BoundData, box: Box, n: int, place: int, tangents: DeviceTangents) -> None:
    """Write the tangents of a device's shares at one place; Statements 2 and 8."""
    s1, s5 = data.s1[n, place], data.s5[n, place]
    tangents.up[place, 0], tangents.up[place, 1] = tangent(box.up_low, box.up_high, s1)
    tangents.down[place, 0], tangents.down[place, 1] = tangent(box.down_low, box.down_high, s5)
    if data.total:
        tangents.room[place] = touching_room(box.up_low, box.up_high, s1)
        tangents.slope[place], tangents.offset[place] = share_tangent(
            data.tangents, n, data.up[n] * data.tangents.bits[n, place] / tangents.room[place]
        )


@njit(cache=True, inline="always")
def _find_least(
    data: BoundData, region: Region, m: Multipliers, n: int, curve: Array,
    tangents: DeviceTangents, listed: DeviceItems, count: int, first: int, least: LeastItems,
) -> None:  # fmt: skip
    """Write a device's least item at each corner; Statement 2.

    Items are dismissed by estimates against values achieved; Statement 4.
    """
    options = len(data.eta_up)
    price = m.loss * data.weight[n] if data.mean else 0.0
    ceiling = np.inf
    for k in range(CORNERS):
        least.value[k] = np.inf
        least.item[k] = -1
    for turn in range(-1, count):
        # the most promising item first: it makes the others easy to dismiss
        at = first if turn < 0 else turn
        if turn >= 0 and (at == first or listed.below[at] >= ceiling):
            continue
        item = listed.item[at]
        place = item // options
        o = item - place * options
        keeps = keep_range(data, o, place)
        curved = data.mean and keeps.low < keeps.high
        base = data.cost[n, place] + m.memory * data.held[n, place]
        slope, offset, guess = 1.0, 0.0, -1.0
        if data.total:
            slope, offset, guess = _touch_item(
                data,
                region,
                m,
                n,
                o,
                place,
                base,
                price,
                curve[o, place],
                tangents,
                keeps,
                turn < 0,
            )
            base += m.uplink * offset
        up_n, down_n = slope * (m.uplink * data.up[n]), m.downlink * data.down[n]
        for k in range(CORNERS):
            up, down = up_n * tangents.up[place, k & 1], down_n * tangents.down[place, k >> 1]
            cost = keep_cost(data, o, place, base, up, down, price, curve[o, place])
            tabled = turn >= 0 and curved and cost.fall > 0.0 and len(data.tables) > 0
            if tabled and table_cost(data, o, cost) >= least.value[k]:
                continue
            if not data.mean:
                keep = keeps.low
                value = cost.constant + cost.slope * keep + cost.entropy * keeps.entropy_low
            else:
                value, keep = least_over_keeps(
                    cost, data.decay, keeps, region.keep_low[n], region.keep_high[n], guess
                )
                value += cost.constant
            guess = keep
            if value < least.value[k] or least.item[k] < 0:
                least.value[k], least.item[k], least.keep[k] = value, item, keep
                if data.total:
                    least.slope[k], least.offset[k] = slope, offset
        ceiling = max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3]))


@njit(cache=True, inline="always")
def _touch_item(
    data: BoundData, region: Region, m: Multipliers, n: int, o: int, place: int, base: float,
    price: float, curve: float, tangents: DeviceTangents, keeps: KeepRange, note: bool,
) -> tuple[float, float, float]:  # fmt: skip
    """Return share per bit/s, constant part and keep where the item is least at the box's middle.

    One touching point for all corners; Statement 8. ``note``: the next box touches there too.
    """
    keep, guess = keeps.low, -1.0
    if data.mean and keeps.low < keeps.high:
        gain = m.uplink * data.up[n] * tangents.slope[place]
        middle_down = 0.5 * (tangents.down[place, 0] + tangents.down[place, 1])
        cost = keep_cost(
            data, o, place, base, gain / tangents.room[place],
            m.downlink * data.down[n] * middle_down, price, curve,
        )  # fmt: skip
        guess = least_over_keeps(
            cost, data.decay, keeps, region.keep_low[n], region.keep_high[n], guess
        )[1]
        keep = guess
    bits = data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
    if note:
        data.tangents.bits[n, place] = bits
    slope, offset = share_tangent(data.tangents, n, data.up[n] * bits / tangents.room[place])
    return slope, offset, guess


@njit(cache=True, inline="always")
def _add_least(
    data: BoundData, box: Box, m: Multipliers, n: int, curve: Array, tangents: DeviceTangents,
    least: LeastItems, sums: CornerSums, lost: Array, factor: float,
) -> float:  # fmt: skip
    """Add a device's least items to the sums, and what their tangents lose.

    Returns, with ``factor`` > 0, what one of them surely costs at the box's least times and any
    multipliers within the factor, in seconds; Statement 13.
    """
    options = len(data.eta_up)
    own = np.inf
    for k in range(CORNERS):
        item = least.item[k]
        place = item // options
        o = item - place * options
        keep, offset = least.keep[k], least.offset[k]
        bits = data.up[n] * least.slope[k]
        bits *= data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
        down_bits = data.down[n] * (data.eta_down[o] * keep + data.sigma_down[o])
        up, down = tangents.up[place, k & 1], tangents.down[place, k >> 1]
        share_up, share_down = offset + bits * up, down_bits * down
        loss = 0.0
        if data.mean:
            loss = data.noise_constant[o, place] + data.noise_slope[o] * keep
            loss = (loss + curve[o, place] * math.exp(-data.decay * keep)) * data.weight[n]
        cost, held = data.cost[n, place], data.held[n, place]
        size = abs(cost) + m.uplink * (abs(share_up) + abs(offset)) + m.downlink * share_down
        size += m.loss * loss + m.memory * held
        add_device(sums, k, least.value[k], size, cost, share_up, share_down, loss, held)
        tau_up, tau_down = corner_times(box, k)
        s1, s5 = data.s1[n, place], data.s5[n, place]
        most_up = data.steps * (box.up_high - box.up_low)
        most_down = data.steps * (box.down_high - box.down_low)
        add_tangent_loss(lost, k, 0, tau_up - s1, m.uplink * bits, up, most_up)
        add_tangent_loss(lost, k, 1, tau_down - s5, m.downlink * down_bits, down, most_down)
        room_up, room_down = box.up_low - s1, box.down_low - s5
        inside = data.low[o, place] <= keep <= data.high[o, place]
        if factor > 0.0 and room_up > 0.0 and room_down > 0.0 and inside:
            # a plain upper estimate: this item at this keep, at the box's least times
            share = bits / room_up
            if data.total:
                share = enough_share(data.tangents, n, share / least.slope[k])
            priced = m.uplink * share + m.downlink * down_bits / room_down
            priced += m.memory * held + m.loss * loss
            own = min(own, cost + factor * priced)
    return own


@njit(cache=True, inline="always")
def _list_live(
    data: BoundData, n: int, listed: DeviceItems, count: int, own: float, listing: Listing,
    live_count: int,
) -> int:  # fmt: skip
    """List a device's places that can win against a cost of ``own`` seconds; Statement 13.

    Returns how many places are listed by now.
    """
    options = len(data.eta_up)
    own += 1e-9 * abs(own)
    last_place = -1
    for j in range(count):
        place = listed.item[j] // options
        fixed = data.cost[n, place]
        if place != last_place and not fixed + (listed.below[j] - fixed) / listing.factor > own:
            listing.kept.places[live_count] = place
            live_count += 1
            last_place = place
    listing.kept.first[n + 1] = live_count
    return live_count
