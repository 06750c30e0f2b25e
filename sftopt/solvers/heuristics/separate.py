"""Compiled: the keep fractions of least cost at given prices of a bit, within the mean loss.

At fixed prices devices separate up to one multiplier on the mean loss, which is found by root
search. The cost of a device may have two local minima, so samples choose the basin and Newton's
method on the slope, guarded by bisection, ends in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.kernel_cache import prepare_cache

prepare_cache()

Array = NDArray[np.float64]

_NEWTON_STEPS = 9
"""From a bracket of an eighth of the range, guarded by bisection."""
_STRIDE = 3.0
"""Steps of ln(multiplier) while a bracket is sought."""
_FARTHEST_UP = 150.0
"""How far above its start ln(multiplier) is sought."""
_FARTHEST_DOWN = 60.0
"""How far below."""
_CLOSED = 1e-8
"""Width of the bracket of ln(multiplier) at the end: what lies between is spent exactly."""
_REGULA = 80
"""Steps of regula falsi at most."""
_OFF_END = 1e-3
"""Part of its bracket that a step keeps away from the ends."""
_BISECTIONS = 50
"""Halvings between a feasible and a slightly infeasible answer."""
_LEAST = 1e-300
"""The least keep fraction whose logarithm is finite."""
_MOST = 1.0 - 1e-16
"""The largest one for which that of the rest is."""
_ROUNDING = 1e-14
"""Part of the loss allowed that is left: others add it up in another order."""


class Costs(NamedTuple):
    """Cost in seconds and loss of every device by its keep fraction rho; arrays (N,)."""

    linear: Array
    """Seconds per unit of rho, of both links."""
    mask: Array
    """Seconds per nat of the mask's entropy."""
    weight: Array
    curve: Array
    """Loss is curve exp(-decay rho) + slope rho + constant."""
    slope: Array
    constant: Array
    decay: float
    low: Array
    span: Array
    """Rho lies in [low, low + span]."""
    sampled_s: Array
    """(samples, N) costs at equal parts of the span."""
    sampled_loss: Array
    """(samples, N) weighted losses there."""


@njit(cache=True, error_model="numpy")
def least_at(costs: Costs, alpha: float, keep: Array) -> float:
    """Write the keep fractions of least cost at one multiplier; returns their mean loss."""
    linear, mask, weight, curve = costs.linear, costs.mask, costs.weight, costs.curve
    own_slope, constant, decay = costs.slope, costs.constant, costs.decay
    low, span, sampled_s, sampled_loss = costs.low, costs.span, costs.sampled_s, costs.sampled_loss
    last = len(sampled_s) - 1
    total = 0.0
    for n in range(len(keep)):
        nearest, least = 0, np.inf
        for part in range(last + 1):
            value = sampled_s[part, n] + alpha * sampled_loss[part, n]
            if value < least:
                nearest, least = part, value
        price = alpha * weight[n]
        left = low[n] + max(nearest - 1, 0) / last * span[n]
        right = low[n] + min(nearest + 1, last) / last * span[n]
        # at an end of the range halving would only come near: see whether the end itself is best
        if nearest in (0, last):
            end = left if nearest == 0 else right
            inner = min(max(end, _LEAST), _MOST)
            rise = linear[n] + mask[n] * (math.log1p(-inner) - math.log(inner))
            rise += price * (own_slope[n] - decay * curve[n] * math.exp(-decay * end))
            if rise >= 0.0 if nearest == 0 else rise <= 0.0:
                left = right = end
        at = 0.5 * (left + right)
        for _ in range(_NEWTON_STEPS if left < right else 0):
            inner = min(max(at, _LEAST), _MOST)
            fall = decay * curve[n] * math.exp(-decay * at)
            rise = linear[n] + mask[n] * (math.log1p(-inner) - math.log(inner))
            rise += price * (own_slope[n] - fall)
            if rise > 0.0:
                right = at
            else:
                left = at
            bend = price * decay * fall - mask[n] / (inner * (1.0 - inner))
            after = at - rise / bend if bend > 0.0 else np.inf
            if after == at:
                break
            at = after if left <= after <= right else 0.5 * (left + right)
        keep[n] = at
        total += weight[n] * (curve[n] * math.exp(-decay * at) + own_slope[n] * at + constant[n])
    return total


@njit(cache=True, error_model="numpy")
def within_budget(costs: Costs, budget: float, start: float, high: Array, keep: Array) -> None:
    """Write the keep fractions of least cost whose mean loss is within ``budget``.

    ``start``: first ln(multiplier). Where keep fractions jump, a mix of both sides is taken.
    """
    budget -= _ROUNDING * abs(budget)
    good, cheap = np.empty_like(keep), np.empty_like(keep)
    rich, poor = start, start
    over_rich = least_at(costs, math.exp(rich), keep) - budget
    over_poor = over_rich
    while over_rich > 0.0:
        poor, over_poor = rich, over_rich
        rich += _STRIDE
        if not rich <= start + _FARTHEST_UP:  # also where ``start`` is no number
            keep[:] = high
            return
        over_rich = least_at(costs, math.exp(rich), keep) - budget
    while over_poor <= 0.0 and poor > start - _FARTHEST_DOWN:
        rich, over_rich = poor, over_poor
        poor -= _STRIDE
        over_poor = least_at(costs, math.exp(poor), keep) - budget
    if over_poor > 0.0:
        poor, rich = _closed(costs, budget, poor, rich, over_poor, over_rich, keep)
    if least_at(costs, math.exp(rich), good) > budget:
        good[:] = high
    least_at(costs, math.exp(poor), cheap)
    _spend(costs, budget, good, cheap, keep)


@njit(cache=True, error_model="numpy")
def _closed(
    costs: Costs, budget: float, poor: float, rich: float, over_poor: float, over_rich: float,
    keep: Array,
) -> tuple[float, float]:  # fmt: skip
    """Return a narrow bracket of the ln(multiplier) at which the loss is met."""
    last = 0
    for _ in range(_REGULA):
        width = rich - poor
        if width <= _CLOSED:
            break
        # the Illinois variant of regula falsi
        x = (poor * over_rich - rich * over_poor) / (over_rich - over_poor)
        edge = max(_OFF_END * width, 0.25 * _CLOSED)
        x = min(max(x, poor + edge), rich - edge)
        over = least_at(costs, math.exp(x), keep) - budget
        if over > 0.0:
            poor, over_poor = x, over
            if last == 1:
                over_rich *= 0.5
            last = 1
        else:
            rich, over_rich = x, over
            if last == -1:
                over_poor *= 0.5
            last = -1
    return poor, rich


@njit(cache=True, error_model="numpy")
def _spend(costs: Costs, budget: float, good: Array, cheap: Array, keep: Array) -> None:
    """Write what lies between two answers, as far from the good to the cheap one as fits."""
    weight, curve, slope = costs.weight, costs.curve, costs.slope
    constant, decay = costs.constant, costs.decay
    safe, bold = 0.0, 1.0
    for turn in range(_BISECTIONS + 1):
        part = safe if turn == _BISECTIONS else 0.5 * (safe + bold)
        total = 0.0
        for n in range(len(keep)):
            at = good[n] + part * (cheap[n] - good[n])
            keep[n] = at
            total += weight[n] * (curve[n] * math.exp(-decay * at) + slope[n] * at + constant[n])
        if total <= budget:
            safe = part
        else:
            bold = part
