"""Compiled: the best multipliers of a box by cutting planes, each taken at an analytic centre.

The box bound is the least of four concave functions of m, each known through linear functions
above it (Statement 5). Any m gives a valid bound, so nothing here has to be exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import CORNERS, MULTIPLIERS, Cell, Live, Merged, Region
from sftopt.solvers.certify.bound.box_bound import evaluate
from sftopt.solvers.certify.bound.merged_bound import skim

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_NEWTON = 30
_LEAPS, _LEAP = 6, 8.0
"""Leaps tried in a box, and by what factor."""
_STALLED, _NARROW, _STEEP = 0.05, 0.3, 1e-3
"""Parts of what is missing: what an evaluation must gain, what a box's tangents may lose, and what
a leap's slope must promise for each doubling."""


@njit(cache=True, nogil=True)
def maximise(
    cell: Cell, merged: Merged, region: Region, live: Live, box: Array, start: Array,
    other: Array, free: Array,
    least: Array, most: Array, target: float, rounds: int, patience: int, reach: float,
    coarse: bool, answer: Array, record: bool, items: Integers, keeps: Array, weights: Array,
    kept: Live, factor_m: float,
) -> tuple[float, int]:  # fmt: skip
    """(best safe bound found on the box, evaluations). Stops at ``target`` or after ``rounds``.

    ``start`` (4,): first multipliers, ``other`` the second ones; ``free`` (4,): which may
    move. ``least``, ``most`` (4,): where ``live`` is known to hold all that can win; the
    multipliers stay inside. ``reach``: how far (as a factor) they are first allowed to go.
    ``coarse``: by ``merged_bound.skim``, else by ``box_bound.evaluate``; only the latter can
    ``record``. ``patience``: so many evaluations more for a box whose tangents lose all that is
    missing. ``kept`` is filled at the first multipliers, for a factor ``factor_m`` (see
    ``evaluate``). ``answer`` (9,): the best multipliers, an estimate of the largest bound possible,
    and ``spread`` there. With
    ``record``: ``items`` and ``keeps`` (4 * rounds, N) and the ``weights`` (4 * rounds,) of the
    dual average.
    """
    d = 0
    index = np.zeros(MULTIPLIERS, dtype=np.int64)
    for j in range(MULTIPLIERS):
        if free[j] and start[j] > 0.0:
            index[d] = j
            d += 1
    planes = np.zeros((CORNERS * rounds, MULTIPLIERS + 1))
    count = 0
    scale = start.copy()
    v_best = np.ones(d)
    v = np.ones(d)
    low = np.full(d, 1.0 / reach)
    high = np.full(d, reach)
    floor_v = np.empty(d)
    top_v = np.empty(d)
    for j in range(d):
        floor_v[j] = least[index[j]] / scale[index[j]]
        top_v[j] = most[index[j]] / scale[index[j]]
        low[j], high[j] = max(low[j], floor_v[j]), min(high[j], top_v[j])
    best = -np.inf
    ceiling = np.inf
    m = start.copy()
    values = np.empty(CORNERS)
    cuts = np.empty((CORNERS, MULTIPLIERS + 1))
    spread = np.zeros(4)
    rising = np.zeros(d)
    used, climbs, before = 0, 0, -np.inf
    for turn in range(rounds):
        for j in range(d):
            m[index[j]] = scale[index[j]] * v[j]
        view = CORNERS * turn if record else 0
        factor = factor_m if turn == 0 else 0.0
        if coarse:
            skim(cell, merged, region, live, box, m, values, cuts, spread, kept, factor)
        else:
            evaluate(
                cell, region, live, box, m, values, cuts, spread, record,
                items[view : view + CORNERS], keeps[view : view + CORNERS], kept, factor,
            )  # fmt: skip
        used += 1
        value = values.min()
        if value == np.inf:
            answer[:MULTIPLIERS] = m
            answer[4] = np.inf
            return np.inf, used
        for k in range(CORNERS):
            planes[count, 0] = cuts[k, 0]
            for j in range(d):
                planes[count, 1 + j] = cuts[k, 1 + index[j]] * scale[index[j]]
            for j in range(MULTIPLIERS):
                if not (free[j] and start[j] > 0.0):
                    planes[count, 0] += cuts[k, 1 + j] * m[j]
            count += 1
        if value > best:
            best = value
            v_best[:] = v
            worst = np.argmin(values)
            for j in range(d):
                rising[j] = cuts[worst, 1 + index[j]] * m[index[j]]
            answer[:MULTIPLIERS] = m
            answer[5:9] = spread
        if best >= target or turn == rounds - 1 or d == 0:
            break
        if turn >= patience and answer[5] + answer[6] > target - best:
            break
        for j in range(d):
            if v_best[j] > 0.6 * high[j]:
                high[j] = min(2.0 * high[j], top_v[j])
            if v_best[j] < 1.7 * low[j]:
                low[j] = max(0.5 * low[j], floor_v[j])
        if turn == 0:
            differs = False
            for j in range(d):
                v[j] = min(max(other[index[j]] / scale[index[j]], floor_v[j]), top_v[j])
                low[j] = max(min(low[j], 0.5 * v[j]), floor_v[j])
                high[j] = min(max(high[j], 2.0 * v[j]), top_v[j])
                differs = differs or abs(v[j] - 1.0) > 0.05
            if differs:
                continue
        estimate = _centre(planes, count, d, low, high, v_best, best, v, weights)
        ceiling = min(ceiling, estimate) if turn > 2 else estimate
        room = ceiling - best
        inside = True
        for j in range(d):
            inside = inside and (2.0 * low[j] < v_best[j] or low[j] <= floor_v[j])
            inside = inside and (v_best[j] < 0.5 * high[j] or high[j] >= top_v[j])
        if not inside:
            continue
        done = room <= 1e-9 * abs(best)
        done = done or (turn >= 5 and room < 0.02 * (target - best))
        if turn >= 3 and ceiling < target and (room < 0.15 * (target - best) or turn >= 7):
            done = True
        stalled = done or (turn >= 3 and best - before <= _STALLED * (target - best))
        before = best
        if not stalled:
            continue
        # near an edge of the times the best multipliers may be decades away, where the planes
        # seen so far say nothing: a narrow box is worth a few leaps along the steepest of them
        steep = np.argmax(rising) if d > 0 else 0
        narrow = answer[5] + answer[6] < _NARROW * (target - best)
        if climbs >= _LEAPS or not narrow or rising[steep] <= _STEEP * (target - best):
            if done:
                break
            continue
        climbs += 1
        v[:] = v_best
        v[steep] = min(_LEAP * v_best[steep], top_v[steep])
        high[steep] = min(max(high[steep], 2.0 * v[steep]), top_v[steep])
        ceiling = np.inf
    answer[4] = ceiling
    return best, used


@njit(cache=True)
def _centre(
    planes: Array, count: int, d: int, low: Array, high: Array, v_best: Array, best: float,
    v: Array, weights: Array,
) -> float:  # fmt: skip
    """Set ``v`` to a proximal analytic centre; return an upper estimate of the best bound."""
    # units: theta is measured from best, in multiples of the room the planes leave nearby
    top = np.inf
    for i in range(count):
        value = planes[i, 0]
        for j in range(d):
            value += planes[i, 1 + j] * v_best[j]
        top = min(top, value)
    tilt = 0.0
    for i in range(count):
        for j in range(d):
            tilt = max(tilt, abs(planes[i, 1 + j]))
    unit = max(max(top - best, 0.0), max(1e-3 * tilt, 1e-13 * abs(best)))
    floor = best - 0.05 * unit
    x = np.empty(d + 1)
    x[:d] = v_best
    for j in range(d):
        gap = 0.1 * (high[j] - low[j])
        x[j] = max(x[j], low[j] + min(0.01 * low[j], gap))
        x[j] = min(x[j], high[j] - min(0.01 * high[j], gap))
    x[d] = 0.5 * (min(top, best + unit) + floor)
    lift = np.inf
    for i in range(count):
        value = planes[i, 0]
        for j in range(d):
            value += planes[i, 1 + j] * x[j]
        lift = min(lift, value)
    if x[d] >= lift:
        x[d] = lift - 0.05 * unit
    if x[d] <= floor:
        floor = x[d] - 0.05 * unit
    w0 = float(count)
    slack = np.empty(count)
    change = np.empty(count)
    gradient = np.empty(d + 1)
    hessian = np.empty((d + 1, d + 1))
    for _ in range(_NEWTON):
        gradient[:] = 0.0
        hessian[:] = 0.0
        for i in range(count):
            value = planes[i, 0] - x[d]
            for j in range(d):
                value += planes[i, 1 + j] * x[j]
            slack[i] = value
            inverse = 1.0 / value
            gradient[d] -= inverse
            hessian[d, d] += inverse * inverse
            for j in range(d):
                a = planes[i, 1 + j] * inverse
                gradient[j] += a
                hessian[d, j] -= a * inverse
                for k in range(j + 1):
                    hessian[j, k] += a * planes[i, 1 + k] * inverse
        above = 1.0 / (x[d] - floor)
        gradient[d] += w0 * above
        hessian[d, d] += w0 * above * above
        for j in range(d):
            left, right = 1.0 / (x[j] - low[j]), 1.0 / (high[j] - x[j])
            gradient[j] += left - right - 2.0 * (x[j] - v_best[j]) / (v_best[j] * v_best[j])
            hessian[j, j] += left * left + right * right + 2.0 / (v_best[j] * v_best[j])
        for j in range(d + 1):
            for k in range(j):
                hessian[k, j] = hessian[j, k]
        step = _solved(hessian, gradient)
        decrement = 0.0
        for j in range(d + 1):
            decrement += step[j] * gradient[j]
        length = 1.0
        for j in range(d):
            if step[j] > 0.0:
                length = min(length, 0.95 * (high[j] - x[j]) / step[j])
            elif step[j] < 0.0:
                length = min(length, 0.95 * (low[j] - x[j]) / step[j])
        if step[d] < 0.0:
            length = min(length, 0.95 * (floor - x[d]) / step[d])
        for i in range(count):
            move = -step[d]
            for j in range(d):
                move += planes[i, 1 + j] * step[j]
            change[i] = move
            if move < 0.0:
                length = min(length, -0.95 * slack[i] / move)
        for _ in range(12):
            if _gain(length, step, x, slack, change, count, d, w0, floor, low, high, v_best) >= (
                0.1 * length * decrement
            ):
                break
            length *= 0.5
        for j in range(d + 1):
            x[j] += length * step[j]
        if decrement < 1e-3:
            break
    v[:] = x[:d]
    mass = 0.0
    for i in range(count):
        value = planes[i, 0] - x[d]
        for j in range(d):
            value += planes[i, 1 + j] * x[j]
        weights[i] = 1.0 / max(value, 1e-300)
        mass += weights[i]
    estimate = 0.0
    gradient[:] = 0.0
    for i in range(count):
        weights[i] /= mass
        estimate += weights[i] * planes[i, 0]
        for j in range(d):
            gradient[j] += weights[i] * planes[i, 1 + j]
    for j in range(d):
        estimate += max(gradient[j] * low[j], gradient[j] * high[j])
    return estimate


@njit(cache=True)
def _solved(matrix: Array, right: Array) -> Array:
    """matrix^-1 right by elimination with pivoting; a direction without a pivot gets no step.

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
        if not abs(pivot) > 1e-300:
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
        found = value / pivot if abs(pivot) > 1e-300 else 0.0
        step[i] = found if math.isfinite(found) else 0.0
    return step


@njit(cache=True)
def _gain(
    length: float, step: Array, x: Array, slack: Array, change: Array, count: int, d: int,
    w0: float, floor: float, low: Array, high: Array, v_best: Array,
) -> float:  # fmt: skip
    """Increase of the barrier function along ``step``."""
    # products of ratios, so that one logarithm serves many planes
    total, product = 0.0, 1.0
    for i in range(count):
        product *= 1.0 + length * change[i] / slack[i]
        if product < 1e-200 or product > 1e200:
            total += math.log(product)
            product = 1.0
    for j in range(d):
        move = length * step[j]
        product *= (1.0 + move / (x[j] - low[j])) * (1.0 - move / (high[j] - x[j]))
        before, after = x[j] - v_best[j], x[j] + move - v_best[j]
        total += (before * before - after * after) / (v_best[j] * v_best[j])
    total += math.log(product)
    return total + w0 * math.log(1.0 + length * step[d] / (x[d] - floor))
