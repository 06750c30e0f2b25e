"""Compiled: keep fractions of a plan at given prices, and the price at which the loss is met.

Plan side only; shares no function with the bound.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any kernel
from sftopt.solvers.certify.plan.links import Plain

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LN2 = math.log(2.0)
_PRICES, _MET = 60, 1e-9
"""Prices tried for a mean loss, and how near (relative) it must come: the rest is spent exactly."""
_JUMP = 1e-7
"""A bracket of prices this narrow (relative) closes on a jump of keeps."""
_KEPT = 1e-7
"""Newton's method stops at steps this small, relative: the next one would be of order 1e-14."""
_SPENT = 1e-14
"""What of the loss allowed may stay unspent."""


@njit(cache=True, inline="always")
def entropy(keep: float) -> float:
    if keep <= 0.0 or keep >= 1.0:
        return 0.0
    return -(keep * math.log(keep) + (1.0 - keep) * math.log(1.0 - keep)) / _LN2


@njit(cache=True)
def priced_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
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
    return P * entropy(keep) + S * keep + math.exp(-a * keep)


@njit(cache=True, inline="always")
def rough_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
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
def mean_loss(p: Plain, cuts: Integers, choice: Integers, keep: Array) -> float:
    weight, factor, p_loss = p.weight, p.factor, p.loss
    decay, loss_keep, total = p.decay, p.loss_keep, 0.0
    for n in range(len(cuts)):
        o = choice[n]
        curve = loss_keep * factor[cuts[n]] * p_loss[o, 0] * math.exp(-decay * keep[n])
        total += weight[n] * (curve + p_loss[o, 1] * keep[n] + p_loss[o, 2])
    return total


@njit(cache=True)
def spend(p: Plain, cuts: Integers, choice: Integers, safe: Array, keep: Array) -> None:
    """Pull ``keep`` towards ``safe``, as little as the mean loss allows."""
    if mean_loss(p, cuts, choice, keep) <= p.budget:
        return
    goal = keep.copy()
    low, high = 0.0, 1.0
    over_low, over_high = mean_loss(p, cuts, choice, safe) - p.budget, 0.0
    over_high = mean_loss(p, cuts, choice, goal) - p.budget
    last = 0
    for _ in range(60):
        # the Illinois variant of regula falsi; the loss is convex along the segment
        part = (low * over_high - high * over_low) / (over_high - over_low)
        part = min(max(part, low + 1e-3 * (high - low)), high - 1e-3 * (high - low))
        for n in range(len(keep)):
            keep[n] = safe[n] + part * (goal[n] - safe[n])
        over = mean_loss(p, cuts, choice, keep) - p.budget
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
            at = priced_keep(decay, P, slope / unit, low[n], high[n], guess[n])
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
def reprice(
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
    spend(p, cuts, choice, bold, keep)
    return math.exp(x)
