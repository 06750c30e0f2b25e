"""Compiled: what a plan needs; heuristics only. Shares no function with the bound.

At prices of uplink share, downlink share and mean loss every device picks its best cut, option and
keep fraction; at fixed cuts and options the keep fractions and the barrier times are made exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any kernel
from sftopt.solvers.certify.links import Plain, adapter_time, barrier, rate_at

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LN2 = math.log(2.0)
_PRICES, _MET = 60, 1e-9
"""Prices tried for a mean loss, and how near (relative) it must come: the rest is spent exactly."""
_FEW, _ROUGH, _FINE, _PACE = 6, 1e-9, 1e-11, 4.0
"""Settling ends at gains this small: roughly in up to _FEW turns, else finely; and where so many
times its last gain would not reach the ceiling."""
_JUMP = 1e-7
"""A bracket of prices this narrow (relative) closes on a jump of keeps."""
_KEPT = 1e-7
"""Newton's method stops at steps this small, relative: the next one would be of order 1e-14."""
_SPENT = 1e-14
"""What of the loss allowed may stay unspent."""


@njit(cache=True, inline="always")
def _entropy(keep: float) -> float:
    if keep <= 0.0 or keep >= 1.0:
        return 0.0
    return -(keep * math.log(keep) + (1.0 - keep) * math.log(1.0 - keep)) / _LN2


@njit(cache=True, inline="always")
def _bits_up(p: Plain, n: int, o: int, keep: float) -> float:
    return float(p.elements[n] * (p.up[o, 0] * keep + p.up[o, 1] * _entropy(keep) + p.up[o, 2]))


@njit(cache=True)
def _priced_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
    """Near-minimiser of P H2 + S rho + exp(-a rho) on [low, high]."""
    if low >= high:
        return low
    keep = min(max(guess, low), high)
    for _ in range(12):
        slope_up = S + P * math.log((1.0 - keep) / keep) / _LN2
        if slope_up <= 0.0:
            keep = high
            break
        tilt = -a + P / (_LN2 * keep * (1.0 - keep) * slope_up)
        push = math.log(a / slope_up) - a * keep
        if tilt >= -0.05 * a:
            after = low if push < 0.0 else 0.5 * (keep + high)
        else:
            after = min(max(keep - push / tilt, low), high)
        if abs(after - keep) <= _KEPT * keep:
            keep = after
            break
        keep = after
    # a minimum lies at an end only where phi is concave there
    hollow = _bend(a, P, keep) <= 0.0
    best, best_at = np.inf, keep
    for at in (low, high):
        if at == keep or not (hollow or _bend(a, P, at) <= 0.0):
            continue
        if best == np.inf:
            best = _phi(a, P, S, keep)
        value = _phi(a, P, S, at)
        if value < best:
            best, best_at = value, at
    return best_at


@njit(cache=True, inline="always")
def _bend(a: float, P: float, keep: float) -> float:
    """phi'' at ``keep``."""
    return a * a * math.exp(-a * keep) - P / (_LN2 * keep * (1.0 - keep) + 1e-300)


@njit(cache=True, inline="always")
def _phi(a: float, P: float, S: float, keep: float) -> float:
    return P * _entropy(keep) + S * keep + math.exp(-a * keep)


@njit(cache=True, inline="always")
def _rough_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
    """About the stationary point of P H2 + S rho + exp(-a rho): to tell items apart."""
    keep = min(max(guess, low), min(high, 1.0 - 1e-9))
    for _ in range(3):
        slope_up = S + P * math.log((1.0 - keep) / keep) / _LN2
        if slope_up <= 0.0:
            return high
        tilt = -a + P / (_LN2 * keep * (1.0 - keep) * slope_up)
        if tilt >= -0.05 * a:
            return low
        after = min(max(keep - (math.log(a / slope_up) - a * keep) / tilt, low), high)
        if abs(after - keep) <= 1e-3 * keep:
            return after
        keep = min(after, 1.0 - 1e-9)
    return keep


@njit(cache=True)
def _least_bits(p: Plain) -> tuple[Array, Array]:
    """(L,) the fewest bits of any option, up and down; infinite where a cut has none."""
    options, blocks = p.low.shape
    up, down = np.full(blocks, np.inf), np.full(blocks, np.inf)
    for cut in range(blocks):
        for o in range(options):
            low = p.low[o, cut]
            if low <= p.high[o, cut]:
                up[cut] = min(up[cut], p.up[o, 0] * low + p.up[o, 1] * _entropy(low) + p.up[o, 2])
                down[cut] = min(down[cut], p.down[o, 0] * low + p.down[o, 1])
    return up, down


@njit(cache=True)
def choose(
    p: Plain, cut_low: Integers, cut_high: Integers, allowed: Integers, tau_up: float,
    tau_down: float, prices: Array, per_bit: Array, offset: Array, adapters: Array, saved: Array,
    cuts: Integers, choice: Integers, keep: Array, gains: Array, own_gain: bool,
) -> bool:  # fmt: skip
    """Every device's best item at ``prices`` (uplink, downlink, loss, memory) and barriers.

    ``allowed`` (N,): bit o is set where option o may be taken.
    ``per_bit`` (N,): uplink share per bit/s; ``offset`` (N,): its constant part (``total`` law).
    ``adapters`` (N,): seconds per block held; ``saved`` (N,): server memory freed per block.
    With ``own_gain`` the items given in ``cuts``, ``choice``, ``keep`` are priced first and
    ``gains`` says what the change saves. False where a device has no item at these barriers.
    """
    options = len(p.up)
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    s1_base, s1_block, s5_base, s5_block = p.s1_base, p.s1_block, p.s5_base, p.s5_block
    s3_block, elements, rate_down, weight = p.s3_block, p.elements, p.rate_down, p.weight
    p_up, p_down, p_loss, p_low, p_high, factor = p.up, p.down, p.loss, p.low, p.high, p.factor
    steps, decay, loss_keep, mean, in_turn = p.steps, p.decay, p.loss_keep, p.mean, not p.parallel
    blocks = p_low.shape[1]
    least_up, least_down = _least_bits(p)
    fixed, ups, downs = np.empty(blocks), np.empty(blocks), np.empty(blocks)
    below = np.empty(blocks)
    near = np.empty(options)
    for n in range(len(weight)):
        near[:] = 0.3
        best, best_l, best_o, best_keep = np.inf, -1, -1, 0.0
        own = np.inf
        unit_price = prices[2] * weight[n] if mean else 0.0
        first = -1
        for cut in range(cut_low[n], cut_high[n] + 1):
            room_up = tau_up - s1_base[n] - cut * s1_block[n]
            room_down = tau_down - s5_base[n] - cut * s5_block[n]
            below[cut] = np.inf
            if room_up <= 0.0 or room_down <= 0.0:
                continue
            fixed[cut] = cut * (adapters[n] - prices[3] * saved[n]) + prices[0] * offset[n]
            if in_turn:
                fixed[cut] -= steps * cut * s3_block[n]
            ups[cut] = prices[0] * elements[n] * per_bit[n] / room_up
            downs[cut] = prices[1] * elements[n] / (rate_down[n] * room_down)
            below[cut] = fixed[cut] + ups[cut] * least_up[cut] + downs[cut] * least_down[cut]
            if first < 0 or below[cut] < below[first]:
                first = cut
        # the most promising cut first: it makes the others easy to dismiss
        for turn in range(cut_low[n] - 1, cut_high[n] + 1):
            cut = first if turn < cut_low[n] else turn
            if cut < 0 or (turn >= cut_low[n] and cut == first):
                continue
            asked = own_gain and cut == cuts[n]
            if below[cut] == np.inf or (below[cut] >= best and not asked):
                continue
            up, down = ups[cut], downs[cut]
            for o in range(options):
                low, high = p_low[o, cut], p_high[o, cut]
                if low > high or (allowed[n] >> o) & 1 == 0:
                    continue
                unit = unit_price * loss_keep * factor[cut] * p_loss[o, 0]
                slope = up * p_up[o, 0] + down * p_down[o, 0] + unit_price * p_loss[o, 1]
                mask = up * p_up[o, 1]
                still = fixed[cut] + up * p_up[o, 2] + down * p_down[o, 1]
                still += unit_price * p_loss[o, 2]
                at = low
                if mean and low < high and unit > 1e-300:
                    S = slope / unit
                    rest = math.log(decay / S) / decay
                    if still + slope * (rest + 1.0 / decay) >= best and not (
                        own_gain and cut == cuts[n] and o == choice[n]
                    ):
                        continue  # already so without the mask's bits
                    at = _rough_keep(decay, mask / unit, S, low, high, near[o])
                    near[o] = at
                value = still + slope * at + mask * _entropy(at) + unit * math.exp(-decay * at)
                if own_gain and cut == cuts[n] and o == choice[n]:
                    at_own = keep[n]
                    own = still + slope * at_own + mask * _entropy(at_own)
                    own += unit * math.exp(-decay * at_own)
                if value < best:
                    best, best_l, best_o, best_keep = value, cut, o, at
        if best_l < 0:
            return False
        unit = unit_price * loss_keep * factor[best_l] * p_loss[best_o, 0]
        if mean and unit > 1e-300 and p_low[best_o, best_l] < p_high[best_o, best_l]:
            up = prices[0] * elements[n] * per_bit[n] / (tau_up - s1_base[n] - best_l * s1_block[n])
            down = prices[1] * elements[n] / rate_down[n]
            down /= tau_down - s5_base[n] - best_l * s5_block[n]
            slope = up * p_up[best_o, 0] + down * p_down[best_o, 0] + unit_price * p_loss[best_o, 1]
            mask = up * p_up[best_o, 1]
            at = _priced_keep(
                decay, mask / unit, slope / unit, p_low[best_o, best_l], p_high[best_o, best_l],
                best_keep,
            )  # fmt: skip
            best += slope * (at - best_keep) + mask * (_entropy(at) - _entropy(best_keep))
            best += unit * (math.exp(-decay * at) - math.exp(-decay * best_keep))
            best_keep = at
        cuts[n], choice[n], keep[n] = best_l, best_o, best_keep
        gains[n] = own - best
    return True


@njit(cache=True)
def _mean_loss(p: Plain, cuts: Integers, choice: Integers, keep: Array) -> float:
    weight, factor, p_loss = p.weight, p.factor, p.loss
    decay, loss_keep, total = p.decay, p.loss_keep, 0.0
    for n in range(len(cuts)):
        o = choice[n]
        curve = loss_keep * factor[cuts[n]] * p_loss[o, 0] * math.exp(-decay * keep[n])
        total += weight[n] * (curve + p_loss[o, 1] * keep[n] + p_loss[o, 2])
    return total


@njit(cache=True)
def settle(
    p: Plain, cuts: Integers, choice: Integers, keep: Array, rounds: int, ceiling: float,
    state: Array, shares: Array, shares_down: Array,
) -> float:  # fmt: skip
    """Make ``keep`` feasible and good at fixed cuts and options; the delay, or infinity.

    Gives up where it will not get below ``ceiling`` at the pace of its last turn.

    ``state`` (6,): in: guesses of (tau_u, tau_d, price of loss), 0 for none; out: these, and the
    prices of the uplink and the downlink shares. ``shares`` (N,) uplink shares.
    """
    N = len(cuts)
    low, high = np.empty(N), np.empty(N)
    fixed_up, fixed_down, tau_s, server = np.empty(N), np.empty(N), 0.0, 0.0
    for n in range(N):
        low[n], high[n] = p.low[choice[n], cuts[n]], p.high[choice[n], cuts[n]]
        if low[n] > high[n]:
            return np.inf
        fixed_up[n] = p.s1_base[n] + cuts[n] * p.s1_block[n]
        fixed_down[n] = p.s5_base[n] + cuts[n] * p.s5_block[n]
        work = p.s3_base[n] - cuts[n] * p.s3_block[n]
        server += work
        tau_s = max(tau_s, work)
    constant = p.steps * (tau_s if p.parallel else server) + adapter_time(p, cuts)
    bits, bits_down = np.empty(N), np.empty(N)
    bold = np.empty(N)
    trial = np.empty(N)
    free = p.mean and _mean_loss(p, cuts, choice, low) > p.budget
    if free and _mean_loss(p, cuts, choice, high) > p.budget:
        return np.inf
    if not free:
        keep[:] = low
    else:
        for n in range(N):
            keep[n] = min(max(keep[n], low[n]), high[n])
        _spend(p, cuts, choice, high, keep)
    best = np.inf
    state[5] = 0.0
    for turn in range(rounds + 1):
        if turn == 0:
            trial[:] = keep
        for n in range(N):
            bits[n] = _bits_up(p, n, choice[n], trial[n])
            bits_down[n] = p.elements[n] * (p.down[choice[n], 0] * trial[n] + p.down[choice[n], 1])
        tau_up = barrier(p, True, fixed_up, bits, shares)
        tau_down = barrier(p, False, fixed_down, bits_down, shares_down)
        value = p.steps * (tau_up + tau_down) + constant
        improved = value < best
        gained = best - value
        small = gained <= (_FINE if rounds > _FEW else _ROUGH) * value
        hopeless = turn > 0 and improved and value - _PACE * gained > ceiling
        if improved:
            best = value
            keep[:] = trial
            state[0], state[1] = tau_up, tau_down
            weight_up, weight_down = 0.0, 0.0
            for n in range(N):
                rate = bits[n] / (tau_up - fixed_up[n])
                slope = rate_at(p, n, shares[n])[1]
                weight_up += rate / ((tau_up - fixed_up[n]) * slope)
                weight_down += shares_down[n] / (tau_down - fixed_down[n])
                bits[n] = 1.0 / (slope * (tau_up - fixed_up[n]))
            state[3], state[4] = p.steps / weight_up, p.steps / weight_down
            for n in range(N):
                bits[n] *= state[3] * p.elements[n]
                bits_down[n] = state[4] * p.elements[n]
                bits_down[n] /= p.rate_down[n] * (tau_down - fixed_down[n])
        if not free or turn == rounds or (turn > 0 and small and improved) or hopeless:
            break
        if not improved:
            if state[5] >= 2.0:
                break
            state[5] += 1.0
            for n in range(N):
                trial[n] = 0.5 * (trial[n] + keep[n])
            _spend(p, cuts, choice, high, trial)
            continue
        state[2] = _reprice(
            p, cuts, choice, keep, low, high, bits, bits_down, state[2], trial, bold
        )
    # the shares of the best point, not of the last trial
    for n in range(N):
        bits[n] = _bits_up(p, n, choice[n], keep[n])
        bits_down[n] = p.elements[n] * (p.down[choice[n], 0] * keep[n] + p.down[choice[n], 1])
    if free and rounds > 0:
        state[0] = barrier(p, True, fixed_up, bits, shares)
        state[1] = barrier(p, False, fixed_down, bits_down, shares_down)
    return best


@njit(cache=True)
def _spend(p: Plain, cuts: Integers, choice: Integers, safe: Array, keep: Array) -> None:
    """Pull ``keep`` towards ``safe``, as little as the mean loss allows."""
    if _mean_loss(p, cuts, choice, keep) <= p.budget:
        return
    goal = keep.copy()
    low, high = 0.0, 1.0
    over_low, over_high = _mean_loss(p, cuts, choice, safe) - p.budget, 0.0
    over_high = _mean_loss(p, cuts, choice, goal) - p.budget
    last = 0
    for _ in range(60):
        # the Illinois variant of regula falsi; the loss is convex along the segment
        part = (low * over_high - high * over_low) / (over_high - over_low)
        part = min(max(part, low + 1e-3 * (high - low)), high - 1e-3 * (high - low))
        for n in range(len(keep)):
            keep[n] = safe[n] + part * (goal[n] - safe[n])
        over = _mean_loss(p, cuts, choice, keep) - p.budget
        if over <= 0.0:
            low, over_low = part, over
            if last == 1:
                over_high *= 0.5
            last = 1
        else:
            high, over_high = part, over
            if last == -1:
                over_low *= 0.5
            last = -1
        if high - low < 1e-15 or over_low >= -_SPENT * p.budget:
            break
    for n in range(len(keep)):
        keep[n] = safe[n] + low * (goal[n] - safe[n])


@njit(cache=True)
def _at_price(
    p: Plain, cuts: Integers, choice: Integers, guess: Array, low: Array, high: Array,
    up: Array, down: Array, alpha: float, keep: Array,
) -> tuple[float, float]:  # fmt: skip
    """Keeps at one price of the mean loss; their mean loss, and its slope in ln(price)."""
    weight, factor, p_loss, p_up, p_down = p.weight, p.factor, p.loss, p.up, p.down
    decay, loss_keep, total, by_price = p.decay, p.loss_keep, 0.0, 0.0
    own_loss, own_slope = 0.0, 0.0
    for n in range(len(cuts)):
        o, cut = choice[n], cuts[n]
        if (
            n > 0 and o == choice[n - 1] and cut == cuts[n - 1] and up[n] == up[n - 1]
            and down[n] == down[n - 1] and weight[n] == weight[n - 1]
        ):  # fmt: skip
            keep[n] = keep[n - 1]  # an equal device
            total, by_price = total + own_loss, by_price + own_slope
            continue
        price = alpha * weight[n]
        curve = loss_keep * factor[cut] * p_loss[o, 0]
        unit = price * curve
        slope = up[n] * p_up[o, 0] + down[n] * p_down[o, 0] + price * p_loss[o, 1]
        at, P = low[n], 0.0
        if low[n] < high[n] and unit > 1e-300:
            P = up[n] * p_up[o, 1] / unit
            at = _priced_keep(decay, P, slope / unit, low[n], high[n], guess[n])
        keep[n] = at
        fall = math.exp(-decay * at)
        own_loss = weight[n] * (curve * fall + p_loss[o, 1] * at + p_loss[o, 2])
        own_slope = 0.0
        if low[n] < at < high[n]:
            push = curve * decay * fall - p_loss[o, 1]
            bend = curve * (decay * decay * fall - P / (_LN2 * at * (1.0 - at)))
            if bend > 0.0:
                own_slope = -weight[n] * push * push / bend
        total, by_price = total + own_loss, by_price + own_slope
    return total, by_price


@njit(cache=True)
def _reprice(
    p: Plain, cuts: Integers, choice: Integers, guess: Array, low: Array, high: Array,
    up: Array, down: Array, start: float, keep: Array, bold: Array,
) -> float:  # fmt: skip
    """The price at which the mean loss is met; ``keep`` is set to the keeps there, feasible.

    Newton's method in ln(price), where ln(loss) is nearly straight, inside a bracket. Keeps jump
    at some prices: the bracket then closes on a jump, and what is spent is a mix of both sides.
    """
    alpha = start
    if alpha <= 0.0:
        alpha = 0.0
        for n in range(len(cuts)):
            alpha += up[n] * p.up[choice[n], 0] + down[n] * p.down[choice[n], 0]
        alpha = max(alpha / (p.decay * max(p.budget, 1e-9)), 1e-12)
    x = math.log(alpha)
    poor, rich = -np.inf, np.inf
    step = 0.1 if start > 0.0 else 0.7
    for _ in range(_PRICES):
        loss, by_price = _at_price(p, cuts, choice, guess, low, high, up, down, math.exp(x), keep)
        if loss > p.budget:
            poor = x
        else:
            rich = x
        if abs(loss - p.budget) <= _MET * p.budget or rich - poor <= _JUMP or abs(x) > 600.0:
            break
        guess = keep
        if loss > 0.0 and by_price < 0.0:
            after = x + (loss / by_price) * math.log(p.budget / loss)
        else:
            after = np.inf if loss > p.budget else -np.inf
        if poor == -np.inf or rich == np.inf:
            step *= 2.0
            x = max(after, x - step) if loss <= p.budget else min(after, x + step)
        else:
            width = rich - poor
            x = after if poor + 0.01 * width < after < rich - 0.01 * width else poor + 0.5 * width
    if rich == np.inf and poor > 600.0:
        keep[:] = high
        return alpha
    if rich - poor < np.inf and abs(loss - p.budget) > _MET * p.budget:
        _at_price(p, cuts, choice, guess, low, high, up, down, math.exp(rich), bold)
        _at_price(p, cuts, choice, bold, low, high, up, down, math.exp(poor), keep)
    else:
        bold[:] = high
    _spend(p, cuts, choice, bold, keep)
    return math.exp(x)
