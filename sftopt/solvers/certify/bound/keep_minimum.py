"""Compiled: the least value of phi(rho) = P H2(rho) + S rho + exp(-a rho), from below.

phi'' = a^2 exp(-a rho) - P / (ln 2 rho (1 - rho)) is positive exactly where
u(rho) = rho (1 - rho) exp(-a rho) > P / (ln 2 a^2). u rises to one peak and falls, so phi is convex
on one interval (maybe empty) and concave on both sides of it: a minimum over [low, high] lies at an
end or at the one stationary point with phi'' > 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any compiled function

Array = NDArray[np.float64]

LN2 = math.log(2.0)
"""Natural logarithm of 2: bits in nats."""
_NEWTON = 9
"""Newton steps at most before the sure way is taken; from a good guess two or three do."""
_BISECTIONS = 60
"""Halvings of an interval: its width falls to rounding."""
_CLOSE = 1e-10
"""Error, relative to the value, at which a stationary point is near enough; it is subtracted."""
_NEAR = 1e-8
"""The same error where it is bounded by how phi bends, which it does by the square of the slope."""
_SHORTER = 6
"""Halvings of a Newton step that leaves the convex part."""


@njit(cache=True, inline="always")
def entropy_bits(keep: float) -> float:
    """Return the entropy of a mask in bits per element, H2(keep); 0 at both ends."""
    if keep <= 0.0 or keep >= 1.0:
        return 0.0
    return -(keep * math.log(keep) + (1.0 - keep) * math.log1p(-keep)) / LN2


@njit(cache=True)
def convexity_peak(decay: float) -> float:
    """Return the keep fraction where u(rho) = rho (1 - rho) exp(-a rho) peaks; Statement 3."""
    return 2.0 / (decay + 2.0 + math.sqrt(decay * decay + 4.0))


@njit(cache=True)
def convexity_cap(decay: float, low: float, high: float) -> float:
    """Return the P, without unit, below which phi is convex in part of [low, high]; Statement 3."""
    top = min(max(convexity_peak(decay), low), high)
    return LN2 * decay * decay * top * (1.0 - top) * math.exp(-decay * top)


@njit(cache=True)
def fill_ends(
    decay: float, low: Array, high: Array, ends_low: Array, ends_high: Array, cap: Array
) -> None:
    """Fill H2 and exp(-a rho) at both ends of ranges, (O, P, 2), and convexity caps, (O, P)."""
    for o in range(low.shape[0]):
        for place in range(low.shape[1]):
            first, last = low[o, place], high[o, place]
            if first <= last:
                ends_low[o, place, 0] = entropy_bits(first)
                ends_low[o, place, 1] = math.exp(-decay * first)
                ends_high[o, place, 0] = entropy_bits(last)
                ends_high[o, place, 1] = math.exp(-decay * last)
                cap[o, place] = convexity_cap(decay, min(first, 1.0), last)


@njit(cache=True)
def least_phi(
    P: float, S: float, decay: float, low: float, high: float, at_low: float, at_high: float,
    guess: float,
) -> tuple[float, float]:  # fmt: skip
    """Return a value never above min phi on [low, high], without unit, and a near-minimiser.

    Statement 3.
    ``at_low`` and ``at_high`` are phi at the ends. The caller has checked that P is below
    :func:`convexity_cap`.
    """
    best, best_at = at_low, low
    if at_high < best:
        best, best_at = at_high, high
    keep = min(max(guess, low), high)
    for _ in range(_NEWTON):
        log_in = math.log(keep)
        log_out = math.log1p(-keep) if keep < 1.0 else -800.0
        slope_up = S + P * (log_out - log_in) / LN2
        fall = math.exp(-decay * keep)
        slope = slope_up - decay * fall
        bend = decay * decay * fall - P / (LN2 * keep * (1.0 - keep) + 1e-300)
        if bend > 0.0:
            value = S * keep - P * (keep * log_in + (1.0 - keep) * log_out) / LN2 + fall
            error = abs(slope) * (high - low)
            if error <= _CLOSE * value:
                if value - error < best:
                    return value - error, keep
                return best, best_at
            if (keep <= low and slope >= 0.0) or (keep >= high and slope <= 0.0):
                return best, best_at
            error = slope * slope / bend
            if error <= _NEAR * value and _bends_on(P, decay, keep, fall, slope, bend):
                if value - error < best:
                    return value - error, keep
                return best, best_at
        if slope_up <= 0.0:
            break
        # ln(a) - a rho - ln(S + P H2') = 0 is nearly linear in rho
        tilt = -decay + P / (LN2 * keep * (1.0 - keep) * slope_up + 1e-300)
        if tilt >= 0.0:
            break
        after = keep - (math.log(decay / slope_up) - decay * keep) / tilt
        after = min(max(after, low), high)
        if after == keep:
            break
        keep = after
    return _least_by_bisection(P, S, decay, low, high, best, best_at)


@njit(cache=True, inline="always")
def _bends_on(P: float, decay: float, keep: float, fall: float, slope: float, bend: float) -> bool:
    """Tell whether phi'' is surely at least bend / 2 up to 2 |slope| / bend from ``keep``.

    Then phi' has its root in that range, or ends there, and phi nowhere in it is more than
    slope^2 / bend below its value at ``keep``; Statement 3.
    """
    reach = 2.0 * abs(slope) / bend
    left, right = keep - reach, 1.0 - keep - reach
    if left <= 0.0 or right <= 0.0:
        return False
    least = decay * decay * fall * (1.0 - decay * reach) - P / (LN2 * left * right)
    return least >= 0.5 * bend


@njit(cache=True)
def _bend(P: float, decay: float, keep: float) -> float:
    """Return phi'' at ``keep``."""
    return decay * decay * math.exp(-decay * keep) - P / (LN2 * keep * (1.0 - keep) + 1e-300)


@njit(cache=True)
def _slope(P: float, S: float, decay: float, keep: float) -> float:
    """Return phi' at ``keep``."""
    inside = max(1.0 - keep, 1e-300)
    return S + P * math.log2(inside / keep) - decay * math.exp(-decay * keep)


@njit(cache=True)
def _least_by_bisection(
    P: float, S: float, decay: float, low: float, high: float, best: float, best_at: float
) -> tuple[float, float]:
    """Return what :func:`least_phi` does, the sure way; Statement 3.

    From the most convex point by Newton steps, and where these fail by bisection: bracket the
    convex interval, then the root of phi' in it.
    """
    middle = min(max(convexity_peak(decay), low), high)
    if _bend(P, decay, middle) <= 0.0:
        return best, best_at
    keep = middle
    for _ in range(_NEWTON):
        slope, bend = _slope(P, S, decay, keep), _bend(P, decay, keep)
        if abs(slope) * (high - low) <= _CLOSE * S * keep:
            return _better(P, S, decay, keep, high - low, best, best_at)
        step = -slope / bend
        inside = False
        for _ in range(_SHORTER):
            after = keep + step
            if low < after < high and _bend(P, decay, after) > 0.0:
                inside = True
                break
            step *= 0.5
        if not inside:
            break
        keep += step
    left, left_out = _convex_end(P, decay, middle, low)
    right, right_out = _convex_end(P, decay, middle, high)
    if _slope(P, S, decay, left) >= 0.0:
        keep, width = left, left - left_out
    elif _slope(P, S, decay, right) <= 0.0:
        keep, width = right, right_out - right
    else:
        for _ in range(_BISECTIONS):
            half = 0.5 * (left + right)
            if _slope(P, S, decay, half) > 0.0:
                right = half
            else:
                left = half
        keep, width = 0.5 * (left + right), right - left
    return _better(P, S, decay, keep, width, best, best_at)


@njit(cache=True)
def _convex_end(P: float, decay: float, middle: float, end: float) -> tuple[float, float]:
    """Return the last keep with phi'' > 0 from ``middle`` towards ``end``, and the next one."""
    if _bend(P, decay, end) > 0.0:
        return end, end
    inside, outside = middle, end
    for _ in range(_BISECTIONS):
        half = 0.5 * (inside + outside)
        if _bend(P, decay, half) > 0.0:
            inside = half
        else:
            outside = half
    return inside, outside


@njit(cache=True)
def _better(
    P: float, S: float, decay: float, keep: float, width: float, best: float, best_at: float
) -> tuple[float, float]:
    """Return the lesser of ``best`` and phi at ``keep`` less what it may be above min phi.

    Statement 3; the stationary point is at most ``width`` away.
    """
    value = P * entropy_bits(keep) + S * keep + math.exp(-decay * keep)
    value -= abs(_slope(P, S, decay, keep)) * width
    if value < best:
        return value, keep
    return best, best_at


# --- a table that bounds min phi from below: Statement 4 ------------------------------------------


class Nodes(NamedTuple):
    """Nodes 0 and 2^e (1 + j / 2^parts), e from ``lowest`` on: along P and along S."""

    P: Array
    S: Array
    P_gap: Array
    """1 / distance to the next node along P."""
    S_gap: Array
    """1 / distance to the next node along S."""
    P_lowest: int
    S_lowest: int
    parts: int


@njit(cache=True)
def _octaves(parts: int, lowest: int, octaves: int) -> tuple[Array, Array]:
    """Return nodes along one axis and the inverse distances to the next ones."""
    count = 1 << parts
    nodes = np.zeros(octaves * count + 2)
    for k in range(len(nodes) - 1):
        nodes[k + 1] = 2.0 ** (lowest + k // count) * (1.0 + (k % count) / count)
    gaps = np.zeros(len(nodes))
    gaps[:-1] = 1.0 / (nodes[1:] - nodes[:-1])
    return nodes, gaps


@njit(cache=True)
def table_nodes(parts: int, P_lowest: int, P_octaves: int, S_lowest: int, S_octaves: int) -> Nodes:
    """Make nodes with 2^parts to the octave."""
    P, P_gap = _octaves(parts, P_lowest, P_octaves)
    S, S_gap = _octaves(parts, S_lowest, S_octaves)
    return Nodes(P, S, P_gap, S_gap, P_lowest, S_lowest, parts)


@njit(cache=True)
def fill_table(
    table: Array, nodes: Nodes, decay: float, low: float, high: float, ratio: float
) -> None:
    """Fill a table with min phi on [low, high] at all pairs of nodes; Statement 4.

    Where S < ratio P, which does not occur, with the value at a smaller P, which is not above it.
    """
    cap = convexity_cap(decay, low, high)
    h_low, h_high = entropy_bits(low), entropy_bits(high)
    e_low, e_high = math.exp(-decay * low), math.exp(-decay * high)
    for i in range(len(nodes.P)):
        guess = low
        # one node more than occurs on either side: interpolation looks at neighbours
        used = nodes.P[max(i - 2, 0)] * ratio
        for j in range(len(nodes.S)):
            P, S = nodes.P[i], nodes.S[j]
            if i > 0 and nodes.S[min(j + 2, len(nodes.S) - 1)] < used:
                table[i, j] = table[i - 1, j]
                continue
            at_low = P * h_low + S * low + e_low
            at_high = P * h_high + S * high + e_high
            if cap <= P:
                table[i, j] = min(at_low, at_high)
            else:
                if j <= 1:
                    guess = high
                table[i, j], guess = least_phi(P, S, decay, low, high, at_low, at_high, guess)


@njit(cache=True, inline="always")
def _node_below(value: float, lowest: int, parts: int, last: int) -> int:
    """Return the index of the node at or below ``value``, by the bits of its exponent."""
    bits = np.float64(value).view(np.int64) >> (52 - parts)
    index = int(bits) - ((lowest + 1023) << parts) + 1
    return min(max(index, 0), last)


@njit(cache=True, inline="always")
def table_slopes(
    tables: Array, o: int, nodes: Nodes, P: float, S: float
) -> tuple[float, float, float]:
    """Return :func:`table_bound` and its slopes: about H2 and rho of the minimiser; Statement 4."""
    last_P, last_S = len(nodes.P) - 2, len(nodes.S) - 2
    i = _node_below(P, nodes.P_lowest, nodes.parts, last_P)
    j = _node_below(S, nodes.S_lowest, nodes.parts, last_S)
    p = min((P - nodes.P[i]) * nodes.P_gap[i], 1.0)
    s = min((S - nodes.S[j]) * nodes.S_gap[j], 1.0)
    left, right = tables[o, i, j], tables[o, i, j + 1]
    up_left, up_right = tables[o, i + 1, j], tables[o, i + 1, j + 1]
    below = left + s * (right - left)
    above = up_left + s * (up_right - up_left)
    by_S = (right - left + p * (up_right - up_left - right + left)) * nodes.S_gap[j]
    return below + p * (above - below), (above - below) * nodes.P_gap[i], by_S


@njit(cache=True, inline="always")
def table_place(nodes: Nodes, P: float, S: float) -> tuple[int, int]:
    """Return the indices of the nodes at or below P and S."""
    return (
        _node_below(P, nodes.P_lowest, nodes.parts, len(nodes.P) - 2),
        _node_below(S, nodes.S_lowest, nodes.parts, len(nodes.S) - 2),
    )


@njit(cache=True, inline="always")
def table_bound(tables: Array, o: int, nodes: Nodes, P: float, S: float) -> float:
    """Return a lower bound on min phi, without unit, bilinear between nodes; Statement 4."""
    return float(table_slopes(tables, o, nodes, P, S)[0])
