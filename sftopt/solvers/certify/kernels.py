"""Compiled: the box bound of Statement 2 at given multipliers, its cuts, and its safe value.

Numbers of statements refer to ``DERIVATION.md`` in this folder.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.least import convexity_cap, entropy_bits, least_phi, table_bound

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Ends = tuple[float, float, float, float]

MARGIN = 1e-12
"""Relative to the sum of absolute terms: Statement 7."""
_EDGE = 1e-13
_BLOCK = 64
CORNERS = 4
MULTIPLIERS = 4
"""Uplink shares, downlink shares, mean loss, server memory."""


class Cell(NamedTuple):
    """Static arrays of problem (13). N devices, L cuts 0..L-1, O options."""

    steps: float
    decay: float
    loss_keep: float
    budget: float
    """R: the mean loss allowed."""
    memory: float
    """Server activation memory allowed (summed), scaled to 1; 0 where it does not couple."""
    mean: bool
    """True: keep fractions are free under a limit on the mean loss. False: they are given."""
    total: bool
    """True: uplink shares are ``offset + up * slope * beta / room`` (Statement 8)."""
    up: Array
    """b E / R^u(1), (N,); b E under ``total``."""
    down: Array
    weight: Array
    s1: Array
    """(N, L) device time before the uplink."""
    s5: Array
    cost: Array
    """(N, L) seconds of a round that depend on the cut alone."""
    held: Array
    """(N, L) server memory of a device, scaled by the budget."""
    slope: Array
    """(N, L, O) under ``total``, else (1, 1, 1)."""
    offset: Array
    eta_up: Array
    omega: Array
    sigma_up: Array
    eta_down: Array
    sigma_down: Array
    noise_slope: Array
    noise_constant: Array
    scale: Array
    """1, or 0 for an option without loss."""
    low: Array
    """(O, L) least keep fraction; above 1 where the option is not allowed at that cut."""
    high: Array
    """(O, L)"""
    factor: Array
    """(L,) factor on a_1."""
    end_low: Array
    """(O, L, 2): H2 and exp(-a_2 rho) at ``low``."""
    end_high: Array
    cap: Array
    """(O, L) :func:`convexity_cap`."""
    tables: Array
    """(O, nodes, nodes), or (0, 0, 0): no pruning."""
    nodes: Array
    parts_log2: int
    """The tables have 2^this nodes for each octave."""


class Region(NamedTuple):
    """What is still allowed in a node of the search; arrays of shape (N,)."""

    cut_low: Integers
    cut_high: Integers
    options: Integers
    """Bit o is set where option o is allowed."""
    keep_low: Array
    keep_high: Array


@njit(cache=True, inline="always")
def _tangent(low: float, high: float, fixed: float) -> tuple[float, float]:
    """Values at ``low`` and ``high`` of a tangent of 1 / (tau - fixed), touching inside the box."""
    top = max(high - fixed, _EDGE * high)
    width = high - low
    point = top - 0.5 * width
    if point < 0.75 * width:
        point = top
    scale = 1.0 / (point * point)
    at_high = (2.0 * point - top) * scale
    return at_high + width * scale, at_high


@njit(cache=True)
def evaluate(
    cell: Cell, region: Region, box: Array, m: Array, values: Array, cuts: Array, spread: Array,
    record: bool, items: Integers, keeps: Array,
) -> None:  # fmt: skip
    """Lower bounds at the corners of ``box`` = (tau_u low, high, tau_d low, high, tau_s low).

    ``values`` (4,): safe bounds; infinite where some device has nothing left. ``cuts`` (4, 5):
    kappa and the coefficients of m in a linear function of m that is at least the bound for every
    m. ``spread`` (2,): how far the tangents are below the function, up and down, at the
    worst corner. With ``record``: ``items`` and ``keeps`` (4, N) hold cut * O + option and keep.
    """
    N, L = cell.s1.shape
    options = len(cell.eta_up)
    lam, mu, alpha, nu = m[0], m[1], m[2], m[3]
    pruning = len(cell.tables) > 0
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    s1, s5, cost, held, factor, weight = (
        cell.s1, cell.s5, cell.cost, cell.held, cell.factor, cell.weight,
    )  # fmt: skip
    eta_up, omega, sigma_up, eta_down = cell.eta_up, cell.omega, cell.sigma_up, cell.eta_down
    sigma_down, noise_slope, noise_constant = (
        cell.sigma_down, cell.noise_slope, cell.noise_constant,
    )  # fmt: skip
    scale, tables, nodes, slopes, offsets = (
        cell.scale, cell.tables, cell.nodes, cell.slope, cell.offset,
    )  # fmt: skip
    low, high, end_low, end_high, caps = cell.low, cell.high, cell.end_low, cell.end_high, cell.cap
    ups, downs = cell.up, cell.down
    mean, law, parts_log2, decay = cell.mean, cell.total, cell.parts_log2, cell.decay
    loss_keep, steps = cell.loss_keep, cell.steps
    cut_low, cut_high, allowed = region.cut_low, region.cut_high, region.options
    keep_lows, keep_highs = region.keep_low, region.keep_high
    bounds = np.empty(L * options)
    bases = np.empty(L * options)
    gains = np.empty(L * options)
    gu = np.empty((L, 2))
    gd = np.empty((L, 2))
    best = np.empty(CORNERS)
    best_item = np.empty(CORNERS, dtype=np.int64)
    best_keep = np.empty(CORNERS)
    part = np.zeros((CORNERS, 7))
    total = np.zeros((CORNERS, 7))
    error = np.zeros((CORNERS, 2))
    for n in range(N):
        first, last = cut_low[n], cut_high[n]
        mask = allowed[n]
        least, least_item = np.inf, -1
        price = alpha * weight[n] if mean else 0.0
        up_n, down_n = lam * ups[n], mu * downs[n]
        for cut in range(first, last + 1):
            if s1[n, cut] > box[1] * (1.0 + _EDGE) or s5[n, cut] > box[3] * (1.0 + _EDGE):
                for o in range(options):
                    bounds[cut * options + o] = np.inf
                continue
            gu[cut, 0], gu[cut, 1] = _tangent(box[0], box[1], s1[n, cut])
            gd[cut, 0], gd[cut, 1] = _tangent(box[2], box[3], s5[n, cut])
            for o in range(options):
                item = cut * options + o
                if (mask >> o) & 1 == 0 or low[o, cut] > high[o, cut]:
                    bounds[item] = np.inf
                    continue
                base, gain = cost[n, cut] + nu * held[n, cut], up_n
                if law:
                    base += lam * offsets[n, cut, o]
                    gain *= slopes[n, cut, o]
                bases[item], gains[item] = base, gain
                bound = -np.inf
                if pruning:
                    constant, entropy, slope, unit = _priced(
                        base, gain * gu[cut, 1], down_n * gd[cut, 1], price, eta_up[o], omega[o],
                        sigma_up[o], eta_down[o], sigma_down[o], noise_slope[o],
                        noise_constant[o], loss_keep * factor[cut] * scale[o],
                    )  # fmt: skip
                    if unit > 0.0 and low[o, cut] < high[o, cut]:
                        bound = constant + unit * table_bound(
                            tables, o, nodes, parts_log2, entropy / unit, slope / unit
                        )
                    else:
                        bound = constant + slope * low[o, cut] + entropy * end_low[o, cut, 0]
                        bound += unit * end_low[o, cut, 1]
                bounds[item] = bound
                if bound < least:
                    least, least_item = bound, item
            if not pruning and least_item < 0:
                for o in range(options):
                    if bounds[cut * options + o] < np.inf:
                        least_item = cut * options + o
        if least_item < 0:
            for k in range(CORNERS):
                values[k] = np.inf
            return
        ceiling = -np.inf
        for k in range(CORNERS):
            best[k] = np.inf
            best_item[k] = -1
        guess = -1.0
        for turn in range(-1, (last + 1 - first) * options):
            # the most promising item first: it makes the others easy to dismiss
            item = least_item if turn < 0 else first * options + turn
            if turn >= 0 and item == least_item:
                continue
            if bounds[item] >= ceiling and turn >= 0:
                continue
            if bounds[item] == np.inf:
                continue
            cut, o = item // options, item % options
            guess = -1.0
            for k in range(CORNERS):
                constant, entropy, slope, unit = _priced(
                    bases[item], gains[item] * gu[cut, k & 1], down_n * gd[cut, k >> 1], price,
                    eta_up[o], omega[o], sigma_up[o], eta_down[o], sigma_down[o],
                    noise_slope[o], noise_constant[o], loss_keep * factor[cut] * scale[o],
                )  # fmt: skip
                if pruning and turn >= 0 and unit > 0.0 and low[o, cut] < high[o, cut]:
                    bound = constant + unit * table_bound(
                        tables, o, nodes, parts_log2, entropy / unit, slope / unit
                    )
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
            ceiling = best[0]
            for k in range(1, CORNERS):
                ceiling = max(ceiling, best[k])
        for k in range(CORNERS):
            item = best_item[k]
            if best[k] == np.inf:
                for j in range(CORNERS):
                    values[j] = np.inf
                return
            cut, o = item // options, item % options
            keep = best_keep[k]
            offset = offsets[n, cut, o] if law else 0.0
            bits = ups[n] * (slopes[n, cut, o] if law else 1.0)
            bits *= eta_up[o] * keep + omega[o] * entropy_bits(keep) + sigma_up[o]
            down_bits = downs[n] * (eta_down[o] * keep + sigma_down[o])
            share_u, share_d = offset + bits * gu[cut, k & 1], down_bits * gd[cut, k >> 1]
            loss = 0.0
            if mean:
                loss = noise_constant[o] + noise_slope[o] * keep
                loss += loss_keep * factor[cut] * scale[o] * math.exp(-decay * keep)
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
            if record:
                items[k, n] = item
                keeps[k, n] = best_keep[k]
        if n % _BLOCK == _BLOCK - 1 or n == N - 1:
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
