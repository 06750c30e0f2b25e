"""The demonstration: a verified plan first, other schemes beside it, one page of all of it."""

from __future__ import annotations

from pathlib import Path

import sftopt
from sftopt.core.calibration import load_calibration
from sftopt.face.commands.demo import SCHEMES, TASK
from tests.face.command_line import Run
from tests.face.test_reports import checked


def test_plan_and_compare(run: Run, tmp_path: Path) -> None:
    ran = run("demo", "--plan-only", "--out", tmp_path / "demo", "--json")
    assert ran.code == 0
    _text, found = checked(tmp_path / "demo" / "demo.html")
    assert ran.data["page"] == str(tmp_path / "demo" / "demo.html")
    assert found.headings == 7
    cell = sftopt.load("jetson-vit-b")
    plan = sftopt.Plan.load(tmp_path / "demo" / "plan.json")
    assert sftopt.verify_plan(cell, plan).objective_s == ran.data["round_s"]
    assert set(SCHEMES) <= set(ran.data["schemes"])
    assert min(ran.data["schemes"].values()) == 1.0
    assert ran.data["final_metric"] is None
    first = ran.err.index("verified plan")
    assert first < ran.err.index("other schemes")


def test_the_bundled_calibration_is_of_the_demo_task() -> None:
    measured = load_calibration(TASK)
    assert measured.source.task == TASK
    assert measured.workload.side_bits > 0.0


def test_the_demo_writes_where_it_can(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ran = run("demo", "--plan-only", "--out", tmp_path / "file")
    assert ran.code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_setup_runs_beside_the_planning_and_must_succeed(run: Run, tmp_path: Path) -> None:
    """It is waited for before the fine-tuning, and what it said is shown where it fails."""
    marked = tmp_path / "began"
    failing = f"touch {marked}; echo no such index; exit 3"
    ran = run("demo", "--out", tmp_path / "demo", "--setup", failing)
    assert ran.code == 2
    assert marked.is_file()
    assert "ended with code 3" in ran.err
    assert "no such index" in ran.err
    assert ran.err.index("verified plan") < ran.err.index("no such index")
    assert not (tmp_path / "demo" / "run").exists()
