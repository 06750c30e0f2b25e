"""Cells at the edges of the schema: zeros, ratios of 1e9, two blocks, one device; none may fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.limits import elementary_bound_s
from sftopt.core.status import Point, Termination
from sftopt.solvers.certify import search
from sftopt.solvers.run import solve
from sftopt.solvers.start import quick_start
from tests.samples import sample_instance

NO_ACTIVATIONS = {"workload": {"block_activation_bytes": 0.0}, "server_order": "parallel"}
NO_KEEP_LOSS = {"accuracy": {"keep_loss": 0.0, "minimum": 0.5}}
TINY_PAYLOAD = {
    "workload": {"hidden": 1, "tokens": 1},
    "radio": {"adapter_downlink": "multicast", "outage_rate_bits_per_s": 1e-3},
}


def edited(instance: Instance, changes: dict[str, Any], *, weightless: bool = False) -> Instance:
    data = instance.to_dict()
    for name, value in changes.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) else value
    if weightless:
        for index, device in enumerate(data["devices"]):
            device["weight"] = float(index == 0)
    return parse_instance(data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("weightless", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, NO_ACTIVATIONS, NO_KEEP_LOSS, TINY_PAYLOAD], ids=lambda c: "+".join(c)
)
def test_zeros_of_the_schema_are_solved_as_by_enumeration(
    changes: dict[str, Any], weightless: bool, power: str
) -> None:
    radio = {**changes.get("radio", {}), "power": power}
    instance = edited(sample_instance(2, 3), {**changes, "radio": radio}, weightless=weightless)
    found = solve(instance, solver="certify", time_limit=60)
    exact = solve(instance, solver="exhaustive", time_limit=60)
    assert exact.objective_s is not None
    assert found.objective_s == pytest.approx(exact.objective_s, rel=1.1e-4)
    assert found.point is Point.OPTIMAL
    assert found.bound_s is not None
    assert found.bound_s <= exact.objective_s * (1.0 + 1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(60))
def test_a_cell_that_has_plans_never_ends_in_an_error(seed: int) -> None:
    draw = np.random.default_rng([11, seed])

    def spread(low: float, high: float) -> float:
        return float(10.0 ** draw.uniform(low, high))

    zero = lambda value: 0.0 if draw.random() < 0.3 else value  # noqa: E731
    count = int(draw.integers(1, 5))
    weights = draw.random(count) * (draw.random(count) < 0.7)
    weights[0] += not weights.any()
    data = sample_instance(count, seed).to_dict()
    data["workload"] |= {
        "hidden": int(spread(0, 4)), "tokens": int(spread(0, 3)),
        "block_forward_flops": spread(3, 12), "block_backward_flops": spread(3, 12),
        "block_activation_bytes": zero(spread(0, 8)), "block_adapter_bytes": zero(spread(0, 7)),
        "block_weight_bytes": zero(spread(0, 7)), "adapter_parameters_per_rank": zero(spread(0, 5)),
    }  # fmt: skip
    data["accuracy"] |= {
        "keep_loss": zero(spread(-3, 0)), "keep_decay": spread(0, 2), "minimum": -5.0,
        "quantisation_loss": zero(spread(-2, 1)), "scope": str(draw.choice(["mean", "each"])),
        "quantisation_scales_with_keep": bool(draw.integers(2)),
    }  # fmt: skip
    data["radio"] |= {
        "power": str(draw.choice(["psd", "total"])), "outage_rate_bits_per_s": 1e-9,
        "adapter_downlink": str(draw.choice(["unicast", "multicast"])),
        "efficiency_cap_bits_per_s_hz": spread(-2, 1),
    }  # fmt: skip
    data["server_order"] = str(draw.choice(["in_turn", "parallel"]))
    for device, weight in zip(data["devices"], weights / weights.sum(), strict=True):
        device |= {"weight": float(weight), "compute_flops_per_s": spread(6, 15),
                   "uplink_gain": spread(-16, -7)}  # fmt: skip
    instance = parse_instance(data)
    feasible = check(instance).feasible
    found = solve(instance, solver="certify", time_limit=20)
    assert found.termination not in (Termination.ERROR, Termination.NUMERICAL_ERROR), found.message
    assert (found.plan is not None) == feasible


def test_numbers_that_leave_the_doubles_give_a_plan_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: search.Search) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(search.Search, "run", broken)
    found = solve(sample_instance(3, 1), solver="certify", time_limit=20)
    assert found.termination is Termination.NUMERICAL_ERROR
    assert found.point is Point.FEASIBLE
    assert found.bound_source == "elementary"
    assert "extreme numbers (ZeroDivisionError: division by zero)" in found.message


def test_a_search_that_breaks_in_the_middle_leaves_its_plan_and_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = sample_instance(4, 2)
    step, steps = search.Search._step, [0]

    def breaking(self: search.Search, node: Any) -> None:
        steps[0] += 1
        if steps[0] > 3:
            raise FloatingPointError("overflow")
        step(self, node)

    monkeypatch.setattr(search.Search, "_step", breaking)
    found = solve(instance, solver="certify", time_limit=60, rel_gap=1e-6)
    assert found.termination is Termination.NUMERICAL_ERROR
    assert found.nodes == 3
    assert found.bound_source == "certify"
    assert found.objective_s is not None
    assert found.bound_s is not None
    assert elementary_bound_s(derive(instance)) < found.bound_s <= found.objective_s
    start = quick_start(derive(instance))
    assert start is not None
    assert found.objective_s < start.objective_s
