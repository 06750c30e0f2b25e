"""A small model, task and settings for calibrations that take a second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from sftopt.core.calibration import Calibration
from sftopt.training.calibrate import (
    CalibrationNews,
    CalibrationSettings,
    Cell,
    CellResult,
    calibrate_model,
    run_here,
)
from sftopt.training.split import SplitModel
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_model

SETTINGS = CalibrationSettings(
    cuts=(1,), batch=4, rounds=1, local_steps=2, learning_rate=0.01, lora_rank=3,
    keeps=(0.1, 0.5), bits=(2, 8), seeds=(0, 1), ecsq=(1.5,), evaluation_limit=20,
    statistics_bits=(4,), statistics_keeps=(0.1, 0.5), tensors=1, repeats=1, profile_batches=(2, 4),
)  # fmt: skip
TASK = FakeTask()


def base() -> PreTrainedModel:
    return tiny_model("vit")


def go(
    work: Path,
    settings: CalibrationSettings = SETTINGS,
    *,
    stop_after: int | None = None,
    ran: list[Cell] | None = None,
    news: Any = None,
    task: Any = TASK,
) -> Calibration:
    """A calibration in this process; ``stop_after`` so many runs it is interrupted."""
    model = base()

    def run(cells: Any, on_cell: Any) -> None:
        def count(cell: Cell, result: CellResult) -> None:
            on_cell(cell, result)
            if ran is not None:
                ran.append(cell)
                if len(ran) == stop_after:
                    raise KeyboardInterrupt

        run_here(model, task, settings, cells, count)

    def quiet(_: CalibrationNews) -> None:
        pass

    return calibrate_model(model, task, settings, work=work, run=run, news=news or quiet)


def without_seconds(calibration: Calibration) -> str:
    """The file's content without what differs from run to run, or follows from it: what a clock
    measures, and the codec's buffers, which small objects of Python's own are counted in.
    """
    data = calibration.to_dict()
    del data["workload"]["sample_base_bytes"]
    for batch in data["profile"]["batches"]:
        for name in [name for name in batch if name.endswith("_s")]:
            del batch[name]
        del batch["device_predicted_bytes"]
    for name in ("speed_flops_per_s", "embedding_forward_flops", "block_forward_flops",
                 "block_backward_flops", "head_flops"):  # fmt: skip
        del data["profile"][name]
    del data["codec"]["seconds_per_element"]
    for row in data["codec"]["rows"]:
        for name in [name for name in row if name.endswith("_s_per_element")]:
            del row[name]
    return json.dumps(data, sort_keys=True)


@dataclass(frozen=True)
class Sequences:
    """Random walks over letters: 256 tokens of a small causal model."""

    name: str = "walks"
    metric: str = "negative_loss_nats"
    fingerprint: str = "1"
    tokens: int = 256

    def train_batches(
        self, device: int, devices: int, batch: int, seed: int, skip: int = 0
    ) -> Iterator[dict[str, torch.Tensor]]:
        number = skip
        while True:
            yield self.draw(batch, seed, device, number)
            number += 1

    def evaluation(
        self, batch: int, part: str = "test", limit: int | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        for number in range((limit or 16) // batch):
            yield self.draw(batch, 10**6, 0, number)

    def draw(self, batch: int, *seed: int) -> dict[str, torch.Tensor]:
        generator = np.random.Generator(np.random.SFC64(seed))
        steps = generator.integers(-2, 3, (batch, self.tokens))
        ids = torch.from_numpy(np.cumsum(steps, axis=1) % 64)
        return {"input_ids": ids, "labels": ids.clone()}


def causal_model() -> PreTrainedModel:
    """GPT-2 of 4 blocks, hidden 64, 256 tokens; all dropout off."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=64, n_positions=256, n_embd=64, n_layer=4, n_head=4, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh",
                bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip


def split_of(model: PreTrainedModel, settings: CalibrationSettings) -> SplitModel:
    """The split that profile and payloads are measured on."""
    return SplitModel(model, replace(settings, seeds=(0,)).split_config(0, settings.cuts[:1]))
