"""Compiled: the least barrier time of one link, equation (14), for one round and for many.

**Linear law.** With rooms tau - a_n written as u + gap_n, u = tau - max a_n (no digits are lost
where fixed times are long against payload times), every share is c_n / (u + gap_n), c_n the time
on the whole band, and u is the root of SUM x_n(u) = 1. The sum is convex and falls, and 1/sum is
concave and close to linear: Newton on 1/sum - 1 from below the root never passes it.

**Concave law.** R(x) = x B mean_k min(log2(1 + a_k/x), C). In z = 1/x the time of one bit,
1/R = z / (B mean_k min(log2(1 + a_k z), C)), is nearly a straight line: exactly one where all
terms are capped, and in the limit of no signal. Its tangent at z turns the link into one of the
linear law: with e = x R'(x)/R(x) the device's payload time t = D/R splits into a fixed part
(1 - e) t and e t x / x', so the shares that follow are those of a linear law with fixed times
a_n + (1 - e_n) t_n and whole-band times e_n t_n x_n. Repeating this is Newton's method on the
optimality conditions of (14), all unknowns at once: five evaluations of the rates as a rule,
whatever the spread. Only the kinks of caps far below 1 bit/s/Hz can make it circle, which half
steps end.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.entropy import LN2
from sftopt.core.kernel_cache import prepare_cache

prepare_cache()

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SUMS = {"reassoc", "contract", "nsz"}
"""What the compiler may relax: sums may be taken in any order, nothing else."""
_NEWTON = 100
"""Most steps of Newton's method for the linear law; far more than it needs."""
_TANGENTS = 100
"""Most tangents to the concave law; five are the rule."""
_FULL_STEPS = 10
"""Full steps before half steps follow, where caps far below 1 bit/s/Hz make them circle."""
_CLOSE = 1e-8
"""A relative step after which Newton's next one is below the rounding."""
_NOTHING_BITS = 1e-200
"""Payloads in bits up to this are none: their products would leave the doubles."""


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _demand(u: float, gap: Array, alone: Array, shares: Array) -> tuple[float, float]:
    """SUM x_n at u and minus its slope; the shares are written."""
    total, fall = 0.0, 0.0
    for n in range(len(gap)):
        inverse = 1.0 / (u + gap[n])
        share = alone[n] * inverse
        shares[n] = share
        total += share
        fall += share * inverse
    return total, fall


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _lowest(gap: Array, alone: Array) -> float:
    """A u at which the demand is at least 1.

    Every device alone needs u + gap_n >= c_n; and SUM c/(u + gap) >= C^2 / SUM c (u + gap), with
    C = SUM c (Cauchy-Schwarz), asks for u >= C - SUM c gap / C.
    """
    total, moment, each = 0.0, 0.0, 0.0
    for n in range(len(gap)):
        total += alone[n]
        moment += alone[n] * gap[n]
        each = max(each, alone[n] - gap[n])
    return max(each, total - moment / total, 1e-300)


@njit(cache=True, error_model="numpy")
def linear_root(gap: Array, alone: Array, start: float, shares: Array) -> float:
    """Return the seconds u > 0 with SUM alone_n / (u + gap_n) = 1, and write the shares.

    Arrays (N,), gap_n >= 0.
    ``start`` may guess u; devices with ``alone`` 0 get no share, some device must have more.
    """
    low = _lowest(gap, alone)
    u = max(low, start)
    enough = 2e-16 * (4.0 + math.sqrt(len(gap)) / 4.0)
    total = 0.0
    for _ in range(_NEWTON):
        total, fall = _demand(u, gap, alone, shares)
        step = (total - 1.0) * total / fall
        if abs(total - 1.0) <= enough or abs(step) <= 1e-16 * u or not step < np.inf:
            break
        u = max(u + step, low)
    if total > 1.0:  # rounding only: a few ulp
        for n in range(len(shares)):
            shares[n] /= total
    return u


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _log_sums(
    shares: Array, terms: Array, cap_snr: float, z: Array, logs: Array, part: Array
) -> None:
    """SUM_k ln(1 + min(a_k z, cap)) and SUM over uncapped k of a_k z / (1 + a_k z), z = 1/x.

    By the product of all 1 + min(a_k z, cap) and z times its derivative: one logarithm and one
    division a device.
    """
    N = len(shares)
    for n in range(N):
        z[n] = 1.0 / shares[n]
        logs[n] = 1.0
        part[n] = 0.0
    for k in range(terms.shape[0]):
        row = terms[k]
        for n in range(N):
            snr = row[n] * z[n]
            whole = 1.0 + min(snr, cap_snr)
            moving = snr if snr < cap_snr else 0.0
            part[n] = part[n] * whole + logs[n] * moving
            logs[n] *= whole
    for n in range(N):
        part[n] /= logs[n]
        logs[n] = math.log(logs[n])


@njit(cache=True, error_model="numpy")
def _careful_sums(z: float, terms: Array, cap_snr: float) -> tuple[float, float]:
    """The sums of :func:`_log_sums` for one device with no product and no loss of digits.

    The second is returned as the first minus the second.
    """
    logs, rest = 0.0, 0.0
    for a in terms:
        snr = a * z
        if snr >= cap_snr:
            logs += math.log1p(cap_snr)
            rest += math.log1p(cap_snr)
            continue
        each = math.log1p(snr)
        logs += each
        if snr < 1e-3:  # the series where the two terms would cancel
            rest += snr * snr * (0.5 - snr * (2.0 / 3.0 - snr * (0.75 - 0.8 * snr)))
        else:
            rest += each - snr / (1.0 + snr)
    return logs, rest


@njit(cache=True, error_model="numpy")
def _tangents(
    gap: Array, load: Array, terms: Array, cap_snr: float, shares: Array, fixed: Array, alone: Array
) -> None:
    """The linear law that touches the concave one at ``shares``: its fixed and whole-band times.

    ``load`` is D_n k ln 2 / B; ``fixed`` counts from the longest of the link's fixed times.
    """
    N = len(shares)
    z, logs, part = np.empty(N), np.zeros(N), np.zeros(N)
    if math.log1p(cap_snr) * len(terms) < 690.0:  # the product stays a double
        _log_sums(shares, terms, cap_snr, z, logs, part)
    for n in range(N):
        part[n] = logs[n] - part[n]
    for n in range(N):
        if logs[n] < 2.0:
            logs[n], part[n] = _careful_sums(1.0 / shares[n], terms[:, n], cap_snr)
    for n in range(N):
        inverse = 1.0 / logs[n]
        bent = part[n] * inverse
        weight = load[n] * inverse
        fixed[n] = weight / shares[n] * (1.0 - bent) - gap[n]
        alone[n] = weight * bent


@njit(cache=True, error_model="numpy", fastmath=_SUMS)
def _same_caps(terms: Array, cap_snr: float, old: Array, new: Array) -> bool:
    """Whether the same terms are capped at both shares."""
    moved = 0
    for k in range(len(terms)):
        row = terms[k]
        for n in range(len(old)):
            moved += (row[n] < cap_snr * old[n]) != (row[n] < cap_snr * new[n])
    return moved == 0


@njit(cache=True, error_model="numpy")
def concave_root(
    gap: Array, load: Array, terms: Array, cap_snr: float, least: float, shares: Array
) -> tuple[float, bool]:
    """Return the seconds u of the concave law, at least ``least``, and whether it converged.

    Arrays (N,), all loads positive.
    ``load`` is D_n k ln 2 / B and ``terms`` has shape (k, N). ``shares`` holds a positive guess
    and is written.
    """
    N = len(gap)
    fixed, alone, after = np.empty(N), np.empty(N), np.empty(N)
    u, spare = 0.0, 0.0
    for turn in range(_TANGENTS):
        _tangents(gap, load, terms, cap_snr, shares, fixed, alone)
        top = fixed.max()
        for n in range(N):
            fixed[n] = top - fixed[n]
        spare = linear_root(fixed, alone, spare, after)
        if top + spare < least:
            spare = least - top
            _demand(spare, fixed, alone, after)
        u = top + spare
        change = 0.0
        for n in range(N):
            change = max(change, abs(after[n] - shares[n]) / shares[n])
        done = change <= 1e-15
        if change <= _CLOSE and not done:
            done = _same_caps(terms, cap_snr, shares, after)
        if turn >= _FULL_STEPS and not done:
            after[:] = np.sqrt(shares * after)
        shares[:] = after
        if done:
            return u, True
        if not change < np.inf:
            break
    return u, False


@njit(cache=True, error_model="numpy")
def _barrier(fixed: Array, bits: Array) -> tuple[float, float]:
    """The longest fixed time of all devices (at least 0), and of those with a payload."""
    floor, longest = 0.0, -np.inf
    for n in range(len(fixed)):
        floor = max(floor, fixed[n])
        if bits[n] > _NOTHING_BITS:
            longest = max(longest, fixed[n])
    return floor, longest


@njit(cache=True, error_model="numpy")
def linear_round(fixed: Array, bits: Array, full: Array, shares: Array) -> float:
    """Return tau in seconds of one link under R = x full, and write the shares; equation (14).

    Arrays (N,).
    Infinite, with shares of 0, where a payload has no rate.
    """
    floor, longest = _barrier(fixed, bits)
    shares[:] = 0.0
    if longest == -np.inf:
        return floor
    N = len(fixed)
    gap, alone = np.zeros(N), np.zeros(N)
    for n in range(N):
        if bits[n] > _NOTHING_BITS:
            gap[n] = longest - fixed[n]
            alone[n] = bits[n] / full[n] if full[n] > 0.0 else np.inf
            if alone[n] == np.inf:
                return np.inf
    u = linear_root(gap, alone, 0.0, shares)
    if longest + u < floor:  # a device without payload holds the barrier
        u = floor - longest
        _demand(u, gap, alone, shares)
    return longest + u


@njit(cache=True, error_model="numpy")
def concave_round(
    fixed: Array, bits: Array, terms: Array, bandwidth: float, cap: float, shares: Array
) -> tuple[float, bool]:
    """Return tau in seconds of one link under the concave law, and whether it converged.

    ``terms`` (N, k), the rest (N,).
    ``shares`` holds a guess (0: none) and is written. Infinite, with shares of 0, where a payload
    has no rate.
    """
    floor, longest = _barrier(fixed, bits)
    N, count, guessed = len(fixed), 0, True
    rows = np.empty(N, dtype=np.int64)
    for n in range(N):
        if bits[n] <= _NOTHING_BITS:
            continue
        rows[count] = n
        count += 1
        guessed &= shares[n] > 0.0
        if not terms[n].max() > 0.0:
            shares[:] = 0.0
            return np.inf, True
    rows = rows[:count]
    start = shares[rows] if guessed else np.full(count, 1.0 / max(count, 1))
    shares[:] = 0.0
    if count == 0:
        return floor, True
    blocks = terms.shape[1]
    columns = np.empty((blocks, count))
    for n in range(count):
        for k in range(blocks):
            columns[k, n] = terms[rows[n], k]
    u, converged = concave_root(
        longest - fixed[rows],
        bits[rows] * (blocks * LN2 / bandwidth),
        columns,
        2.0**cap - 1.0,
        floor - longest,
        start,
    )
    shares[rows] = start
    return longest + u, converged


@njit(cache=True, error_model="numpy")
def linear_rounds(fixed: Array, bits: Array, full: Array, tau: Array, shares: Array) -> None:
    """Solve every round as :func:`linear_round` does; ``tau`` and ``shares`` are written.

    Rows, or one row for all, of shape (T or 1, N).
    """
    for t in range(len(tau)):
        tau[t] = linear_round(
            fixed[min(t, len(fixed) - 1)],
            bits[min(t, len(bits) - 1)],
            full[min(t, len(full) - 1)],
            shares[t],
        )


@njit(cache=True, error_model="numpy")
def concave_rounds(
    fixed: Array, bits: Array, terms: Array, bandwidth: float, cap: float, tau: Array,
    shares: Array,
) -> int:  # fmt: skip
    """Solve every round as :func:`concave_round` does; return the number of failures to converge.

    Their tau is made negative. Rows, or one row for all, of shape (T or 1, N), terms also (k).
    """
    failed = 0
    for t in range(len(tau)):
        tau[t], converged = concave_round(
            fixed[min(t, len(fixed) - 1)],
            bits[min(t, len(bits) - 1)],
            terms[min(t, len(terms) - 1)],
            bandwidth,
            cap,
            shares[t],
        )
        if not converged:
            failed += 1
            tau[t] = -1.0
    return failed
