"""Cells at the edges of the schema: zeros, ratios of 1e9, two blocks, one device; none may fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.fuzz import row_of
from benchmarks.studies.fuzz_cells import VARIANTS
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.limits import elementary_bound_s
from sftopt.core.plan import Plan
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.certify import search, thresholds
from sftopt.solvers.certify.many_boxes import ManyBoxes
from sftopt.solvers.run import solve
from sftopt.solvers.start import quick_start
from tests.samples import sample_instance

FAULTS = Path(__file__).parents[2] / "fixtures" / "faults"
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


@pytest.mark.parametrize("first", range(0, 300, 25))
def test_cells_of_the_schemas_whole_space_show_no_fault(first: int) -> None:
    """A part of the study ``fuzz``: no error, no warning, nothing proven that a plan refutes."""
    rows = [row_of(number, seed=11, limit_s=0.3) for number in range(first, first + 25)]
    assert {row["variant"] for row in rows} <= set(VARIANTS)
    assert [(row["round"], row["variant"], row["faults"]) for row in rows if row["faults"]] == []
    assert any(row["state"] == "feasible" for row in rows)


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (255, "feasible"),  # a price of a bit is no number: the polish searched for ever
        (1419, "feasible"),  # a limit within 4e-24: exhaustive allowed a rounding of 4e-15
        (1569, "feasible"),  # a keep fraction one digit beyond its domain
        (2771, "infeasible"),  # a limit that only the judge's rounding refuses
        (3799, "feasible"),  # a common option that leaves some device no cut
        (3811, "feasible"),  # an option whose best accuracy only that rounding refuses
        (2881, "feasible"),  # a price with two roots: the one found was beyond the loss
    ],
)
def test_cells_that_the_study_found_faults_in(number: int, state: str) -> None:
    row = row_of(number, seed=0, limit_s=0.5)
    assert (row["state"], row["faults"]) == (state, [])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    ["certify-crash-1_13", "certify-crash-2_77", "certify-crash-2_182",
     "no-activation-bytes-parallel", "exact-accuracy"],
)  # fmt: skip
def test_cells_on_which_the_search_died_are_planned(name: str) -> None:
    """Divisions by zero, and keep fractions that were no numbers where payloads vanish."""
    instance = parse_instance(json.loads((FAULTS / f"{name}.json").read_text()))
    found = solve(instance, solver="certify", time_limit=2)
    assert found.termination in (Termination.GAP_LIMIT, Termination.TIME_LIMIT)
    assert found.ok


@pytest.mark.parametrize(("name", "feasible"), [("exact-accuracy", True), ("outage", False)])
def test_check_and_judge_agree_on_a_limit_that_is_just_met(name: str, feasible: bool) -> None:
    """A plan that was proven impossible, and one that broke a limit which nobody judged."""
    instance = parse_instance(json.loads((FAULTS / f"{name}.json").read_text()))
    verdict = verify_plan(instance, Plan.load(FAULTS / f"{name}-plan.json"))
    assert verdict.feasible is feasible
    assert check(instance).feasible is feasible


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


@pytest.mark.parametrize("together", [0, thresholds.TOGETHER])
def test_a_search_that_breaks_in_the_middle_leaves_its_plan_and_its_bound(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes bounded one by one, and many to a call."""
    instance = sample_instance(4, 2)
    owner: Any = ManyBoxes if together else search.Search
    name = "halve" if together else "_step"
    step, steps = getattr(owner, name), [0]

    def breaking(self: Any, *given: Any) -> Any:
        steps[0] += 1
        if steps[0] > 3:
            raise FloatingPointError("overflow")
        return step(self, *given)

    monkeypatch.setattr(thresholds, "TOGETHER", together)
    monkeypatch.setattr(owner, name, breaking)
    found = solve(instance, solver="certify", time_limit=60, rel_gap=1e-6)
    assert found.termination is Termination.NUMERICAL_ERROR
    assert found.nodes is not None
    assert found.nodes >= 3
    assert found.bound_source == "certify"
    assert found.objective_s is not None
    assert found.bound_s is not None
    assert elementary_bound_s(derive(instance)) < found.bound_s <= found.objective_s
    start = quick_start(derive(instance))
    assert start is not None
    assert found.objective_s < start.objective_s
