"""Compiled: the box bound of Statement 2 at given multipliers, its cuts, and its safe value.

Numbers of statements refer to ``DERIVATION.md`` in this folder.
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
    Region,
    tangent,
    touching_room,
)
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    least_phi,
    table_bound,
)
from sftopt.solvers.certify.bound.rate_tangents import most_share, touched

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Ends = tuple[float, float, float, float]


@njit(cache=True, nogil=True)
def evaluate(
    cell: Cell, region: Region, live: Live, box: Array, m: Array, values: Array,
    cuts: Array, spread: Array, record: bool, items: Integers, keeps: Array, kept: Live,
    factor_m: float,
) -> None:  # fmt: skip
    """Lower bounds at the corners of ``box`` = (tau_u low, high, tau_d low, high, tau_s low).

    ``live``: the cuts to look at, as of :func:`every_cut`; what it leaves out must be dead in
    the box at these multipliers (Statement 13).
    ``values`` (4,): safe bounds; infinite where some device has nothing left. ``cuts`` (4, 5):
    kappa and the coefficients of m in a linear function of m that is at least the bound for
    every m.
    ``spread`` (2,): how far the tangents are below the function, up and down, at the
    worst corner. With ``record``: ``items`` and ``keeps`` (4, N) hold cut * O + option and keep.
    With ``factor_m`` > 0 ``kept`` is filled with the cuts that can win somewhere in the box at
    some multipliers within this factor of ``m``.
    """
    N, L = cell.s1.shape
    options = len(cell.eta_up)
    lam, mu, alpha, nu = m[0], m[1], m[2], m[3]
    pruning = len(cell.tables) > 0
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    s1, s5, cost, held, weight = cell.s1, cell.s5, cell.cost, cell.held, cell.weight
    eta_up, omega, sigma_up, eta_down = cell.eta_up, cell.omega, cell.sigma_up, cell.eta_down
    sigma_down, noise_slope, noise_constant = (
        cell.sigma_down, cell.noise_slope, cell.noise_constant,
    )  # fmt: skip
    tables, nodes, law, law_bits = cell.tables, cell.nodes, cell.law, cell.law.bits
    low, high, end_low, end_high, caps = cell.low, cell.high, cell.end_low, cell.end_high, cell.cap
    ups, downs = cell.up, cell.down
    mean, by_law, decay, steps = cell.mean, cell.total, cell.decay, cell.steps
    cut_low, cut_high, allowed = region.cut_low, region.cut_high, region.options
    keep_lows, keep_highs = region.keep_low, region.keep_high
    first, pool = live[0], live[1]
    kept_first, kept_pool = kept[0], kept[1]
    curve = np.empty((options, L))
    for o in range(options):
        for cut in range(L):
            curve[o, cut] = cell.loss_keep * cell.factor[cut] * cell.scale[o]
    bounds = np.empty(L * options)
    listed = np.empty(L * options, dtype=np.int64)
    gu = np.empty((L, 2))
    gd = np.empty((L, 2))
    room, law_slope, law_offset = np.empty(L), np.ones(L), np.zeros(L)
    best = np.empty(CORNERS)
    best_item = np.empty(CORNERS, dtype=np.int64)
    best_keep = np.empty(CORNERS)
    best_slope, best_offset = np.ones(CORNERS), np.zeros(CORNERS)
    part = np.zeros((CORNERS, 7))
    total = np.zeros((CORNERS, 7))
    error = np.zeros((CORNERS, 2))
    count_kept = 0
    for n in range(N):
        mask = allowed[n]
        least, least_at = np.inf, -1
        price = alpha * weight[n] if mean else 0.0
        up_n, down_n = lam * ups[n], mu * downs[n]
        fits, base, up, down = False, 0.0, 0.0, 0.0
        count = 0
        for j in range(first[n] * options, first[n + 1] * options):
            cut = pool[j // options]
            o = j % options
            if o == 0:
                fits = cut_low[n] <= cut <= cut_high[n]
                fits = fits and s1[n, cut] <= box[1] * (1.0 + EDGE)
                fits = fits and s5[n, cut] <= box[3] * (1.0 + EDGE)
                if fits:
                    gu[cut, 0], gu[cut, 1] = tangent(box[0], box[1], s1[n, cut])
                    gd[cut, 0], gd[cut, 1] = tangent(box[2], box[3], s5[n, cut])
                    if by_law:
                        room[cut] = touching_room(box[0], box[1], s1[n, cut])
                        law_slope[cut], law_offset[cut] = touched(
                            law, n, ups[n] * law_bits[n, cut] / room[cut]
                        )
                    base = cost[n, cut] + nu * held[n, cut] + lam * law_offset[cut]
                    up, down = up_n * law_slope[cut] * gu[cut, 1], down_n * gd[cut, 1]
            if not fits or (mask >> o) & 1 == 0 or low[o, cut] > high[o, cut]:
                continue
            item = cut * options + o
            bound = -np.inf
            if pruning:
                constant, entropy, slope, unit = _priced(
                    base, up, down, price, eta_up[o], omega[o], sigma_up[o], eta_down[o],
                    sigma_down[o], noise_slope[o], noise_constant[o], curve[o, cut],
                )  # fmt: skip
                if unit > 0.0 and low[o, cut] < high[o, cut]:
                    inverse = 1.0 / unit
                    bound = constant + unit * table_bound(
                        tables, o, nodes, entropy * inverse, slope * inverse
                    )
                else:
                    bound = constant + slope * low[o, cut] + entropy * end_low[o, cut, 0]
                    bound += unit * end_low[o, cut, 1]
            listed[count] = item
            bounds[count] = bound
            if bound < least or least_at < 0:
                least, least_at = bound, count
            count += 1
        if count == 0:
            for k in range(CORNERS):
                values[k] = np.inf
            return
        ceiling = np.inf
        for k in range(CORNERS):
            best[k] = np.inf
            best_item[k] = -1
        for turn in range(-1, count):
            # the most promising item first: it makes the others easy to dismiss
            at = least_at if turn < 0 else turn
            if turn >= 0 and (at == least_at or bounds[at] >= ceiling):
                continue
            item = listed[at]
            cut = item // options
            o = item - cut * options
            base = cost[n, cut] + nu * held[n, cut]
            gain, offset, item_slope = up_n, 0.0, 1.0
            curved = mean and low[o, cut] < high[o, cut]
            guess = -1.0
            if by_law:
                # touch where this item is least at the box's middle
                gain, offset = up_n * law_slope[cut], law_offset[cut]
                keep = low[o, cut]
                if curved:
                    constant, entropy, slope, unit = _priced(
                        base, gain / room[cut], down_n * 0.5 * (gd[cut, 0] + gd[cut, 1]), price,
                        eta_up[o], omega[o], sigma_up[o], eta_down[o], sigma_down[o],
                        noise_slope[o], noise_constant[o], curve[o, cut],
                    )  # fmt: skip
                    guess = _least_value(
                        entropy, slope, unit, decay, low[o, cut], high[o, cut],
                        (
                            end_low[o, cut, 0], end_low[o, cut, 1],
                            end_high[o, cut, 0], end_high[o, cut, 1],
                        ),
                        caps[o, cut], keep_lows[n], keep_highs[n], guess,
                    )[1]  # fmt: skip
                    keep = guess
                own_bits = eta_up[o] * keep + omega[o] * entropy_bits(keep) + sigma_up[o]
                if turn < 0:
                    law_bits[n, cut] = own_bits
                gain, offset = touched(law, n, ups[n] * own_bits / room[cut])
                item_slope = gain
                gain *= up_n
                base += lam * offset
            for k in range(CORNERS):
                constant, entropy, slope, unit = _priced(
                    base, gain * gu[cut, k & 1], down_n * gd[cut, k >> 1], price,
                    eta_up[o], omega[o], sigma_up[o], eta_down[o], sigma_down[o],
                    noise_slope[o], noise_constant[o], curve[o, cut],
                )  # fmt: skip
                inverse = 1.0 / unit if unit > 0.0 else 0.0
                P, S = entropy * inverse, slope * inverse
                if pruning and turn >= 0 and unit > 0.0 and curved:
                    bound = constant + unit * table_bound(tables, o, nodes, P, S)
                    if bound >= best[k]:
                        continue
                if not mean:
                    keep = low[o, cut]
                    value = constant + slope * keep + entropy * end_low[o, cut, 0]
                else:
                    value, keep = _least_value(
                        entropy, slope, unit, decay, low[o, cut], high[o, cut],
                        (
                            end_low[o, cut, 0], end_low[o, cut, 1],
                            end_high[o, cut, 0], end_high[o, cut, 1],
                        ),
                        caps[o, cut], keep_lows[n], keep_highs[n], guess,
                    )  # fmt: skip
                    value += constant
                guess = keep
                if value < best[k] or best_item[k] < 0:
                    best[k], best_item[k], best_keep[k] = value, item, keep
                    if by_law:
                        best_slope[k], best_offset[k] = item_slope, offset
            ceiling = max(max(best[0], best[1]), max(best[2], best[3]))
        worst_own = np.inf
        for k in range(CORNERS):
            item = best_item[k]
            if best[k] == np.inf:
                for j in range(CORNERS):
                    values[j] = np.inf
                return
            cut = item // options
            o = item - cut * options
            keep = best_keep[k]
            mask_bits, fall = entropy_bits(keep), math.exp(-decay * keep)
            offset = best_offset[k]
            bits = ups[n] * best_slope[k]
            bits *= eta_up[o] * keep + omega[o] * mask_bits + sigma_up[o]
            down_bits = downs[n] * (eta_down[o] * keep + sigma_down[o])
            share_u, share_d = offset + bits * gu[cut, k & 1], down_bits * gd[cut, k >> 1]
            loss = 0.0
            if mean:
                loss = noise_constant[o] + noise_slope[o] * keep + curve[o, cut] * fall
                loss *= weight[n]
            part[k, 0] += best[k]
            part[k, 1] += abs(cost[n, cut]) + lam * (abs(share_u) + abs(offset)) + mu * share_d
            part[k, 1] += alpha * loss + nu * held[n, cut]
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
                room_u, room_d = box[0] - s1[n, cut], box[2] - s5[n, cut]
                if room_u > 0.0 and room_d > 0.0 and low[o, cut] <= keep <= high[o, cut]:
                    # a plain upper estimate: this item at this keep, at the box's least times
                    share = bits / room_u
                    if by_law:
                        share = most_share(law, n, share / best_slope[k])
                    priced = lam * share + mu * down_bits / room_d
                    priced += nu * held[n, cut] + alpha * loss
                    worst_own = min(worst_own, cost[n, cut] + factor_m * priced)
            if record:
                items[k, n] = item
                keeps[k, n] = best_keep[k]
        if factor_m > 0.0:
            worst_own += 1e-9 * abs(worst_own)
            last_cut = -1
            for j in range(count):
                cut = listed[j] // options
                fixed = cost[n, cut]
                if cut != last_cut and not fixed + (bounds[j] - fixed) / factor_m > worst_own:
                    kept_pool[count_kept] = cut
                    count_kept += 1
                    last_cut = cut
            kept_first[n + 1] = count_kept
        if n % BLOCK == BLOCK - 1 or n == N - 1:
            for k in range(CORNERS):
                for j in range(7):
                    total[k, j] += part[k, j]
                    part[k, j] = 0.0
    worst = 0
    spread[2:4] = 0.0
    for k in range(CORNERS):
        time = cell.steps * (box[1 if k & 1 else 0] + box[3 if k >> 1 else 2] + box[4])
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


@njit(cache=True, inline="always")
def _priced(
    base: float, up: float, down: float, price: float, eta_up: float, omega: float,
    sigma_up: float, eta_down: float, sigma_down: float, noise_slope: float,
    noise_constant: float, curve: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """(constant, factor of H2, slope, factor of exp(-a rho)) of a device's cost in rho."""
    constant = base + up * sigma_up + down * sigma_down + price * noise_constant
    slope = up * eta_up + down * eta_down + price * noise_slope
    return constant, up * omega, slope, price * curve


@njit(cache=True)
def _least_value(
    mask: float, slope: float, unit: float, decay: float, low: float, high: float, ends: Ends,
    cap: float, keep_low: float, keep_high: float, guess: float,
) -> tuple[float, float]:  # fmt: skip
    """(least of mask H2 + slope rho + unit exp(-a rho) on the keep range, its keep); Statement 3.

    ``ends``: H2 and the exponential at ``low``, then at ``high``. The range is cut to
    [``keep_low``, ``keep_high``].
    """
    at_low = slope * low + mask * ends[0] + unit * ends[1]
    at_high = slope * high + mask * ends[2] + unit * ends[3]
    if low < keep_low or high > keep_high:
        low, high = max(low, keep_low), min(high, keep_high)
        if low > high:
            return np.inf, low
        at_low = slope * low + mask * entropy_bits(low) + unit * math.exp(-decay * low)
        at_high = slope * high + mask * entropy_bits(high) + unit * math.exp(-decay * high)
        cap = convexity_cap(decay, low, high)
    if unit <= 0.0 or low == high or cap * unit <= mask:
        if at_low <= at_high:
            return at_low, low
        return at_high, high
    P, S = mask / unit, slope / unit
    if guess < 0.0:
        guess = math.log(decay / (S + 2.0 * P)) / decay
    phi, keep = least_phi(P, S, decay, low, high, at_low / unit, at_high / unit, guess)
    return unit * phi, keep
