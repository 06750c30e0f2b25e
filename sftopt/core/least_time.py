"""The small problem (14), exactly and fast: one link of one round, or of many rounds at once.

The one function behind every search for shares of this package's solvers and of the two-timescale
runs. The method is in :mod:`sftopt.core.least_time_compiled`; should its iteration leave the
doubles, the slower guarded search of :func:`sftopt.core.spectrum.least_time` takes over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core import spectrum
from sftopt.core.errors import InputError
from sftopt.core.spectrum import ConcaveRate, LinearRate, RateLaw

Array = NDArray[np.float64]


def least_time(
    fixed_s: Array, payload_bits: Array, law: RateLaw, near: Array | None = None
) -> tuple[float, Array]:
    """Return tau in seconds and the shares (N,) of one link, equation (14).

    Infinite tau where a device has no rate.

    ``fixed_s`` and ``payload_bits`` have shape (N,), the law's arrays (N,) or (N, k). ``near`` are
    shares to start from, such as the last round's; they save time under the concave law and
    change nothing else. Devices without payload get share 0 but still hold the barrier.
    """
    from sftopt.core import least_time_compiled as compiled  # numba is heavy: loaded on first use

    fixed, bits = _plain(fixed_s), _plain(payload_bits)
    if isinstance(law, LinearRate):
        shares = np.empty(len(fixed))
        return compiled.linear_round(fixed, bits, _plain(law.full_bits_per_s), shares), shares
    shares = np.zeros(len(fixed)) if near is None else np.array(near, dtype=float)
    tau, converged = compiled.concave_round(
        fixed, bits, _plain(law.snr_terms), law.bandwidth_hz, law.cap_bits_per_s_hz, shares
    )
    return (tau, shares) if converged else spectrum.least_time(fixed, bits, law)


def least_times(
    fixed_s: Array, payload_bits: Array, law: RateLaw, near: Array | None = None
) -> tuple[Array, Array]:
    """Return tau in seconds (T,) and shares (T, N) of T rounds; equation (14).

    Each as :func:`least_time` gives it, to 1e-14.

    ``fixed_s``, ``payload_bits``, the law's ``full_bits_per_s`` and ``near`` have shape (T, N), or
    (N,) where all rounds share them; ``snr_terms`` (T, N, k) or (N, k). A round with a device
    without rate has an infinite tau and shares of 0. Raises InputError where shapes do not fit.
    """
    from sftopt.core import least_time_compiled as compiled

    linear = isinstance(law, LinearRate)
    given = law.full_bits_per_s if isinstance(law, LinearRate) else law.snr_terms
    fixed, bits = _rows(fixed_s, 2), _rows(payload_bits, 2)
    rates = _rows(given, 2 if linear else 3)
    rounds, devices = _common_shape(fixed, bits, rates)
    tau, shares = np.empty(rounds), np.zeros((rounds, devices))
    if isinstance(law, LinearRate):
        compiled.linear_rounds(fixed, bits, rates, tau, shares)
        return tau, shares
    if near is not None:
        shares[:] = near
    failed = compiled.concave_rounds(
        fixed, bits, rates, law.bandwidth_hz, law.cap_bits_per_s_hz, tau, shares
    )
    for t in np.flatnonzero(tau < 0.0) if failed else ():
        own = ConcaveRate(law.bandwidth_hz, rates[t % len(rates)], law.cap_bits_per_s_hz)
        tau[t], shares[t] = spectrum.least_time(fixed[t % len(fixed)], bits[t % len(bits)], own)
    return tau, shares


def _plain(values: Array) -> Array:
    """As the functions are compiled for: C order, doubles, writeable (no copy where it is)."""
    return np.require(values, dtype=np.float64, requirements=["C", "W"])


def _rows(values: Array, dimensions: int) -> Array:
    """One row for all rounds where the axis of rounds is missing."""
    plain = _plain(values)
    return plain[None] if plain.ndim == dimensions - 1 else plain


def _common_shape(fixed: Array, bits: Array, rates: Array) -> tuple[int, int]:
    """(T, N). Raises InputError where the arrays disagree."""
    shapes = [fixed.shape, bits.shape, rates.shape]
    rounds, devices = max(s[0] for s in shapes), fixed.shape[1]
    if any(s[0] not in (1, rounds) or s[1] != devices for s in shapes):
        raise InputError(
            f"fixed times, payloads and rates of many rounds have shapes {shapes}; "
            "rounds and devices must agree"
        )
    return rounds, devices
