"""Bad input to commands that write folders: exit code 2, what is wrong, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.face.command_line import Run

SWEEP = ("sweep", "equal-devices", "--quiet", "--schemes", "splitlora")
BAND = ("--vary", "radio.bandwidth_mhz=5,10")
REPRODUCE = ("reproduce", "sft-delay", "--quiet", "--cells", 1)
SIMULATE = ("simulate", "equal-devices", "--quiet", "--rounds", 1)
RACE = ("race", "--suite", "smoke", "--allow-busy", "--quiet")
BAD = [
    ((*SWEEP, *BAND, "--time-limit", "nan"), "time_limit is nan; it must be 0 s or more"),
    ((*SWEEP, *BAND, "--time-limit", "-1"), "time_limit is -1.0; it must be 0 s or more"),
    ((*SWEEP, *BAND, "--rel-gap", "nan"), "rel_gap is nan; it must be a number of 0 or more"),
    ((*SWEEP, *BAND, "--seed", "-1"), "seed is -1; it must lie in 0..2147483647"),
    ((*SWEEP[:-1], "hsplitlora:rank=769", *BAND), "rank is 769; it must be at most 768"),
    ((*SWEEP[:-1], "splitlora:cut=6", "--vary", "workload.blocks=12,4"),
     "at workload.blocks=4;seed=0: splitlora:cut is 6; it must be at most 3"),
    ((*SWEEP[:-1], "tsflora", "--vary", "workload.is_decoder=false,true"), "is a decoder"),
    ((*SWEEP, "--vary", "training.local_steps=1,2.5"),
     "training.local_steps is 2.5; training.local_steps takes whole numbers: list them, as in "
     "training.local_steps=2,3"),
    ((*SWEEP, "--vary", "devices=1e9"), "devices: is 1000000000; 1 to 10000 can be generated"),
    (("sweep", "gpt2-e2e", "--quiet", "--schemes", "tsflora", *BAND), "is a decoder"),
    ((*REPRODUCE, "--time-limit", "nan"), "time_limit is nan"),
    ((*REPRODUCE, "--seed", "-1"), "seed is -1"),
    (("reproduce", "--quiet", "--cells", 76), "cells is 76; the grid has 1 to 75 to take"),
    ((*SIMULATE, "--time-limit", "nan"), "time_limit is nan"),
    ((*SIMULATE, "--seed", "-1"), "seed is -1; at least 0 is needed"),
    ((*SIMULATE, "--planner", "nosuch"), "unknown solver 'nosuch'"),
    ((*RACE, "--time-limit", "nan"), "--time-limit is nan s; a number above 0 is needed"),
    ((*RACE, "--time-limit", "-1"), "--time-limit is -1 s; a number above 0 is needed"),
    ((*RACE, "--rerun", "nosuch"), "--rerun 'nosuch' is none of failed, starved and the key of"),
    ((*RACE, "--memory", "0"), "--memory is 0 MB; a number above 0 is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "said"), BAD, ids=lambda value: str(value)[-60:])
def test_bad_input_leaves_nothing(
    run: Run, tmp_path: Path, command: tuple[str | int, ...], said: str
) -> None:
    ran = run(*command, "--out", tmp_path / "new" / "out")
    assert ran.code == 2
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(run: Run, tmp_path: Path) -> None:
    ran = run(*SIMULATE, "--planner", "nosuch", "--out", tmp_path)
    assert ran.code == 2
    assert tmp_path.is_dir()


def test_any_field_is_varied_the_name_too(run: Run, tmp_path: Path) -> None:
    ran = run(*SWEEP, "--vary", "name=a,b", "--no-baselines", "--no-plots", "--json",
              "--out", tmp_path / "out")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.data["cells"] == 2
    ran = run("instance", "set", "equal-devices", "self=1", "--out", tmp_path / "cell.json")
    assert ran.code == 2
    assert "there is no field 'self'" in ran.err


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
def test_a_limit_on_accuracy_that_is_none(run: Run, value: str) -> None:
    ran = run("plan", "jetson-vit-b", "--calibration", "digit-scenes",
              "--accuracy-minimum", value)  # fmt: skip
    assert ran.code == 2
    assert f"accuracy.minimum is {float(value):g}; a finite number" in ran.err
