"""Compiled: choices of one item for each device, each bounded by multipliers of its own.

Statement 18. What few choices a box leaves is told apart here: fixed items leave no duality gap but
that of their keep fractions.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    BoundData,
    Box,
    Region,
    corner_times,
)
from sftopt.solvers.certify.bound.corner_sums import MARGIN
from sftopt.solvers.certify.bound.keep_cost import KeepCost, keep_range, least_over_keeps
from sftopt.solvers.certify.bound.keep_minimum import entropy_bits
from sftopt.solvers.certify.bound.rate_tangents import share_tangent
from sftopt.solvers.certify.guidance import TimesAndPrices

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_FITS = 1e-12
"""What a limit is raised by for the rounding of sums, relative: Statement 7."""
_NO_TIME = 1e-9
"""A touching point must leave an item this part of itself."""


@njit(cache=True, nogil=True)
def bound_apart(
    data: BoundData, region: Region, box: Box, parallel: bool, items: Integers, keeps: Array,
    guides: Array, out: Array,
) -> None:  # fmt: skip
    """Write a bound in seconds for the plans of each choice with times in the box; Statement 18.

    ``items`` (S, N) as place * O + option; ``keeps`` (S, N) and ``guides`` (S, 5), rows of
    :class:`TimesAndPrices`, are guidance. ``parallel``: the server works on all devices at once.
    ``out`` (S,): minus infinity where guidance does not serve.
    """
    for s in range(len(items)):
        guide = TimesAndPrices(
            guides[s, 0], guides[s, 1], guides[s, 2], guides[s, 3], guides[s, 4]
        )  # fmt: skip
        out[s] = _bound_of(data, region, box, parallel, items[s], keeps[s], guide)


@njit(cache=True)
def _bound_of(
    data: BoundData, region: Region, box: Box, parallel: bool, items: Integers, keeps: Array,
    guide: TimesAndPrices,
) -> float:  # fmt: skip
    """Return the bound of one choice."""
    options, server, low_loss, held, curved = len(data.eta_up), box.server, 0.0, 0.0, False
    for n in range(len(items)):
        place, o = items[n] // options, items[n] % options
        if parallel:
            server = max(server, data.server[n, place])
        held += data.held[n, place]
        low = max(data.low[o, place], region.keep_low[n])
        high = min(data.high[o, place], region.keep_high[n])
        if low > high:
            return np.inf
        curve = data.loss_keep * data.factor[place] * data.scale[o]
        least = data.noise_constant[o, place] + data.noise_slope[o] * low
        low_loss += data.weight[n] * (least + curve * np.exp(-data.decay * high))
        curved = curved or low < high
    if low_loss > data.budget + _FITS * abs(data.budget) or held > data.memory * (1.0 + _FITS):
        return np.inf
    if not (0.0 < guide.up_price < np.inf and 0.0 < guide.down_price < np.inf):
        return -np.inf
    price = guide.loss_price if curved and 0.0 < guide.loss_price < np.inf else 0.0
    least = np.inf
    for k in range(CORNERS):
        least = min(least, _corner_value(data, region, box, k, server, items, keeps, guide, price))
    return least


@njit(cache=True)
def _corner_value(
    data: BoundData, region: Region, box: Box, k: int, server: float, items: Integers,
    keeps: Array, guide: TimesAndPrices, price: float,
) -> float:  # fmt: skip
    """Return the value of a choice's dual with tangents at one corner, in seconds."""
    options = len(data.eta_up)
    tau_up, tau_down = corner_times(box, k)
    # tangents touch where the box is nearest to the choice's own times
    touch_up = min(max(guide.tau_up, box.up_low), box.up_high)
    touch_down = min(max(guide.tau_down, box.down_low), box.down_high)
    time = data.steps * (tau_up + tau_down + server)
    value = time - guide.up_price - guide.down_price - price * data.budget
    size = abs(time) + guide.up_price + guide.down_price + abs(price * data.budget)
    for n in range(len(items)):
        place, o = items[n] // options, items[n] % options
        room_up, room_down = touch_up - data.s1[n, place], touch_down - data.s5[n, place]
        if room_up <= _NO_TIME * touch_up or room_down <= _NO_TIME * touch_down:
            return -np.inf
        up = (1.0 - (tau_up - touch_up) / room_up) / room_up
        down = (1.0 - (tau_down - touch_down) / room_down) / room_down
        per_bit, offset = data.up[n], 0.0
        if data.total:
            keep = keeps[n]
            bits = data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
            slope, offset = share_tangent(data.tangents, n, data.up[n] * bits / room_up)
            per_bit *= slope
        up *= guide.up_price * per_bit
        down *= guide.down_price * data.down[n]
        constant = data.cost[n, place] + guide.up_price * offset
        size += abs(constant)
        weighted = price * data.weight[n]
        constant += weighted * data.noise_constant[o, place]
        if up < 0.0 or down < 0.0:
            # beyond twice the time an item has where tangents touch: all its bits, at least
            high = data.high[o, place]
            if up < 0.0:
                constant += up * (data.eta_up[o] * high + data.omega[o] + data.sigma_up[o])
                up = 0.0
            if down < 0.0:
                constant += down * (data.eta_down[o] * high + data.sigma_down[o])
                down = 0.0
        constant += up * data.sigma_up[o] + down * data.sigma_down[o]
        slope = up * data.eta_up[o] + down * data.eta_down[o] + weighted * data.noise_slope[o]
        fall = weighted * data.loss_keep * data.factor[place] * data.scale[o]
        cost = KeepCost(constant, up * data.omega[o], slope, fall)
        more, _ = least_over_keeps(
            cost, data.decay, keep_range(data, o, place), region.keep_low[n],
            region.keep_high[n], -1.0,
        )  # fmt: skip
        value += constant + more
        size += abs(constant) + abs(more)
    return value - 2.0 * MARGIN * size
