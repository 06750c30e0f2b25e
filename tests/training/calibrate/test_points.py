"""A menu of codecs: measured as modes with figures of their own, planned with, and run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.calibration import Calibration, Speeds, calibrated
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import ModeKind
from sftopt.face.menu import menu_of
from sftopt.training.calibrate import Sources, run_here
from sftopt.training.calibrate.points import with_points
from sftopt.training.codec import EcsqConfig, RotatedConfig
from sftopt.training.run.codecs import codec_chooser
from sftopt.training.split import DeviceSplit
from tests.training.calibrate.small import SETTINGS, TASK, base, go

pytestmark = pytest.mark.train
MENU = [EcsqConfig(bits=3.0), EcsqConfig(bits=0.5)]


@dataclass(frozen=True)
class _Here(Sources):
    """Task and model of the tests, without files."""

    def load_task(self) -> Any:
        return TASK

    def load_model(self, task: Any) -> Any:
        return base()


def run(_: Any, settings: Any, cells: Any, __: int, on_cell: Any) -> None:
    run_here(base(), TASK, settings, cells, on_cell)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def made(work: Path) -> Calibration:
    return with_points(go(work), _Here("", ""), SETTINGS, MENU, work, 1, run=run)


def test_points_have_the_bits_that_were_sent_and_a_loss_at_every_cut(made: Calibration) -> None:
    rich, poor = made.points
    assert [one.mode.name for one in made.points] == ["ecsq at 3 bit", "ecsq at 0.5 bit"]
    for one in (rich, poor):
        assert one.mode.kind is ModeKind.DENSE
        assert one.cuts == (1, 3)  # the settings' and the last
        assert len(one.mode.loss) == made.workload.blocks  # type: ignore[arg-type]
        assert one.mode.loss[0] == one.mode.loss[1]  # type: ignore[index]
        assert one.mode.loss[2] == one.mode.loss[3]  # type: ignore[index]
        assert min(one.mode.loss) >= 0.0  # type: ignore[arg-type]
        assert one.mode.codec_seconds_factor > 0.0
        assert [len(each) for each in one.losses] == [2, 2]
    assert rich.mode.entropy_bits > 2 * poor.mode.entropy_bits
    assert rich.mode.gradient_bits > poor.mode.gradient_bits  # type: ignore[operator]


def test_finished_runs_are_used_again_and_the_file_comes_back(
    made: Calibration, work: Path, tmp_path: Path
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a run was made again")

    again = with_points(go(work), _Here("", ""), SETTINGS, MENU, work, 1, run=never)
    assert [one.losses for one in again.points] == [one.losses for one in made.points]
    made.save(tmp_path / "calibration.json")
    read = sftopt.core.calibration.load_calibration(tmp_path / "calibration.json")
    assert read.points == made.points
    assert read.hash == made.hash
    assert "points" not in made.model_copy(update={"points": ()}).to_dict()


def test_plans_choose_among_the_points_and_runs_take_their_codec(made: Calibration) -> None:
    cell = sftopt.load("jetson-vit-b")
    given = calibrated(cell, made, speeds=Speeds.MEASURED, minimum=0.0, extrapolate=True).instance
    labels = [mode.label for mode in given.compression.modes]
    assert labels[-2:] == ["ecsq at 3 bit", "ecsq at 0.5 bit"]
    device = DeviceSplit(
        id="a", blocks=1, weight=1.0, mode=ModeKind.DENSE, bits=1, mode_name="ecsq at 0.5 bit"
    )
    assert codec_chooser(given, made)(device) == EcsqConfig(bits=0.5)


def test_what_cannot_be_measured_is_told(work: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2 seeds"):
        with_points(go(work), _Here("", ""), replace(SETTINGS, seeds=(0,)), MENU, work, 1, run=run)
    with pytest.raises(UnknownNameError, match="Did you mean 'rotated'"):
        menu_of("rotate:2", "m")
    with pytest.raises(InputError, match="give NAME:BITS"):
        menu_of("ecsq", "m")
    menu = menu_of("rotated:1, ecsq:2", str(tmp_path))
    bases = str(tmp_path / "boundary_bases.safetensors")
    assert menu == [RotatedConfig(bits=1.0, bases=bases), EcsqConfig(bits=2.0)]
