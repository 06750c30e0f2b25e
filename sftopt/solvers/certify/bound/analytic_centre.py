"""Compiled: a proximal analytic centre of what cutting planes leave, by Newton's method.

With the variables v and a level theta below all planes, the centre is where
SUM ln(plane_i(v) - theta) + w ln(theta - floor) + SUM ln(v_j - low_j) + SUM ln(high_j - v_j)
- SUM ((v_j - near_j) / near_j)^2 is largest. Any v it gives serves (Statement 5), so a step that
numbers do not allow is simply not taken.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEWTON = 30
"""Newton steps at most; a handful is usual."""
_CLOSE = 1e-3
"""Newton decrement at which the centre counts as found: it need not be exact."""
_HALVINGS = 12
"""Halvings of a step that gains too little."""
_GAINED = 0.1
"""Part of what the slope promises that a step must gain."""
_TO_EDGE = 0.95
"""Part of the way to the nearest edge that a step goes at most."""
_BELOW = 0.05
"""How far the floor lies below the best bound, in units of the room."""
_TILT = 1e-3
"""Least unit of room, as a part of the steepest slope of a plane."""
_ROUNDING = 1e-13
"""Least unit of room, relative to the bound."""
_OFF_EDGE = 0.01
"""How far from a limit the first point lies, as a part of the limit."""
_OFF_WIDTH = 0.1
"""How far from a limit the first point lies at most, as a part of the width."""
_NO_PIVOT = 1e-300
"""Pivots up to this are none."""


class Barrier(NamedTuple):
    """The function whose largest value is the centre. d variables, ``count`` planes."""

    planes: Array
    """(count, 1 + d or more): constant and slopes."""
    low: Array
    """(d,) limits of the variables."""
    high: Array
    """(d,)"""
    near: Array
    """(d,) the best variables, which the centre is drawn to."""
    floor: float
    """A level below the best bound, in seconds."""
    weight: float
    """Of the floor's term: as much as all planes together."""


@njit(cache=True)
def analytic_centre(
    planes: Array, low: Array, high: Array, near: Array, best: float, centre: Array, weights: Array
) -> float:
    """Write the analytic centre; returns an upper estimate of the best bound in seconds.

    ``near`` (d,) are the variables of the ``best`` bound so far; ``weights`` (count,) are written
    too: the planes' parts in the dual average.
    """
    d, count = len(low), len(planes)
    barrier, x = _first_point(planes, low, high, near, best)
    slack, change = np.empty(count), np.empty(count)
    gradient, hessian = np.empty(d + 1), np.empty((d + 1, d + 1))
    for _ in range(_NEWTON):
        _derivatives(barrier, x, slack, gradient, hessian)
        step = _solved(hessian, gradient)
        decrement = 0.0
        for j in range(d + 1):
            decrement += step[j] * gradient[j]
        length = _longest_step(barrier, x, step, slack, change)
        for _ in range(_HALVINGS):
            if _gain(barrier, x, step, slack, change, length) >= _GAINED * length * decrement:
                break
            length *= 0.5
        for j in range(d + 1):
            x[j] += length * step[j]
        if decrement < _CLOSE:
            break
    centre[:] = x[:d]
    return _dual_average(barrier, x, weights)


@njit(cache=True, inline="always")
def _plane_value(planes: Array, i: int, x: Array, d: int, start: float) -> float:
    """Return ``start`` and the sloped part of a plane at x, in seconds."""
    value = start
    for j in range(d):
        value += planes[i, 1 + j] * x[j]
    return value


@njit(cache=True)
def _first_point(
    planes: Array, low: Array, high: Array, near: Array, best: float
) -> tuple[Barrier, Array]:
    """Return the barrier and a point (variables, level) inside it."""
    d, count = len(low), len(planes)
    # units: the level is measured from best, in multiples of the room the planes leave nearby
    top, tilt = np.inf, 0.0
    for i in range(count):
        top = min(top, _plane_value(planes, i, near, d, planes[i, 0]))
        for j in range(d):
            tilt = max(tilt, abs(planes[i, 1 + j]))
    unit = max(max(top - best, 0.0), max(_TILT * tilt, _ROUNDING * abs(best)))
    floor = best - _BELOW * unit
    x = np.empty(d + 1)
    x[:d] = near
    for j in range(d):
        gap = _OFF_WIDTH * (high[j] - low[j])
        x[j] = max(x[j], low[j] + min(_OFF_EDGE * low[j], gap))
        x[j] = min(x[j], high[j] - min(_OFF_EDGE * high[j], gap))
    x[d] = 0.5 * (min(top, best + unit) + floor)
    lift = np.inf
    for i in range(count):
        lift = min(lift, _plane_value(planes, i, x, d, planes[i, 0]))
    if x[d] >= lift:
        x[d] = lift - _BELOW * unit
    if x[d] <= floor:
        floor = x[d] - _BELOW * unit
    return Barrier(planes, low, high, near, floor, float(count)), x


@njit(cache=True)
def _derivatives(barrier: Barrier, x: Array, slack: Array, gradient: Array, hessian: Array) -> None:
    """Write the planes' slack at x, the gradient and the negative Hessian of the barrier."""
    planes, low, high, near = barrier.planes, barrier.low, barrier.high, barrier.near
    d = len(low)
    gradient[:] = 0.0
    hessian[:] = 0.0
    for i in range(len(planes)):
        slack[i] = _plane_value(planes, i, x, d, planes[i, 0] - x[d])
        inverse = 1.0 / slack[i]
        gradient[d] -= inverse
        hessian[d, d] += inverse * inverse
        for j in range(d):
            a = planes[i, 1 + j] * inverse
            gradient[j] += a
            hessian[d, j] -= a * inverse
            for k in range(j + 1):
                hessian[j, k] += a * planes[i, 1 + k] * inverse
    above = 1.0 / (x[d] - barrier.floor)
    gradient[d] += barrier.weight * above
    hessian[d, d] += barrier.weight * above * above
    for j in range(d):
        left, right = 1.0 / (x[j] - low[j]), 1.0 / (high[j] - x[j])
        gradient[j] += left - right - 2.0 * (x[j] - near[j]) / (near[j] * near[j])
        hessian[j, j] += left * left + right * right + 2.0 / (near[j] * near[j])
    for j in range(d + 1):
        for k in range(j):
            hessian[k, j] = hessian[j, k]


@njit(cache=True)
def _longest_step(barrier: Barrier, x: Array, step: Array, slack: Array, change: Array) -> float:
    """Return how much of a step stays inside, at most 1; writes what it changes of the slack."""
    planes, low, high, d = barrier.planes, barrier.low, barrier.high, len(barrier.low)
    length = 1.0
    for j in range(d):
        if step[j] > 0.0:
            length = min(length, _TO_EDGE * (high[j] - x[j]) / step[j])
        elif step[j] < 0.0:
            length = min(length, _TO_EDGE * (low[j] - x[j]) / step[j])
    if step[d] < 0.0:
        length = min(length, _TO_EDGE * (barrier.floor - x[d]) / step[d])
    for i in range(len(planes)):
        move = _plane_value(planes, i, step, d, -step[d])
        change[i] = move
        if move < 0.0:
            length = min(length, -_TO_EDGE * slack[i] / move)
    return length


@njit(cache=True)
def _solved(matrix: Array, right: Array) -> Array:
    """Return matrix^-1 right by elimination; a direction without a pivot gets no step.

    Never raises: near a corner of the multipliers the Hessian can be singular in floating point,
    and any multipliers give a valid bound.
    """
    size = len(right)
    a, x = matrix.copy(), right.copy()
    order = np.arange(size)
    for i in range(size):
        best = i
        for k in range(i + 1, size):
            if abs(a[order[k], i]) > abs(a[order[best], i]):
                best = k
        order[i], order[best] = order[best], order[i]
        pivot = a[order[i], i]
        if not abs(pivot) > _NO_PIVOT:
            continue
        for k in range(i + 1, size):
            part = a[order[k], i] / pivot
            for j in range(i, size):
                a[order[k], j] -= part * a[order[i], j]
            x[order[k]] -= part * x[order[i]]
    step = np.zeros(size)
    for i in range(size - 1, -1, -1):
        pivot = a[order[i], i]
        value = x[order[i]]
        for j in range(i + 1, size):
            value -= a[order[i], j] * step[j]
        found = value / pivot if abs(pivot) > _NO_PIVOT else 0.0
        step[i] = found if math.isfinite(found) else 0.0
    return step


@njit(cache=True)
def _gain(
    barrier: Barrier, x: Array, step: Array, slack: Array, change: Array, length: float
) -> float:
    """Return by how much the barrier function rises along a step of this length."""
    low, high, near, d = barrier.low, barrier.high, barrier.near, len(barrier.low)
    # products of ratios, so that one logarithm serves many planes
    total, product = 0.0, 1.0
    for i in range(len(slack)):
        product *= 1.0 + length * change[i] / slack[i]
        if product < 1e-200 or product > 1e200:
            total += math.log(product)
            product = 1.0
    for j in range(d):
        move = length * step[j]
        product *= (1.0 + move / (x[j] - low[j])) * (1.0 - move / (high[j] - x[j]))
        before, after = x[j] - near[j], x[j] + move - near[j]
        total += (before * before - after * after) / (near[j] * near[j])
    total += math.log(product)
    return total + barrier.weight * math.log(1.0 + length * step[d] / (x[d] - barrier.floor))


@njit(cache=True)
def _dual_average(barrier: Barrier, x: Array, weights: Array) -> float:
    """Write the planes' weights in the dual average; returns its largest value in seconds."""
    planes, low, high, d = barrier.planes, barrier.low, barrier.high, len(barrier.low)
    mass = 0.0
    for i in range(len(planes)):
        value = _plane_value(planes, i, x, d, planes[i, 0] - x[d])
        weights[i] = 1.0 / max(value, 1e-300)
        mass += weights[i]
    estimate = 0.0
    slopes = np.zeros(d)
    for i in range(len(planes)):
        weights[i] /= mass
        estimate += weights[i] * planes[i, 0]
        for j in range(d):
            slopes[j] += weights[i] * planes[i, 1 + j]
    for j in range(d):
        estimate += max(slopes[j] * low[j], slopes[j] * high[j])
    return estimate
