"""Calibrations that are stopped, gone on with, repeated and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sftopt.core.calibration import Calibration, load_calibration
from sftopt.core.errors import InputError
from sftopt.core.folder_lock import FolderLock
from sftopt.training.calibrate import CalibrationNews, CalibrationSettings, Cell, cells_of
from sftopt.training.split import DivergedError
from tests.training.calibrate.small import SETTINGS, TASK, go, without_seconds
from tests.training.fake_task import FakeTask

RUNS = 12
"""Of SETTINGS: 2 seeds of (none, 4 cells, 1 dead zone)."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibration]:
    """An uninterrupted calibration and its work folder."""
    work = tmp_path_factory.mktemp("whole")
    return work, go(work)


def test_the_file_holds_every_part(whole: tuple[Path, Calibration], tmp_path: Path) -> None:
    _, made = whole
    fit = made.accuracy_fit()
    assert len(fit.cells) == 4
    assert (fit.keep_from, fit.keep_to, fit.bits_from, fit.bits_to) == (0.1, 0.5, 2, 8)
    assert len(fit.ecsq) == 1
    assert 1.0 < fit.ecsq[0].value_bits < 2.0
    assert fit.settings["rounds"] == 1
    for cell in fit.cells:
        for metric, loss, plain in zip(cell.metric, cell.loss, fit.uncompressed, strict=True):
            assert loss == pytest.approx(plain - metric)
    assert made.source.task_fingerprint == TASK.fingerprint
    assert made.workload.blocks == 4
    path = tmp_path / "calibration.json"
    made.save(path)
    assert load_calibration(path) == made


@pytest.mark.parametrize("runs_before", [0, 5])
def test_stopped_and_gone_on_with_is_as_if_never_stopped(
    whole: tuple[Path, Calibration], tmp_path: Path, runs_before: int
) -> None:
    """Stopped before the first run ends, and in the middle with the last line half written."""
    ran: list[Cell] = []
    if runs_before:
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path, ran=ran, stop_after=runs_before)
        with (tmp_path / "cells.jsonl").open("a") as handle:
            handle.write('{"key": "12')
    later: list[Cell] = []
    resumed = go(tmp_path, ran=later)
    assert without_seconds(resumed) == without_seconds(whole[1])
    assert len(ran) + len(later) == RUNS
    assert not set(ran) & set(later)


def test_results_that_were_damaged_are_told_and_made_again(
    whole: tuple[Path, Calibration], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that is no JSON, a figure that was changed, and a measurement that was."""
    shutil.copytree(whole[0], tmp_path / "work")
    cells = tmp_path / "work" / "cells.jsonl"
    lines = cells.read_text().splitlines()
    lines[1] = lines[1].replace('"metric": ', '"metric": 1')
    lines[3] = "nonsense"
    cells.write_text("\n".join(lines) + "\n")
    measured = tmp_path / "work" / "measured.json"
    data = json.loads(measured.read_text())
    data["workload"]["blocks"] += 1
    measured.write_text(json.dumps(data))
    ran: list[Cell] = []
    again = go(tmp_path / "work", ran=ran)
    assert len(ran) == 2
    assert again.accuracy == whole[1].accuracy
    assert "2 lines cannot be read as results" in caplog.text
    assert "measured.json' is not as it was written" in caplog.text
    assert len((tmp_path / "work" / "cells.damaged").read_text().splitlines()) == 2
    assert len(cells.read_text().splitlines()) == RUNS


def test_a_second_calibration_in_the_folder_is_refused(
    whole: tuple[Path, Calibration], tmp_path: Path
) -> None:
    with FolderLock(tmp_path), pytest.raises(InputError, match="being written by another run"):
        go(tmp_path)


def test_data_that_does_not_fit_the_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not fit model"):
        go(tmp_path / "work", task=FakeTask(metric="negative_loss_nats"))
    assert not (tmp_path / "work").exists()


def test_what_is_finished_is_not_run_again(whole: tuple[Path, Calibration]) -> None:
    work, made = whole
    ran: list[Cell] = []
    again = go(work, ran=ran)
    assert ran == []
    assert again.to_dict() == made.to_dict()  # measured seconds included


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bits": (2, 4, 8)}, 4),  # a grid that grows: only what is new
        ({"learning_rate": 0.02, "seeds": (0,)}, RUNS // 2),  # another run altogether
    ],
    ids=["more bits", "other rate"],
)
def test_the_cache_is_by_content(
    whole: tuple[Path, Calibration], tmp_path: Path, change: dict[str, Any], expected: int
) -> None:
    cells = tmp_path / "cells.jsonl"
    cells.write_bytes((whole[0] / "cells.jsonl").read_bytes())
    ran: list[Cell] = []
    go(tmp_path, replace(SETTINGS, **change), ran=ran)
    assert len(ran) == expected


def test_other_data_is_another_key(whole: tuple[Path, Calibration], tmp_path: Path) -> None:
    cells = tmp_path / "cells.jsonl"
    cells.write_bytes((whole[0] / "cells.jsonl").read_bytes())
    ran: list[Cell] = []
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, ran=ran, stop_after=1, task=FakeTask(fingerprint="other"))
    assert ran == [Cell("none", 0)]


def test_progress_counts_runs_and_tells_the_time_left(tmp_path: Path) -> None:
    told: list[CalibrationNews] = []
    go(tmp_path, replace(SETTINGS, seeds=(0,), ecsq=()), news=told.append)
    stages = list(dict.fromkeys(news.stage for news in told))
    assert stages == ["profile", "payloads", "fine-tunings", "fit"]
    runs = [news for news in told if news.stage == "fine-tunings"]
    assert [news.done for news in runs] == list(range(6))
    assert {news.total for news in runs} == {5}
    assert runs[0].left_s is None
    left = [news.left_s for news in runs[1:]]
    assert all(value is not None and value >= 0.0 for value in left)
    assert left[-1] == 0.0


def test_cells_come_seed_by_seed_uncompressed_first() -> None:
    cells = cells_of(CalibrationSettings())
    assert len(cells) == 3 * (1 + 6 * 3)
    assert cells[0] == Cell("none", 0)
    assert cells[19] == Cell("none", 1)


def test_a_loss_that_is_no_number_names_the_run(tmp_path: Path) -> None:
    class Spoilt(FakeTask):
        def draw(self, batch: int, *seed: int) -> dict[str, torch.Tensor]:
            drawn = super().draw(batch, *seed)
            if seed[0] == 1:  # the second seed's training data
                drawn["pixel_values"] = torch.full_like(drawn["pixel_values"], float("nan"))
            return drawn

    with pytest.raises(DivergedError, match=r"calibration run \(no compression, seed 1\)"):
        go(tmp_path, task=Spoilt())
    # what ended before it is kept
    assert (tmp_path / "cells.jsonl").read_text().count("\n") == RUNS // 2


def test_a_cut_beyond_the_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 3"):
        go(tmp_path, replace(SETTINGS, cuts=(2, 4)))
    assert list(tmp_path.iterdir()) == []


def test_a_rank_above_the_models_width_is_refused_at_once(tmp_path: Path) -> None:
    wide = replace(SETTINGS, every_round=True, ranks=(2, 1000), schedule="constant")
    with pytest.raises(InputError, match="ranks: 1000 is above the hidden size of"):
        go(tmp_path / "new", wide)
    assert not (tmp_path / "new").exists()


def test_settings_name_every_fault() -> None:
    with pytest.raises(InputError) as caught:
        CalibrationSettings(keeps=(0.0, 0.5), bits=(1,), seeds=(3, 3), rounds=0, cuts=())
    text = str(caught.value)
    for fault in (
        "cuts is empty",
        "rounds = 0",
        "0 is no fraction",
        "bits: 1",
        "seeds must differ",
    ):
        assert fault in text
