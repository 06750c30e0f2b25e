"""Points and residuals of Pyomo models, computed by the tests and not by the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, Instance, ModeKind
from sftopt.core.plan import DevicePlan, Plan


def random_candidate(derived: Derived, seed: int) -> Candidate:
    """Integral cuts, options and keep fractions anywhere inside their domains."""
    draw = np.random.default_rng(seed)
    count, options = derived.devices, derived.options
    chosen = draw.integers(0, len(options), count)
    place = draw.uniform(0.01, 0.99, count)
    if derived.scope is AccuracyScope.COMMON:
        chosen, place = np.full(count, chosen[0]), np.full(count, place[0])
    low = np.array([options[o].keep_low for o in chosen])
    high = np.array([options[o].keep_high for o in chosen])
    cuts = draw.integers(derived.cut_low, derived.cut_high + 1)
    return Candidate.of(cuts, chosen, low + place * (high - low), len(options))


def plan_of(instance: Instance, derived: Derived, model: Any, candidate: Candidate) -> Plan:
    """The plan with the shares that the model's variables hold now, or leave room for."""
    parts = []
    up, down = (_shares(derived, model, candidate, link) for link in ("uplink", "downlink"))
    adapter = model.component("var_adapter_share")
    for row, device in enumerate(derived.ids):
        option = derived.options[int(candidate.choices()[row])]
        masked = option.kind is ModeKind.TOPK
        parts.append(
            DevicePlan(
                id=device,
                blocks=int(candidate.cuts[row]),
                mode=option.kind,
                bits=option.bits,
                keep_fraction=float(candidate.keep[row]) if masked else 1.0,
                uplink_share=float(up[row]),
                downlink_share=float(down[row]),
                adapter_uplink_share=None
                if adapter is None
                else adapter[device].value * model.share_unit,
            )
        )
    return Plan(instance_hash=instance.hash, devices=tuple(parts))


def _shares(derived: Derived, model: Any, candidate: Candidate, link: str) -> Any:
    """Shares of a link; where they are no variables, what is sent over the time that is left."""
    held = model.component(f"var_{link}_share")
    if held is not None:
        return np.array([held[device].value for device in derived.ids]) * model.share_unit
    up = link == "uplink"
    bits = np.zeros(derived.devices)
    for weight, option in zip(candidate.option_weights.T, derived.options, strict=True):
        keep = candidate.keep if option.has_mask else np.ones(derived.devices)
        bits += weight * (derived.beta_up if up else derived.beta_down)(option, keep)
    full = derived.uplink_full_bits_per_s if up else derived.downlink_full_bits_per_s
    tau_s = (model.var_tau_up if up else model.var_tau_down).value * model.step_unit_s
    left_s = tau_s - (derived.s1_s if up else derived.s5_s)(candidate.cuts)
    return derived.elements * bits / (full * left_s)


def residuals(model: Any) -> dict[str, float]:
    """By how much each constraint or bound is missed at the present values, in model units."""
    found: dict[str, float] = {}
    for row in model.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(row.body)
        short = 0.0 if row.lower is None else pyo.value(row.lower) - body
        over = 0.0 if row.upper is None else body - pyo.value(row.upper)
        found[row.name] = max(short, over, 0.0)
    for variable in model.component_data_objects(pyo.Var):
        low, high, value = variable.lb, variable.ub, variable.value
        assert low is not None, f"{variable.name} has no lower bound"
        assert high is not None, f"{variable.name} has no upper bound"
        assert value is not None, f"{variable.name} has no value"
        assert np.isfinite([low, high, value]).all(), variable.name
        found[variable.name] = max(low - value, value - high, 0.0)
    return found


def objective_s(model: Any) -> float:
    """The model's objective in seconds."""
    return float(pyo.value(model.obj_round_delay)) * model.objective_unit_s


def over(found: dict[str, float], tolerance: float = 1e-8) -> dict[str, float]:
    """The residuals above ``tolerance``."""
    return {name: amount for name, amount in found.items() if amount > tolerance}
