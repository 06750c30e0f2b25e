"""Compiled: the box bound with all options of a cut merged into one table; Statement 14.

As ``box_bound.box_bounds``, an order of magnitude faster and lower by the table's error.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
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
    LiveCuts,
    MergedTable,
    Region,
    corner_times,
    tangent,
    touching_room,
    uncounted,
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
from sftopt.solvers.certify.bound.rate_tangents import enough_share, share_tangent
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_NEAR = 0.03
"""How near (relative) a cut's bits must be to those where its estimate touches: nearer costs more
new tangents than the bound gains."""


class CutTangents(NamedTuple):
    """Tangents of a device's shares in the box, cut by cut."""

    up: Array
    """(L, 2) of 1 / (tau_u - s1), at the low and the high end."""
    down: Array
    """(L, 2) of 1 / (tau_d - s5), at the low and the high end."""
    slope: Array
    """(L,) ``total``: share per bit/s, else 1."""
    offset: Array
    """(L,) ``total``: constant part of the share, else 0."""
    rate: Array
    """(L,) ``total``: bit/s for each bit per element where the tangent touches."""
    moved: NDArray[np.bool_]
    """(L,) ``total``: whether the cut sends other bits than those where its tangent touches."""


class ListedCuts(NamedTuple):
    """A device's cuts that a node allows."""

    cut: Integers
    """(L,)"""
    below: Array
    """(L,) lower estimates of their costs at the box's highest corner."""


class LeastCuts(NamedTuple):
    """A device's least cuts at the corners of the box; arrays of shape (4,)."""

    value: Array
    cut: Integers
    bits_up: Array
    """Bits per element there: the table's slopes."""
    bits_down: Array


@njit(cache=True)
def fill_merged(data: BoundData, nodes: Nodes, curve: float) -> MergedTable:
    """Fill the table at all pairs of nodes, with the option and keep that are least there.

    Statement 14.

    An option's least cost rises in both prices: its value at an earlier node is below it here, and
    dismisses it where another option is already cheaper.
    """
    shape = len(nodes.P), len(nodes.S)
    options = len(data.eta_up)
    table = np.empty((1, *shape))
    option = np.empty(shape, dtype=np.int8)
    keep = np.empty(shape)
    below = np.zeros((shape[1], options))
    keeps = np.full((shape[1], options), -1.0)
    low, high = data.low[:, 0], data.high[:, 0]
    caps = np.empty(options)
    for o in range(options):
        caps[o] = convexity_cap(data.decay, min(low[o], 1.0), high[o])
    for i in range(shape[0]):
        A = nodes.P[i]
        for j in range(shape[1]):
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
                phi, at = _option_phi(data, o, A, B, curve, caps[o], keeps[j, o])
                below[j, o], keeps[j, o] = phi, at
                if phi < best:
                    best, best_o, best_keep = phi, o, at
            table[0, i, j], option[i, j], keep[i, j] = best, best_o, best_keep
    least_up, least_down = np.inf, np.inf
    for o in range(options):
        for at in (low[o], high[o]):
            if low[o] <= high[o]:
                up = data.eta_up[o] * at + data.omega[o] * entropy_bits(at) + data.sigma_up[o]
                least_up = min(least_up, up)
                least_down = min(least_down, data.eta_down[o] * at + data.sigma_down[o])
    return MergedTable(table, option, keep, nodes, curve, least_up, least_down)


@njit(cache=True)
def _option_phi(
    data: BoundData, o: int, A: float, B: float, curve: float, cap: float, guess: float
) -> tuple[float, float]:
    """Return an option's least cost over rho at prices (A, B) and its keep; Statement 3."""
    low, high, decay, scale = data.low[o, 0], data.high[o, 0], data.decay, data.scale[o]
    fixed = A * data.sigma_up[o] + B * data.sigma_down[o] + data.noise_constant[o] / curve
    P = A * data.omega[o]
    S = A * data.eta_up[o] + B * data.eta_down[o] + data.noise_slope[o] / curve
    ends_low, ends_high = data.end_low[o, 0], data.end_high[o, 0]
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
    data: BoundData, merged: MergedTable, region: Region, live: LiveCuts, box: Box,
    m: Multipliers, out: CornerBounds, listing: Listing,
) -> None:  # fmt: skip
    """Write lower bounds in seconds at the corners of a box into ``out``; Statements 2 and 14.

    For cells where options and keeps are the same at all cuts and nothing but cuts is parted.
    """
    L = data.s1.shape[1]
    tangents = CutTangents(
        np.empty((L, 2)), np.empty((L, 2)), np.ones(L), np.zeros(L), np.empty(L),
        np.zeros(L, dtype=np.bool_),
    )  # fmt: skip
    listed = ListedCuts(np.empty(L, dtype=np.int64), np.empty(L))
    least = LeastCuts(
        np.empty(CORNERS), np.empty(CORNERS, dtype=np.int64), np.empty(CORNERS), np.empty(CORNERS)
    )
    _sum_devices(
        data, merged, region, live, box, m, out, listing, tangents, listed, least, new_sums(out)
    )


@uncounted
def _sum_devices(
    data: BoundData, merged: MergedTable, region: Region, live: LiveCuts, box: Box,
    m: Multipliers, out: CornerBounds, listing: Listing, tangents: CutTangents,
    listed: ListedCuts, least: LeastCuts, sums: CornerSums,
) -> None:  # fmt: skip
    """Do what :func:`merged_bounds` does, in the places it made."""
    N, live_count = len(data.s1), 0
    for n in range(N):
        unit = m.loss * data.weight[n] * merged.curve
        A_n, B_n = m.uplink * data.up[n] / unit, m.downlink * data.down[n] / unit
        count, first = _list_cuts(
            data, merged, region, live, box, m, n, unit, A_n, B_n, tangents, listed
        )
        if count == 0:
            nothing_left(out)
            return
        _find_least(data, merged, m, n, unit, A_n, B_n, tangents, listed, count, first, least)
        _add_least(data, box, m, n, tangents, least, sums, out.lost)
        if listing.factor > 0.0:
            own = _own_cost(
                data, merged, box, m, n, unit, A_n, B_n, tangents, least, listing.factor
            )
            own += 1e-9 * abs(own)
            for j in range(count):
                fixed = data.cost[n, listed.cut[j]]
                if not fixed + (listed.below[j] - fixed) / listing.factor > own:
                    listing.kept.cuts[live_count] = listed.cut[j]
                    live_count += 1
            listing.kept.first[n + 1] = live_count
        end_device(sums, n, N)
    end_corners(data, box, m, sums, out)


@njit(cache=True, inline="always")
def _list_cuts(
    data: BoundData, merged: MergedTable, region: Region, live: LiveCuts, box: Box,
    m: Multipliers, n: int, unit: float, A_n: float, B_n: float, tangents: CutTangents,
    listed: ListedCuts,
) -> tuple[int, int]:  # fmt: skip
    """List a device's cuts with lower estimates at the box's highest corner; Statement 14.

    Returns how many there are and the one with the least estimate.
    """
    table, nodes, bits = merged.table, merged.nodes, data.tangents.bits
    most_A = nodes.P[-1]
    count, first, least = 0, 0, np.inf
    for j in range(live.first[n], live.first[n + 1]):
        cut = live.cuts[j]
        if cut < region.cut_low[n] or cut > region.cut_high[n]:
            continue
        s1, s5 = data.s1[n, cut], data.s5[n, cut]
        if s1 > box.up_high * (1.0 + EDGE) or s5 > box.down_high * (1.0 + EDGE):
            continue
        tangents.up[cut, 0], tangents.up[cut, 1] = tangent(box.up_low, box.up_high, s1)
        tangents.down[cut, 0], tangents.down[cut, 1] = tangent(box.down_low, box.down_high, s5)
        if data.total:
            tangents.rate[cut] = data.up[n] / touching_room(box.up_low, box.up_high, s1)
            tangents.slope[cut], tangents.offset[cut] = share_tangent(
                data.tangents, n, tangents.rate[cut] * bits[n, cut]
            )
        A = A_n * tangents.slope[cut] * tangents.up[cut, 1]
        phi, sent, _ = table_slopes(table, 0, nodes, A, B_n * tangents.down[cut, 1])
        if data.total:
            sent = merged.least_up if most_A < A else sent
            tangents.moved[cut] = abs(sent - bits[n, cut]) > _NEAR * sent
            bits[n, cut] = sent
        below = data.cost[n, cut] + m.memory * data.held[n, cut]
        below = below + m.uplink * tangents.offset[cut] + unit * phi
        listed.cut[count], listed.below[count] = cut, below
        if below < least:
            least, first = below, count
        count += 1
    return count, first


@njit(cache=True, inline="always")
def _find_least(
    data: BoundData, merged: MergedTable, m: Multipliers, n: int, unit: float, A_n: float,
    B_n: float, tangents: CutTangents, listed: ListedCuts, count: int, first: int,
    least: LeastCuts,
) -> None:  # fmt: skip
    """Write the cut of least cost at each corner; Statements 2 and 14."""
    table, nodes = merged.table, merged.nodes
    most_A, most_B = nodes.P[-1], nodes.S[-1]
    ceiling = np.inf
    for k in range(CORNERS):
        least.value[k] = np.inf
    for turn in range(-1, count):
        at = first if turn < 0 else turn
        if turn >= 0 and (at == first or listed.below[at] >= ceiling):
            continue
        cut = listed.cut[at]
        if data.total and tangents.moved[cut]:
            # touch anew near the bits that this cut turned out to send
            tangents.slope[cut], tangents.offset[cut] = share_tangent(
                data.tangents, n, tangents.rate[cut] * data.tangents.bits[n, cut]
            )
        base = data.cost[n, cut] + m.memory * data.held[n, cut]
        base = base + m.uplink * tangents.offset[cut]
        for k in range(CORNERS):
            A = A_n * tangents.slope[cut] * tangents.up[cut, k & 1]
            B = B_n * tangents.down[cut, k >> 1]
            phi, by_A, by_B = table_slopes(table, 0, nodes, A, B)
            if most_A < A:
                phi, by_A = phi + (A - most_A) * merged.least_up, merged.least_up
            if most_B < B:
                phi, by_B = phi + (B - most_B) * merged.least_down, merged.least_down
            value = base + unit * phi
            if value < least.value[k]:
                least.value[k], least.cut[k] = value, cut
                least.bits_up[k], least.bits_down[k] = by_A, by_B
        ceiling = max(max(least.value[0], least.value[1]), max(least.value[2], least.value[3]))


@njit(cache=True, inline="always")
def _add_least(
    data: BoundData, box: Box, m: Multipliers, n: int, tangents: CutTangents, least: LeastCuts,
    sums: CornerSums, lost: Array,
) -> None:  # fmt: skip
    """Add a device's least cuts to the sums, and what their tangents lose."""
    for k in range(CORNERS):
        cut = least.cut[k]
        offset, up, down = tangents.offset[cut], tangents.up[cut, k & 1], tangents.down[cut, k >> 1]
        bits = data.up[n] * tangents.slope[cut] * least.bits_up[k]
        down_bits = data.down[n] * least.bits_down[k]
        share_up, share_down = offset + bits * up, down_bits * down
        cost, held = data.cost[n, cut], data.held[n, cut]
        priced = least.value[k] - (cost + m.memory * held)
        loss = max(priced - m.uplink * share_up - m.downlink * share_down, 0.0) / m.loss
        size = abs(cost) + m.memory * held + 2.0 * (abs(priced) + m.uplink * abs(offset))
        add_device(sums, k, least.value[k], size, cost, share_up, share_down, loss, held)
        tau_up, tau_down = corner_times(box, k)
        most_up = data.steps * (box.up_high - box.up_low)
        most_down = data.steps * (box.down_high - box.down_low)
        add_tangent_loss(lost, k, 0, tau_up - data.s1[n, cut], m.uplink * bits, up, most_up)
        add_tangent_loss(
            lost, k, 1, tau_down - data.s5[n, cut], m.downlink * down_bits, down, most_down
        )


@njit(cache=True, inline="always")
def _own_cost(
    data: BoundData, merged: MergedTable, box: Box, m: Multipliers, n: int, unit: float,
    A_n: float, B_n: float, tangents: CutTangents, least: LeastCuts, factor: float,
) -> float:  # fmt: skip
    """Return what one of a device's items surely costs at the box's least times, in seconds, at
    any multipliers within ``factor`` of ``m``; Statement 13."""
    own = np.inf
    for k in range(0, CORNERS, 3):
        cut = least.cut[k]
        room_up, room_down = box.up_low - data.s1[n, cut], box.down_low - data.s5[n, cut]
        if room_up > 0.0 and room_down > 0.0:
            # a plain upper estimate: one option and keep, at the box's least times
            A, B = A_n * tangents.slope[cut] / room_up, B_n / room_down
            i, j = table_place(merged.nodes, A, B)
            o, keep = merged.option[i, j], merged.keep[i, j]
            sent = data.eta_up[o] * keep + data.omega[o] * entropy_bits(keep) + data.sigma_up[o]
            phi = A_n * sent / room_up
            if data.total:
                rate = data.up[n] * sent / room_up
                phi = m.uplink / unit * enough_share(data.tangents, n, rate)
            phi += B * (data.eta_down[o] * keep + data.sigma_down[o])
            phi += (data.noise_constant[o] + data.noise_slope[o] * keep) / merged.curve
            phi += data.scale[o] * math.exp(-data.decay * keep)
            priced = unit * phi + m.memory * data.held[n, cut]
            own = min(own, data.cost[n, cut] + factor * priced)
    return own
