"""Compiled: choices of one item for each device, each bounded by multipliers of its own.

Statement 18. What few choices a box leaves is told apart here: fixed items leave no duality gap but
that of their keep fractions.
"""

from __future__ import annotations

from typing import NamedTuple

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
from sftopt.solvers.certify.bound.knapsack_items import least_curve_loss
from sftopt.solvers.certify.bound.rate_tangents import share_tangent
from sftopt.solvers.certify.guidance import TimesAndPrices

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_FITS = 1e-12
"""What a limit is raised by for the rounding of sums, relative: Statement 7."""
_NO_TIME = 1e-9
"""A touching point must leave an item this part of itself."""


class Known(NamedTuple):
    """What the items of the choice before cost at each corner, where guidance is the same."""

    items: Integers
    """(N,) place * O + option; -1 before there is one."""
    value: Array
    """(4, N) seconds."""
    size: Array
    """(4, N) sums of absolute terms."""
    at: Array
    """(6,) times and prices, and the price of loss that was used."""
    told: Integers
    """(N,) the items that the two below are of, whatever the guidance."""
    loss: Array
    """(N,) their least parts of the mean loss; infinite where the region allows them no keep."""
    curved: NDArray[np.bool_]
    """(N,) whether their keeps are free."""


@njit(cache=True, nogil=True)
def bound_apart(
    data: BoundData, region: Region, box: Box, parallel: bool, items: Integers, keeps: Array,
    guides: Array, out: Array,
) -> None:  # fmt: skip
    """Write a bound in seconds for the plans of each choice with times in the box; Statement 18.

    ``items`` (S, N) as place * O + option; ``keeps`` (S, N) and ``guides`` (S, 5), rows of
    :class:`TimesAndPrices`, are guidance. ``parallel``: the server works on all devices at once.
    ``out`` (S,): minus infinity where guidance does not serve. Choices that follow one another with
    the same guidance share what their common items cost.
    """
    N = items.shape[1]
    known = Known(
        np.full(N, -1), np.empty((CORNERS, N)), np.empty((CORNERS, N)), np.full(6, np.nan),
        np.full(N, -1), np.empty(N), np.zeros(N, dtype=np.bool_),
    )  # fmt: skip
    for s in range(len(items)):
        guide = TimesAndPrices(
            guides[s, 0], guides[s, 1], guides[s, 2], guides[s, 3], guides[s, 4]
        )  # fmt: skip
        out[s] = _bound_of(data, region, box, parallel, items[s], keeps[s], guide, known)


@njit(cache=True)
def _bound_of(
    data: BoundData, region: Region, box: Box, parallel: bool, items: Integers, keeps: Array,
    guide: TimesAndPrices, known: Known,
) -> float:  # fmt: skip
    """Return the bound of one choice."""
    server, curved = _server_time(data, region, box, parallel, items, known)
    if server == np.inf:
        return np.inf
    if not (0.0 < guide.up_price < np.inf and 0.0 < guide.down_price < np.inf):
        return -np.inf
    price = guide.loss_price if curved and 0.0 < guide.loss_price < np.inf else 0.0
    _start(known, guide, price)
    touch_up = min(max(guide.tau_up, box.up_low), box.up_high)
    touch_down = min(max(guide.tau_down, box.down_low), box.down_high)
    for n in range(len(items)):
        if items[n] != known.items[n] and not _price_item(
            data, region, box, items[n], keeps[n], n, touch_up, touch_down, guide, price, known
        ):
            known.items[n] = -1
            return -np.inf
    least = np.inf
    for k in range(CORNERS):
        tau_up, tau_down = corner_times(box, k)
        time = data.steps * (tau_up + tau_down + server)
        value = time - guide.up_price - guide.down_price - price * data.budget
        size = abs(time) + guide.up_price + guide.down_price + abs(price * data.budget)
        for n in range(len(items)):
            value += known.value[k, n]
            size += known.size[k, n]
        least = min(least, value - 2.0 * MARGIN * size)
    return least


@njit(cache=True)
def _server_time(
    data: BoundData, region: Region, box: Box, parallel: bool, items: Integers, known: Known
) -> tuple[float, bool]:  # fmt: skip
    """Return a choice's longest server time in seconds, infinite where a limit rules it out, and
    whether any of its keeps is free."""
    options, server, low_loss, held, curved = len(data.eta_up), box.server, 0.0, 0.0, False
    for n in range(len(items)):
        place, o = items[n] // options, items[n] % options
        if items[n] != known.told[n]:
            low = max(data.low[o, place], region.keep_low[n])
            high = min(data.high[o, place], region.keep_high[n])
            curve = data.loss_keep * data.factor[place] * data.scale[o]
            least = least_curve_loss(data.noise_slope[o], curve, data.decay, low, high)
            least = data.weight[n] * (least + data.noise_constant[o, place])
            known.loss[n] = least if low <= high else np.inf
            known.curved[n], known.told[n] = low < high, items[n]
        if parallel:
            server = max(server, data.server[n, place])
        held += data.held[n, place]
        low_loss += known.loss[n]
        curved = curved or known.curved[n]
    if low_loss > data.budget + _FITS * abs(data.budget) or held > data.memory * (1.0 + _FITS):
        return np.inf, False
    return server, curved


@njit(cache=True)
def _start(known: Known, guide: TimesAndPrices, price: float) -> None:
    """Forget what items cost unless guidance is the same."""
    at, same = known.at, True
    for j in range(5):
        same = same and at[j] == guide[j]
        at[j] = guide[j]
    if not (same and at[5] == price):
        known.items[:] = -1
    at[5] = price


@njit(cache=True)
def _price_item(
    data: BoundData, region: Region, box: Box, item: int, keep: float, n: int, touch_up: float,
    touch_down: float, guide: TimesAndPrices, price: float, known: Known,
) -> bool:  # fmt: skip
    """Write what an item costs at each corner, with tangents where the box is nearest to the times
    of the choice's plan; False where these leave it no time."""
    options = len(data.eta_up)
    place, o = item // options, item % options
    room_up, room_down = touch_up - data.s1[n, place], touch_down - data.s5[n, place]
    if room_up <= _NO_TIME * touch_up or room_down <= _NO_TIME * touch_down:
        return False
    per_bit, offset = data.up[n], 0.0
    if data.total:
        bits = data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
        slope, offset = share_tangent(data.tangents, n, data.up[n] * bits / room_up)
        per_bit *= slope
    weighted = price * data.weight[n]
    fall = weighted * data.loss_keep * data.factor[place] * data.scale[o]
    for k in range(CORNERS):
        tau_up, tau_down = corner_times(box, k)
        up = (1.0 - (tau_up - touch_up) / room_up) / room_up * guide.up_price * per_bit
        down = (1.0 - (tau_down - touch_down) / room_down) / room_down
        down *= guide.down_price * data.down[n]
        constant = data.cost[n, place] + guide.up_price * offset
        size = abs(constant)
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
        cost = KeepCost(constant, up * data.omega[o], slope, fall)
        more, _ = least_over_keeps(
            cost, data.decay, keep_range(data, o, place), region.keep_low[n],
            region.keep_high[n], -1.0,
        )  # fmt: skip
        known.value[k, n] = constant + more
        known.size[k, n] = size + abs(constant) + abs(more)
    known.items[n] = item
    return True
