"""Compiled: the box bound with all options of a cut merged into one table; Statement 14.

As ``box_bound.evaluate``, an order of magnitude faster and lower by the table's error.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    BLOCK,
    CORNERS,
    EDGE,
    MARGIN,
    Cell,
    Live,
    Merged,
    Region,
    tangent,
    touching_room,
)
from sftopt.solvers.certify.bound.keep_minimum import (
    Nodes,
    convexity_cap,
    entropy_bits,
    least_phi,
    table_place,
    table_slopes,
)
from sftopt.solvers.certify.bound.rate_tangents import most_share, touched

Array = NDArray[np.float64]

_TOUCHED = 0.03
"""How near (relative) a cut's bits must be to those where its estimate touches."""


@njit(cache=True)
def fill_merged(cell: Cell, nodes: Nodes, curve: float) -> Merged:
    """The table at all pairs of nodes, with the option and keep that are least there.

    An option's least cost rises in both prices: its value at an earlier node is below it here, and
    dismisses it where another option is already cheaper.
    """
    shape = len(nodes.P), len(nodes.S)
    options = len(cell.eta_up)
    table = np.empty((1, *shape))
    option = np.empty(shape, dtype=np.int8)
    keep = np.empty(shape)
    below = np.zeros((shape[1], options))
    keeps = np.full((shape[1], options), -1.0)
    low, high = cell.low[:, 0], cell.high[:, 0]
    caps = np.empty(options)
    for o in range(options):
        caps[o] = convexity_cap(cell.decay, min(low[o], 1.0), high[o])
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
                phi, at = _option_phi(cell, o, A, B, curve, caps[o], keeps[j, o])
                below[j, o], keeps[j, o] = phi, at
                if phi < best:
                    best, best_o, best_keep = phi, o, at
            table[0, i, j], option[i, j], keep[i, j] = best, best_o, best_keep
    least_up, least_down = np.inf, np.inf
    for o in range(options):
        for at in (low[o], high[o]):
            if low[o] <= high[o]:
                up = cell.eta_up[o] * at + cell.omega[o] * entropy_bits(at) + cell.sigma_up[o]
                least_up = min(least_up, up)
                least_down = min(least_down, cell.eta_down[o] * at + cell.sigma_down[o])
    return Merged(table, option, keep, nodes, curve, least_up, least_down)


@njit(cache=True)
def _option_phi(
    cell: Cell, o: int, A: float, B: float, curve: float, cap: float, guess: float
) -> tuple[float, float]:
    """(least over rho of an option's cost at prices A up and B down, its keep); Statement 3."""
    low, high, decay, scale = cell.low[o, 0], cell.high[o, 0], cell.decay, cell.scale[o]
    fixed = A * cell.sigma_up[o] + B * cell.sigma_down[o] + cell.noise_constant[o] / curve
    P = A * cell.omega[o]
    S = A * cell.eta_up[o] + B * cell.eta_down[o] + cell.noise_slope[o] / curve
    ends_low, ends_high = cell.end_low[o, 0], cell.end_high[o, 0]
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
def skim(
    cell: Cell, merged: Merged, region: Region, live: Live, box: Array, m: Array, values: Array,
    cuts: Array, spread: Array, kept: Live, factor_m: float,
) -> None:  # fmt: skip
    """Lower bounds at the corners of a box; arguments as those of ``box_bound.evaluate``.

    For cells where options and keeps are the same at all cuts and nothing is parted.
    """
    N, L = cell.s1.shape
    lam, mu, alpha, nu = m[0], m[1], m[2], m[3]
    s1, s5, cost, held, weight = cell.s1, cell.s5, cell.cost, cell.held, cell.weight
    ups, downs, steps, curve, decay = cell.up, cell.down, cell.steps, merged.curve, cell.decay
    table, nodes, options, keeps = merged.table, merged.nodes, merged.option, merged.keep
    most_A, most_B = nodes.P[-1], nodes.S[-1]
    least_up, least_down = merged.least_up, merged.least_down
    by_law, law, law_bits = cell.total, cell.law, cell.law.bits
    law_slope, law_offset = np.ones(L), np.zeros(L)
    rate, moved = np.empty(L), np.zeros(L, dtype=np.bool_)
    eta_up, omega, sigma_up, eta_down = cell.eta_up, cell.omega, cell.sigma_up, cell.eta_down
    sigma_down, noise_slope, noise_constant, scale = (
        cell.sigma_down, cell.noise_slope, cell.noise_constant, cell.scale,
    )  # fmt: skip
    cut_low, cut_high = region.cut_low, region.cut_high
    first, pool = live[0], live[1]
    kept_first, kept_pool = kept[0], kept[1]
    bounds = np.empty(L)
    listed = np.empty(L, dtype=np.int64)
    gu, gd = np.empty((L, 2)), np.empty((L, 2))
    best, best_cut = np.empty(CORNERS), np.empty(CORNERS, dtype=np.int64)
    by_A, by_B = np.empty(CORNERS), np.empty(CORNERS)
    part, total = np.zeros((CORNERS, 7)), np.zeros((CORNERS, 7))
    error = np.zeros((CORNERS, 2))
    count_kept = 0
    for n in range(N):
        unit = alpha * weight[n] * curve
        a_n, b_n = lam * ups[n] / unit, mu * downs[n] / unit
        count, least, least_at = 0, np.inf, 0
        for j in range(first[n], first[n + 1]):
            cut = pool[j]
            if cut < cut_low[n] or cut > cut_high[n]:
                continue
            if s1[n, cut] > box[1] * (1.0 + EDGE) or s5[n, cut] > box[3] * (1.0 + EDGE):
                continue
            gu[cut, 0], gu[cut, 1] = tangent(box[0], box[1], s1[n, cut])
            gd[cut, 0], gd[cut, 1] = tangent(box[2], box[3], s5[n, cut])
            B = b_n * gd[cut, 1]
            if by_law:
                rate[cut] = ups[n] / touching_room(box[0], box[1], s1[n, cut])
                law_slope[cut], law_offset[cut] = touched(law, n, rate[cut] * law_bits[n, cut])
            A = a_n * law_slope[cut] * gu[cut, 1]
            phi, sent, _ = table_slopes(table, 0, nodes, A, B)
            if by_law:
                sent = least_up if most_A < A else sent
                moved[cut] = abs(sent - law_bits[n, cut]) > _TOUCHED * sent
                law_bits[n, cut] = sent
            bound = cost[n, cut] + nu * held[n, cut] + lam * law_offset[cut] + unit * phi
            listed[count], bounds[count] = cut, bound
            if bound < least:
                least, least_at = bound, count
            count += 1
        if count == 0:
            for k in range(CORNERS):
                values[k] = np.inf
            return
        ceiling = np.inf
        for k in range(CORNERS):
            best[k] = np.inf
        for turn in range(-1, count):
            at = least_at if turn < 0 else turn
            if turn >= 0 and (at == least_at or bounds[at] >= ceiling):
                continue
            cut = listed[at]
            if by_law and moved[cut]:
                # touch anew near the bits that this cut turned out to send
                law_slope[cut], law_offset[cut] = touched(law, n, rate[cut] * law_bits[n, cut])
            base = cost[n, cut] + nu * held[n, cut] + lam * law_offset[cut]
            for k in range(CORNERS):
                A, B = a_n * law_slope[cut] * gu[cut, k & 1], b_n * gd[cut, k >> 1]
                phi, slope_A, slope_B = table_slopes(table, 0, nodes, A, B)
                if most_A < A:
                    phi, slope_A = phi + (A - most_A) * least_up, least_up
                if most_B < B:
                    phi, slope_B = phi + (B - most_B) * least_down, least_down
                value = base + unit * phi
                if value < best[k]:
                    best[k], best_cut[k], by_A[k], by_B[k] = value, cut, slope_A, slope_B
            ceiling = max(max(best[0], best[1]), max(best[2], best[3]))
        for k in range(CORNERS):
            cut = best_cut[k]
            bits, down_bits = ups[n] * law_slope[cut] * by_A[k], downs[n] * by_B[k]
            offset = law_offset[cut]
            share_u, share_d = offset + bits * gu[cut, k & 1], down_bits * gd[cut, k >> 1]
            base = cost[n, cut] + nu * held[n, cut]
            priced = best[k] - base
            loss = max(priced - lam * share_u - mu * share_d, 0.0) / alpha
            part[k, 0] += best[k]
            part[k, 1] += abs(cost[n, cut]) + nu * held[n, cut]
            part[k, 1] += 2.0 * (abs(priced) + lam * abs(offset))
            part[k, 2] += cost[n, cut]
            part[k, 3] += share_u
            part[k, 4] += share_d
            part[k, 5] += loss
            part[k, 6] += held[n, cut]
            room_u = (box[1] if k & 1 else box[0]) - s1[n, cut]
            room_d = (box[3] if k >> 1 else box[2]) - s5[n, cut]
            if room_u > 0.0:
                error[k, 0] += lam * bits * (1.0 / room_u - gu[cut, k & 1])
            else:
                error[k, 0] += steps * (box[1] - box[0])
            if room_d > 0.0:
                error[k, 1] += mu * down_bits * (1.0 / room_d - gd[cut, k >> 1])
            else:
                error[k, 1] += steps * (box[3] - box[2])
        if factor_m > 0.0:
            own = np.inf
            for k in range(0, CORNERS, 3):
                cut = best_cut[k]
                room_u, room_d = box[0] - s1[n, cut], box[2] - s5[n, cut]
                if room_u > 0.0 and room_d > 0.0:
                    # a plain upper estimate: one option and keep, at the box's least times
                    A, B = a_n * law_slope[cut] / room_u, b_n / room_d
                    i, j = table_place(nodes, A, B)
                    o, keep = options[i, j], keeps[i, j]
                    sent = eta_up[o] * keep + omega[o] * entropy_bits(keep) + sigma_up[o]
                    phi = a_n * sent / room_u
                    if by_law:
                        phi = lam / unit * most_share(law, n, ups[n] * sent / room_u)
                    phi += B * (eta_down[o] * keep + sigma_down[o])
                    phi += (noise_constant[o] + noise_slope[o] * keep) / curve
                    phi += scale[o] * math.exp(-decay * keep)
                    priced = unit * phi + nu * held[n, cut]
                    own = min(own, cost[n, cut] + factor_m * priced)
            own += 1e-9 * abs(own)
            for j in range(count):
                fixed = cost[n, listed[j]]
                if not fixed + (bounds[j] - fixed) / factor_m > own:
                    kept_pool[count_kept] = listed[j]
                    count_kept += 1
            kept_first[n + 1] = count_kept
        if n % BLOCK == BLOCK - 1 or n == N - 1:
            for k in range(CORNERS):
                for j in range(7):
                    total[k, j] += part[k, j]
                    part[k, j] = 0.0
    worst = 0
    spread[2:4] = 0.0
    for k in range(CORNERS):
        time = steps * (box[1 if k & 1 else 0] + box[3 if k >> 1 else 2] + box[4])
        fixed = lam + mu + alpha * cell.budget + nu * cell.memory
        size = abs(time) + lam + mu + abs(alpha * cell.budget) + nu * abs(cell.memory)
        values[k] = time - fixed + total[k, 0] - MARGIN * (size + total[k, 1])
        cuts[k, 0] = time + total[k, 2]
        cuts[k, 1] = total[k, 3] - 1.0
        cuts[k, 2] = total[k, 4] - 1.0
        cuts[k, 3] = total[k, 5] - cell.budget
        cuts[k, 4] = total[k, 6] - cell.memory
        spread[2] = max(spread[2], error[k, 0])
        spread[3] = max(spread[3], error[k, 1])
        if values[k] < values[worst]:
            worst = k
    spread[0] = error[worst, 0]
    spread[1] = error[worst, 1]
