"""Compiled: the box bound where the limit on the mean loss is kept exactly; Statement 17.

Where most of what is on offer are points, no keep fraction takes up what the limit leaves, and the
price of loss alone leaves a gap of up to one device's choice. Here every corner's choices of one
item for each device are listed instead, as far as they may be better than a target.
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
    CornerBounds,
    LivePlaces,
    Region,
    corner_times,
)
from sftopt.solvers.certify.bound.corner_sums import MARGIN
from sftopt.solvers.certify.bound.knapsack_items import (
    GIVEN,
    PRICES,
    LossItems,
    list_items,
    new_items,
    sum_choice,
)
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LOOKED_BACK = 16
"""How many of the choices kept before it a choice is compared with; set by hand."""
_ROUNDING = 1e-12
"""What the limit on the loss is raised by for the rounding of sums, relative: Statement 7."""
_MORE_SLACK = 1.05
"""By what factor items are listed beyond what the bound without choices asks for."""


class Choices(NamedTuple):
    """Choices of items for the first devices; S of them at most."""

    value: Array
    """(S, A) seconds at each price of loss, less what the limit is worth."""
    low: Array
    """(S,) the least mean loss."""
    parent: Integers
    """(N, S) which choice of the devices before it a choice goes on from."""
    taken: Integers
    """(N, S) the item it takes."""


class Room(NamedTuple):
    """Where choices are listed: made once."""

    items: LossItems
    kept: Choices
    found: Choices
    rest: Array
    """(N + 1, A) sum of the least costs of a device and all after it, in seconds, as ordered."""
    rest_low: Array
    """(N + 1,) sum of their least parts of the mean loss."""
    own: Integers
    """(N,) the items of a corner's best choice, as places among those listed."""
    order: Integers
    """(N,) the devices that have several items, in the order in which these are chosen."""
    turns: Integers
    """(1,) how many these are."""
    single: Array
    """(A + 1,) what the items of all others cost at each price, and their least loss."""
    best: Integers
    """(N,) place * O + option of each device in the least corner's best choice."""
    best_keep: Array
    """(N,) the keep fractions there."""
    unbeaten: Integers
    """(1,) how many choices that no other beats all corners together have."""
    number: Integers
    """(1,) how many choices of all corners are listed; -1 where they are too many."""
    listed: Integers
    """(most, N) their items as place * O + option."""
    listed_keep: Array
    """(most, N) their keep fractions at the given price."""


def new_room(data: BoundData, choices: int, items: int, listed: int) -> Room:
    """Make room for ``choices`` choices, ``items`` items of all devices, ``listed`` in the end."""
    N, A = len(data.weight), len(PRICES)
    kept, found = (
        Choices(
            np.zeros((choices, A)), np.zeros(choices), np.zeros((N, choices), dtype=np.int64),
            np.zeros((N, choices), dtype=np.int64),
        )
        for _ in range(2)
    )  # fmt: skip
    return Room(
        new_items(data, items), kept, found, np.zeros((N + 1, A)), np.zeros(N + 1),
        np.zeros(N, dtype=np.int64), np.zeros(N, dtype=np.int64), np.zeros(1, dtype=np.int64),
        np.zeros(A + 1), np.zeros(N, dtype=np.int64), np.zeros(N),
        np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64),
        np.zeros((listed, N), dtype=np.int64), np.zeros((listed, N)),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def knapsack_bounds(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, target: float,
    every: bool, out: CornerBounds, room: Room,
) -> int:  # fmt: skip
    """Raise the bounds of ``out``, those at ``m``, up to ``target`` seconds; Statement 17.

    With ``every`` all choices below the target are listed in ``room``, for Statement 18, and the
    best one there stays as it is.

    Planes of raised corners become those of their best choices, or begin with infinity where no
    choice is below the target. Returns the place of the price that bounds the least corner's choice
    best, which is written into ``room``; -1 where there is none or choices are too many, which
    leaves corners as they are. ``live`` must hold all that the region allows.
    """
    decay, budget, steps = data.decay, data.budget, data.steps
    shares = m.uplink + m.downlink
    priced, held = m.loss * budget, m.memory * data.memory
    slack, fixed, wanted = np.zeros(CORNERS), np.empty(CORNERS), np.empty(CORNERS)
    for k in range(CORNERS):
        if out.values[k] < target:
            slack[k] = _MORE_SLACK * (target - out.values[k]) + 1e-9 * abs(target)
        else:
            out.planes[k, 0] = np.inf
    margin, widened = 0.0, True
    room.number[0] = 0 if every else -1
    for turn in range(2):
        if not list_items(data, region, live, box, m, slack, every, room.items):
            room.number[0] = -1
            return -1
        widened = False
        for k in range(CORNERS):
            total = room.items.total[k]
            if slack[k] == 0.0 or total == np.inf:
                continue
            tau_up, tau_down = corner_times(box, k)
            time = steps * (tau_up + tau_down + box.server)
            fixed[k] = time - shares - held
            margin = shares + 2.0 * (abs(priced) + abs(held) + abs(total) + slack[k])
            margin = MARGIN * (abs(time) + margin)
            fixed[k] -= margin
            wanted[k] = target - fixed[k]
            if wanted[k] - (total - priced) > slack[k] and turn == 0:
                # the items listed are not all that may be better
                slack[k] = _MORE_SLACK * (wanted[k] - (total - priced))
                widened = True
        if not widened:
            break
    least, found_a = np.inf, -1
    room.unbeaten[0] = 0
    for k in range(CORNERS):
        total = room.items.total[k]
        if slack[k] == 0.0:
            continue
        count = 0
        if total < np.inf:
            unlisted = wanted[k] - (total - priced) > slack[k]
            count = -1 if unlisted else _enumerate(m.loss, budget, k, wanted[k], every, room)
        room.unbeaten[0] += max(count, 0)
        if count < 0:
            room.number[0] = -1
            if not every:
                room.best[0] = -1
            return -1
        if every:
            _list_choices(k, count, room)
        found = target if total < np.inf else np.inf
        out.planes[k, 0] = np.inf
        if count > 0:
            value, at, a = _least_choice(count, room)
            found = min(value + fixed[k], target)
            _trace(at, room)
            plane = out.planes[k]
            sum_choice(k, room.own, a, decay, room.items, plane)
            plane[0] += fixed[k] + shares + held
            plane[1] -= 1.0
            plane[2] -= 1.0
            plane[3] = PRICES[a] * (plane[3] - budget)
            plane[4] -= data.memory
            if found < least:
                least, found_a = found, a
                for n in range(0 if every else len(room.own)):
                    room.best[n] = room.items.item[k, room.own[n]]
                    room.best_keep[n] = room.items.keep[k, room.own[n], a]
        out.values[k] = max(out.values[k], found)
    return found_a


@njit(cache=True)
def _enumerate(price: float, budget: float, k: int, wanted: float, every: bool, room: Room) -> int:
    """List the choices of all devices that may be below ``wanted`` seconds; in ``room.kept``.

    Returns how many there are, -1 where there are too many.
    """
    items, kept, found, A = room.items, room.kept, room.found, len(PRICES)
    first, most = items.first[k], len(room.found.low)
    item_value, item_low, rest, rest_low = items.value[k], items.low[k], room.rest, room.rest_low
    kept_value, kept_low, found_value, found_low = kept.value, kept.low, found.value, found.low
    turns = _order(k, room)
    _sum_rest(k, turns, room)
    limit = budget + _ROUNDING * abs(budget)
    bound = -np.inf
    for a in range(A):
        kept_value[0, a] = room.single[a] - price * PRICES[a] * budget
        bound = max(bound, kept_value[0, a] + rest[0, a])
    kept_low[0] = room.single[A]
    if kept_low[0] + rest_low[0] > limit or bound >= wanted:
        return 0
    count = 1
    for turn in range(turns):
        n, more = room.order[turn], 0
        for s in range(count):
            for i in range(first[n], first[n + 1]):
                low = kept_low[s] + item_low[i]
                if low + rest_low[turn + 1] > limit:
                    continue
                bound = -np.inf
                for a in range(A):
                    value = kept_value[s, a] + item_value[i, a]
                    bound = max(bound, value + rest[turn + 1, a])
                if bound >= wanted:
                    continue
                if more == most:
                    return -1
                for a in range(A):
                    found_value[more, a] = kept_value[s, a] + item_value[i, a]
                found_low[more] = low
                found.parent[turn, more], found.taken[turn, more] = s, i
                more += 1
        if more == 0:
            return 0
        count = _all_found(more, turn, room) if every else _undominated(more, turn, room)
    return count


@njit(cache=True)
def _order(k: int, room: Room) -> int:
    """Order the devices that have several items in ``room.order``, fewest items first.

    Returns their number. The item of each of the others is written into ``room.own``, and what
    these cost at each price, then their least loss, into ``room.single``.
    """
    first, item_value, item_low = room.items.first[k], room.items.value[k], room.items.low[k]
    order, turns, A = room.order, 0, len(PRICES)
    room.single[:] = 0.0
    for n in range(len(order)):
        count = first[n + 1] - first[n]
        if count == 1:
            i = first[n]
            room.own[n] = i
            for a in range(A):
                room.single[a] += item_value[i, a]
            room.single[A] += item_low[i]
            continue
        at = turns
        while at > 0 and first[order[at - 1] + 1] - first[order[at - 1]] > count:
            order[at] = order[at - 1]
            at -= 1
        order[at] = n
        turns += 1
    room.turns[0] = turns
    return turns


@njit(cache=True)
def _sum_rest(k: int, turns: int, room: Room) -> None:
    """Sum the least costs and losses of each device and all after it, in their order."""
    first, item_value, item_low = room.items.first[k], room.items.value[k], room.items.low[k]
    rest, rest_low = room.rest, room.rest_low
    rest[turns] = 0.0
    rest_low[turns] = 0.0
    for turn in range(turns - 1, -1, -1):
        n, low = room.order[turn], np.inf
        for i in range(first[n], first[n + 1]):
            low = min(low, item_low[i])
        rest_low[turn] = rest_low[turn + 1] + low
        for a in range(len(PRICES)):
            least = np.inf
            for i in range(first[n], first[n + 1]):
                least = min(least, item_value[i, a])
            rest[turn, a] = rest[turn + 1, a] + least


@njit(cache=True)
def _all_found(count: int, n: int, room: Room) -> int:
    """Keep all choices found; returns their number."""
    found, kept = room.found, room.kept
    kept.value[:count], kept.low[:count] = found.value[:count], found.low[:count]
    kept.parent[n, :count], kept.taken[n, :count] = found.parent[n, :count], found.taken[n, :count]
    return count


@njit(cache=True)
def _undominated(count: int, n: int, room: Room) -> int:
    """Keep of the choices found those that no other beats in loss and at all prices.

    Returns their number. What is not compared is kept.
    """
    order = np.argsort(room.found.low[:count])
    value, low, kept_value = room.found.value, room.found.low, room.kept.value
    left = 0
    for s in order:
        beaten = False
        for other in range(left - 1, max(-1, left - 1 - _LOOKED_BACK), -1):
            beaten = True
            for a in range(len(PRICES)):
                if kept_value[other, a] > value[s, a]:
                    beaten = False
                    break
            if beaten:
                break
        if beaten:
            continue
        kept_value[left], room.kept.low[left] = value[s], low[s]
        room.kept.parent[n, left] = room.found.parent[n, s]
        room.kept.taken[n, left] = room.found.taken[n, s]
        left += 1
    return left


@njit(cache=True)
def _least_choice(count: int, room: Room) -> tuple[float, int, int]:
    """Return the least choice's cost in seconds, its place, and that of the price behind it."""
    least, at, best_a = np.inf, -1, 0
    for s in range(count):
        bound, own_a = -np.inf, 0
        for a in range(len(PRICES)):
            if room.kept.value[s, a] > bound:
                bound, own_a = room.kept.value[s, a], a
        if bound < least:
            least, at, best_a = bound, s, own_a
    return least, at, best_a


@njit(cache=True)
def _list_choices(k: int, count: int, room: Room) -> None:
    """Write the choices of a corner behind those listed; -1 of them where there is no room."""
    items, first = room.items, room.number[0]
    if first < 0 or first + count > len(room.listed):
        room.number[0] = -1
        return
    for s in range(count):
        _trace(s, room)
        for n in range(len(room.own)):
            room.listed[first + s, n] = items.item[k, room.own[n]]
            room.listed_keep[first + s, n] = items.keep[k, room.own[n], GIVEN]
    room.number[0] = first + count


@njit(cache=True)
def _trace(at: int, room: Room) -> None:
    """Write the items of a choice, as places among those listed, into ``room.own``.

    Those of devices with one item are there.
    """
    for turn in range(room.turns[0] - 1, -1, -1):
        room.own[room.order[turn]] = room.kept.taken[turn, at]
        at = room.kept.parent[turn, at]
