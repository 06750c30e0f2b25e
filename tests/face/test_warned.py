"""Warnings of an instance reach the person and the JSON of every command that works on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sftopt
from sftopt.core.files import write_json
from tests.face.command_line import Run, Write, small_data


@pytest.fixture(scope="module")
def slipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cell whose uplink band was given in MHz, and a plan of it."""
    folder = tmp_path_factory.mktemp("slipped")
    slip = {"radio.uplink_bandwidth_hz": 12.0, "radio.outage_rate_bits_per_s": 1.0}
    cell = sftopt.load("equal-devices").replace(**slip)
    write_json(folder / "cell.json", cell.to_dict())
    result = sftopt.solve(cell, solver="constructive")
    assert result.plan is not None
    result.plan.save(folder / "plan.json")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "{cell}", "--solver", "constructive", "--quiet"],
        ["verify", "{cell}", "{plan}"],
        ["prices", "{cell}", "{plan}"],
        ["simulate", "{cell}", "--out", "{out}", "--rounds", "1", "--planner", "constructive",
         "--no-plots", "--no-clairvoyant", "--quiet"],
        ["compare", "{cell}", "--schemes", "greedy"],
        ["sweep", "{cell}", "--vary", "server.memory_bytes=1e10,2e10", "--schemes", "greedy",
         "--out", "{out}", "--no-plots", "--quiet"],
        ["instance", "set", "{cell}", "devices[0].batch=8", "--out", "{out}.json"],
        ["export", "{cell}", "--formulation", "joint-ratio", "--out", "{out}.nl"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_slip_is_told_by_every_command(
    run: Run, slipped: Path, tmp_path: Path, words: list[str]
) -> None:
    places = {"cell": slipped / "cell.json", "plan": slipped / "plan.json", "out": tmp_path / "o"}
    ran = run(*(word.format(**places) for word in words), "--json")
    assert ran.code == 0, ran.err
    told = "radio.uplink_bandwidth_hz is 12 Hz, outside the usual 1.5e+05..5e+09; was it given in"
    assert f"warning: {told} mega-units? 1.2e+07 Hz would be usual" in ran.err
    fields = [fault["field"] for fault in ran.data["warnings"]]
    assert "radio.uplink_bandwidth_hz" in fields
    if words[0] not in ("export", "instance", "sweep"):
        assert "round_s" in fields
        assert "is outside what cells need" in ran.err


def test_unused_fields_take_one_line(run: Run, write: Write) -> None:
    data = small_data(5)
    data["devices"][0]["lora_rank"] = 2
    data["compression"]["modes"] += [{"kind": "tokens", "bits": 8, "tokens": 5}]
    file = write("cell.json", data)
    ran = run("plan", file, "--solver", "constructive", "--quiet", "--json")
    lines = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1
    assert "given, but not used yet: " in lines[0]
    assert len(ran.data["warnings"]) > 1
