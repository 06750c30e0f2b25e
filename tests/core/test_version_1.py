"""Files of schema version 1: read, upgraded, and judged as the version that wrote them did.

``tests/fixtures/v1`` holds the instances that version 1 bundled, plans of them that it made, and
what it said of both (``recorded.json``: hashes and breakdowns).
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.calibration import load_calibration
from sftopt.core.files import read_json
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.library import load
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.core.verify import verify_plan

FIXTURES = Path(__file__).parent.parent / "fixtures" / "v1"
RECORDED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "recorded.json").read_text())
CALIBRATION = FIXTURES / "calibration.json"
PLANNED = [name for name, record in RECORDED.items() if record["feasible"]]


def instance_file(name: str) -> Path:
    return FIXTURES / "instances" / f"{name}.json"


def plan_file(name: str) -> Path:
    return FIXTURES / "plans" / f"{name}.json"


@pytest.mark.parametrize("name", RECORDED)
def test_instances_are_upgraded_and_know_their_old_hash(name: str) -> None:
    data = read_json(instance_file(name), "instance")
    assert data["schema_version"] == 1
    instance = load(instance_file(name))
    assert instance.schema_version == 2
    assert instance.hash_v1 == RECORDED[name]["hash"]
    assert instance.hash != instance.hash_v1
    again = parse_instance(json.loads(json.dumps(instance.to_dict())))
    assert (again.hash, again.hash_v1) == (instance.hash, instance.hash_v1)


@pytest.mark.parametrize("name", PLANNED)
def test_plans_verify_to_the_last_bit(name: str) -> None:
    assert read_json(plan_file(name), "plan")["schema_version"] == 1
    verdict = verify_plan(load(instance_file(name)), Plan.load(plan_file(name)))
    assert verdict.hash_matches
    assert verdict.feasible, verdict.violations
    assert verdict.breakdown is not None
    found = verdict.breakdown.model_dump(mode="json")
    recorded = RECORDED[name]["breakdown"]
    assert {key: found[key] for key in recorded} == recorded
    assert verdict.objective_s == RECORDED[name]["objective_s"]


@pytest.mark.parametrize("name", PLANNED)
def test_bundled_instances_kept_their_optimum(name: str) -> None:
    """The old plan, read as one of today's bundled instance, is as fast as it was without labels.

    Its memory differs: what the head holds grows with the batch now.
    """
    old, today = Plan.load(plan_file(name)), load(name).replace(**{"workload.side_bits": 0.0})
    plan = old.model_copy(update={"instance_hash": today.hash})
    verdict = verify_plan(today, plan)
    assert verdict.objective_s == RECORDED[name]["objective_s"]
    assert verdict.feasible, verdict.violations


def test_a_plan_of_version_1_starts_a_solver_and_is_told_apart_from_foreign_ones() -> None:
    instance, plan = load(instance_file("tight-memory")), Plan.load(plan_file("tight-memory"))
    result = sftopt.solve(instance, formulation="spectrum-native", x0=plan, time_limit=60)
    assert result.ok, result
    assert result.plan is not None
    assert result.plan.instance_hash == instance.hash
    assert {part.mode_name for part in result.plan.devices} <= {"topk2", "topk3", "topk4"}
    other = load(instance_file("weak-server"))
    assert not verify_plan(other, plan).hash_matches
    assert "made for cell" not in result.message
    again = sftopt.solve(other, formulation="spectrum-native", x0=plan)
    assert f"x0: repaired: plan was made for cell {plan.instance_hash}" in again.message


def test_version_1_hashed_names_and_sources_too() -> None:
    data = read_json(instance_file("tight-memory"), "instance")
    before = parse_instance(data)
    after = parse_instance({**data, "name": "renamed"})
    assert after.hash == before.hash
    assert after.hash_v1 != before.hash_v1


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("devices", {"blocks_max": 3}),
        ("devices", {"position_m": [0.0, 1.0]}),
        ("workload", {"sample_head_bytes": 1.0}),
        ("workload", {"heads": 4}),
        ("workload", {"is_decoder": False}),
        ("modes", {"name": "mine"}),
        ("modes", {"codec_seconds_factor": 2.0}),
        ("modes", {"kind": "tokens", "tokens": 40}),
    ],
)
def test_a_cell_with_later_fields_has_no_old_hash(section: str, change: dict[str, Any]) -> None:
    data = read_json(instance_file("tight-memory"), "instance")
    data["schema_version"] = 2
    target = data["compression"]["modes"] if section == "modes" else data[section]
    target = target[0] if isinstance(target, list) else target
    target.update(change)
    assert parse_instance(data).hash_v1 is None
    # written out at their defaults they say nothing new
    plain = read_json(instance_file("tight-memory"), "instance")
    plain["workload"] |= {"sample_head_bytes": 0, "side_bits": 0.0, "heads": None}
    plain["devices"][0]["blocks_max"] = None
    plain["compression"]["modes"][0] |= {"name": "topk2", "codec_seconds_factor": 1}
    assert parse_instance(plain).hash_v1 == RECORDED["tight-memory"]["hash"]


def test_models_read_version_1_however_they_are_built() -> None:
    data = read_json(instance_file("gpt2-e2e"), "instance")
    assert Instance.model_validate(data).schema_version == 2
    plan = read_json(plan_file("gpt2-e2e"), "plan")
    assert Plan.model_validate(plan).order == "parallel"
    result = sftopt.solve(load(instance_file("gpt2-e2e")), solver="constructive", time_limit=20)
    old = copy.deepcopy(result.to_dict())
    old["schema_version"] = 1
    old["plan"]["schema_version"] = 1
    for name in ("proof", "trace", "point_from", "proven_for"):
        del old[name]
    again = Result.model_validate(old)
    assert again.schema_version == 2
    assert again.plan == result.plan


def test_calibrations_of_version_1_are_read() -> None:
    assert read_json(CALIBRATION, "calibration")["schema_version"] == 1
    read = load_calibration(CALIBRATION)
    assert read.schema_version == 2
    assert read.workload.heads is None
    assert load_calibration(CALIBRATION).hash == read.hash
