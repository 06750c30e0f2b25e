"""A menu of codecs: measured as modes with figures of their own, planned with, and run."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.calibration import Calibration, Speeds, calibrated
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import Mode, ModeKind
from sftopt.face.menu import menu_of
from sftopt.training.bases import measure_bases, write_bases
from sftopt.training.books import learn_books
from sftopt.training.calibrate import Cell, Sources, run_here
from sftopt.training.calibrate.budgets import (
    CODECS,
    RATES,
    Budgets,
    MenuItem,
    bits_both_ways,
)
from sftopt.training.calibrate.payloads import boundary_pairs
from sftopt.training.calibrate.points import with_points
from sftopt.training.codec import TokensConfig, codec_from
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.loop import RunSettings, fine_tune
from sftopt.training.run.codecs import codec_chooser, codec_of
from sftopt.training.split import DeviceSplit, SplitConfig, SplitModel
from tests.training.calibrate.small import SETTINGS, TASK, base, go, split_of

pytestmark = pytest.mark.train
MENU = [MenuItem("ecsq", 6.0), MenuItem("tokens", 3.0)]
LABELS = ["ecsq at 6 bit", "tokens at 3 bit"]


@dataclass(frozen=True)
class _Here(Sources):
    """Task and model of the tests, without files."""

    def load_task(self) -> Any:
        return TASK

    def load_model(self, task: Any) -> Any:
        return base()


RAN: list[tuple[str, int]] = []
"""Kind and cut of what was run for the points."""


def run(_: Any, settings: Any, cells: Any, __: int, on_cell: Any) -> None:
    RAN.extend((cell.kind, settings.cuts[0]) for cell in cells)
    run_here(base(), TASK, settings, cells, on_cell)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def made(work: Path) -> Calibration:
    return with_points(go(work), _Here("", ""), SETTINGS, MENU, work, 1, run=run)


@pytest.fixture(scope="module")
def budgets(tmp_path_factory: pytest.TempPathFactory) -> Budgets:
    """Of the small model, with bases of its own."""
    folder = tmp_path_factory.mktemp("bases")
    bases = folder / "boundary_bases.safetensors"
    write_bases(bases, measure_bases(base(), TASK.train_batches(0, 1, 4, 0), 2))

    def books(width: int) -> Path:
        path = folder / f"books-{width}.safetensors"
        return learn_books(base(), TASK.train_batches(0, 1, 4, 0), bases, width, path)

    return Budgets(_pairs(), bases, 1, books)


def _pairs() -> list[Any]:
    return boundary_pairs(split_of(base(), SETTINGS), TASK, SETTINGS, 1, held_out=False)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_of_a_menu_fills_its_budget(name: str, budgets: Budgets) -> None:
    sent = []
    for rate in (3.0, 5.0):
        codec = budgets.codec(MenuItem(name, rate))
        assert codec.codec == name
        assert codec_from(codec.to_dict()).config == codec  # as a calibration holds it
        sent.append(bits_both_ways(told_of_cut(codec, 1), _pairs()))
        assert sent[-1] <= rate
    # Top-K of 4 bits has no more to send than about 2.7 bits here
    assert sent[0] > 2.0
    assert sent[1] >= sent[0]


def test_fine_tunings_run_every_codec_of_a_menu(made: Calibration, budgets: Budgets) -> None:
    """One device for each, all in one round, by the calibration that their plan was made with."""
    points = []
    for name in CODECS:
        codec = budgets.codec(MenuItem(name, 5.0))
        sent = codec.tokens + 1 if isinstance(codec, TokensConfig) else None
        kind = ModeKind.DENSE if sent is None else ModeKind.TOKENS
        mode = Mode(name=f"{name} at 5 bit", kind=kind, bits=4, tokens=sent, loss=0.0)
        points.append(
            OperatingPoint(mode=mode, codec=codec.to_dict(), cuts=(1,), losses=((0.0, 0.0),))
        )
    chosen = codec_chooser(
        sftopt.load("jetson-vit-b"), made.model_copy(update={"points": tuple(points)})
    )
    devices = tuple(
        DeviceSplit(
            id=name, blocks=2, weight=1.0 / len(points), mode=one.mode.kind, bits=4,
            mode_name=one.mode.label,
        )
        for name, one in zip(CODECS, points, strict=True)
    )  # fmt: skip
    config = SplitConfig(
        devices=devices, lora=SETTINGS.lora(), optimizer=SETTINGS.optimizer(), seed=0
    )
    split = SplitModel(base(), config, codecs=lambda device: codec_of(chosen(device)))
    run = RunSettings(
        rounds=1, local_steps=1, batches=dict.fromkeys(CODECS, 4), seed=0, evaluation_limit=8
    )
    (row,) = fine_tune(split, TASK, run).rounds
    assert math.isfinite(row.loss or math.nan)
    elements = _pairs()[0].activation.numel()
    for name, counts in row.byte_counts.items():
        sent_bits = 8 * (counts["uplink_boundary_bytes"] + counts["downlink_gradient_bytes"])
        assert 1.0 < sent_bits / (2 * elements) < 5.5, name


def test_a_codec_that_cannot_send_so_few_bits_is_refused(budgets: Budgets) -> None:
    with pytest.raises(InputError, match=r"at 0.1 bits per element: here it sends at least"):
        budgets.codec(MenuItem("quantise", 0.1))
    with pytest.raises(UnknownNameError, match="Did you mean 'rotated'"):
        budgets.codec(MenuItem("rotate", 2.0))


def test_the_default_menu_suits_what_is_there(budgets: Budgets, tmp_path: Path) -> None:
    padded, plain = budgets.default(padded=True), budgets.default(padded=False)
    assert [one.codec for one in padded] == ["rest"] * 3 + ["rotated-topk"]
    assert [one.codec for one in plain] == ["rotated"] * 3 + ["rotated-topk"]
    bare = Budgets(_pairs(), tmp_path / "none", 1, lambda _: tmp_path).default(padded=True)
    assert [one.codec for one in bare] == ["ecsq"] * 3


def test_points_have_the_bits_that_were_sent_and_a_loss_at_every_cut(made: Calibration) -> None:
    assert [one.mode.name for one in made.points] == LABELS
    tokens = made.workload.tokens
    for one, rate in zip(made.points, (6.0, 3.0), strict=True):
        assert one.cuts == (1, 3)  # the settings' and the last
        assert len(one.mode.loss) == made.workload.blocks  # type: ignore[arg-type]
        assert one.mode.loss[0] == one.mode.loss[1]  # type: ignore[index]
        assert one.mode.loss[2] == one.mode.loss[3]  # type: ignore[index]
        assert min(one.mode.loss) >= 0.0  # type: ignore[arg-type]
        assert one.mode.codec_seconds_factor > 0.0
        assert [len(each) for each in one.losses] == [2, 2]
        share = 1.0 if one.mode.tokens is None else one.mode.tokens / tokens
        sent = 0.5 * share * (one.mode.entropy_bits + (one.mode.gradient_bits or 0.0))
        assert sent == pytest.approx(rate, rel=0.15)
    dense, selected = made.points
    assert dense.mode.kind is ModeKind.DENSE
    assert selected.mode.kind is ModeKind.TOKENS
    assert selected.mode.tokens == selected.codec["tokens"] + 1  # and the merged one


def test_uncompressed_runs_of_the_grid_are_used_again(made: Calibration) -> None:
    assert made.points
    assert ("none", 3) in RAN
    assert ("none", 1) not in RAN  # the grid's own cut


def test_finished_runs_are_used_again_and_the_file_comes_back(
    made: Calibration, work: Path, tmp_path: Path
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a run was made again")

    again = with_points(go(work), _Here("", ""), SETTINGS, MENU, work, 1, run=never)
    assert again.points == made.points  # seconds, too: a plan must not change when gone on with
    made.save(tmp_path / "calibration.json")
    read = sftopt.core.calibration.load_calibration(tmp_path / "calibration.json")
    assert read.points == made.points
    assert read.hash == made.hash
    assert "points" not in made.model_copy(update={"points": ()}).to_dict()


def test_plans_choose_among_the_points_and_runs_take_their_codec(made: Calibration) -> None:
    cell = sftopt.load("jetson-vit-b")
    given = calibrated(cell, made, speeds=Speeds.MEASURED, minimum=0.0, extrapolate=True).instance
    labels = [mode.label for mode in given.compression.modes]
    assert labels[-2:] == LABELS
    for point in made.points:
        device = DeviceSplit(
            id="a", blocks=1, weight=1.0, mode=point.mode.kind, bits=point.mode.bits,
            mode_name=point.mode.label,
        )  # fmt: skip
        assert codec_chooser(given, made)(device).to_dict() == point.codec
    assert isinstance(codec_chooser(given, made)(device), TokensConfig)


def test_a_point_is_known_again_wherever_its_bases_lie(budgets: Budgets, tmp_path: Path) -> None:
    codec = budgets.codec(MenuItem("rotated", 4.0)).to_dict()
    moved = tmp_path / "other.safetensors"
    shutil.copy(codec["bases"], moved)
    one, other = (
        Cell("codec", 0, name="rotated at 4 bit", options=json.dumps(data))
        for data in (codec, {**codec, "bases": str(moved)})
    )
    assert one.to_dict() == other.to_dict()
    assert str(moved.parent) not in json.dumps(other.to_dict())


def test_a_menu_as_it_is_typed(work: Path) -> None:
    with pytest.raises(InputError, match="at least 2 seeds"):
        with_points(go(work), _Here("", ""), replace(SETTINGS, seeds=(0,)), MENU, work, 1, run=run)
    assert menu_of("default") is None
    assert menu_of("rotated:1, ecsq:2") == [MenuItem("rotated", 1.0), MenuItem("ecsq", 2.0)]
    assert menu_of("tokens,tokens:1") == [MenuItem("tokens", rate) for rate in RATES]
    assert {"rotated", "topk", "ecsq", "tokens"} < set(CODECS)
    with pytest.raises(UnknownNameError, match="unknown codec of --menu 'rotate'"):
        menu_of("rotate:1")
    with pytest.raises(InputError, match="give NAME:BITS"):
        menu_of("ecsq:two")
    with pytest.raises(InputError, match=r"0\.05 to 10 bits"):
        menu_of("ecsq:0.01")
