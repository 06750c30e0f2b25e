"""Compiled: linear lower estimates of uplink shares under the ``total`` law; Statement 8.

R(x) = x B mean_k min(log2(1 + a_k / x), C) is concave, so for every touching point x_c
R(x) >= r asks for x >= x_c + (r - R(x_c)) / R'(x_c): a constant plus a multiple of the rate, to
which all statements about ``psd`` apply. With a = mean_k a_k, u = x / a and v = r / (B a) the law
is phi(u) = u mean_k min(log2(1 + (a_k / a) / u), C): devices with the same fading differ in a
alone, and one table of tangents over v serves them all. Used by the bound alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any kernel
from sftopt.solvers.certify.bound.keep_minimum import LN2

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SAFE = 4e-12
"""What tangents are lowered by, relative to their terms; more than rounding and _SAME cost."""
_SAME = 1e-13
"""Fading that differs by less between devices is the same."""
_STEPS = 60
_PARTS, _FEW_PARTS = 8, 5
"""2^_PARTS tangents an octave of v; _FEW_PARTS where every device has a table of its own."""
_OCTAVES = 40
_STEEP = 0.7
"""Of the greatest v, which all of the band would take without end."""


class Law(NamedTuple):
    """Tangents of x(r) by the octaves of v = r / (band reach); T tables of M entries."""

    per_unit: Array
    """(T, M) 1 / phi'(u_c): share / reach per unit of v."""
    constant: Array
    """(T, M) u_c - phi(u_c) / phi'(u_c), at most 0."""
    most: Array
    """(T, M) u at the entry's upper end: at least what any v of the entry needs."""
    lowest: int
    """Octave of the first entry; smaller v use that entry too."""
    parts: int
    fading: Array
    """(T, k) a_k / a."""
    cap: float
    steep: Array
    """(T,) v from which x(r) is too steep for entries: tangents are made on the spot."""
    reach: Array
    """(N,) a_n."""
    band: Array
    """(N,) B in Hz."""
    bits: Array
    """(N, L) about the bits per element that cut n, l sends; moved as bounds are computed: any
    touching point is valid."""


@njit(cache=True)
def rate_and_slope(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """R and R' at one share."""
    value, slope = 0.0, 0.0
    for a in terms:
        ratio = a / share
        each = math.log1p(ratio) / LN2
        if each >= cap:
            value += cap
            slope += cap
            continue
        value += each
        if ratio < 1e-3:
            series = ratio * ratio * (0.5 - ratio * (2.0 / 3.0 - ratio * (0.75 - 0.8 * ratio)))
            slope += series / LN2
        else:
            slope += each - ratio / (1.0 + ratio) / LN2
    scale = bandwidth / len(terms)
    return share * value * scale, slope * scale


@njit(cache=True)
def share_of(rate: float, start: float, terms: Array, cap: float, most: float) -> float:
    """About the u with phi(u) = ``rate``, from ``start`` below it; at most ``most``."""
    share = start
    for _ in range(_STEPS):
        value, slope = rate_and_slope(share, terms, 1.0, cap)
        step = (rate - value) / max(slope, 1e-300)
        share = min(share + step, most)
        if step <= 1e-13 * share or share >= most:
            break
    return share


@njit(cache=True)
def tangent_of(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """(share per bit/s, constant) of the lower estimate that touches at ``share``, made safe."""
    value, slope = rate_and_slope(share, terms, bandwidth, cap)
    per_bit = 1.0 / slope
    return per_bit, share - value * per_bit - _SAFE * (share + value * per_bit)


@njit(cache=True)
def _fill(
    terms: Array, cap: float, lowest: int, parts: int, most_u: float, per_unit: Array,
    constant: Array, most: Array,
) -> None:  # fmt: skip
    """One table: entries touch at the geometric middle of their v."""
    count = 1 << parts
    low = 2.0**lowest
    share = low / max(cap, 1e-300)  # phi(u) <= cap u
    for j in range(len(per_unit)):
        k = j + 1
        high = 2.0 ** (lowest + k // count) * (1.0 + (k % count) / count)
        share = share_of(math.sqrt(low * high), share, terms, cap, most_u)
        per_unit[j], constant[j] = tangent_of(share, terms, 1.0, cap)
        top = share_of(high, share, terms, cap, most_u) * (1.0 + 1e-9)
        most[j] = top if rate_and_slope(top, terms, 1.0, cap)[0] >= high else np.inf
        low = high


def law_of(terms: Array, bandwidth: float, cap: float, least_rate: float, bits: Array) -> Law:
    """The tables for SNR terms (N, k), from ``least_rate`` in bit/s on; ``bits`` (N, L)."""
    reach = terms.mean(axis=1)
    fading = terms / reach[:, None]
    same = bool(np.all(np.abs(fading - fading[0]) <= _SAME * fading[0]))
    tables = 1 if same else len(terms)
    parts = _PARTS if same else _FEW_PARTS
    # no share exceeds 1: u = 1 / a
    weakest = np.argmin(reach) if same else range(len(reach))
    needed = [rate_and_slope(1.0 / reach[n], fading[n], 1.0, cap)[0] for n in np.ravel(weakest)]
    highest = int(np.floor(np.log2(max(needed)))) + 1
    lowest = int(np.floor(np.log2(max(least_rate / (bandwidth * float(reach.max())), 1e-290))))
    lowest = max(min(lowest, highest - 1), highest - _OCTAVES)
    shape = (tables, (highest - lowest) << parts)
    per_unit, constant, most = np.empty(shape), np.empty(shape), np.empty(shape)
    for t in range(tables):
        top = 1.0 / float(reach.min() if same else reach[t])
        _fill(fading[t], cap, lowest, parts, top, per_unit[t], constant[t], most[t])
    steep = _STEEP * fading[:tables].mean(axis=1) / LN2
    return Law(
        per_unit, constant, most, lowest, parts, fading[:tables].copy(), float(cap), steep, reach,
        np.full(len(terms), float(bandwidth)), bits.copy(),
    )  # fmt: skip


def no_law() -> Law:
    """What stands where the law is ``psd``."""
    none = np.zeros((1, 1))
    one = np.zeros(1)
    return Law(none, none, none, 0, 0, none, 0.0, one, one, one, none)


@njit(cache=True, inline="always")
def place(law: Law, v: float) -> int:
    """Index of the entry that holds ``v``, by the bits of its exponent and mantissa."""
    bits = np.float64(v).view(np.int64) >> (52 - law.parts)
    index = int(bits) - ((law.lowest + 1023) << law.parts)
    return int(min(max(index, 0), law.per_unit.shape[1] - 1))


@njit(cache=True, inline="always")
def touched(law: Law, n: int, rate: float) -> tuple[float, float]:
    """(share per bit/s, constant) of device n's lower estimate, touching near ``rate``."""
    t = n if law.per_unit.shape[0] > 1 else 0
    v = rate / (law.band[n] * law.reach[n])
    if v > law.steep[t]:
        return _touched_there(law, n, t, v)
    j = place(law, v)
    return law.per_unit[t, j] / law.band[n], law.constant[t, j] * law.reach[n]


@njit(cache=True)
def _touched_there(law: Law, n: int, t: int, v: float) -> tuple[float, float]:
    """:func:`touched` where the table's entries are too far apart."""
    top = 1e3 / law.reach[n]
    share = share_of(v, law.steep[t] / law.cap, law.fading[t], law.cap, top)
    slope, constant = tangent_of(share, law.fading[t], 1.0, law.cap)
    return slope / law.band[n], constant * law.reach[n]


@njit(cache=True, inline="always")
def most_share(law: Law, n: int, rate: float) -> float:
    """A share that is enough for ``rate``; infinite where the table does not say."""
    t = n if law.per_unit.shape[0] > 1 else 0
    v = rate / (law.band[n] * law.reach[n])
    j = place(law, v)
    last = law.per_unit.shape[1] - 1
    if j == last and v >= 2.0 ** (law.lowest + ((last + 1) >> law.parts)):
        return np.inf
    return float(law.most[t, j] * law.reach[n])


@njit(cache=True)
def per_bits(law: Law, elements: Array, s1: Array, tau: float, slack: float) -> Array:
    """(N, L) share per bit/s where cuts send ``law.bits`` by the time ``tau``."""
    N, L = s1.shape
    found = np.empty((N, L))
    for n in range(N):
        for cut in range(L):
            room = max(tau - s1[n, cut], slack * tau)
            found[n, cut] = touched(law, n, elements[n] * law.bits[n, cut] / room)[0]
    return found


@njit(cache=True)
def adapter_prices(cuts: Integers, bits: float, law: Law, full: Array) -> Array:
    """Seconds per block, (N,), with tau_a's uplink part >= SUM prices l_n for all
    cuts; Statement 11."""
    N = len(cuts)
    prices = np.zeros(N)
    if bits == 0.0:
        return prices
    high = 0.0
    for n in range(N):
        high += max(cuts[n], 1) * bits / full[n]
    low = 0.0
    for _ in range(40):
        tau = 0.5 * (low + high)
        total = 0.0
        for n in range(N):
            rate = max(cuts[n], 0.05) * bits / tau
            slope, offset = touched(law, n, rate)
            total += offset + slope * rate
        if total > 1.0:
            low = tau
        else:
            high = tau
    constant = 0.0
    for n in range(N):
        prices[n], offset = touched(law, n, max(cuts[n], 0.05) * bits / high)
        constant += offset
    for n in range(N):
        prices[n] *= bits / (1.0 - constant) * (1.0 - 1e-12)
    return prices
