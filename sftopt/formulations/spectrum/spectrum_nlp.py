"""``spectrum-nlp``: the small problem (14) of one round as a convex nonlinear programme."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray
from pyomo.common.gc_manager import PauseGC

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.entropy import LN2
from sftopt.core.limits import least_loss_candidate
from sftopt.core.round import round_problem
from sftopt.core.status import Promise
from sftopt.formulations.algebraic.frame import Expr, linear, pairs
from sftopt.formulations.algebraic.rates import logs_of_ratios, sort_terms
from sftopt.formulations.base import Formulation, Problem, ProblemClass, Start
from sftopt.formulations.spectrum.scaling import (
    TIMES,
    ScaledLink,
    ScaledRound,
    scale_round,
    shares_from,
    widened,
)

Array = NDArray[np.float64]


def build_spectrum(derived: Derived, start: Start | None, *, name: str) -> pyo.ConcreteModel:
    """Build problem (14) at the start's cuts, options and keep fractions."""
    candidate = least_loss_candidate(derived) if start is None else start.candidate
    scaled = scale_round(round_problem(derived, candidate))
    if start is not None and start.slowest_plan_s is not None:
        scaled = widened(scaled, start.slowest_plan_s)
    shares = None if start is None else start.shares
    model = pyo.ConcreteModel(name=name)
    for link_name, link in scaled.links.items():
        ids = [derived.ids[row] for row in link.rows]
        start_z = link.z_of(None if shares is None else getattr(shares, link_name))
        add_link_variables(model, link_name, link, ids, start_z)
        add_link_time(model, link_name, link, ids)
        add_link_share(model, link_name, link)
    add_round_delay(model, scaled)
    model.candidate, model.scaled = candidate, scaled
    return model


def add_link_variables(
    model: pyo.ConcreteModel, name: str, link: ScaledLink, ids: list[str], z: Array
) -> None:
    """Add u and z_n of one link of problem (14), with finite bounds, starting at ``z``, (m,)."""
    share = pyo.Var(
        ids,
        bounds=pairs(np.minimum(link.z_low, z), np.maximum(link.z_high, z), ids),
        initialize=dict(zip(ids, z.tolist(), strict=True)),
        doc="share of the band, in units of model.scaled.links[...].share_unit",
    )
    model.add_component(f"var_{name}_share", share)
    most = max(link.u_high, link.least_u(z))
    barrier = pyo.Var(
        bounds=(0.0, most if math.isfinite(most) else None),
        initialize=link.least_u(z),
        doc="(barrier - floor_s) / unit_s",
    )
    model.add_component(f"var_{TIMES[name]}", barrier)


def add_link_time(model: pyo.ConcreteModel, name: str, link: ScaledLink, ids: list[str]) -> None:
    """Add ``con_{link}_time[dev]``: w_n u + 1 - w_n >= 1 / q_n(z_n), convex, problem (14)."""
    share, barrier = model.component(f"var_{name}_share"), model.component(f"var_{TIMES[name]}")
    rate = {device: share[device] for device in ids}
    if link.fading is not None:
        rate = add_fading_terms(model, name, link, ids)
    rules = {
        device: linear(1.0 - slope, [slope], [barrier]) >= 1.0 / rate[device]
        for device, slope in zip(ids, link.slope.tolist(), strict=True)
    }
    model.add_component(f"con_{name}_time", pyo.Constraint(ids, rule=rules))


def add_fading_terms(
    model: pyo.ConcreteModel, name: str, link: ScaledLink, ids: list[str]
) -> dict[str, Expr]:
    """Add q_n(z) = mean_k min(z log2(1 + alpha_k/z), C z) / efficiency, equation (3).

    A term whose cap holds, or cannot hold, over all of z's range is written as such; for the
    others the minimum is ``var_{link}_term[dev, k]``, below both, in units of C.
    """
    assert link.fading is not None
    share, unit = model.component(f"var_{name}_share"), LN2 * link.cap
    count = link.fading.shape[1]
    parts = {
        device: sort_terms(gains, share[device].lb, share[device].ub, link.cap)
        for device, gains in zip(ids, link.fading, strict=True)
    }
    index = {(d, k): gain for d, part in parts.items() for k, gain in enumerate(part.either)}
    term = pyo.Var(list(index))
    model.add_component(f"var_{name}_term", term)
    rates, logs, caps = {}, {}, {}
    for (device, part), efficiency in zip(parts.items(), link.efficiency.tolist(), strict=True):
        z = share[device]
        sums: list[Expr] = [term[device, k] for k in range(len(part.either))]
        if part.capped:
            sums.append(part.capped * z)
        if part.free:
            sums.append(logs_of_ratios(z, part.free) / unit)
        rates[device] = (link.cap / (count * efficiency)) * sum(sums)
    for (device, k), gain in index.items():
        z = share[device]
        term[device, k].setub(z.ub)
        term[device, k].setlb(0.0)
        term[device, k].set_value(z.value * min(math.log1p(gain / z.value) / unit, 1.0))
        logs[device, k] = term[device, k] <= logs_of_ratios(z, [gain]) / unit
        caps[device, k] = term[device, k] <= z
    model.add_component(f"con_{name}_term", pyo.Constraint(list(index), rule=logs))
    model.add_component(f"con_{name}_cap", pyo.Constraint(list(index), rule=caps))
    return rates


def add_link_share(model: pyo.ConcreteModel, name: str, link: ScaledLink) -> None:
    """Add ``con_{link}_share``: SUM x_n <= 1, problem (14)."""
    share = list(model.component(f"var_{name}_share").values())
    total = linear(0.0, link.share_unit, share)
    model.add_component(f"con_{name}_share", pyo.Constraint(expr=total <= 1.0))


def add_round_delay(model: pyo.ConcreteModel, scaled: ScaledRound) -> None:
    """Add min K (tau_u + server + tau_d) + tau_a, equation (9), in units of objective_unit_s."""
    unit = scaled.objective_unit_s
    barriers = [model.component(f"var_{TIMES[name]}") for name in scaled.links]
    weights = [weight / unit for weight in scaled.weight_s.values()]
    model.obj_round_delay = pyo.Objective(expr=linear(scaled.constant_s / unit, weights, barriers))
    model.objective_unit_s = unit


def read_shares(derived: Derived, model: pyo.ConcreteModel) -> Shares:
    """Read the shares at the model's values; x^a by equation (8) where ``psd`` eliminates it."""
    z: dict[str, Array] = {
        name: np.array(list(model.component(f"var_{name}_share").get_values().values()))
        for name in model.scaled.links
    }
    return shares_from(derived, model.candidate, model.scaled, z)


class SpectrumNlp(Formulation):
    """Problem (14): shares alone are free; cuts, options and keep fractions are the start's.

    A restriction of (13): its optimum is a plan, and no bound on (13). Convex under both rate
    laws, so a local optimum is the optimum. Variables: ``var_uplink_share[dev]``,
    ``var_downlink_share[dev]``, ``var_tau_up``, ``var_tau_down`` and, under ``total``,
    ``var_adapter_share[dev]``, ``var_tau_adapter_up``, ``var_uplink_term[dev, k]`` and
    ``var_adapter_term[dev, k]``, all in units of their link, ``model.scaled.links``.
    """

    name = "spectrum-nlp"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.NLP
    problem = Problem.ROUND
    layer = "pyomo"
    summary = "problem (14) at the start's cuts, options and keeps, a convex NLP in the shares"
    keeps_start = True

    def build(self, derived: Derived, start: Start | None) -> pyo.ConcreteModel:
        """Build the Pyomo model; least cuts and least loss without a start."""
        with PauseGC():  # a model is no garbage: collecting while it grows tripled the time
            return build_spectrum(derived, start, name=self.name)

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the model's present shares, with the start's cuts, options and keep fractions."""
        fixed: Candidate = model.candidate
        shares = read_shares(derived, model)
        return Candidate(fixed.cuts, fixed.option_weights, fixed.keep, shares)


FORMULATION = SpectrumNlp()
