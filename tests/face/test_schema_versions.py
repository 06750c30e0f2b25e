"""Schema versions 1 and 2 as a user of the commands meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.core.test_version_1 import CALIBRATION, RECORDED, instance_file, plan_file
from tests.face.command_line import Run, Write, small_data

UNUSED = {"lora_rank", "compression.modes[2]"}


def data_with_unused_fields() -> dict[str, Any]:
    data = small_data(5)
    data["server"] |= {"compute_min_flops_per_s": 1e12, "energy_coefficient_j_s2_per_flop3": 1e-36}
    data["workload"] |= {"side_bits": 7, "heads": 4, "is_decoder": False}
    data["devices"][1] |= {"lora_rank": 2, "position_m": [3, 4, 1.5]}
    for device in data["devices"]:
        device["energy_coefficient_j_s2_per_flop3"] = 1e-35
    data["compression"]["modes"] += [
        {"kind": "tokens", "bits": 8, "tokens": 5},
        {"kind": "dense", "bits": 4, "name": "rotated", "loss": 0.01, "gradient_bits": 4},
    ]
    return data


def test_files_of_version_1(run: Run, tmp_path: Path) -> None:
    instance, plan = instance_file("jetson-vit-b"), plan_file("jetson-vit-b")
    ran = run("verify", instance, plan, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["hash_matches"]
    assert ran.data["objective_s"] == RECORDED["jetson-vit-b"]["objective_s"]
    checked = run("check", instance, "--calibration", CALIBRATION, "--json")
    assert checked.code == 0, checked.err
    assert run("verify", "jetson-vit-b", plan).code == 5  # today's offers more modes
    assert run("prices", instance, plan, "--json").code == 0


def test_what_the_problem_does_not_use_is_said(run: Run, write: Write) -> None:
    file = write("instance.json", data_with_unused_fields())
    checked = run("check", file, "--json")
    assert checked.code == 0
    faults = checked.data["faults"]
    assert {fault["field"] for fault in faults} == UNUSED
    assert {fault["severity"] for fault in faults} == {"warning"}
    (rank,) = [fault for fault in faults if fault["field"] == "lora_rank"]
    assert (rank["device"], rank["value"]) == ("dev1", 2)
    planned = run("plan", file, "--json", "--time-limit", "20", "--quiet")
    assert planned.code == 0, planned.err
    assert planned.data["warnings"] == faults
    (line,) = [line for line in planned.err.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: given, but not used yet: ")
    assert all(fault["field"] in line for fault in faults[:6])
    assert line.endswith("('sftopt check' says why)")
    assert "mode 'tokens5-8' is left out: kind tokens has no accuracy of its own" in str(faults)


def test_nothing_is_said_where_everything_is_used(run: Run, write: Write) -> None:
    planned = run("plan", write("instance.json", small_data()), "--json", "--quiet")
    assert planned.data["warnings"] == []
    assert "warning" not in planned.err


def test_modes_that_are_all_unknown_are_a_clear_error(run: Run, write: Write) -> None:
    data = small_data()
    data["compression"]["modes"] = [{"kind": "tokens", "bits": 8, "tokens": 5}]
    file = write("instance.json", data)
    for command in ("check", "plan"):
        ran = run(command, file)
        assert ran.code == 2
        assert "'tokens5-8': kind tokens has no accuracy of its own" in ran.err
        assert "offer a mode of kind topk, dense or none" in ran.err


def test_faults_of_version_2_are_named_all_at_once(run: Run, write: Write) -> None:
    data = small_data()
    data["devices"][0] |= {"blocks_min": 2, "blocks_max": 1}
    data["devices"][1]["position_m"] = [1.0]
    data["workload"] |= {"heads": 0, "side_bits": -1, "is_decoder": 1}
    data["compression"]["modes"] = [
        {"kind": "tokens", "bits": 8},
        {"bits": 4, "tokens": 3, "loss": 0.1},
        {"kind": "dense", "bits": 8, "loss": [0.1, -0.2, 0.0, 0.0]},
        {"kind": "tokens", "bits": 8, "tokens": 99, "name": "twice"},
        {"kind": "dense", "bits": 2, "name": "twice"},
        {"kind": "dense", "bits": 3, "loss": [0.1, 0.2]},
        {"kind": "dense", "bits": 5, "gradient_bits": 0},
    ]
    ran = run("check", write("instance.json", data), "--json")
    assert ran.code == 2
    faults = {fault["field"]: fault for fault in ran.data["error"]["faults"]}
    assert set(faults) == {
        "devices[1].position_m",
        "workload.heads",
        "workload.side_bits",
        "workload.is_decoder",
        "compression.modes[0]",
        "compression.modes[1]",
        "compression.modes[2].loss[1]",
        "compression.modes[6].gradient_bits",
        "blocks_max",
        "compression.modes",
        "compression.modes[3].tokens",
        "compression.modes[5].loss",
    }
    assert faults["blocks_max"]["device"] == "dev0"
    assert faults["blocks_max"]["needed_change"] == 1
    assert faults["compression.modes"]["value"] == "twice"
    assert faults["compression.modes[3].tokens"]["limit"] == 15
    assert (
        "tokens is 3, but only kind tokens has it; loss is given"
        in (faults["compression.modes[1]"]["message"])
    )


@pytest.mark.parametrize("kind", ["instance", "plan", "result", "calibration", "row"])
def test_schemas_describe_what_is_written(run: Run, write: Write, kind: str) -> None:
    schema = json.loads(run("schema", kind).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    if kind != "row":
        assert schema["properties"]["schema_version"]["const"] == 2
    for field in {
        "instance": ("blocks_max", "position_m", "side_bits", "gradient_bits", "sample_head_bytes"),
        "plan": ("order", "scheme", "mode_name", "rank", "server_flops_per_s", "energy_server_j"),
        "result": ("point_from", "proven_for", "trace", "proof", "bytes_side"),
        "calibration": ("key_value_heads", "codec_seconds_factor"),
        "row": ("round",),
    }[kind]:
        assert f'"{field}"' in text
    if kind == "instance":
        jsonschema.validate({**data_with_unused_fields(), "schema_version": 2}, schema)
    if kind == "plan":
        file = write("instance.json", small_data())
        plan = run("plan", file, "--json", "--quiet").data["plan"]
        jsonschema.validate(plan, schema)
        assert {part["mode_name"] for part in plan["devices"]} <= {"topk4", "dense8"}
