"""Optima found without the exhaustive solver: dense grids, and plans of its points judged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import AccuracyScope, Instance, PowerLaw, ServerOrder
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.settle import settled_keep
from sftopt.core.spectrum import least_time
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations.native import FORMULATION
from sftopt.solvers.base import Deadline, Outcome, Progress, Task
from sftopt.solvers.exhaustive import SOLVER
from sftopt.solvers.options import Options
from tests.samples import sample_instance

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

GAP = 1e-7


def settle(
    instance: Instance,
    *,
    seconds: float | None = None,
    report: Callable[[Progress], None] = lambda news: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    derived = derive(instance)
    assert SOLVER.refusal(derived) is None
    return SOLVER.run(
        Task(
            derived=derived,
            formulation=FORMULATION,
            model=None,
            start=None,
            options=Options(time_limit=seconds),
            deadline=Deadline(seconds),
            report=report,
            stop_requested=stop,
        )
    )


def round_s(derived: Derived, cuts: Any, options: Any, keep: Any) -> float:
    """Equation (9) from the derived arrays, shares by core's root search."""
    cuts, keep = np.asarray(cuts, dtype=np.int64), np.asarray(keep, dtype=float)
    chosen = [derived.options[int(o)] for o in options]
    up = [float(derived.beta_up(o, k)) for o, k in zip(chosen, keep, strict=True)]
    down = [float(derived.beta_down(o, k)) for o, k in zip(chosen, keep, strict=True)]
    tau_u, _ = least_time(
        derived.s1_base_s + cuts * derived.s1_block_s,
        derived.elements * np.array(up),
        derived.uplink_law,
    )
    tau_d, _ = least_time(
        derived.s5_base_s + cuts * derived.s5_block_s,
        derived.elements * np.array(down),
        derived.downlink_law,
    )
    tau_a, _ = least_time(
        np.zeros(len(cuts)), cuts * derived.adapter_bits_per_block, derived.uplink_law
    )
    server = derived.s3_base_s - cuts * derived.s3_block_s
    serving = server.sum() if derived.server_order is ServerOrder.IN_TURN else server.max()
    step = tau_u + float(serving) + tau_d
    return derived.steps * step + tau_a + derived.adapter_down_s(cuts)


def loss(derived: Derived, option: int, cut: int, keep: float) -> float:
    return float(derived.loss(derived.options[option], np.asarray(keep), np.asarray(cut)))


def least_keep(derived: Derived, option: int, cut: int, limit: float) -> float | None:
    """The smallest keep fraction whose loss is within ``limit``, by a scan and a root search."""
    part = derived.options[option]
    scan = np.linspace(part.keep_low, part.keep_high, 401)
    losses = derived.loss(part, scan, np.full(scan.shape, cut))
    inside = np.flatnonzero(losses <= limit + 1e-15)
    if not len(inside):
        return None
    first = int(inside[0])
    if first == 0:
        return float(scan[0])

    def excess(keep: float) -> float:
        return loss(derived, option, cut, keep) - limit

    if excess(float(scan[first])) >= 0.0:
        return float(scan[first])
    return float(brentq(excess, scan[first - 1], scan[first], xtol=1e-15, rtol=1e-14))


def memory_fits(derived: Derived, cuts: tuple[int, ...]) -> bool:
    if derived.server_order is ServerOrder.IN_TURN:
        return True
    used = (derived.server_activation_bytes * (derived.blocks - np.array(cuts))).sum()
    return bool(used <= derived.server_activation_budget_bytes)


def cut_products(derived: Derived) -> list[tuple[int, ...]]:
    ranges = [
        range(int(low), int(high) + 1)
        for low, high in zip(derived.cut_low, derived.cut_high, strict=True)
    ]
    return [cuts for cuts in itertools.product(*ranges) if memory_fits(derived, cuts)]


def grid_optimum(instance: Instance, points: int = 25, levels: int = 4) -> float:
    """The best value over nested grids of the keep fractions, all cuts and options tried.

    The last device's keep fraction is the least that the limits leave. Never below the optimum.
    """
    derived = derive(instance)
    devices, best = derived.devices, math.inf
    for cuts in cut_products(derived):
        for options in itertools.product(range(len(derived.options)), repeat=devices):
            best = min(best, _grid(derived, cuts, options, points, levels))
    return best


def _grid(
    derived: Derived, cuts: tuple[int, ...], options: tuple[int, ...], points: int, levels: int
) -> float:
    last = derived.devices - 1
    common = derived.scope is AccuracyScope.COMMON
    if common and len(set(options)) > 1:
        return math.inf

    def value(head: tuple[float, ...]) -> float:
        spent = 0.0
        for n, keep in enumerate(head):
            here = loss(derived, options[n], cuts[n], keep)
            if here > derived.loss_budget_each + 1e-15:
                return math.inf
            spent += derived.weight[n] * here
        limit = derived.loss_budget_each
        if derived.scope is AccuracyScope.MEAN:
            limit = min(limit, (derived.loss_budget - spent) / derived.weight[last])
        tail = least_keep(derived, options[last], cuts[last], limit)
        if tail is None:
            return math.inf
        return round_s(derived, cuts, options, (*head, tail))

    if derived.scope is not AccuracyScope.MEAN:
        keeps = [
            least_keep(derived, o, c, derived.loss_budget_each)
            for o, c in zip(options, cuts, strict=True)
        ]
        if any(keep is None for keep in keeps):
            return math.inf
        level = [float(keep) for keep in keeps if keep is not None]
        return round_s(derived, cuts, options, [max(level)] * len(level) if common else level)
    lows = [derived.options[o].keep_low for o in options[:last]]
    highs = [derived.options[o].keep_high for o in options[:last]]
    best = math.inf
    for _ in range(levels):
        axes = [
            np.linspace(low, high, points if high > low else 1)
            for low, high in zip(lows, highs, strict=True)
        ]
        values = {head: value(head) for head in itertools.product(*axes)}
        head = min(values, key=lambda point: values[point])
        if not math.isfinite(values[head]):
            return best
        best = min(best, values[head])
        for n, axis in enumerate(axes):
            width = float(axis[1] - axis[0]) if len(axis) > 1 else 0.0
            lows[n] = max(lows[n], head[n] - 1.5 * width)
            highs[n] = min(highs[n], head[n] + 1.5 * width)
    return best


def plan_of(instance: Instance, candidate: Candidate) -> Plan:
    """A full plan: shares by core's root searches, keep fractions out of the judge's rounding."""
    derived = derive(instance)
    cuts, choices = candidate.cuts.astype(np.int64), candidate.choices()
    keep = settled_keep(derived, cuts, choices.astype(np.int64), candidate.keep)
    chosen = [derived.options[int(o)] for o in choices]
    up = np.array([float(derived.beta_up(o, k)) for o, k in zip(chosen, keep, strict=True)])
    down = np.array([float(derived.beta_down(o, k)) for o, k in zip(chosen, keep, strict=True)])
    s1 = derived.s1_base_s + cuts * derived.s1_block_s
    s5 = derived.s5_base_s + cuts * derived.s5_block_s
    _, x = least_time(s1, derived.elements * up, derived.uplink_law)
    _, y = least_time(s5, derived.elements * down, derived.downlink_law)
    _, z = least_time(0.0 * s1, cuts * derived.adapter_bits_per_block, derived.uplink_law)
    total = derived.power is PowerLaw.TOTAL
    return Plan(
        instance_hash=derived.instance_hash,
        devices=tuple(
            DevicePlan(
                id=derived.ids[n],
                blocks=int(cuts[n]),
                mode=chosen[n].kind,
                bits=chosen[n].bits,
                keep_fraction=float(keep[n]),
                uplink_share=float(x[n]),
                downlink_share=float(y[n]),
                adapter_uplink_share=float(z[n]) if total else None,
            )
            for n in range(derived.devices)
        ),
    )


def assert_proved(instance: Instance, outcome: Outcome) -> float:
    """Converged, bound within 1e-7 below the value, and the judge agrees; returns the value."""
    assert outcome.termination is Termination.CONVERGED_GLOBAL, outcome.message
    assert outcome.candidate is not None
    assert outcome.claimed_s is not None
    assert outcome.bound_s is not None
    assert outcome.bound_s <= outcome.claimed_s
    assert outcome.claimed_s - outcome.bound_s <= GAP * outcome.claimed_s
    found = verify_plan(instance, plan_of(instance, outcome.candidate))
    assert found.feasible, found.violations
    assert found.objective_s == pytest.approx(outcome.claimed_s, rel=1e-11)
    return outcome.claimed_s


def tiny(devices: int, seed: int, **fields: Any) -> Instance:
    """Two cuts per device and two modes: small enough for grids."""
    return sample_instance(devices, seed, **{"blocks": 3, "modes": (2, 4), **fields})


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both sets of fields; where both override a section, its fields are put together."""
    both = {**first, **second}
    for name in set(first) & set(second):
        if isinstance(first[name], dict):
            both[name] = {**first[name], **second[name]}
    return both


OUTSIDE = {
    "accuracy": {
        "keep_loss": 0.3,
        "keep_decay": 5.0,
        "minimum": 0.8,
        "minimum_each": 0.5,
        "quantisation_loss": 0.1,
    },
    "compression": {"keep_min": 0.02},
}
"""Keep fractions from 0.02 up to the domain's end: (16) fails on both sides of its interval."""
