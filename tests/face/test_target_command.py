"""``sftopt plan --objective time-to-target``: laws typed and from files, and every other ending."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.target_laws import LawError, LinearLaw, LinearLevel, TargetLaws
from sftopt.studies.time_to_target import TimeToTarget
from tests.calibration_samples import sample_calibration
from tests.face.command_line import Run, Write

LAW = "linear:rounds=12:slope=8"
SOLVER = ("--solver", "exhaustive", "--rel-gap", "0.01")
ASKED = ("--objective", "time-to-target", "--target", "0.8")


def test_a_declared_law_needs_no_calibration(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    ran = run("plan", small, *ASKED, "--law", LAW, *SOLVER, "--out", out)
    assert ran.code == 0
    for words in ("time ", "rounded up", "no plan is", "linear, rounds at 0.8: 12 (1 + 8 loss)",
                  "is declared", "losses looked at"):  # fmt: skip
        assert words in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    verified = run("verify", small, out, "--json")
    assert verified.code == 0
    data = run("plan", small, *ASKED, "--law", LAW, *SOLVER, "--json").data
    assert data["objective"] == "time-to-target"
    assert data["round_s"] == verified.data["objective_s"]
    assert data["bound_s"] <= data["time_s"] == pytest.approx(data["rounds"] * data["round_s"])
    answer = TimeToTarget.model_validate(data)
    assert answer.rounds is not None
    assert answer.rounds_whole == math.ceil(answer.rounds)
    schema = json.loads(run("schema", "time-to-target").out)
    assert set(schema["properties"]) <= set(data)


def test_a_calibrations_law_is_told_with_its_error(run: Run, small: Path, write: Write) -> None:
    error = LawError(median_abs_rel=0.08, low=0.05, high=0.21, settings=5)
    law = LinearLaw(levels=(LinearLevel(target=0.8, rounds=9.0, slope=4.0),), error=error)
    made = sample_calibration().model_copy(update={"time_to_target": TargetLaws(linear=law)})
    path = write("calibration.json", made.to_dict())
    ran = run("plan", small, *ASKED, "--law", path, *SOLVER)
    assert ran.code == 0
    assert "8 % in the median" in ran.out
    assert "5 to 21 %" in " ".join(ran.out.split())
    without = write("without.json", sample_calibration().to_dict())
    refused = run("plan", small, *ASKED, "--law", without)
    assert refused.code == 2
    assert "holds no law of rounds" in refused.err


def test_a_target_out_of_reach(run: Run, small: Path) -> None:
    law = "saturating:scale=6:start=0.1"
    asked = ("--objective", "time-to-target", "--law", law, *SOLVER, "--json")
    ran = run("plan", small, *asked, "--target", "0.95")
    assert ran.code == 3
    assert "out of reach" in ran.err
    nearest = ran.data["nearest_target"]
    assert f"{nearest:.6g}" in ran.err
    assert run("plan", small, *asked, "--target", repr(nearest)).code == 0


def test_a_free_accuracy_writes_the_cell_of_its_plan(
    run: Run, write: Write, small: Path, tmp_path: Path
) -> None:
    data = json.loads(small.read_text())
    data["accuracy"]["minimum"] = 0.895
    tight = write("tight.json", data)
    cell, out = tmp_path / "cell.json", tmp_path / "plan.json"
    flat = "linear:rounds=12:slope=0.5"
    ran = run("plan", tight, *ASKED, "--law", flat, *SOLVER, "--free-accuracy", "--out", out,
              "--instance-out", cell)  # fmt: skip
    assert ran.code == 0
    assert "accuracy.minimum = " in ran.out
    own = Instance.model_validate(json.loads(cell.read_text()))
    assert Plan.load(out).instance_hash == own.hash
    assert run("verify", cell, out).code == 0
    assert run("verify", tight, out).code == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "0.8"), "--target needs --objective time-to-target"),
        (("--objective", "time-to-target"), "needs --target LEVEL"),
        (("--objective", "delay"), "unknown objective 'delay'"),
        (ASKED, "needs a law"),
        ((*ASKED, "--law", "linear"), "needs a law"),
        ((*ASKED, "--law", "cubic"), "neither a law nor a file"),
        ((*ASKED, "--law", "linear:rounds=12"), "lacks slope"),
        (
            (*ASKED, "--law", "linear:rounds=many:slope=1"),
            "rounds is 'many'; a finite number above 0",
        ),
        ((*ASKED, "--law", "linear:rounds=0:slope=1"), "rounds is '0'; a finite number above 0"),
        ((*ASKED, "--law", "linear:rounds=nan:slope=1"), "rounds is 'nan'; a finite number"),
        ((*ASKED, "--law", "linear:rounds=9:slope=-1"), "slope is '-1'; a finite number of 0 or"),
        ((*ASKED, "--law", "linear:rounds=9:rounds=8:slope=1"), "rounds is given twice"),
        ((*ASKED, "--law", "saturating:scale=6:start=inf"), "start is 'inf'; a finite number is"),
        ((*ASKED, "--law", "linear:r0=12:slope=1"), "unknown number of law linear 'r0'"),
        ((*ASKED, "--law", LAW, "--ranks", "two"), "whole numbers"),
        ((*ASKED, "--law", LAW, "--instance-out", "x.json"), "goes with --free-accuracy"),
    ],
)
def test_what_does_not_go_together_is_said(
    run: Run, small: Path, words: tuple[str, ...], said: str
) -> None:
    ran = run("plan", small, *words)
    assert ran.code == 2
    assert said in ran.err
