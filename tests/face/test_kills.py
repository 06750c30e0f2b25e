"""Killed or asked to end at a moment of its work: nothing reported is lost, nothing is left.

The random moments of the study ``kills`` need an hour; these are chosen by what was done.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.studies.kills_trial import (
    COMMANDS,
    Command,
    left_processes,
    repeatable,
    unreadable,
    whole_lines,
    write_inputs,
)
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from tests.face.kill_stage import Ended, Moment, Stage, open_stage
from tests.training.run.test_run_plan import adapters_of, same_tensors

pytestmark = pytest.mark.train

ROW = "sftopt.core.rows:RowFile.append"
CELL = "sftopt.training.calibrate.cells:FinishedCells.add"
STARTED = "sftopt.training.calibrate.workers:_send"
"""Called once the processes are started, which still import then."""
CHECKPOINT = "sftopt.training.split.kept_folders:_temporary"
"""Called when a checkpoint is begun, and when one before it is put aside to be removed."""
SAVE = "sftopt.face.commands.plan:save_plan"
RENAME = "sftopt.core.files:os.replace"
REMOVE = "sftopt.training.split.kept_folders:shutil.rmtree"
QUICKER = {"simulate": ("--no-clairvoyant",), "calibrate": ("--workers", "1")}
"""Options added; of one that is given twice the last counts."""
KILL, TERM, HUP, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT


class Trials:
    """Runs of the commands, each whole one only once."""

    def __init__(self, stage: Stage, root: Path) -> None:
        self.stage = stage
        self.root = root
        self.inputs = root / "inputs"
        write_inputs(self.inputs)
        self._whole: dict[str, Path] = {}

    def whole(self, command: Command) -> Path:
        """The folder of a run without a signal."""
        if command.name not in self._whole:
            folder = self.root / "whole" / command.name
            ended = self.run(command, folder)
            assert ended.code == 0, ended.err
            self._whole[command.name] = folder
        return self._whole[command.name]

    def run(
        self, command: Command, folder: Path, moment: Moment | None = None, *more: str
    ) -> Ended:
        """Run a command into ``folder``; no process of it may be left."""
        words = command.line(self.inputs, folder, *QUICKER.get(command.name, ()), *more)[3:]
        ended = self.stage.run(words, folder, moment)
        assert left_processes(ended.pid) == ()
        assert "Traceback" not in ended.err
        return ended


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with open_stage() as stage:
        yield Trials(stage, tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize(
    ("name", "moment", "rows"),
    [
        ("simulate", Moment(ROW, 3, KILL, after=True), 3),
        ("simulate", Moment(ROW, 5, TERM), 4),
        ("finetune", Moment(ROW, 1, HUP, after=True, to_all=True), 1),
        ("finetune", Moment(CHECKPOINT, 2, KILL, after=True), 2),
        ("finetune", Moment(REMOVE, 4, KILL), 3),
        ("calibrate", Moment(CELL, 2, KILL, after=True), 2),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_was_written_stays_and_the_rest_is_the_same(
    trials: Trials, tmp_path: Path, name: str, moment: Moment, rows: int
) -> None:
    command = COMMANDS[name]
    ended = trials.run(command, tmp_path, moment)
    assert ended.code == (-KILL if moment.number == KILL else 130), ended.err
    kept = whole_lines(tmp_path / command.rows)
    assert len(kept) == rows
    assert [fault for path in tmp_path.rglob("*.json") for fault in unreadable(path)] == []
    again = trials.run(command, tmp_path, None, "--resume")
    assert again.code == 0, again.err
    now, whole = whole_lines(tmp_path / command.rows), trials.whole(command)
    expected = whole_lines(whole / command.rows)
    assert repeatable(now) == repeatable(expected)
    assert sorted(files(tmp_path)) == sorted(files(whole))
    if name == "finetune":  # a row beyond the checkpoint is run again
        assert same_tensors(adapters_of(tmp_path / "out"), adapters_of(whole / "out"))
    else:
        assert set(kept) <= set(now)
    if name == "simulate":
        assert now == expected


MOMENTS = (
    ("sftopt.training.codec.visits:Visits.commit", 24),
    ("sftopt.training.split.model:SplitModel.train_step", 6),
    ("sftopt.training.tensor_files:save_file", 16),
    (ROW, 2), (CHECKPOINT, 4), (RENAME, 30), (REMOVE, 3),
)  # fmt: skip
"""Calls of a fine-tuning, and the last count of each at which a run is killed."""


def test_killed_again_and_again_a_codec_with_memory_sends_the_same_bytes(
    trials: Trials, tmp_path: Path
) -> None:
    """SIGKILL at drawn calls, resumed each time: weights, rows and what codecs remember."""
    command, drawn = COMMANDS["finetune-memory"], random.Random(15)
    deaths = 0
    for _ in range(5):
        call, most = drawn.choice(MOMENTS)
        moment = Moment(call, drawn.randint(1, most), KILL, after=drawn.random() < 0.5)
        ended = trials.run(command, tmp_path, moment, "--resume")
        assert ended.code in (0, -KILL), ended.err
        deaths += ended.code == -KILL
    ended = trials.run(command, tmp_path, None, "--resume")
    assert ended.code == 0, ended.err
    assert deaths >= 3, "the test killed hardly anything"
    whole = trials.whole(command)
    now, expected = (whole_lines(folder / command.rows) for folder in (tmp_path, whole))
    assert repeatable(now) == repeatable(expected)
    assert same_tensors(adapters_of(tmp_path / "out"), adapters_of(whole / "out"))
    for name in ("memory.safetensors", "optimizers.safetensors", "random.safetensors"):
        ours, theirs = (folder / "out" / "checkpoint" / name for folder in (tmp_path, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    listed = json.loads((tmp_path / "out" / "checkpoint" / "checksums.json").read_text())
    assert "memory.safetensors" in str(listed)


@pytest.mark.parametrize("name", ["simulate", "finetune"])
def test_a_run_is_gone_on_with_only_where_that_is_asked_for(trials: Trials, name: str) -> None:
    folder = trials.whole(COMMANDS[name])
    before = {path: (folder / path).read_bytes() for path in files(folder) if "out/" in path}
    ended = trials.run(COMMANDS[name], folder)
    assert ended.code == 2
    assert "--resume" in ended.err
    assert before == {path: (folder / path).read_bytes() for path in before}


@pytest.mark.parametrize(
    "moment", [Moment(STARTED, 1, KILL, after=True), Moment(STARTED, 2, INT, to_all=True)],
    ids=["killed", "ctrl-c"],
)  # fmt: skip
def test_processes_of_calibrate_end_with_it_also_while_they_import(
    trials: Trials, tmp_path: Path, moment: Moment
) -> None:
    ended = trials.run(COMMANDS["calibrate"], tmp_path, moment, "--workers", "2")
    assert ended.code == (-KILL if moment.number == KILL else 130), ended.err
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("number", [TERM, HUP, INT])
def test_a_signal_between_solve_and_save_keeps_the_plan(
    trials: Trials, tmp_path: Path, number: int
) -> None:
    ended = trials.run(COMMANDS["plan"], tmp_path, Moment(SAVE, 1, number, to_all=True))
    assert ended.code in (0, 130)
    assert json.loads(ended.out)["point"] == "optimal"
    instance = Instance.model_validate_json((trials.inputs / "cell.json").read_text())
    assert verify_plan(instance, Plan.load(tmp_path / "plan.json")).feasible


def test_a_kill_while_a_plan_is_written_leaves_the_one_before(
    trials: Trials, tmp_path: Path
) -> None:
    assert trials.run(COMMANDS["plan"], tmp_path).code == 0
    before = (tmp_path / "plan.json").read_bytes()
    ended = trials.run(COMMANDS["plan"], tmp_path, Moment(RENAME, 1, KILL))
    assert ended.code == -KILL
    assert (tmp_path / "plan.json").read_bytes() == before


IMPORTING = """
import os, signal, sys

_, module, number, *words = sys.argv
sys.argv = ["sftopt", *words]

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            # in a text that is run, as a dataclass is made: CPython then notes a Ctrl-C of its own
            exec("import os; os.kill(os.getpid(), int(number)); 0")

sys.meta_path.insert(0, Hook())
from sftopt.__main__ import program
program()
"""
"""The command line as a module that is run (``-m``), sent a signal when it imports another."""


@pytest.mark.parametrize(
    ("module", "number"),
    [("typer", INT), ("sftopt.face.commands.plan", TERM), ("numpy.random", INT), ("numba", HUP)],
)
def test_a_signal_while_modules_are_imported_is_130_without_a_traceback(
    trials: Trials, tmp_path: Path, module: str, number: int
) -> None:
    words = COMMANDS["plan"].line(trials.inputs, tmp_path / "out")[3:]
    place = tmp_path / "module"
    place.mkdir()
    (place / "importing.py").write_text(IMPORTING)
    ended = subprocess.run(
        [sys.executable, "-m", "importing", module, str(int(number)), *words],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path])},
    )  # fmt: skip
    assert ended.returncode == 130
    assert "interrupted" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


FREEING = """
import signal, sys, time
from sftopt.solvers.interrupt import endings_as_ctrl_c

class Freed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

try:
    with endings_as_ctrl_c():
        thing = Freed()
        del thing
        time.sleep(60.0)
except KeyboardInterrupt:
    sys.exit(130)
"""
"""A program that is asked to end while an object is freed, where Python raises nothing."""


def test_a_signal_that_python_swallows_comes_again() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FREEING], capture_output=True, text=True, check=False, timeout=50.0,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (130, "")


def files(folder: Path) -> list[str]:
    """Paths of the files below a folder."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
