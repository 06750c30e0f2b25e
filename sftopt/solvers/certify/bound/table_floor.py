"""Compiled: a box bound by the tables of single options alone, for boxes that mostly close by it.

It takes half the time of the exact one, has no planes and leads to no better multipliers.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    BoundData,
    Box,
    LivePlaces,
    Region,
    corner_times,
)
from sftopt.solvers.certify.bound.box_bound import DeviceItems, DeviceTangents, list_items
from sftopt.solvers.certify.bound.corner_sums import MARGIN
from sftopt.solvers.certify.bound.keep_cost import below_cost, keep_cost
from sftopt.solvers.certify.compiled import uncounted
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]


@njit(cache=True, nogil=True)
def table_floor(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers
) -> float:
    """Return a safe lower bound in seconds on a box by tables; Statements 1, 2, 4 and 7.

    Minus infinity where there are no tables, where shares are no multiple of the rate (``total``)
    and where a term is negative, whose rounding a sum does not show.
    """
    if data.total or len(data.tables) == 0:
        return -np.inf
    P, options, most = data.s1.shape[1], len(data.eta_up), len(data.allowed)
    curve = np.empty((options, P))
    for o in range(options):
        for place in range(P):
            curve[o, place] = data.loss_keep * data.factor[place] * data.scale[o]
    tangents = DeviceTangents(
        np.empty((P, 2)), np.empty((P, 2)), np.empty(P), np.ones(P), np.zeros(P)
    )
    listed = DeviceItems(np.empty(most, dtype=np.int64), np.empty(most))
    return _sum_floors(
        data, region, live, box, m, curve, tangents, listed, np.zeros(CORNERS), np.empty(CORNERS)
    )


@uncounted
def _sum_floors(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, curve: Array,
    tangents: DeviceTangents, listed: DeviceItems, sums: Array, value: Array,
) -> float:  # fmt: skip
    """Do what :func:`table_floor` does, in the places it made."""
    options = len(data.eta_up)
    for n in range(len(data.s1)):
        count, first = list_items(data, region, live, box, m, n, curve, tangents, listed)
        if count == 0:
            return np.inf
        price = m.loss * data.weight[n] if data.mean else 0.0
        ceiling = np.inf
        for k in range(CORNERS):
            value[k] = np.inf
        for turn in range(-1, count):
            at = first if turn < 0 else turn
            if turn >= 0 and (at == first or listed.below[at] >= ceiling):
                continue
            item = listed.item[at]
            place = item // options
            o = item - place * options
            base = data.cost[n, place] + m.memory * data.held[n, place]
            for k in range(CORNERS):
                up = m.uplink * data.up[n] * tangents.up[place, k & 1]
                down = m.downlink * data.down[n] * tangents.down[place, k >> 1]
                cost = keep_cost(data, o, place, base, up, down, price, curve[o, place])
                if min(min(base, price * data.noise_constant[o, place]), min(up, down)) < 0.0:
                    return -np.inf
                value[k] = min(value[k], below_cost(data, o, place, cost))
            ceiling = max(max(value[0], value[1]), max(value[2], value[3]))
        for k in range(CORNERS):
            sums[k] += value[k]
    least = np.inf
    fixed = m.uplink + m.downlink + m.loss * data.budget + m.memory * data.memory
    size = m.uplink + m.downlink + abs(m.loss * data.budget) + m.memory * abs(data.memory)
    for k in range(CORNERS):
        tau_up, tau_down = corner_times(box, k)
        time = data.steps * (tau_up + tau_down + box.server)
        least = min(least, time - fixed + sums[k] - MARGIN * (abs(time) + size + sums[k]))
    return least
