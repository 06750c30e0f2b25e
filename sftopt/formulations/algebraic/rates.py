"""The uplink rate of equation (3) as a function of the share held, in two algebraic forms.

Under ``psd`` the rate is the share itself (the device's own efficiency is part of its load).
Under ``total`` the rate in units of B C_max share_unit is mean_k min(x log2(1 + a_nk/x) / C, x):
a term that is below or above its cap over the whole range of x is written as such; for the others
the minimum is a variable below both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from sftopt.core.entropy import LN2
from sftopt.core.instance import PowerLaw
from sftopt.core.spectrum import ConcaveRate
from sftopt.formulations.algebraic.frame import Expr, Frame, pairs

Array = NDArray[np.float64]

TermSum = Callable[[Expr, list[float]], Expr]
"""(share x, gains a_k) -> SUM_k x ln(1 + a_k / x)."""


def logs_of_ratios(share: Expr, gains: list[float]) -> Expr:
    """Return x SUM_k ln(1 + a_k/x): the product form of equation (3)."""
    return share * sum(pyo.log(1.0 + gain / share) for gain in gains)


def differences_of_logs(share: Expr, gains: list[float]) -> Expr:
    """Return x SUM_k ln(x + a_k) - k x ln x: the same without a quotient, equation (3)."""
    return share * sum(pyo.log(share + gain) for gain in gains) - len(gains) * (
        share * pyo.log(share)
    )


@dataclass(frozen=True)
class Terms:
    """The fading terms of one device, sorted by whether their cap can bind on its share range."""

    capped: int
    free: list[float]
    either: list[float]


def sort_terms(gains: Array, low: float, high: float, cap: float) -> Terms:
    """Sort gains a_k (model units): x <= a_k/(2^C - 1) is where the cap holds, equation (3)."""
    edge = gains / (2.0**cap - 1.0)
    capped, free = edge >= high, edge <= low
    either = ~capped & ~free
    return Terms(int(capped.sum()), gains[free].tolist(), gains[either].tolist())


def rate_in_units(frame: Frame, shares: Array) -> Array:
    """Return rates (N,) in model units at ``shares``, in units of share_unit; equation (3)."""
    if frame.derived.power is PowerLaw.PSD:
        return shares
    terms = frame.scaled.snr_terms
    return ConcaveRate(1.0, terms, frame.derived.efficiency_cap).rate(shares) / (
        frame.derived.efficiency_cap
    )


def add_rates(frame: Frame, link: str, share: pyo.Var, low: Array, high: Array,
              term_sum: TermSum) -> pyo.Var:  # fmt: skip
    """Add every device's rate as a variable below equation (3)'s concave function of its share.

    Adds ``var_{link}_rate[dev]``, ``var_{link}_term[dev, k]`` and ``con_{link}_rate[dev]``,
    ``con_{link}_term[dev, k]``, ``con_{link}_cap[dev, k]``; returns the rates. Under ``psd`` the
    rate is the share and nothing is added.
    """
    derived, model = frame.derived, frame.model
    if derived.power is PowerLaw.PSD:
        return share
    cap, count = derived.efficiency_cap, frame.scaled.snr_terms.shape[1]
    bounds = pairs(rate_in_units(frame, low) * (1.0 - 1e-9),
                   rate_in_units(frame, high) * (1.0 + 1e-9), frame.ids)  # fmt: skip
    rate = pyo.Var(frame.ids, bounds=bounds, doc="rate, in units of B C_max share_unit")
    model.add_component(f"var_{link}_rate", rate)
    terms = {
        device: sort_terms(frame.scaled.snr_terms[row], low[row], high[row], cap)
        for device, row in frame.place.items()
    }
    index = [(device, k) for device, t in terms.items() for k in range(len(t.either))]
    term = pyo.Var(index, bounds={(d, k): (0.0, bounds[d][1] * count) for d, k in index})
    model.add_component(f"var_{link}_term", term)
    unit = LN2 * cap
    limits, logs, caps = {}, {}, {}
    for device, sorted_terms in terms.items():
        x = share[device]
        parts = [term[device, k] for k in range(len(sorted_terms.either))]
        if sorted_terms.capped:
            parts.append(sorted_terms.capped * x)
        if sorted_terms.free:
            parts.append(term_sum(x, sorted_terms.free) / unit)
        limits[device] = count * rate[device] <= sum(parts)
        for k, gain in enumerate(sorted_terms.either):
            logs[device, k] = unit * term[device, k] <= term_sum(x, [gain])
            caps[device, k] = term[device, k] <= x
    model.add_component(f"con_{link}_rate", pyo.Constraint(frame.ids, rule=limits))
    model.add_component(f"con_{link}_term", pyo.Constraint(index, rule=logs))
    model.add_component(f"con_{link}_cap", pyo.Constraint(index, rule=caps))
    return rate


TANGENT_DEVICES = 50
"""Up to so many devices tangents are added: the reach of global solvers ends well below."""
_TANGENTS = 8
"""Tangents per device and link."""


def add_rate_tangents(frame: Frame, link: str, share: pyo.Var, rate: pyo.Var,
                      low: Array, high: Array) -> None:  # fmt: skip
    """Add rates below tangents of equation (3), redundant: ``con_{link}_tangent[dev, k]``.

    The rate is concave, but written with products and logarithms that a global solver bounds one
    by one. With tangents its first bound is tight: at N = 4, 40 s, SCIP's gap fell from 8 to 3 %
    (product form) and from 1.1 to 0.15 % (ratio form). Only ``total``.
    """
    if frame.derived.power is PowerLaw.PSD or len(frame.ids) > TANGENT_DEVICES:
        return
    cap = frame.derived.efficiency_cap
    law = ConcaveRate(1.0, frame.scaled.snr_terms, cap)
    rules = {}
    for k, place in enumerate(np.linspace(0.0, 1.0, _TANGENTS)):
        point = np.maximum(low, 1e-3 * high) ** (1.0 - place) * high**place
        value = law.rate(point)
        slope = 1.0 / law.inverse(value)[1]
        for device, n in frame.place.items():
            constant = float(value[n] - slope[n] * point[n]) / cap
            rules[device, k] = (
                rate[device] <= float(slope[n]) / cap * share[device] + constant + 1e-9
            )
    model = frame.model
    model.add_component(f"con_{link}_tangent", pyo.Constraint(list(rules), rule=rules))


def add_uplink_rates(frame: Frame, term_sum: TermSum, tangents: bool) -> pyo.Var:
    """Add R^u_n of the step's uplink, equation (3); under ``psd`` it is the share itself."""
    low, high = frame.scaled.uplink_share_low, frame.scaled.uplink_share_high
    share = frame.model.var_uplink_share
    rate = add_rates(frame, "uplink", share, low, high, term_sum)
    if tangents:
        add_rate_tangents(frame, "uplink", share, rate, low, high)
    return rate
