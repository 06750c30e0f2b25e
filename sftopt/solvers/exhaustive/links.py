"""Barrier times of one link for many payload vectors at once: equations (4), (6) and (14).

tau is the root of SUM x_n = 1 with x_n = R_n^-1(rate_n), rate_n = D_n / (tau - s_n). Everything
here carries a row axis: shapes (C, N) for devices, (C,) for times.

*From below.* R is concave, so at any x^ the line R(x^) + R'(x^) (x - x^) lies above it and
x >= x^ + (rate - R(x^)) / R'(x^). Planes in place of R give a tau that is not above the true one,
whatever x^ is, and the next x^. With them SUM a_n / (tau - s_n) = T has to be solved; 1/SUM is
concave and rising in tau, so Newton's step from the left never passes the root.

*The cap.* Under ``total`` the cap bends R sharply. min(e, C) is replaced by the larger
-(1/t) ln((e^(-t e) + e^(-t C)) / 2) <= min(e, C) + ln 2 / t, which keeps R concave (it is the
perspective of a concave function of 1/x) and makes it smooth: again a tau that is not above.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sftopt.core.spectrum import ConcaveRate, LinearRate, RateLaw

Array = NDArray[np.float64]
LN2 = float(np.log(2.0))
"""Natural logarithm of 2; of its own, as all algebra here."""
SHARP = 1e12
"""t at which the smooth cap is the cap, to 1e-13."""
_WEAK = 1e-3
"""A mean spectral efficiency in bit/s/Hz below which the cap is made sharper."""
_NEWTON_STEPS = 40
"""Most Newton steps on the barrier time."""
_PLANE_STEPS = 40
"""Most steps of the rational model."""


@dataclass(frozen=True)
class LinkState:
    """tau (C,), shares and their derivatives in z = ln rate, each (C, N)."""

    tau_s: Array
    room_s: Array
    """tau - s_n."""
    share: Array
    share_z: Array
    share_zz: Array
    excess: Array
    """(C,) SUM of the planes at tau, less 1: rounding only."""
    uncertainty: Array
    """(C,) relative amount by which the true tau may be larger because of the smoothing."""

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> LinkState:
        """Return the rows at ``index``."""
        return LinkState(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def put(self, index: NDArray[np.int64], other: LinkState) -> None:
        """Overwrite the rows at ``index`` in place."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name)


def rational_root(parts: Array, fixed_s: Array, target: Array) -> Array:
    """Return the seconds tau with SUM parts_n / (tau - fixed_n) = target, from below.

    ``parts`` >= 0, shape (C, N).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.where(parts > 0.0, fixed_s + parts / target[:, None], -np.inf).max(axis=1)
        for _ in range(_NEWTON_STEPS):
            ratio = np.where(parts > 0.0, parts / (tau[:, None] - fixed_s), 0.0)
            total = ratio.sum(axis=1)
            fall = np.where(parts > 0.0, ratio / (tau[:, None] - fixed_s), 0.0).sum(axis=1)
            step = (total - target) / target * total / fall
            step = np.where(np.isfinite(step) & (step > 0.0), step, 0.0)
            tau = tau + step
            if not np.any(step > 4e-16 * np.abs(tau)):
                break
    return np.where(np.isfinite(tau), tau, 0.0)


def smooth_rate(law: ConcaveRate, share: Array, sharpness: Array) -> tuple[Array, Array, Array]:
    """Return R, R' and R'' in bits per second at ``share`` (C, N) under the smooth cap.

    ``sharpness`` t is (C,).
    """
    ratio = law.snr_terms / share[..., None]
    each = np.log1p(ratio) / LN2
    t = sharpness[:, None, None]
    gap = t * (each - law.cap_bits_per_s_hz)
    decline = np.exp(-np.abs(gap))
    capped = np.minimum(each, law.cap_bits_per_s_hz) + (LN2 - np.log1p(decline)) / t
    below = np.where(gap > 0.0, decline, 1.0) / (1.0 + decline)
    part = ratio / (1.0 + ratio)
    lean = below * part / LN2
    value = law.bandwidth_hz * share * capped.mean(axis=-1)
    slope = law.bandwidth_hz * (capped - lean).mean(axis=-1)
    corner = t * (1.0 - below) * lean * part / LN2
    bend = -law.bandwidth_hz / share * (lean * part + corner).mean(axis=-1)
    return value, slope, bend


def _weakness(law: ConcaveRate) -> float:
    """What the smooth cap has to be sharper by where a signal is weak; 1 at usual ones.

    Its error must be small against the least efficiency, which is that of the whole band.
    """
    least = float(np.log1p(law.snr_terms).mean(axis=1).min()) / LN2
    return max(least, 1e-200) if least < _WEAK else 1.0


def solve_link(
    fixed_s: Array, bits: Array, law: RateLaw, sharpness: Array, warm: Array | None = None
) -> LinkState:
    """Find the least barrier time of each row, never above the true one.

    ``fixed_s`` and ``bits`` are (C, N), bits >= 0; devices without bits hold no share and do not
    hold the barrier here. ``sharpness`` (C,) is used by the ``total`` law only; ``warm`` are
    shares to start from.
    """
    if isinstance(law, LinearRate):
        parts = bits / law.full_bits_per_s
        tau = rational_root(parts, fixed_s, np.ones(len(bits)))
        room = tau[:, None] - fixed_s
        share = np.divide(parts, room, out=np.zeros_like(parts), where=parts > 0.0)
        excess = share.sum(axis=1) - 1.0
        return LinkState(tau, room, share, share, share, excess, np.zeros(len(bits)))
    sends = bits > 0.0
    sharpness = sharpness / _weakness(law)
    if warm is None:
        parts = bits / law.rate(np.ones(bits.shape[1]))
        total = parts.sum(axis=1, keepdims=True)
        share = np.where(sends, parts / np.where(total > 0.0, total, 1.0), 1.0)
    else:
        share = np.where(sends, warm, 1.0)
    for step in range(_PLANE_STEPS):
        value, slope, bend = smooth_rate(law, share, sharpness)
        slope = np.maximum(slope, 1e-300)
        target = 1.0 - np.where(sends, share - value / slope, 0.0).sum(axis=1)
        tau = rational_root(np.where(sends, bits / slope, 0.0), fixed_s, target)
        room = np.where(sends, tau[:, None] - fixed_s, 1.0)
        rate = bits / room
        plane = share + (rate - value) / slope
        settled = np.abs(plane - share) <= 1e-10 * share
        if step == _PLANE_STEPS - 1 or np.all(settled | ~sends):
            break
        share = np.where(sends, np.clip(plane, 0.1 * share, 10.0 * share), 1.0)
    share_z = np.where(sends, rate / slope, 0.0)
    share_zz = share_z - np.where(sends, bend * rate**2 / slope**3, 0.0)
    excess = np.where(sends, plane, 0.0).sum(axis=1) - 1.0
    efficiency = (value / (law.bandwidth_hz * share)).min(axis=1)
    room = tau[:, None] - fixed_s
    kept = np.where(sends, share, 0.0)
    return LinkState(tau, room, kept, share_z, share_zz, excess, LN2 / sharpness / efficiency)
