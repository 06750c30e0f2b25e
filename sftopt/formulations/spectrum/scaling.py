"""The links of problem (14) in units of their own, so that a solver sees numbers near 1.

A link is scaled about a reference barrier tau_0 = floor + unit, found to within a factor of two.
With u = (tau - floor) / unit and z_n = x_n / x_n(tau_0), the demand of device n at tau_0, the link
is to minimise u >= 0 subject to

    w_n u + (1 - w_n) >= 1 / q_n(z_n)   and   SUM x_n(tau_0) z_n <= 1,

where w_n = unit / (tau_0 - fixed_n) lies in (0, 1] and q_n(z) = R_n(x) / R_n(x_n(tau_0)) is 1 at
z = 1. A weak device, or one whose compute alone holds the barrier, is a row like all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw
from sftopt.core.round import LinkProblem, RoundProblem
from sftopt.core.spectrum import ConcaveRate, RateLaw

Array = NDArray[np.float64]

TIMES = {"uplink": "tau_up", "downlink": "tau_down", "adapter": "tau_adapter_up"}
"""The barrier of each link by its name in the models, as in those of problem (13)."""
NOTHING_BITS = 1e-200
"""Payloads up to this are none, as in :func:`sftopt.core.spectrum.least_time`."""
_WITHIN = 2.0
"""How far, as a factor, the reference barrier may be above its best."""
_LEAST = 1e-6
"""Where the search for the reference begins, relative to its upper end."""
_LEAST_PART = 1e-3
"""The unit of a link's free time is at least this part of its whole barrier."""
_LEAST_SHARE = 1e-9
"""The least z of a model whose shares are not bounded: 1/z and ln(z) must stay finite."""
_ROOM = 1.05
"""Bounds of u and z are wider than what is proven by this factor: they are not to be active."""


@dataclass(frozen=True)
class ScaledLink:
    """One link in its own units; arrays have shape (m,), the m devices with a payload."""

    rows: NDArray[np.int64]
    """Rows of those devices among all N."""
    devices: int
    """N."""
    floor_s: float
    """The longest fixed time of all N devices, where u is 0."""
    unit_s: float
    share_unit: Array
    """x_n(tau_0): the share of z_n = 1."""
    slope: Array
    """w_n."""
    fading: Array | None
    """``total``: alpha_nk = a_nk / share_unit, shape (m, k), see equation (3). None: linear."""
    cap: float
    """C_max; bit/s/Hz."""
    efficiency: Array
    """``total``: mean_k min(log2(1 + alpha_nk), C_max), so that q_n(1) = 1; else 1."""
    u_high: float
    z_low: Array
    z_high: Array

    def relative_rate(self, z: Array) -> Array:
        """Return the rates q_n (m,) at ``z`` > 0, relative to those at z = 1."""
        if self.fading is None:
            return z
        return ConcaveRate(1.0, self.fading, self.cap).rate(z) / self.efficiency

    def least_u(self, z: Array) -> float:
        """Return the least u that meets every row at ``z``, shape (m,), in units of the barrier."""
        need = (1.0 / self.relative_rate(z) - 1.0 + self.slope) / self.slope
        return float(need.max(initial=0.0))

    def demand(self, u: float) -> Array:
        """Return the least z (m,), in units of the reference, that meets every row at ``u``."""
        rate = 1.0 / (self.slope * u + 1.0 - self.slope)
        if self.fading is None:
            return rate
        return ConcaveRate(1.0, self.fading, self.cap).inverse(rate * self.efficiency)[0]

    def z_of(self, shares: Array | None) -> Array:
        """Return z for a start: ``shares`` (N,) relative to the reference, scaled to a sum of 1."""
        z = np.ones(len(self.rows))
        if shares is not None:
            z = shares[self.rows] / self.share_unit
        z = np.clip(z, self.z_low, self.z_high)
        return z / max(float(self.share_unit @ z), 1e-300)

    def shares_of(self, z: Array) -> Array:
        """Return the shares (N,) at ``z``, scaled down where they sum to a little above 1."""
        shares = np.zeros(self.devices)
        shares[self.rows] = self.share_unit * np.maximum(z, 0.0)
        return shares / max(float(shares.sum()), 1.0)


@dataclass(frozen=True)
class ScaledRound:
    """Problem (14): objective_s = SUM over links of weight_s * u + constant_s."""

    links: dict[str, ScaledLink]
    """By name; links without payload are left out."""
    weight_s: dict[str, float]
    """Seconds of round per u, by link."""
    constant_s: float
    objective_unit_s: float
    """What of the round depends on shares, at the reference; at least a thousandth of the round,
    so that the constant does not drown it."""


def scale_round(problem: RoundProblem) -> ScaledRound:
    """Scale every link of ``problem`` about its own reference."""
    links, weights, constant = {}, {}, problem.constant_s
    for name, link in problem.links().items():
        repeats = 1 if name == "adapter" else problem.steps
        constant += repeats * float(link.fixed_s.max(initial=0.0))
        if np.any(link.payload_bits > NOTHING_BITS):
            links[name] = scale_link(link)
            weights[name] = repeats * links[name].unit_s
    free = sum(weights.values())
    unit = max(free, _LEAST_PART * (constant + free))
    return ScaledRound(links, weights, constant, unit if unit > 0.0 else 1.0)


def widened(scaled: ScaledRound, slowest_plan_s: float) -> ScaledRound:
    """Return ``scaled`` with bounds that hold every round of up to ``slowest_plan_s`` seconds.

    The bounds of :func:`scale_round` are about the optimum. A model that is handed out may get
    limits on its shares, whose best round is slower; infinite seconds leave only what keeps
    quotients and logarithms defined.
    """
    links = {}
    for name, link in scaled.links.items():
        spare = slowest_plan_s - scaled.constant_s
        u = max(spare / scaled.weight_s[name], 0.0) * _ROOM
        high = _ROOM / link.share_unit
        low = np.full(len(high), _LEAST_SHARE) if math.isinf(u) else link.demand(u) / _ROOM
        links[name] = replace(link, u_high=u, z_low=np.minimum(low, high), z_high=high)
    return replace(scaled, links=links)


def scale_link(link: LinkProblem) -> ScaledLink:
    """Scale ``link`` about a barrier within a factor of two of its best; see the module's text."""
    rows = np.flatnonzero(link.payload_bits > NOTHING_BITS)
    bits, law = link.payload_bits[rows], link.law.select(link.payload_bits > NOTHING_BITS)
    floor = float(link.fixed_s.max())
    gap = floor - link.fixed_s[rows]
    low, high = _bracket(gap, bits, law)
    unit = float(np.sqrt(low * high))
    share = _demand(unit, gap, bits, law)
    slope = unit / (unit + gap)
    least = _demand(high, gap, bits, law) / share
    most = np.minimum(_demand(low, gap, bits, law), 1.0) / share
    fading, cap, efficiency = None, 0.0, np.ones(len(rows))
    if isinstance(law, ConcaveRate):
        fading, cap = law.snr_terms / share[:, None], law.cap_bits_per_s_hz
        efficiency = ConcaveRate(1.0, fading, cap).full()
    return ScaledLink(
        rows=rows,
        devices=len(link.fixed_s),
        floor_s=floor,
        unit_s=unit,
        share_unit=share,
        slope=slope,
        fading=fading,
        cap=cap,
        efficiency=efficiency,
        u_high=_ROOM * high / unit,
        z_low=least / _ROOM,
        z_high=np.maximum(most, 1.0) * _ROOM,
    )


def _bracket(gap: Array, bits: Array, law: RateLaw) -> tuple[float, float]:
    """(low, high) at most a factor of two apart, about the least u_s = tau - floor > 0.

    At ``low`` some device or all together need more than the band, at ``high`` they do not: with
    u_s = SUM of the times each needs alone, linear shares suffice, and concave ones need less.
    """
    alone = bits / law.full()
    high = float(alone.sum())
    # all gaps are positive only where a device without payload holds the floor; u may be 0 then
    low = min(max(float((alone - gap).max()), _LEAST * high), high)
    while high > _WITHIN * low:
        middle = float(np.sqrt(low * high))
        if _demand(middle, gap, bits, law).sum() > 1.0:
            low = middle
        else:
            high = middle
    return low, high


def _demand(spare_s: float, gap: Array, bits: Array, law: RateLaw) -> Array:
    """x_n at tau = floor + spare_s, equation (14); infinite where no share is enough."""
    return law.inverse(bits / (spare_s + gap))[0]


def shares_from(
    derived: Derived, candidate: Candidate, scaled: ScaledRound, z: dict[str, Array]
) -> Shares:
    """Return the shares at ``z`` by link; x^a by equation (8) where ``psd`` eliminates it.

    Equation (8) is least there where x^a is in proportion to the times that each device's adapters
    need alone.
    """
    none = np.zeros(derived.devices)
    found = {name: scaled.links[name].shares_of(values) for name, values in z.items()}
    if derived.power is PowerLaw.PSD:
        alone = np.rint(candidate.cuts) / derived.uplink_full_bits_per_s
        if derived.adapter_bits_per_block > 0.0:
            found["adapter"] = alone / max(float(alone.sum()), 1e-300)
    return Shares(*(found.get(name, none) for name in ("uplink", "downlink", "adapter")))
