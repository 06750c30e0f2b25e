"""Compiled: linear lower estimates of uplink shares under the ``total`` law; Statement 8.

R(x) = x B mean_k min(log2(1 + a_k / x), C) is concave, so for every touching point x_c
R(x) >= r asks for x >= x_c + (r - R(x_c)) / R'(x_c): a constant plus a multiple of the rate, to
which all statements about ``psd`` apply. With a = mean_k a_k, u = x / a and v = r / (B a) the law
is phi(u) = u mean_k min(log2(1 + (a_k / a) / u), C): devices with the same fading differ in a
alone, and one table of tangents over v serves them all. Used by the bound alone.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any compiled function
from sftopt.solvers.certify.bound.keep_minimum import LN2

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SAFE = 4e-12
"""What tangents are lowered by, relative to their terms: more than rounding and ``_SAME`` cost
(Statement 8)."""
_SAME = 1e-13
"""Fading that differs by less than this part between devices is the same: Statement 8."""
_STEPS = 60
"""Newton steps at most for a share; a handful is usual."""
_CLOSE = 1e-13
"""Relative step at which a share counts as found; any touching point is valid."""
_PARTS = 8
"""2^8 tangents an octave of v where one table serves all devices; found by timing."""
_FEW_PARTS = 5
"""2^5 tangents an octave of v where every device has a table of its own; found by timing."""
_OCTAVES = 40
"""Octaves of v at most: smaller rates touch at the first entry."""
_STEEP = 0.7
"""Part of the greatest v, which all of the band would take without end, beyond which tangents
are made on the spot: entries would be too far apart there."""
_ABOVE = 1e-9
"""What an entry's upper end is raised by, relative to the share, so that it surely is enough."""
_SERIES = 1e-3
"""SNR below which the slope of the rate is taken from its series, where two terms would cancel."""
_FAR = 2.0
"""Tangents touch at shares of up to this many bands: no plan has more than one, and where the rate
saturates a tangent from far above says next to nothing of the shares that plans have."""
_ADAPTER_HALVINGS = 40
"""Bisections of the adapters' time; any result is valid (Statement 11)."""
_FEW_BLOCKS = 0.05
"""Blocks at which the tangent of a device that holds none touches: any number above 0 is valid
(Statement 11)."""
_ADAPTER_MARGIN = 1e-12
"""What prices of blocks are lowered by for their rounding, relative."""


class ShareTangents(NamedTuple):
    """Tangents of the share x(r) by the octaves of v = r / (band reach); T tables of M entries."""

    per_unit: Array
    """(T, M) 1 / phi'(u_c): share / reach per unit of v."""
    constant: Array
    """(T, M) u_c - phi(u_c) / phi'(u_c), at most 0."""
    most: Array
    """(T, M) u at the entry's upper end: at least what any v of the entry needs."""
    lowest: int
    """Octave of the first entry; smaller v use that entry too."""
    parts: int
    """2^parts entries an octave."""
    fading: Array
    """(T, k) a_k / a."""
    cap: float
    """C, the largest spectral efficiency in bit/s/Hz."""
    steep: Array
    """(T,) v from which x(r) is too steep for entries: tangents are made on the spot."""
    reach: Array
    """(N,) a_n."""
    band: Array
    """(N,) B in Hz."""
    bits: Array
    """(N, P) about the bits per element that a place sends; moved as bounds are computed: any
    touching point is valid."""


@njit(cache=True)
def rate_and_slope(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """Return the rate in bit/s at a share, and its slope; Statement 8."""
    value, slope = 0.0, 0.0
    for a in terms:
        ratio = a / share
        each = math.log1p(ratio) / LN2
        if each >= cap:
            value += cap
            slope += cap
            continue
        value += each
        if ratio < _SERIES:
            series = ratio * ratio * (0.5 - ratio * (2.0 / 3.0 - ratio * (0.75 - 0.8 * ratio)))
            slope += series / LN2
        else:
            slope += each - ratio / (1.0 + ratio) / LN2
    scale = bandwidth / len(terms)
    return share * value * scale, slope * scale


@njit(cache=True)
def share_of(rate: float, start: float, terms: Array, cap: float, most: float) -> float:
    """Return about the share u with phi(u) = ``rate``, from ``start`` below; at most ``most``."""
    share = start
    for _ in range(_STEPS):
        value, slope = rate_and_slope(share, terms, 1.0, cap)
        step = (rate - value) / max(slope, 1e-300)
        share = min(share + step, most)
        if step <= _CLOSE * share or share >= most:
            break
    return share


@njit(cache=True)
def tangent_of(share: float, terms: Array, bandwidth: float, cap: float) -> tuple[float, float]:
    """Return share per bit/s and constant of the estimate that touches at ``share``, made safe.

    Statement 8.
    """
    value, slope = rate_and_slope(share, terms, bandwidth, cap)
    per_bit = 1.0 / slope
    return per_bit, share - value * per_bit - _SAFE * (share + value * per_bit)


@njit(cache=True)
def _fill(
    terms: Array, cap: float, lowest: int, parts: int, most_u: float, per_unit: Array,
    constant: Array, most: Array,
) -> None:  # fmt: skip
    """Fill one table: entries touch at the geometric middle of their v."""
    count = 1 << parts
    low = 2.0**lowest
    share = low / max(cap, 1e-300)  # phi(u) <= cap u
    for j in range(len(per_unit)):
        k = j + 1
        high = 2.0 ** (lowest + k // count) * (1.0 + (k % count) / count)
        share = share_of(math.sqrt(low * high), share, terms, cap, most_u)
        per_unit[j], constant[j] = tangent_of(share, terms, 1.0, cap)
        top = share_of(high, share, terms, cap, most_u) * (1.0 + _ABOVE)
        most[j] = top if rate_and_slope(top, terms, 1.0, cap)[0] >= high else np.inf
        low = high


def build_share_tangents(
    terms: Array, bandwidth: float, cap: float, least_rate: float, bits: Array
) -> ShareTangents:
    """Build the tables for SNR terms (N, k), from ``least_rate`` in bit/s on; Statement 8.

    ``bits`` (N, P): about what each place sends per element, where tangents touch first.
    """
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
    return ShareTangents(
        per_unit, constant, most, lowest, parts, fading[:tables].copy(), float(cap), steep, reach,
        np.full(len(terms), float(bandwidth)), bits.copy(),
    )  # fmt: skip


def no_share_tangents() -> ShareTangents:
    """Make what stands where the law is ``psd`` and no tangents are needed."""
    none = np.zeros((1, 1))
    one = np.zeros(1)
    return ShareTangents(none, none, none, 0, 0, none, 0.0, one, one, one, none)


@njit(cache=True, inline="always")
def entry_of(tangents: ShareTangents, v: float) -> int:
    """Return the index of the entry that holds ``v``, by the bits of its exponent and mantissa."""
    bits = np.float64(v).view(np.int64) >> (52 - tangents.parts)
    index = int(bits) - ((tangents.lowest + 1023) << tangents.parts)
    return int(min(max(index, 0), tangents.per_unit.shape[1] - 1))


@njit(cache=True, inline="always")
def share_tangent(tangents: ShareTangents, n: int, rate: float) -> tuple[float, float]:
    """Return share per bit/s and constant of device n's lower estimate that touches near ``rate``.

    Statement 8.
    """
    t = n if tangents.per_unit.shape[0] > 1 else 0
    v = rate / (tangents.band[n] * tangents.reach[n])
    if v > tangents.steep[t]:
        return _tangent_at(tangents, n, t, v)
    j = entry_of(tangents, v)
    return tangents.per_unit[t, j] / tangents.band[n], tangents.constant[t, j] * tangents.reach[n]


@njit(cache=True)
def _tangent_at(tangents: ShareTangents, n: int, t: int, v: float) -> tuple[float, float]:
    """Return what :func:`share_tangent` does, where the table's entries are too far apart."""
    top = _FAR / tangents.reach[n]
    share = share_of(v, tangents.steep[t] / tangents.cap, tangents.fading[t], tangents.cap, top)
    slope, constant = tangent_of(share, tangents.fading[t], 1.0, tangents.cap)
    return slope / tangents.band[n], constant * tangents.reach[n]


@njit(cache=True, inline="always")
def enough_share(tangents: ShareTangents, n: int, rate: float) -> float:
    """Return a share that is enough for ``rate`` in bit/s; infinite where the table does not say.

    Statement 13 under law ``total``.
    """
    t = n if tangents.per_unit.shape[0] > 1 else 0
    v = rate / (tangents.band[n] * tangents.reach[n])
    j = entry_of(tangents, v)
    last = tangents.per_unit.shape[1] - 1
    if j == last and v >= 2.0 ** (tangents.lowest + ((last + 1) >> tangents.parts)):
        return np.inf
    return float(tangents.most[t, j] * tangents.reach[n])


@njit(cache=True)
def shares_per_bit(
    tangents: ShareTangents, elements: Array, s1: Array, tau: float, slack: float
) -> Array:
    """Return the share per bit/s, (N, P), places sending ``tangents.bits`` by the time ``tau``."""
    N, P = s1.shape
    found = np.empty((N, P))
    for n in range(N):
        for place in range(P):
            room = max(tau - s1[n, place], slack * tau)
            rate = elements[n] * tangents.bits[n, place] / room
            found[n, place] = share_tangent(tangents, n, rate)[0]
    return found


@njit(cache=True)
def adapter_prices(cuts: Integers, bits: float, tangents: ShareTangents, full: Array) -> Array:
    """Return prices in seconds per block, (N,); Statement 11.

    The uplink part of the adapters' time is at least SUM prices l_n, whatever the cuts.
    """
    N = len(cuts)
    prices = np.zeros(N)
    if bits == 0.0:
        return prices
    high = 0.0
    for n in range(N):
        high += max(cuts[n], 1) * bits / full[n]
    low = 0.0
    for _ in range(_ADAPTER_HALVINGS):
        tau = 0.5 * (low + high)
        total = 0.0
        for n in range(N):
            rate = max(cuts[n], _FEW_BLOCKS) * bits / tau
            slope, offset = share_tangent(tangents, n, rate)
            total += offset + slope * rate
        if total > 1.0:
            low = tau
        else:
            high = tau
    constant = 0.0
    for n in range(N):
        prices[n], offset = share_tangent(tangents, n, max(cuts[n], _FEW_BLOCKS) * bits / high)
        constant += offset
    for n in range(N):
        prices[n] *= bits / (1.0 - constant) * (1.0 - _ADAPTER_MARGIN)
    return prices
