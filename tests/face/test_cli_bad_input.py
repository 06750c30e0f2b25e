"""Whatever is wrong with the input: its exit code, a few lines, no traceback, no file left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.face.command_line import Run, Write, small_data

Change = Callable[[dict[str, Any]], None]


def _drop_devices(data: dict[str, Any]) -> None:
    data["devices"] = []


def _same_ids(data: dict[str, Any]) -> None:
    data["devices"][1]["id"] = data["devices"][0]["id"]


def _set(*path: str | int, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


BAD_DATA: dict[str, tuple[Change, str]] = {
    "schema version": (_set("schema_version", value=7), "schema_version is 7"),
    "unknown field": (_set("radio", "uplink_bandwith_hz", value=1), "uplink_bandwidth_hz"),
    "nan": (_set("devices", 0, "memory_bytes", value=float("nan")), "finite"),
    "infinity": (_set("server", "memory_bytes", value=float("inf")), "finite"),
    "negative": (_set("devices", 1, "compute_flops_per_s", value=-1.0), "dev1"),
    "no devices": (_drop_devices, "devices"),
    "duplicate ids": (_same_ids, "'dev0' is used 2 times"),
}

COMMANDS = (["check"], ["plan"], ["instance", "show"])


def _is_short_and_clean(err: str) -> None:
    assert "Traceback" not in err
    assert 1 <= len(err.splitlines()) <= 6, err


@pytest.mark.parametrize("case", BAD_DATA)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_bad_instance(run: Run, write: Write, case: str, command: list[str]) -> None:
    change, words = BAD_DATA[case]
    data = small_data()
    change(data)
    ran = run(*command, write("bad.json", json.dumps(data)))
    assert ran.code == 2
    assert ran.out == ""
    assert words in ran.err
    _is_short_and_clean(ran.err)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{not json", "is not JSON"), ("[1, 2]", "an object is needed"), ("", "is not JSON")],
)
def test_not_an_instance_at_all(run: Run, write: Write, text: str, words: str) -> None:
    ran = run("check", write("bad.json", text))
    assert ran.code == 2
    assert words in ran.err
    _is_short_and_clean(ran.err)


def test_missing_file_and_folder(run: Run, tmp_path: Path) -> None:
    for given in (tmp_path / "absent.json", tmp_path):
        ran = run("plan", given)
        assert ran.code == 2
        _is_short_and_clean(ran.err)


def test_every_fault_is_in_the_json(run: Run, write: Write) -> None:
    data = small_data()
    data["devices"][0]["batch"] = 0
    data["server"]["memory_bytes"] = -3
    ran = run("check", write("bad.json", data), "--json")
    assert ran.code == 2
    error = ran.data["error"]
    assert error["exit_code"] == 2
    assert {fault["field"] for fault in error["faults"]} == {
        "devices[0].batch",
        "server.memory_bytes",
    }
    assert error["faults"][0]["device"] == "dev0"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--solver", "constructiv"], "Did you mean 'constructive'"),
        (["--formulation", "joint-produkt"], "Did you mean 'joint-product'"),
        (["--time-limit", "-1"], "time_limit"),
        (["--rel-gap", "nan"], "rel_gap"),
        (["--threads", "0"], "threads"),
        (["--option", "nonsense"], "NAME=VALUE"),
        (["--option", "a=1", "--option", "a=2"], "given twice"),
        (["--x0", "absent.json"], "does not exist"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else None,
)
def test_bad_plan_options(run: Run, small: Path, words: list[str], hint: str) -> None:
    ran = run("plan", small, "--solver", "constructive", *words)
    assert ran.code == 2
    assert hint in ran.err
    _is_short_and_clean(ran.err)


def test_unknown_bundled_name_suggests_one(run: Run) -> None:
    ran = run("check", "jetson-vit")
    assert ran.code == 2
    assert "Did you mean 'jetson-vit-b'" in ran.err
    _is_short_and_clean(ran.err)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["plna"], "Did you mean 'plan'"),
        (["plan"], "give INSTANCE, or --many DIR"),
        (["verify"], "Missing argument"),
        (["check", "x", "--jsn"], "--json"),
        (["plan", "x", "--time-limit", "soon"], "valid number"),
        (["instance"], "Missing command. Known: new, list, show"),
        (["instance", "nwe"], "new"),
        (["schema", "plans"], "Did you mean 'plan'"),
        (
            ["schema", "calibrations"],
            "Known: calibration, instance, plan, race-row, result",
        ),
        (["instance", "new", "--devices", "0", "--out", "x.json"], "1 to 10000"),
        (["instance", "new", "--devices", "10001", "--out", "x.json"], "1 to 10000"),
        (["workload", "--from-config", "absent.json"], "does not exist"),
    ],
)
def test_usage_errors(
    run: Run, words: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert hint in ran.err
    _is_short_and_clean(ran.err)
    assert max(map(len, ran.err.splitlines())) <= 200
    as_json = run(*words, "--json")
    assert as_json.code == 2
    assert hint in as_json.data["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs_fail_before_the_work(run: Run, small: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    before = sorted(tmp_path.iterdir())
    for out in (tmp_path, blocker / "plan.json", Path("/proc/plan.json"), "x" * 300):
        ran = run("plan", small, "--out", out, "--solver", "constructive")
        assert ran.code == 2
        assert "cannot write" in ran.err
        assert "Nothing was started" in ran.err or "folder" in ran.err
        _is_short_and_clean(ran.err)
    assert sorted(tmp_path.iterdir()) == before


def test_a_plan_for_another_instance(run: Run, write: Write, planned: Path) -> None:
    other = small_data()
    other["training"]["local_steps"] = 6
    path = write("other.json", other)
    ran = run("verify", path, planned)
    assert ran.code == 5
    assert "made for another instance" in ran.err
    _is_short_and_clean(ran.err)
    other["devices"][0]["id"] = "roof"
    ran = run("plan", write("other.json", other), "--x0", planned, "--solver", "constructive")
    assert ran.code == 2
    assert "x0 has no entry for device 'roof'" in ran.err
    _is_short_and_clean(ran.err)


def test_a_real_process_says_the_same(small: Path, tmp_path: Path) -> None:
    """The same through the installed module, with real standard streams."""

    def go(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sftopt", *map(str, words)],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, **more,
        )  # fmt: skip

    missing = go("check", "absent.json", "--json")
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["exit_code"] == 2
    assert "Traceback" not in missing.stderr
    fine = go("check", small, env={**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"})
    assert fine.returncode == 0
    assert fine.stdout.startswith("small: feasible")
