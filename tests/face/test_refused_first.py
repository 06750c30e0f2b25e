"""What cannot be is refused before the work and before any file, whatever option it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftopt.core.errors import InputError
from sftopt.face.commands import finetune as finetune_command
from sftopt.face.menu import menu_of
from sftopt.studies.race import runner
from sftopt.training.calibrate import run as calibration_run
from sftopt.training.calibrate.budgets import CODECS, Budgets

LOOP = ("closed-loop", "--data", "digit-scenes", "--quick", "--out", "made")
CALIBRATE = ("calibrate", "--data", "digit-scenes", "--out", "made.json")
MENU_FAULTS = (
    (("--menu", "nope:1"), "unknown codec of --menu 'nope'"),
    (("--menu", "rotated:1,nope"), "unknown codec of --menu 'nope'"),
    (("--menu", "tokens:0.06"), "codec 'tokens' at 0.06 bits per element: here it sends at least"),
    (("--side-keys", "nope"), "nope"),
    (("--lora-targets", "nope"), "nope"),
    (("--keep", "1.5"), "keeps: 1.5 is no fraction"),
    (("--bits", "9"), "bits: 9; the codec has 2 to 8"),
    (("--model", "/no/such/model"), "'/no/such/model' does not exist"),
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to start in, where measuring is a failure."""

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(calibration_run, "_measured", begun)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "faults", "said"),
    [
        *((LOOP, *fault) for fault in MENU_FAULTS),
        *((CALIBRATE, *fault) for fault in MENU_FAULTS),
        (LOOP, ("--seed", "-1"), "cell_seed = -1; at least 0 is needed"),
        (LOOP, ("--calibration", "digit-scenes"), "was made by other fine-tunings"),
        (LOOP, ("--steps", "25"), "steps = 25; a round has 10 steps, so give 20 or 30"),
        (LOOP, ("--devices", "99999"), "devices = 99999; at most 100 are possible"),
        (CALIBRATE, ("--seeds", "1", "--menu", "rotated:1"), "a menu needs at least 2 seeds"),
        (CALIBRATE, ("--plots", "file/plots"), "cannot write"),
    ],
)
def test_a_faulty_option_leaves_nothing(command, faults, said, run, nowhere: Path) -> None:
    if "file/plots" in faults:
        (nowhere / "file").write_text("")
    before = set(nowhere.iterdir())
    answer = run(*command, *faults, "--quiet")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert set(nowhere.iterdir()) == before


def test_every_codec_that_a_menu_may_name_can_be_made() -> None:
    budgets = Budgets([], Path("bases"), 1, lambda _: Path("books"))
    assert set(budgets._makers) == set(CODECS)
    assert len(menu_of(",".join(f"{name}:1" for name in CODECS)) or ()) == len(CODECS)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("simulate jetson-vit-b --out made --planner nope", "unknown solver 'nope'"),
        ("simulate jetson-vit-b --out made --planner native-spectrum", "the large problem"),
        ("simulate jetson-vit-b --out made --time-limit -1", "time_limit is -1.0"),
        ("simulate jetson-vit-b --out made --seed -1", "seed is -1; at least 0 is needed"),
        ("simulate jetson-vit-b --out made --planner nope --write-trace t.csv", "unknown solver"),
        ("simulate jetson-vit-b --out file/made --write-trace t.csv", "cannot write"),
        ("sweep jetson-vit-b --vary devices=4 --out made --time-limit -1", "time_limit is -1.0"),
        ("sweep jetson-vit-b --vary devices=4 --out made --rel-gap -1", "rel_gap is -1.0"),
        ("reproduce --cells 1 --out made --time-limit -1", "time_limit is -1.0"),
        ("reproduce --cells 1 --out made --seed -1", "seed is -1"),
    ],
)
def test_a_faulty_option_of_a_study_leaves_nothing(command, said, run, nowhere: Path) -> None:
    (nowhere / "file").write_text("")
    before = set(nowhere.iterdir())
    answer = run(*command.split())
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert set(nowhere.iterdir()) == before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("--codec nope", "unknown codec 'nope'"),
        ("--drop x", "DEVICE@ROUND"),
        ("--logs nope", "unknown log 'nope'"),
        ("--schedule nope", "unknown value of --schedule 'nope'"),
        ("--out file/made", "cannot write"),
    ],
)
def test_a_scheme_is_not_planned_before_options_are_read(
    fault, said, run, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the scheme was planned")

    monkeypatch.setattr(finetune_command, "planned", begun)
    (nowhere / "file").write_text("")
    before = set(nowhere.iterdir())
    words = "finetune jetson-vit-b --scheme sft --data digit-scenes --out made"
    answer = run(*words.split(), *fault.split())
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert set(nowhere.iterdir()) == before


def test_a_race_for_which_no_scheduler_answers_leaves_no_folder(
    run, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(address: str) -> None:
        raise InputError(f"--cluster {address}: no Dask scheduler answers there")

    monkeypatch.setattr(runner, "check_cluster", absent)
    answer = run("race", "--suite", "smoke", "--out", "made", "--cluster", "tcp://nowhere:1")
    assert answer.code == 2, answer.err
    assert "no Dask scheduler answers there" in answer.err
    assert not list(nowhere.iterdir())
