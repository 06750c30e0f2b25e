"""Compiled: the options that no merged table holds, priced one by one beside it; Statement 14.

Such an option is a point: payload, loss and cost are fixed numbers, so that nothing but products is
left to do where tangents of the same device times are known.
"""

from __future__ import annotations

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
from sftopt.solvers.certify.bound.rate_tangents import enough_share, share_tangent
from sftopt.solvers.certify.compiled import uncounted
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class PlaceTangents(NamedTuple):
    """Tangents of a device's shares in the box, place by place."""

    up: Array
    """(P, 2) of 1 / (tau_u - s1), at the low and the high end."""
    down: Array
    """(P, 2) of 1 / (tau_d - s5), at the low and the high end."""
    slope: Array
    """(P,) ``total``: share per bit/s, else 1."""
    offset: Array
    """(P,) ``total``: constant part of the share, else 0."""
    rate: Array
    """(P,) ``total``: bit/s for each bit per element where the tangent touches."""
    moved: NDArray[np.bool_]
    """(P,) ``total``: whether the place sends other bits than those where its tangent touches."""
    made: Integers
    """(P,) the device whose ``up``, ``down`` and ``rate`` a place holds, -1 before the first."""


class ListedPlaces(NamedTuple):
    """A device's places that a node allows."""

    place: Integers
    """(P,)"""
    below: Array
    """(P,) lower estimates of their costs at the box's highest corner."""


class LeastPlaces(NamedTuple):
    """A device's least places at the corners of the box; arrays of shape (4,)."""

    value: Array
    place: Integers
    option: Integers
    """The option of a point, -1 where the table is least."""
    bits_up: Array
    """Bits per element there: the table's slopes or the point's own."""
    bits_down: Array
    slope: Array
    """Share per bit/s where its tangent touches (``total``), else 1."""
    offset: Array
    """Constant part of its uplink share (``total``), else 0."""


@njit(cache=True, inline="always")
def touch_times(data: BoundData, box: Box, n: int, place: int, tangents: PlaceTangents) -> int:
    """Return the index of the place that holds the tangents of a place's times; Statement 2.

    It is the first with the same device times; they are made once for a device.
    """
    at = data.timing[place]
    if tangents.made[at] != n:
        s1, s5 = data.s1[n, at], data.s5[n, at]
        tangents.up[at, 0], tangents.up[at, 1] = tangent(box.up_low, box.up_high, s1)
        tangents.down[at, 0], tangents.down[at, 1] = tangent(box.down_low, box.down_high, s5)
        if data.total:
            tangents.rate[at] = data.up[n] / touching_room(box.up_low, box.up_high, s1)
        tangents.made[at] = n
    return int(at)


@uncounted
def list_points(
    data: BoundData, region: Region, live: LivePlaces, begin: int, box: Box, m: Multipliers,
    n: int, tangents: PlaceTangents, listed: ListedPlaces, count: int, least: LeastPlaces,
) -> int:  # fmt: skip
    """Return the number of places listed with a device's points; Statement 14.

    Points from ``begin`` of ``live`` on are listed, and those written that are less than what
    ``least`` has already.
    """
    price, up_n, down_n = m.loss * data.weight[n], m.uplink * data.up[n], m.downlink * data.down[n]
    ceiling = max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3]))
    for j in range(begin, live.first[n + 1]):
        place = live.places[j]
        if not is_allowed(data, region, n, place):
            continue
        late = data.s1[n, place] > box.up_high * (1.0 + EDGE)
        if late or data.s5[n, place] > box.down_high * (1.0 + EDGE):
            continue
        at = touch_times(data, box, n, place, tangents)
        fixed = data.cost[n, place] + m.memory * data.held[n, place]
        below_all = np.inf
        for i in range(data.first[place], data.first[place + 1]):
            o = data.allowed[i]
            slope, offset = 1.0, 0.0
            if data.total:
                slope, offset = share_tangent(
                    data.tangents, n, tangents.rate[at] * data.sigma_up[o]
                )
            base = fixed + price * data.noise_constant[o, place] + m.uplink * offset
            up, down = up_n * slope * data.sigma_up[o], down_n * data.sigma_down[o]
            below = base + up * tangents.up[at, 1] + down * tangents.down[at, 1]
            below_all = min(below_all, below)
            if below >= ceiling:
                continue
            for k in range(CORNERS):
                value = base + up * tangents.up[at, k & 1] + down * tangents.down[at, k >> 1]
                if value < least.value[k]:
                    least.value[k], least.place[k], least.option[k] = value, place, o
                    least.bits_up[k], least.bits_down[k] = data.sigma_up[o], data.sigma_down[o]
                    least.slope[k], least.offset[k] = slope, offset
            ceiling = max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3]))
        listed.place[count], listed.below[count] = place, below_all
        count += 1
    return count


@uncounted
def own_point_cost(
    data: BoundData, box: Box, m: Multipliers, n: int, place: int, o: int, factor: float
) -> float:
    """Return what a point surely costs at the box's least times, in seconds, at any multipliers
    within ``factor`` of ``m``; Statement 13. The box leaves it time at both links."""
    rate = data.up[n] * data.sigma_up[o] / (box.up_low - data.s1[n, place])
    share = rate
    if data.total:
        share = enough_share(data.tangents, n, rate)
    priced = m.uplink * share + m.loss * data.weight[n] * data.noise_constant[o, place]
    priced += m.downlink * data.down[n] * data.sigma_down[o] / (box.down_low - data.s5[n, place])
    priced += m.memory * data.held[n, place]
    return float(data.cost[n, place] + factor * priced)
