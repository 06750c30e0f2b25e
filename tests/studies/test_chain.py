"""The chain's best form: what was measured at equal bytes decides, and on validation data alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from sftopt.core.calibration import Calibration
from sftopt.studies import traffic
from sftopt.studies.chain import best_chain
from sftopt.studies.traffic import CUT_CLAIMED
from sftopt.training.calibrate import CalibrationSettings, Cell, CellResult, workers
from sftopt.training.calibrate.payloads import BoundaryPair, boundary_pairs
from sftopt.training.calibrate.workers import Sources
from sftopt.training.codec import codec_from
from sftopt.training.data import TaskKind
from sftopt.training.split import SplitModel
from tests.calibration_samples import sample_calibration
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import CLASSES, tiny_model

GRID = CalibrationSettings(cuts=(1,), batch=8, rounds=1, local_steps=2, lora_rank=3, seeds=(0, 1))
GROWTH = 1.04
"""Payloads of a fine-tuning over those of the base model."""
SIDE = 3.0
"""Bits of labels per sample."""


@dataclass(frozen=True)
class _Task(FakeTask):
    """The fake task with what loading a model asks of a real one."""

    kind: TaskKind = TaskKind.IMAGE_CLASSIFICATION
    labels: int | None = CLASSES


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sources:
    """A saved tiny model and the fake task."""
    monkeypatch.setattr(workers, "load_task", lambda spec, **_: _Task())
    tiny_model("vit").save_pretrained(tmp_path / "model")
    return Sources(str(tmp_path / "model"), "fake")


def boundary(sources: Sources) -> BoundaryPair:
    """A boundary of the base model, on training data."""
    task = sources.load_task()
    split = SplitModel(sources.load_model(task), GRID.split_config(0))
    return boundary_pairs(split, task, GRID, 1, held_out=False)[0]


class _Measured:
    """Fine-tunings that end as they are told: ``loss`` of each form, bytes of real payloads."""

    def __init__(self, activation: torch.Tensor, loss: dict[tuple[int, bool], float]) -> None:
        self.activation, self.loss = activation, loss
        self.seen: list[tuple[CalibrationSettings, Cell]] = []

    def __call__(
        self, _: Sources, settings: CalibrationSettings, cells: Sequence[Cell], __: int, on: Any
    ) -> None:
        for cell in cells:
            self.seen.append((settings, cell))
            codec = cell.codec(settings, 1)
            config = codec.config  # type: ignore[attr-defined]
            sent = len(codec.compress(self.activation, seed=1).payload)
            on(
                cell,
                CellResult(
                    metric=-self.loss.get((config.bits, config.group is not None), 1.0)
                    - 0.001 * cell.seed,
                    uplink_bytes=round(2 * GROWTH * sent), downlink_bytes=1, cpu_s=0.0, wall_s=0.0,
                    side_bytes=round(2 * 8 * SIDE / 8),
                ),
            )  # fmt: skip


def calibration(elements: int, **accuracy: Any) -> Calibration:
    """Its curve says that 2 bits lose least, and its grid keeps at least 0.36."""
    measured = sample_calibration(accuracy={"keep_from": 0.36, "keep_to": 0.9, **accuracy})
    work = measured.workload.model_copy(update={"hidden": elements, "tokens": 1, "side_bits": SIDE})
    assert work.boundary_elements == elements
    return measured.model_copy(update={"workload": work})


def test_what_was_measured_decides_and_not_the_curve(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only 2 bits lie in the curve's range at the cut; 4 bits, outside it, lose less."""
    pair = boundary(sources)
    elements = pair.activation[0].numel()
    run = _Measured(pair.activation, {(2, False): 0.36, (4, False): 0.15, (8, False): 0.4})
    monkeypatch.setattr(traffic, "run_in_processes", run)
    codec, tried = best_chain(calibration(elements), sources, GRID, tmp_path / "work", 1)
    assert codec is not None
    assert (codec.bits, codec.group) == (4, None)
    (chosen,) = [one for one in tried if one["chosen"]]
    assert (chosen["bits"], chosen["keep"]) == (codec.bits, codec.keep)
    assert chosen["seeds"] == [0, 1]
    # with the bytes a fine-tuning sends, not those of the base model
    assert CUT_CLAIMED <= chosen["uplink_cut"] < CUT_CLAIMED + 0.003
    sent = 8 * GROWTH * len(codec_from(codec).compress(pair.activation, seed=1).payload)
    sent /= pair.activation.numel()
    side = SIDE / elements
    assert chosen["uplink_cut"] == pytest.approx(1 - (sent + side) / (32 + side), abs=1e-4)
    # every form was tried, the best three with all seeds, none on the test data
    forms = {(one["bits"], one["group"] is None) for one in tried}
    assert forms == {(bits, each) for bits in (2, 4, 8) for each in (True, False)}
    assert sum(one["seeds"] == [0, 1] for one in tried) == 3
    assert {settings.evaluation_part for settings, _ in run.seen} == {"validation"}


def test_scales_are_part_of_the_form(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair = boundary(sources)
    run = _Measured(pair.activation, {(4, False): 0.15, (4, True): 0.11})
    monkeypatch.setattr(traffic, "run_in_processes", run)
    measured = calibration(pair.activation[0].numel())
    codec, _ = best_chain(measured, sources, GRID, tmp_path / "work", 1)
    assert codec is not None
    assert codec.bits == 4
    assert codec.group is not None
    assert codec.group >= pair.activation.numel()
    # again: nothing is run that was finished
    count = len(run.seen)
    assert best_chain(measured, sources, GRID, tmp_path / "work", 1)[0] == codec
    assert len(run.seen) == count


def test_runs_on_validation_data_are_not_those_on_test_data() -> None:
    """Else a finished run of one would be taken for the other; keys of before stay."""
    test = GRID.run_dict()
    assert "evaluation_part" not in test
    other = CalibrationSettings(evaluation_part="validation").run_dict()
    assert other["evaluation_part"] == "validation"


def test_no_form_where_labels_leave_no_bytes(sources: Sources, tmp_path: Path) -> None:
    elements = boundary(sources).activation[0].numel()
    measured = calibration(elements)
    work = measured.workload.model_copy(update={"side_bits": 4.0 * elements})
    codec, tried = best_chain(
        measured.model_copy(update={"workload": work}), sources, GRID, tmp_path / "work", 1
    )
    assert codec is None
    assert tried == []
