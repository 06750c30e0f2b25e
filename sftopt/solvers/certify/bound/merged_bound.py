"""Compiled: the box bound with all options of a place merged into one table; Statement 14.

As ``box_bound.box_bounds``, an order of magnitude faster and lower by the table's error.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math

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
    MergedTable,
    Region,
    corner_times,
    is_allowed,
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
from sftopt.solvers.certify.bound.keep_minimum import (
    Nodes,
    convexity_cap,
    entropy_bits,
    least_phi,
    table_place,
    table_slopes,
)
from sftopt.solvers.certify.bound.merged_points import (
    LeastPlaces,
    ListedPlaces,
    PlaceTangents,
    list_points,
    own_point_cost,
    touch_times,
)
from sftopt.solvers.certify.bound.rate_tangents import enough_share, share_tangent
from sftopt.solvers.certify.compiled import uncounted
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_NEAR = 0.03
"""How near (relative) a cut's bits must be to those where its estimate touches: nearer costs more
new tangents than the bound gains."""


@njit(cache=True)
def fill_merged(data: BoundData, nodes: Nodes, curve: float) -> MergedTable:
    """Fill the tables at all pairs of nodes, with the option and keep that are least there.

    Statement 14; a table for each of the first groups.
    """
    shape = data.tabled, len(nodes.P), len(nodes.S)
    merged = MergedTable(
        np.empty(shape), np.empty(shape, dtype=np.int8), np.empty(shape), nodes, curve,
        np.full(shape[0], np.inf), np.full(shape[0], np.inf),
    )  # fmt: skip
    for t in range(shape[0]):
        _fill_group(data, merged, t)
    return merged


@njit(cache=True)
def _fill_group(data: BoundData, merged: MergedTable, t: int) -> None:
    """Fill the table of group ``t``.

    An option's least cost rises in both prices: its value at an earlier node is below it here, and
    dismisses it where another option is already cheaper.
    """
    nodes, curve = merged.nodes, merged.curve
    table, option, keep = merged.table[t], merged.option[t], merged.keep[t]
    options = len(data.eta_up)
    below = np.zeros((table.shape[1], options))
    keeps = np.full((table.shape[1], options), -1.0)
    place = int(np.searchsorted(data.group, t))
    low, high = data.low[:, place], data.high[:, place]
    caps = np.empty(options)
    for o in range(options):
        caps[o] = convexity_cap(data.decay, min(low[o], 1.0), high[o])
    for i in range(table.shape[0]):
        A = nodes.P[i]
        for j in range(table.shape[1]):
            B = nodes.S[j]
            if j > 0:
                for o in range(options):
                    below[j, o] = max(below[j, o], below[j - 1, o])
            first = option[i, j - 1] if j > 0 else (option[i - 1, j] if i > 0 else -1)
            best, best_o, best_keep = np.inf, -1, 0.0
            for turn in range(-1, options):
                o = first if turn < 0 else turn
                if o < 0 or (turn >= 0 and (o == first or below[j, o] >= best)):
                    continue
                if low[o] > high[o]:
                    continue
                phi, at = _option_phi(data, o, place, A, B, curve, caps[o], keeps[j, o])
                below[j, o], keeps[j, o] = phi, at
                if phi < best:
                    best, best_o, best_keep = phi, o, at
            table[i, j], option[i, j], keep[i, j] = best, best_o, best_keep
    for o in range(options):
        for at in (low[o], high[o]):
            if low[o] <= high[o]:
                up = data.eta_up[o] * at + data.omega[o] * entropy_bits(at) + data.sigma_up[o]
                merged.least_up[t] = min(merged.least_up[t], up)
                down = data.eta_down[o] * at + data.sigma_down[o]
                merged.least_down[t] = min(merged.least_down[t], down)


@njit(cache=True)
def _option_phi(
    data: BoundData, o: int, place: int, A: float, B: float, curve: float, cap: float, guess: float
) -> tuple[float, float]:
    """Return an option's least cost over rho at prices (A, B) and its keep; Statement 3."""
    low, high, decay, scale = data.low[o, place], data.high[o, place], data.decay, data.scale[o]
    fixed = A * data.sigma_up[o] + B * data.sigma_down[o] + data.noise_constant[o, place] / curve
    P = A * data.omega[o]
    S = A * data.eta_up[o] + B * data.eta_down[o] + data.noise_slope[o] / curve
    ends_low, ends_high = data.end_low[o, place], data.end_high[o, place]
    at_low = P * ends_low[0] + S * low + scale * ends_low[1]
    if low == high:
        return fixed + at_low, low
    at_high = P * ends_high[0] + S * high + scale * ends_high[1]
    if scale <= 0.0 or cap <= P:
        if at_low <= at_high:
            return fixed + at_low, low
        return fixed + at_high, high
    if guess < 0.0:
        guess = math.log(decay / (S + 2.0 * P + 1e-300)) / decay
    phi, keep = least_phi(P, S, decay, low, high, at_low, at_high, guess)
    return fixed + phi, keep


@njit(cache=True, nogil=True)
def merged_bounds(
    data: BoundData, merged: MergedTable, region: Region, live: LivePlaces, box: Box,
    m: Multipliers, out: CornerBounds, listing: Listing,
) -> None:  # fmt: skip
    """Write lower bounds in seconds at the corners of a box into ``out``; Statements 2 and 14.

    For cells where a group's options and keeps are the same at all cuts, or points, and nothing
    but cuts is parted.
    """
    P = data.s1.shape[1]
    tangents = PlaceTangents(
        np.empty((P, 2)), np.empty((P, 2)), np.ones(P), np.zeros(P), np.empty(P),
        np.zeros(P, dtype=np.bool_), np.full(P, -1),
    )  # fmt: skip
    listed = ListedPlaces(np.empty(P, dtype=np.int64), np.empty(P))
    least = LeastPlaces(
        np.empty(CORNERS), np.empty(CORNERS, dtype=np.int64), np.empty(CORNERS, dtype=np.int64),
        np.empty(CORNERS), np.empty(CORNERS), np.ones(CORNERS), np.zeros(CORNERS),
    )  # fmt: skip
    _sum_devices(
        data, merged, region, live, box, m, out, listing, tangents, listed, least, new_sums(out)
    )


@uncounted
def _sum_devices(
    data: BoundData, merged: MergedTable, region: Region, live: LivePlaces, box: Box,
    m: Multipliers, out: CornerBounds, listing: Listing, tangents: PlaceTangents,
    listed: ListedPlaces, least: LeastPlaces, sums: CornerSums,
) -> None:  # fmt: skip
    """Do what :func:`merged_bounds` does, in the places it made."""
    N, live_count = len(data.s1), 0
    for n in range(N):
        unit = m.loss * data.weight[n] * merged.curve
        A_n, B_n = m.uplink * data.up[n] / unit, m.downlink * data.down[n] / unit
        count, first, points = _list_places(
            data, merged, region, live, box, m, n, unit, A_n, B_n, tangents, listed
        )
        _find_least(data, merged, m, n, unit, A_n, B_n, tangents, listed, count, first, least)
        if points < live.first[n + 1]:
            count = list_points(
                data, region, live, points, box, m, n, tangents, listed, count, least
            )
        if count == 0:
            nothing_left(out)
            return
        _add_least(data, box, m, n, tangents, least, sums, out.lost)
        if listing.factor > 0.0:
            own = _own_cost(data, merged, box, m, n, unit, A_n, B_n, least, listing.factor)
            own += 1e-9 * abs(own)
            for j in range(count):
                fixed = data.cost[n, listed.place[j]]
                if not fixed + (listed.below[j] - fixed) / listing.factor > own:
                    listing.kept.places[live_count] = listed.place[j]
                    live_count += 1
            listing.kept.first[n + 1] = live_count
        end_device(sums, n, N)
    end_corners(data, box, m, sums, out)


@njit(cache=True, inline="always")
def _list_places(
    data: BoundData, merged: MergedTable, region: Region, live: LivePlaces, box: Box,
    m: Multipliers, n: int, unit: float, A_n: float, B_n: float, tangents: PlaceTangents,
    listed: ListedPlaces,
) -> tuple[int, int, int]:  # fmt: skip
    """List a device's places with lower estimates at the box's highest corner; Statement 14.

    Returns how many there are, the one with the least estimate, and where its points begin.
    """
    table, nodes, bits = merged.table, merged.nodes, data.tangents.bits
    most_A = nodes.P[-1]
    count, first, least = 0, 0, np.inf
    points = live.first[n + 1]
    for j in range(live.first[n], live.first[n + 1]):
        place = live.places[j]
        t = data.group[place]
        if t >= data.tabled:
            points = j
            break
        if not is_allowed(data, region, n, place):
            continue
        late = data.s1[n, place] > box.up_high * (1.0 + EDGE)
        if late or data.s5[n, place] > box.down_high * (1.0 + EDGE):
            continue
        touch_times(data, box, n, place, tangents)
        if data.total:
            tangents.slope[place], tangents.offset[place] = share_tangent(
                data.tangents, n, tangents.rate[place] * bits[n, place]
            )
        A = A_n * tangents.slope[place] * tangents.up[place, 1]
        phi, sent, _ = table_slopes(table, t, nodes, A, B_n * tangents.down[place, 1])
        if data.total:
            sent = merged.least_up[t] if most_A < A else sent
            tangents.moved[place] = abs(sent - bits[n, place]) > _NEAR * sent
            bits[n, place] = sent
        below = data.cost[n, place] + m.memory * data.held[n, place]
        below = below + m.uplink * tangents.offset[place] + unit * phi
        listed.place[count], listed.below[count] = place, below
        if below < least:
            least, first = below, count
        count += 1
    return count, first, points


@njit(cache=True, inline="always")
def _find_least(
    data: BoundData, merged: MergedTable, m: Multipliers, n: int, unit: float, A_n: float,
    B_n: float, tangents: PlaceTangents, listed: ListedPlaces, count: int, first: int,
    least: LeastPlaces,
) -> None:  # fmt: skip
    """Write the place of least cost at each corner; Statements 2 and 14."""
    table, nodes = merged.table, merged.nodes
    most_A, most_B = nodes.P[-1], nodes.S[-1]
    ceiling = np.inf
    for k in range(CORNERS):
        least.value[k] = np.inf
    # where points alone are left to the device nothing is listed yet
    for turn in range(-1 if count > 0 else 0, count):
        at = first if turn < 0 else turn
        if turn >= 0 and (at == first or listed.below[at] >= ceiling):
            continue
        place = listed.place[at]
        t = data.group[place]
        if data.total and tangents.moved[place]:
            # touch anew near the bits that this place turned out to send
            tangents.slope[place], tangents.offset[place] = share_tangent(
                data.tangents, n, tangents.rate[place] * data.tangents.bits[n, place]
            )
        base = data.cost[n, place] + m.memory * data.held[n, place]
        base = base + m.uplink * tangents.offset[place]
        for k in range(CORNERS):
            A = A_n * tangents.slope[place] * tangents.up[place, k & 1]
            B = B_n * tangents.down[place, k >> 1]
            phi, by_A, by_B = table_slopes(table, t, nodes, A, B)
            if most_A < A:
                phi, by_A = phi + (A - most_A) * merged.least_up[t], merged.least_up[t]
            if most_B < B:
                phi, by_B = phi + (B - most_B) * merged.least_down[t], merged.least_down[t]
            value = base + unit * phi
            if value < least.value[k]:
                least.value[k], least.place[k], least.option[k] = value, place, -1
                least.bits_up[k], least.bits_down[k] = by_A, by_B
                least.slope[k], least.offset[k] = tangents.slope[place], tangents.offset[place]
        ceiling = max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3]))


@njit(cache=True, inline="always")
def _add_least(
    data: BoundData, box: Box, m: Multipliers, n: int, tangents: PlaceTangents, least: LeastPlaces,
    sums: CornerSums, lost: Array,
) -> None:  # fmt: skip
    """Add a device's least places to the sums, and what their tangents lose."""
    for k in range(CORNERS):
        place = least.place[k]
        at, offset = data.timing[place], least.offset[k]
        up, down = tangents.up[at, k & 1], tangents.down[at, k >> 1]
        bits = data.up[n] * least.slope[k] * least.bits_up[k]
        down_bits = data.down[n] * least.bits_down[k]
        share_up, share_down = offset + bits * up, down_bits * down
        cost, held = data.cost[n, place], data.held[n, place]
        priced = least.value[k] - (cost + m.memory * held)
        loss = max(priced - m.uplink * share_up - m.downlink * share_down, 0.0) / m.loss
        size = abs(cost) + m.memory * held + 2.0 * (abs(priced) + m.uplink * abs(offset))
        add_device(sums, k, least.value[k], size, cost, share_up, share_down, loss, held)
        tau_up, tau_down = corner_times(box, k)
        most_up = data.steps * (box.up_high - box.up_low)
        most_down = data.steps * (box.down_high - box.down_low)
        add_tangent_loss(lost, k, 0, tau_up - data.s1[n, place], m.uplink * bits, up, most_up)
        add_tangent_loss(
            lost, k, 1, tau_down - data.s5[n, place], m.downlink * down_bits, down, most_down
        )


@njit(cache=True, inline="always")
def _own_cost(
    data: BoundData, merged: MergedTable, box: Box, m: Multipliers, n: int, unit: float,
    A_n: float, B_n: float, least: LeastPlaces, factor: float,
) -> float:  # fmt: skip
    """Return what one of a device's items surely costs at the box's least times, in seconds, at
    any multipliers within ``factor`` of ``m``; Statement 13."""
    own = np.inf
    for k in range(0, CORNERS, 3):
        place = least.place[k]
        room_up, room_down = box.up_low - data.s1[n, place], box.down_low - data.s5[n, place]
        if room_up > 0.0 and room_down > 0.0 and least.option[k] >= 0:
            own = min(own, own_point_cost(data, box, m, n, place, least.option[k], factor))
        elif room_up > 0.0 and room_down > 0.0:
            # a plain upper estimate: one option and keep, at the box's least times
            A, B = A_n * least.slope[k] / room_up, B_n / room_down
            i, j = table_place(merged.nodes, A, B)
            t = data.group[place]
            o, keep = merged.option[t, i, j], merged.keep[t, i, j]
            sent = data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
            phi = A_n * sent / room_up
            if data.total:
                rate = data.up[n] * sent / room_up
                phi = m.uplink / unit * enough_share(data.tangents, n, rate)
            phi += B * (data.eta_down[o] * keep + data.sigma_down[o])
            phi += (data.noise_constant[o, place] + data.noise_slope[o] * keep) / merged.curve
            phi += data.scale[o] * math.exp(-data.decay * keep)
            priced = unit * phi + m.memory * data.held[n, place]
            own = min(own, data.cost[n, place] + factor * priced)
    return own
