"""check, verify, instance, workload, solvers, doctor, schema and export, as a user sees them."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sftopt.core.instance import Workload
from sftopt.face.commands import doctor
from tests.face.command_line import Run, Write, small_data


def test_check_of_a_feasible_instance(run: Run, small: Path) -> None:
    ran = run("check", small)
    assert ran.code == 0
    assert ran.out.startswith("small: feasible (0 errors, ")
    assert run("check", small, "--json").data["feasible"] is True


def test_check_names_what_would_have_to_give(run: Run, infeasible: Path) -> None:
    ran = run("check", infeasible)
    assert ran.code == 3
    assert ran.out.startswith("small: infeasible (1 error, 0 warnings)\nerror: accuracy")
    assert "change by " in ran.out
    data = run("check", infeasible, "--json").data
    assert data["feasible"] is False
    assert data["command"] == "check"
    errors = [fault for fault in data["faults"] if fault["severity"] == "error"]
    assert errors
    assert set(errors[0]) >= {"field", "device", "value", "limit", "unit", "needed_change"}


def test_check_changes_applied_make_it_pass(run: Run, write: Write, infeasible: Path) -> None:
    fault = run("check", infeasible, "--json").data["faults"][0]
    data = json.loads(infeasible.read_text())
    section, name = fault["field"].split(".")
    data[section][name] = fault["value"] + fault["needed_change"]
    assert run("check", write("mended.json", data)).code == 0


def test_verify_shows_the_broken_limit(run: Run, small: Path, planned: Path) -> None:
    data = json.loads(planned.read_text())
    data["devices"][0]["uplink_share"] += 0.5
    planned.write_text(json.dumps(data))
    ran = run("verify", small, planned)
    assert ran.code == 5
    assert "uplink_share" in ran.out
    assert "refuted" in ran.out
    found = run("verify", small, planned, "--json").data
    assert found["feasible"] is False
    assert found["violations"][0]["family"] == "uplink_share"
    assert found["violations"][0]["amount"] == pytest.approx(0.5, abs=1e-6)
    assert found["breakdown"]["round_s"] == found["objective_s"]


def test_verify_does_not_believe_the_stored_delay(run: Run, small: Path, planned: Path) -> None:
    data = json.loads(planned.read_text())
    true_s = data["breakdown"]["round_s"]
    data["breakdown"]["round_s"] = 0.5 * true_s
    planned.write_text(json.dumps(data))
    ran = run("verify", small, planned, "--json")
    assert ran.code == 0
    assert ran.data["objective_s"] == pytest.approx(true_s, rel=1e-12)
    assert ran.err.startswith("note: the plan file states a round of")


def test_verify_of_a_plan_without_a_device(run: Run, small: Path, planned: Path) -> None:
    data = json.loads(planned.read_text())
    del data["devices"][0]
    planned.write_text(json.dumps(data))
    ran = run("verify", small, planned)
    assert ran.code == 5
    assert "dev0.id" in ran.out


def test_verify_of_another_cells_plan_says_so_in_a_sentence(run: Run, planned: Path) -> None:
    ran = run("verify", "weak-server", planned)
    assert ran.code == 5
    assert "not the plan's" in ran.out + ran.err
    assert "dev01" not in ran.out  # no row per device that is missing or unknown
    assert len(ran.out.splitlines()) < 12


def test_verify_of_a_broken_plan_file(run: Run, small: Path, write: Write) -> None:
    ran = run("verify", small, write("plan.json", {"instance_hash": "x", "devices": [{}]}))
    assert ran.code == 2
    assert "is missing" in ran.err


@pytest.mark.parametrize("kind", ["instance", "plan", "result"])
def test_schemas_are_valid_and_fit_the_files(
    run: Run, small: Path, planned: Path, kind: str
) -> None:
    plain = run("schema", kind)
    assert plain.code == 0
    schema = json.loads(plain.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    marked = run("schema", kind, "--json").data
    assert marked.pop("command") == "schema"
    assert marked.pop("schema_version") == 2
    assert marked == schema
    files: dict[str, Any] = {
        "instance": json.loads(small.read_text()),
        "plan": json.loads(planned.read_text()),
    }
    if kind in files:
        jsonschema.validate(files[kind], schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**files[kind], "surprise": 1}, schema)


def test_the_result_schema_fits_what_plan_prints(run: Run, small: Path) -> None:
    schema = json.loads(run("schema", "result").out)
    data = run("plan", small, "--solver", "constructive", "--json").data
    jsonschema.validate(data, schema)


def test_instances_are_listed_made_and_shown(run: Run, tmp_path: Path) -> None:
    listed = run("instance", "list", "--json")
    assert listed.code == 0
    names = {row["name"] for row in listed.data["instances"]}
    assert {"jetson-vit-b", "gpt2-e2e", "llama-1b", "weichen", "stsflora"} <= names
    assert "jetson-vit-b" in run("instance", "list").out
    texts = []
    for name in ("a.json", "b.json"):
        path = tmp_path / name
        made = run("instance", "new", "--family", "jetson-vit-b", "--devices", "25", "--seed",
                   "3", "--out", path, "--json")  # fmt: skip
        assert made.code == 0
        assert made.data["command"] == "instance new"
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    shown = run("instance", "show", tmp_path / "a.json")
    assert shown.code == 0
    assert "5 of 25 devices left out" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    data = run("instance", "show", tmp_path / "a.json", "--json").data
    assert data["instance"] == json.loads(texts[0])
    assert data["instance_hash"] == made.data["instance_hash"]


def test_unknown_family_is_answered(run: Run, tmp_path: Path) -> None:
    ran = run("instance", "new", "--family", "jetson", "--out", tmp_path / "a.json")
    assert ran.code == 2
    assert "Did you mean" in ran.err
    assert list(tmp_path.iterdir()) == []


VIT = {
    "model_type": "vit", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 256, "image_size": 32, "patch_size": 8, "num_channels": 3,
    "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-12,
}  # fmt: skip


def test_workload_from_a_config(run: Run, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "workload.json"
    words = ["workload", "--from-config", write("config.json", VIT), "--batch", "8",
             "--lora-rank", "4", "--labels", "10", "--out", out]  # fmt: skip
    ran = run(*words)
    assert ran.code == 0
    assert "GFLOP" in ran.out
    data = run(*words, "--json").data["workload"]
    assert data == json.loads(out.read_text())
    made = Workload.model_validate(data)
    assert (made.blocks, made.hidden, made.tokens, made.lora_rank) == (4, 64, 17, 4)
    instance = {**small_data(), "workload": data}
    assert run("check", write("with.json", instance), "--json").code in (0, 3)
    assert run("workload", "--from-config", out).code == 2
    assert run(*words, "--dtype-bits", "8").code == 2


def test_solvers_are_listed_by_promise_and_availability(run: Run) -> None:
    ran = run("solvers", "--json")
    assert ran.code == 0
    for item in ran.data["formulations"]:
        assert set(item) >= {"name", "promise", "problem_class"}
    for item in ran.data["solvers"]:
        assert set(item) >= {"name", "available", "version", "engine_version", "reason", "fix",
                             "formulations"}  # fmt: skip
        assert item["available"] or item["reason"]
    table = run("solvers")
    assert table.code == 0
    for item in (*ran.data["formulations"], *ran.data["solvers"]):
        assert item["name"] in table.out
    assert max(map(len, table.out.splitlines())) <= 80


def test_doctor_passes_here(run: Run) -> None:
    ran = run("doctor", "--json")
    assert ran.code == 0
    names = {check["name"] for check in ran.data["checks"]}
    assert {"python", "numpy", "pyomo", "bundled instances", "solver scip", "write access"} <= names
    for check in ran.data["checks"]:
        assert set(check) == {"name", "ok", "severity", "detail", "fix"}
        assert check["ok"] or check["fix"] or check["detail"]
    assert "numpy" in run("doctor").out


def _listed(available: bool) -> dict[str, Any]:
    row = {"name": "scip", "available": available, "version": "1", "engine_version": "2",
           "linked_library": "lib", "reason": "" if available else "gone",
           "fix": "" if available else "pip install it", "formulations": []}  # fmt: skip
    return {"formulations": [], "solvers": [row]}


def test_doctor_without_any_solver(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftopt.solvers.run.list_solvers", lambda: _listed(False))
    ran = run("doctor")
    assert ran.code == 6
    assert "pip install it" in ran.out
    assert "no solver works here" in ran.err


def test_doctor_tells_core_from_extras(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2.0", "notthere-core>=1", 'cyipopt-absent; extra == "cyipopt"',
             'cyipopt>=1; extra == "cyipopt"', 'notthere-dev; extra == "dev"']  # fmt: skip
    real = metadata.version

    def version(name: str) -> str:
        if name == "cyipopt":
            raise metadata.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    monkeypatch.setattr("sftopt.solvers.run.list_solvers", lambda: _listed(True))
    ran = run("doctor", "--json")
    assert ran.code == 1
    checks = {check["name"]: check for check in ran.data["checks"]}
    assert checks["numpy"]["ok"]
    assert checks["notthere-core"]["severity"] == "error"
    assert checks["cyipopt-absent"]["severity"] == "warning"
    assert checks["cyipopt"]["fix"] == "python -m sftopt.solvers.engines.install_cyipopt"
    assert "notthere-dev" not in checks
    assert ran.data["error"]["message"] == "not working: notthere-core"


def test_doctor_survives_a_broken_core(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sftopt.core.derived", None)
    monkeypatch.setitem(sys.modules, "sftopt.solvers.run", None)
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert ran.data["error"]["message"].startswith("not working: core")


def test_doctor_sees_a_folder_that_cannot_be_written() -> None:
    check = doctor.working_directory_check(Path("/proc"))
    assert not check.ok
    assert check.fix


@pytest.mark.parametrize("ending", [".nl"])
def test_export_writes_a_model(run: Run, small: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"model{ending}"
    ran = run("export", small, "--formulation", "joint-product", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["file"] == str(out)
    assert out.read_text().startswith("g3 ")
    ran = run("export", small, "--formulation", "native", "--out", out)
    assert ran.code == 6
    ran = run("export", small, "--formulation", "joint-prodct", "--out", out)
    assert ran.code == 2
    assert "Did you mean 'joint-product'" in ran.err
