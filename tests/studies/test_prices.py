"""Prices against central differences of the fixed-cut problem, and what their ranges promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import derive
from sftopt.core.errors import InputError, VerificationError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan, Provenance
from sftopt.core.point import IntegralPoint, best_delay, to_plan
from sftopt.core.verify import verify_plan
from sftopt.face.cli import main
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.heuristics.polish import polish
from sftopt.studies.prices import GIB, MEMORY_STEPS, RANGE_TOLERANCE, Prices, prices
from tests.samples import VARIANTS, plan_with, sample_instance

PLACES = {
    "uplink_bandwidth": ("radio", "uplink_bandwidth_hz", -1e6),
    "downlink_bandwidth": ("radio", "downlink_bandwidth_hz", -1e6),
    "server_speed": ("server", "compute_flops_per_s", -1e9),
    "accuracy_limit": ("accuracy", "minimum", 0.01),
}
"""Price -> (section, field, seconds gained per unit from the derivative)."""


def at_value(instance: Instance, name: str, value: float) -> Instance:
    """The instance with one priced parameter changed."""
    section, field, _ = PLACES[name]
    changed = getattr(instance, section).model_copy(update={field: value})
    return instance.model_copy(update={section: changed})


def planned(instance: Instance) -> tuple[Plan, IntegralPoint]:
    """A polished plan of the instance, and its point."""
    derived = derive(instance)
    start = first_point(derived)
    assert start is not None
    point = polish(derived, start)
    assert point is not None
    return to_plan(derived, point, Provenance(), instance.name), point


def fixed_cut_delay(instance: Instance, point: IntegralPoint) -> float:
    """The least delay at these cuts and options, from the instance alone."""
    derived = derive(instance)
    best = polish(derived, point)
    assert best is not None
    return best_delay(derived, best).round_s


def check_against_differences(instance: Instance, names: tuple[str, ...] = tuple(PLACES)) -> Prices:
    """Every price equals the central difference to 1e-3."""
    plan, point = planned(instance)
    found = prices(instance, plan)
    for name in names:
        section, field, factor = PLACES[name]
        at = getattr(getattr(instance, section), field)
        step = 1e-5 if name == "accuracy_limit" else 1e-3 * at
        above = fixed_cut_delay(at_value(instance, name, at + step), point)
        below = fixed_cut_delay(at_value(instance, name, at - step), point)
        difference = factor * (above - below) / (2.0 * step)
        assert difference > 0.0, name
        assert found.named(name).value == pytest.approx(difference, rel=1e-3), name
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_prices_are_the_differences_of_the_fixed_cut_problem(variant: str) -> None:
    check_against_differences(sample_instance(5, 3, **VARIANTS[variant]))


def test_capped_rates_and_weak_ones() -> None:
    """Strong devices sit at the efficiency cap, where more band buys rate in proportion."""
    for power in ("psd", "total"):
        radio = {"power": power, "efficiency_cap_bits_per_s_hz": 5.0, "fading": "none"}
        check_against_differences(sample_instance(6, 5, radio=radio))


def light_device(minimum_each: float | None) -> Instance:
    """A device of little weight, whose own accuracy floor and not the mean holds its fraction."""
    limits = {"minimum_each": minimum_each, "minimum": 0.87}
    instance = sample_instance(4, 2, accuracy=limits, compression={"keep_min": 0.01})
    weights = (0.001, 0.3, 0.3, 0.399)
    devices = tuple(
        device.model_copy(update={"weight": weight})
        for device, weight in zip(instance.devices, weights, strict=True)
    )
    return instance.model_copy(update={"devices": devices})


def test_a_device_held_by_its_own_floor() -> None:
    """The floor of every device follows the mean limit where it is not given, else it stays."""
    follows = check_against_differences(light_device(None)).named("accuracy_limit").value
    stays = check_against_differences(light_device(0.82)).named("accuracy_limit").value
    assert follows > stays * 1.001


def test_a_limit_that_does_not_bind_has_no_price() -> None:
    instance = sample_instance(
        3, 1, accuracy={"minimum": 0.5, "minimum_each": 0.4}, compression={"keep_min": 0.1}
    )
    price = prices(instance, planned(instance)[0]).named("accuracy_limit")
    assert price.value == 0.0
    assert price.low is None
    # up to where it begins to bind: the mean accuracy at the least keep fractions
    plan, _ = planned(instance)
    breakdown = verify_plan(instance, plan).breakdown
    assert breakdown is not None
    assert price.high == pytest.approx(breakdown.accuracy, abs=0.02)
    assert price.high is not None
    assert price.high <= breakdown.accuracy + 1e-9


@pytest.mark.parametrize("slack_rel", [0.0, 2e-9, 1e-7, 1e-3])
def test_a_limit_met_with_rounding_slack_is_active(
    monkeypatch: pytest.MonkeyPatch, slack_rel: float
) -> None:
    """Polishing halves between points that meet the limit: a little of the budget stays unused."""
    instance = sample_instance(5, 3)
    plan, point = planned(instance)
    exact = prices(instance, plan).named("accuracy_limit").value
    derived = derive(instance)
    known = Coefficients(derived, point.cuts, point.choice)
    wanted = (1.0 - slack_rel) * derived.loss_budget
    low, high = 1.0 - 1e-6, 1.01  # keep more: lose less
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (
            (middle, high) if known.mean_loss(point.keep * middle) > wanted else (low, middle)
        )
    moved = point.with_keep(point.keep * high)
    left = 1.0 - known.mean_loss(moved.keep) / derived.loss_budget
    assert left == pytest.approx(slack_rel, abs=1e-12)
    monkeypatch.setattr("sftopt.studies.prices.polish", lambda *_: moved)
    found = prices(instance, plan).named("accuracy_limit").value
    assert exact > 0.0
    assert found == (0.0 if slack_rel == 1e-3 else pytest.approx(exact, rel=1e-5))


@pytest.mark.parametrize("variant", ["plain", "total power", "parallel server", "each"])
def test_within_the_range_the_price_predicts_the_delay(variant: str) -> None:
    """Also between the samples of the search, and no longer a tenth beyond an end."""
    instance = sample_instance(4, 7, **VARIANTS[variant])
    plan, point = planned(instance)
    found = prices(instance, plan)
    for price in found.prices:
        slope = price.value / PLACES[price.name][2]
        assert price.low is not None
        assert price.high is not None
        for end in (price.low, price.high):
            assert end != price.at
            for part in (0.3, 0.77, 1.0, 1.2):
                value = price.at + part * (end - price.at)
                change = fixed_cut_delay(at_value(instance, price.name, value), point)
                predicted = slope * (value - price.at)
                off = abs(change - found.round_s - predicted) / abs(predicted)
                assert (off <= RANGE_TOLERANCE * 1.001) == (part <= 1.0), (price.name, part, off)


def tight_memory(devices: int = 3) -> Instance:
    """Devices with memory for some blocks but not all, beside a slow server."""
    instance = sample_instance(devices, 4, server={"compute_flops_per_s": 2e11 * devices})
    work = instance.workload
    narrow = []
    for n, device in enumerate(instance.devices):
        base = work.device_base_bytes + device.batch * work.sample_base_bytes
        block = (
            work.block_weight_bytes
            + work.block_adapter_bytes
            + device.batch * work.block_activation_bytes
        )
        memory = base + (4.25 if n < devices - 1 else 40.0) * block
        narrow.append(device.model_copy(update={"memory_bytes": memory}))
    return instance.model_copy(update={"devices": tuple(narrow)})


def test_memory_price_is_the_step_to_one_more_block() -> None:
    """Given the missing bytes, the same cuts but one more block are a feasible plan, that faster"""
    instance = tight_memory()
    plan, point = planned(instance)
    found = prices(instance, plan)
    assert found.binding_devices == len(found.memory) == 2
    assert max(step.gain_s for step in found.memory) > 0.0
    for step in found.memory:
        index = [device.id for device in instance.devices].index(step.device)
        assert step.high_bytes == pytest.approx(step.at_bytes + step.missing_bytes)
        assert step.low_bytes <= step.at_bytes < step.high_bytes
        devices = list(instance.devices)
        grown = step.high_bytes * (1.0 + 1e-12)
        devices[index] = devices[index].model_copy(update={"memory_bytes": grown})
        larger = instance.model_copy(update={"devices": tuple(devices)})
        derived = derive(larger)
        assert derived.cut_high[index] == point.cuts[index] + 1
        cuts = point.cuts.copy()
        cuts[index] += 1
        best = polish(derived, IntegralPoint(cuts, point.choice, point.keep))
        assert best is not None
        verdict = verify_plan(larger, to_plan(derived, best, Provenance(), ""))
        assert verdict.feasible
        assert verdict.objective_s is not None
        gain = found.round_s - verdict.objective_s
        assert step.gain_s == pytest.approx(max(gain, 0.0), rel=1e-9, abs=1e-9)
        assert step.value == pytest.approx(step.gain_s / (step.missing_bytes / GIB))


def test_of_many_binding_devices_the_most_promising_are_tried() -> None:
    instance = tight_memory(12)
    plan, point = planned(instance)
    found = prices(instance, plan)
    assert found.binding_devices == 11
    assert len(found.memory) == MEMORY_STEPS
    derived = derive(instance)
    gains = []
    for n in range(11):
        cuts = point.cuts.copy()
        cuts[n] += 1
        best = polish(derived, IntegralPoint(cuts, point.choice, point.keep))
        assert best is not None
        gains.append(found.round_s - best_delay(derived, best).round_s)
    assert found.memory[0].gain_s == pytest.approx(max(gains), rel=1e-9)


def test_the_fixed_cut_optimum_is_priced_not_the_plan_as_it_is() -> None:
    """A plan with wasteful keep fractions has the same prices, and its own delay beside them."""
    instance = sample_instance(3, 6)
    plan, point = planned(instance)
    derived = derive(instance)
    wasteful = point.with_keep(np.minimum(point.keep * 1.1, 0.6))
    other = to_plan(derived, wasteful, Provenance(), instance.name)
    found, usual = prices(instance, other), prices(instance, plan)
    assert found.prices == usual.prices
    assert found.plan_round_s > found.round_s == usual.round_s


def test_foreign_and_refuted_plans_are_refused() -> None:
    instance = sample_instance(3, 6)
    plan, _ = planned(instance)
    with pytest.raises(InputError, match="another instance"):
        prices(sample_instance(3, 7), plan)
    with pytest.raises(VerificationError, match="not feasible"):
        prices(instance, plan_with(plan, 0, uplink_share=0.99))


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    """One command line in this process."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command_prints_a_table_and_one_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = tight_memory()
    plan, _ = planned(instance)
    place, file = tmp_path / "instance.json", tmp_path / "plan.json"
    place.write_text(json.dumps(instance.to_dict()), encoding="utf-8")
    plan.save(file)
    code, out, _ = run(capsys, "prices", place, file)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    for words in ("uplink band", "server", "accuracy", "one more block", "dev0"):
        assert words in out
    code, out, _ = run(capsys, "prices", place, file, "--json")
    data = json.loads(out)
    assert (code, data["schema_version"], data["command"]) == (0, 2, "prices")
    expected = prices(instance, plan).model_dump(mode="json")
    assert {name: data[name] for name in expected} == expected


def test_command_on_a_foreign_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, _ = planned(sample_instance(3, 6))
    place, file = tmp_path / "instance.json", tmp_path / "plan.json"
    place.write_text(json.dumps(sample_instance(3, 7).to_dict()), encoding="utf-8")
    plan.save(file)
    code, out, err = run(capsys, "prices", place, file)
    assert code == 2
    assert out == ""
    assert "another instance" in err
