"""Compiled: keep fractions of a plan at given prices, and the price at which the loss is met.

Plan side only; shares no function with the bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any compiled function
from sftopt.solvers.certify.plan.links import PlanData

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LN2 = math.log(2.0)
"""Natural logarithm of 2: bits in nats."""
_PRICES = 60
"""Prices tried for a mean loss."""
_MET = 1e-9
"""How near (relative) the mean loss must come to its limit: the rest is spent exactly."""
_JUMP = 1e-7
"""A bracket of prices this narrow (relative) closes on a jump of keeps."""
_KEPT = 1e-7
"""Newton's method stops at steps this small, relative: the next one would be of order 1e-14."""
_SPENT = 1e-14
"""Part of the loss allowed that may stay unspent."""
_NEWTON = 12
"""Newton steps at most for a keep fraction."""
_FLAT = -0.05
"""Slope of Newton's equation, in units of the decay, above which its step is not trusted."""
_ROUGH_NEWTON = 3
"""Newton steps for telling items apart."""
_ROUGHLY = 1e-3
"""Relative step at which a keep fraction is near enough to tell items apart."""
_TOP = 1.0 - 1e-9
"""The largest keep fraction whose slope is evaluated: that of the entropy is infinite at 1."""
_REGULA = 60
"""Steps of regula falsi at most when loss is spent."""
_OFF_END = 1e-3
"""Part of its bracket that a step of regula falsi keeps away from the ends."""
_CLOSED = 1e-15
"""A bracket this narrow is closed."""
_STEP = 0.1
"""First step in ln(price) from a known price."""
_FAR_STEP = 0.7
"""First step in ln(price) where no price is known: a factor of two."""
_FARTHEST = 600.0
"""Largest |ln(price)| tried: its exponential must stay a double."""
_OFF_BRACKET = 0.01
"""Part of the bracket of ln(price) that Newton's step must keep away from its ends."""


@njit(cache=True, error_model="numpy", inline="always")
def entropy(keep: float) -> float:
    """Return the entropy of a mask in bits per element, H2(keep); 0 at both ends."""
    if keep <= 0.0 or keep >= 1.0:
        return 0.0
    return -(keep * math.log(keep) + (1.0 - keep) * math.log(1.0 - keep)) / _LN2


@njit(cache=True, error_model="numpy")
def priced_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
    """Return a keep fraction where P H2 + S rho + exp(-a rho) is about least on [low, high]."""
    if low >= high:
        return low
    keep = min(max(guess, low), high)
    for _ in range(_NEWTON):
        slope_up = S + P * math.log((1.0 - keep) / keep) / _LN2
        if slope_up <= 0.0:
            keep = high
            break
        tilt = -a + P / (_LN2 * keep * (1.0 - keep) * slope_up)
        push = math.log(a / slope_up) - a * keep
        if tilt >= _FLAT * a:
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


@njit(cache=True, error_model="numpy", inline="always")
def _bend(a: float, P: float, keep: float) -> float:
    """Return phi'' at ``keep``."""
    return a * a * math.exp(-a * keep) - P / (_LN2 * keep * (1.0 - keep) + 1e-300)


@njit(cache=True, error_model="numpy", inline="always")
def _phi(a: float, P: float, S: float, keep: float) -> float:
    """Return phi at ``keep``."""
    return P * entropy(keep) + S * keep + math.exp(-a * keep)


@njit(cache=True, error_model="numpy", inline="always")
def rough_keep(a: float, P: float, S: float, low: float, high: float, guess: float) -> float:
    """Return about the keep fraction where P H2 + S rho + exp(-a rho) is stationary."""
    keep = min(max(guess, low), min(high, _TOP))
    for _ in range(_ROUGH_NEWTON):
        slope_up = S + P * math.log((1.0 - keep) / keep) / _LN2
        if slope_up <= 0.0:
            return high
        tilt = -a + P / (_LN2 * keep * (1.0 - keep) * slope_up)
        if tilt >= _FLAT * a:
            return low
        after = min(max(keep - (math.log(a / slope_up) - a * keep) / tilt, low), high)
        if abs(after - keep) <= _ROUGHLY * keep:
            return after
        keep = min(after, _TOP)
    return keep


@njit(cache=True, error_model="numpy")
def mean_loss(data: PlanData, cuts: Integers, choice: Integers, keep: Array) -> float:
    """Return the mean loss of a plan, in the unit of ``data.budget``; arrays (N,)."""
    weight, factor, p_loss, still = data.weight, data.factor, data.loss, data.still
    decay, loss_keep, total = data.decay, data.loss_keep, 0.0
    for n in range(len(cuts)):
        o = choice[n]
        curve = loss_keep * factor[cuts[n]] * p_loss[o, 0] * math.exp(-decay * keep[n])
        total += weight[n] * (curve + p_loss[o, 1] * keep[n] + still[o, cuts[n]])
    return total


@njit(cache=True, error_model="numpy")
def spend(data: PlanData, cuts: Integers, choice: Integers, safe: Array, keep: Array) -> None:
    """Move ``keep`` (N,) towards ``safe`` (N,), as little as the mean loss allows."""
    if mean_loss(data, cuts, choice, keep) <= data.budget:
        return
    goal = keep.copy()
    low, high = 0.0, 1.0
    over_low, over_high = mean_loss(data, cuts, choice, safe) - data.budget, 0.0
    over_high = mean_loss(data, cuts, choice, goal) - data.budget
    last = 0
    for _ in range(_REGULA):
        # the Illinois variant of regula falsi; the loss is convex along the segment
        part = (low * over_high - high * over_low) / (over_high - over_low)
        part = min(max(part, low + _OFF_END * (high - low)), high - _OFF_END * (high - low))
        for n in range(len(keep)):
            keep[n] = safe[n] + part * (goal[n] - safe[n])
        over = mean_loss(data, cuts, choice, keep) - data.budget
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
        if high - low < _CLOSED or over_low >= -_SPENT * data.budget:
            break
    for n in range(len(keep)):
        keep[n] = safe[n] + low * (goal[n] - safe[n])


@njit(cache=True, error_model="numpy")
def _at_price(
    data: PlanData, cuts: Integers, choice: Integers, guess: Array, low: Array, high: Array,
    up: Array, down: Array, alpha: float, keep: Array,
) -> tuple[float, float]:  # fmt: skip
    """Write the keeps at one price of loss; returns their mean loss and its slope in ln(price)."""
    weight, factor, p_loss, p_up, p_down = data.weight, data.factor, data.loss, data.up, data.down
    still = data.still
    decay, loss_keep, total, by_price = data.decay, data.loss_keep, 0.0, 0.0
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
        own_loss = weight[n] * (curve * fall + p_loss[o, 1] * at + still[o, cut])
        own_slope = 0.0
        if low[n] < at < high[n]:
            push = curve * decay * fall - p_loss[o, 1]
            bend = curve * (decay * decay * fall - P / (_LN2 * at * (1.0 - at)))
            if bend > 0.0:
                own_slope = -weight[n] * push * push / bend
        total, by_price = total + own_loss, by_price + own_slope
    return total, by_price


@njit(cache=True, error_model="numpy")
def reprice(
    data: PlanData, cuts: Integers, choice: Integers, guess: Array, low: Array, high: Array,
    up: Array, down: Array, start: float, keep: Array, bold: Array,
) -> float:  # fmt: skip
    """Return the price at which the mean loss is met, in seconds; writes the keeps there, feasible.

    Newton's method in ln(price), where ln(loss) is nearly straight, inside a bracket. Keeps jump
    at some prices: the bracket then closes on a jump, and what is spent is a mix of both sides.
    """
    alpha = start
    if alpha <= 0.0:
        alpha = 0.0
        for n in range(len(cuts)):
            alpha += up[n] * data.up[choice[n], 0] + down[n] * data.down[choice[n], 0]
        alpha = max(alpha / (data.decay * max(data.budget, 1e-9)), 1e-12)
    x = math.log(alpha)
    poor, rich = -np.inf, np.inf
    step = _STEP if start > 0.0 else _FAR_STEP
    for _ in range(_PRICES):
        loss, by_price = _at_price(
            data, cuts, choice, guess, low, high, up, down, math.exp(x), keep
        )
        if loss > data.budget:
            poor = x
        else:
            rich = x
        if (
            abs(loss - data.budget) <= _MET * data.budget
            or rich - poor <= _JUMP
            or abs(x) > _FARTHEST
        ):
            break
        guess = keep
        if loss > 0.0 and by_price < 0.0:
            after = x + (loss / by_price) * math.log(data.budget / loss)
        else:
            after = np.inf if loss > data.budget else -np.inf
        if poor == -np.inf or rich == np.inf:
            step *= 2.0
            x = max(after, x - step) if loss <= data.budget else min(after, x + step)
        else:
            width = rich - poor
            edge = _OFF_BRACKET * width
            x = after if poor + edge < after < rich - edge else poor + 0.5 * width
    if rich == np.inf and poor > _FARTHEST:
        keep[:] = high
        return alpha
    if rich - poor < np.inf and abs(loss - data.budget) > _MET * data.budget:
        _at_price(data, cuts, choice, guess, low, high, up, down, math.exp(rich), bold)
        if not mean_loss(data, cuts, choice, bold) <= data.budget:  # another guess, another root
            bold[:] = high
        _at_price(data, cuts, choice, bold, low, high, up, down, math.exp(poor), keep)
    else:
        bold[:] = high
    spend(data, cuts, choice, bold, keep)
    return math.exp(x)
