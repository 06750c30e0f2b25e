"""Pre-training of the default tasks' small models: seeded, cached by content, resumable.

What comes out is a standard Hugging Face folder plus ``boundary_bases.safetensors`` for codec
``rotated`` and ``pretrain.json``, which says what all was made of. A call with the same settings
finds that file and returns at once; after a kill the next call goes on from the last checkpoint and
ends with the same weights as an uninterrupted one (on the same machine: floating-point sums depend
on the number of threads).

Weights of a recipe with ``stored`` = ``float16`` are rounded to 16 bits before anything is measured
on them, and take half the room; ``config.json`` says float32, so whoever loads the folder computes
in float32 with the very weights that the bases were measured on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as hub_logging

from sftopt.core.errors import InputError
from sftopt.core.files import read_json, write_json
from sftopt.core.folder_lock import FolderLock
from sftopt.core.version import SCHEMA_VERSION
from sftopt.training.bases import BASES_NAME, measure_bases, write_bases
from sftopt.training.data import PretrainingDefaults, Task, TaskKind, load_task, metric_of
from sftopt.training.pretrain_recipe import key_of, learning_rate, recipe_of
from sftopt.training.split import DivergedError
from sftopt.training.split.kept_folders import (
    STATE_NAME,
    is_kept,
    remove_kept,
    replacing,
    sha256_of,
    take_whole,
)
from sftopt.training.tensor_files import read_tensors, write_tensors

RECORD_NAME = "pretrain.json"
"""File that tells of a finished pre-training."""
_TENSORS = "tensors.safetensors"
"""Weights and the optimiser's moments in a checkpoint."""
_CHECKPOINT = "checkpoint"
"""Folder of the state from which an interrupted pre-training resumes."""
_CHECKPOINT_STEPS = 200
"""Steps between two checkpoints."""
_EVALUATION_BATCH = 64
"""Samples of a batch in the evaluation."""
_EVALUATION_SAMPLES = 1024
"""Most samples of the evaluation."""
_BASES_BATCH = 32
"""Samples of a batch from which bases are measured."""
WEIGHTS_NAME = "model.safetensors"
"""File of the weights."""
MADE_FILES = ("config.json", WEIGHTS_NAME, BASES_NAME)
"""What a finished folder cannot be without."""


@dataclass(frozen=True)
class PretrainingNews:
    """How far a run is."""

    step: int
    steps: int
    loss: float
    elapsed_s: float
    """Wall seconds since this call began."""
    left_s: float
    """Wall seconds still to go at this call's pace."""


News = Callable[[PretrainingNews], None]


@dataclass(frozen=True)
class Pretrained:
    """A finished model folder."""

    path: Path
    record: dict[str, Any]
    """The content of ``pretrain.json``."""
    cached: bool
    """Whether it was there before."""


def pretrained(
    task_spec: str,
    *,
    cache: Path,
    seed: int = 0,
    steps: int | None = None,
    news: News | None = None,
) -> Path:
    """Return the default model of a task out of ``cache``, pre-trained now if it is not there.

    Its folder's name holds a hash of all settings and data. Raises as :func:`pretrain`.
    """
    task = load_task(task_spec)
    recipe = recipe_of(task, seed, {"steps": steps})
    name = f"{task.name.replace(':', '-').replace(os.sep, '-')}-{key_of(recipe)[:16]}"
    return pretrain(task, cache / name, seed=seed, steps=steps, news=news).path


def pretrain(
    task: Task,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    asked: Mapping[str, Any] | None = None,
    news: News | None = None,
) -> Pretrained:
    """Pre-train the default model of ``task`` on its pre-training part, into folder ``out``.

    ``asked`` are fields of :class:`PretrainingDefaults` in place of the task's.
    A classifier leaves with a fresh head for the classes of the fine-tuning part. Raises
    InputError for a task without such a part and for a folder that holds something else,
    DivergedError where the loss is no number.
    """
    recipe = recipe_of(task, seed, {**(asked or {}), "steps": steps})
    key = key_of(recipe)
    record = _finished(out, key)
    if record is not None:
        return Pretrained(out, record, cached=True)
    part = task.pretraining()
    assert part is not None  # recipe_of has refused tasks without one
    defaults = PretrainingDefaults(**recipe["settings"])
    with FolderLock(out):  # before the training, which takes minutes
        return _pretrained(task, part, defaults, recipe, out, news)


def _pretrained(
    task: Task, part: Task, defaults: PretrainingDefaults, recipe: dict[str, Any], out: Path,
    news: News | None,
) -> Pretrained:  # fmt: skip
    key, seed = key_of(recipe), int(recipe["seed"])
    started = time.monotonic()
    run = _Run(part, defaults, seed, out / _CHECKPOINT, key)
    run.train(news or (lambda _: None))
    model = _with_fresh_head(task, run.model, seed)
    stored: torch.dtype = getattr(torch, defaults.stored)
    for each in {run.model, model}:  # a classifier's head is new, and its other weights copies
        round_weights(each, stored)
    scores = _evaluate(part, run.model)
    # of the pre-training part: what stands beside the weights is no more secret than they are
    bases = measure_bases(run.model, part.train_batches(0, 1, _BASES_BATCH, seed))
    record = {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "recipe": recipe,
        "data_notes": list(part.notes),
        "final_loss_nats": run.last_loss,
        **scores,
        "wall_s": round(time.monotonic() - started, 3),
        "resumed_at_step": run.resumed_at,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
    }
    _save_model(model, out, stored)
    write_bases(out / BASES_NAME, bases)
    record["sha256"] = {name: sha256_of(out / name) for name in MADE_FILES}
    write_json(out / RECORD_NAME, record)  # last: a folder without it is unfinished
    remove_kept(out / _CHECKPOINT)
    return Pretrained(out, record, cached=False)


class _Run:
    """Model, optimiser and the place in the data; starts from a checkpoint where there is one."""

    def __init__(
        self, part: Task, settings: PretrainingDefaults, seed: int, checkpoint: Path, key: str
    ) -> None:
        self.part, self.settings, self.seed = part, settings, seed
        self.checkpoint, self.key = checkpoint, key
        self.model = _fresh(part.model_config(), part.kind, seed)
        self.parameters = dict(self.model.named_parameters())
        decayed = [p for p in self.parameters.values() if p.ndim >= 2]
        plain = [p for p in self.parameters.values() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
        )
        self.last_loss = math.nan
        self.resumed_at = self._restore()

    def train(self, news: News) -> None:
        """All steps that are left; a checkpoint every so often and when interrupted."""
        settings, started = self.settings, time.monotonic()
        step = self.resumed_at
        taken = step * settings.accumulation
        batches = self.part.train_batches(0, 1, settings.batch, self.seed, skip=taken)
        self.model.train()
        try:
            while step < settings.steps:
                self.last_loss = self._step(batches, step)
                step += 1
                elapsed = time.monotonic() - started
                pace = elapsed / (step - self.resumed_at)
                left = pace * (settings.steps - step)
                news(PretrainingNews(step, settings.steps, self.last_loss, elapsed, left))
                if step % _CHECKPOINT_STEPS == 0 and step < settings.steps:
                    self._keep(step)
        except KeyboardInterrupt:
            self._keep(step)
            raise

    def _step(self, batches: Iterator[dict[str, torch.Tensor]], step: int) -> float:
        """One update from the mean gradient of some batches; their mean loss."""
        rate, count = learning_rate(self.settings, step), self.settings.accumulation
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        for _ in range(count):
            loss = self._loss(next(batches))
            if not torch.isfinite(loss):
                raise DivergedError(f"pre-training: the loss is {loss.item()} at step {step}.")
            torch.autograd.backward(loss / count if count > 1 else loss)
            total += float(loss.item())
        nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total / count

    def _loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self.model(**batch)
        loss = self.part.pretraining_loss(output.logits, batch["labels"])
        found: torch.Tensor = output.loss if loss is None else loss
        return found

    def _keep(self, step: int) -> None:
        """Write the checkpoint to a neighbour, then swap: a kill leaves the old or the new one."""
        tensors = {f"model.{name}": value.detach() for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {f"{slot}.{name}": value for slot, value in state.items()}
        with replacing(self.checkpoint) as fresh:
            write_tensors(fresh / _TENSORS, tensors)
            state = {"key": self.key, "step": step, "loss": self.last_loss}
            write_json(fresh / STATE_NAME, state)

    def _restore(self) -> int:
        """Take up the checkpoint; the step to go on from."""
        if not is_kept(self.checkpoint):
            return 0
        take_whole(self.checkpoint, "pre-training checkpoint")
        state = read_json(self.checkpoint / STATE_NAME, "pre-training checkpoint")
        if state.get("key") != self.key:
            raise InputError(
                f"folder '{self.checkpoint.parent}' holds an unfinished pre-training with other "
                "settings or data. Choose another folder, or remove it."
            )
        tensors = read_tensors(self.checkpoint / _TENSORS, "pre-training checkpoint")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"model.{name}"])
                slots = ("step", "exp_avg", "exp_avg_sq")
                self.optimizer.state[parameter] = {s: tensors[f"{s}.{name}"] for s in slots}
        self.last_loss = float(state["loss"])
        return int(state["step"])


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """The record of a finished folder. Raises InputError where ``out`` is something else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file; a model needs a folder.")
    if (out / RECORD_NAME).is_file():
        record = read_json(out / RECORD_NAME, "pre-training record")
        whole = all((out / name).is_file() for name in MADE_FILES)
        if record.get("key") == key and whole:
            check_made(out, record)
            return record
        raise InputError(
            f"folder '{out}' holds a model that was pre-trained with other settings or data, "
            "or lacks some of its files. Choose another folder, or remove it."
        )
    if (out / "config.json").is_file() and not is_kept(out / _CHECKPOINT):
        raise InputError(f"folder '{out}' holds another model; choose another folder.")
    return None


def check_made(out: Path, record: dict[str, Any]) -> None:
    """Refuse a model whose files are not as they were written. Raises InputError."""
    for name, digest in record.get("sha256", {}).items():  # earlier versions wrote none
        if sha256_of(out / name) != digest:
            raise InputError(
                f"'{out / name}' is not as pre-training wrote it (its checksum differs). Remove "
                f"'{out}': the model is then made again."
            )


def _fresh(config: PretrainedConfig, kind: TaskKind, seed: int) -> PreTrainedModel:
    """A model with random weights out of ``seed``; the caller's generator is left alone."""
    auto: Any = (
        transformers.AutoModelForImageClassification
        if kind is TaskKind.IMAGE_CLASSIFICATION
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = auto.from_config(config)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model


def _with_fresh_head(task: Task, model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The model for the fine-tuning part: as it is, or with a new head for other classes."""
    config = task.model_config()
    if task.kind is not TaskKind.IMAGE_CLASSIFICATION or config.num_labels == model.num_labels:
        return model
    fresh = _fresh(config, task.kind, seed)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


@torch.no_grad()
def _evaluate(part: Task, model: PreTrainedModel) -> dict[str, Any]:
    """The metric on the held-out data of the pre-training part."""
    model.train(False)
    total, count = 0.0, 0
    for batch in part.evaluation(_EVALUATION_BATCH, limit=_EVALUATION_SAMPLES):
        value, number = metric_of(part, model(**batch).logits, batch["labels"])
        total, count = total + value, count + number
    return {"metric": part.metric, "test_metric": total / count, "test_count": count}


@torch.no_grad()
def round_weights(model: PreTrainedModel, stored: torch.dtype) -> None:
    """Round a model's weights in place to those that ``stored`` can hold; their dtype stays.

    Raises DivergedError where one is beyond its range, which a smaller learning rate avoids.
    """
    for name, weight in model.named_parameters():
        rounded = weight.to(stored).to(weight.dtype)
        if not bool(torch.isfinite(rounded).all()):
            raise DivergedError(
                f"pre-training: weight '{name}' is {weight.abs().max():g}, beyond the "
                f"{torch.finfo(stored).max:g} of {stored}; pre-train with a smaller learning rate."
            )
        weight.copy_(rounded)


def _save_model(model: PreTrainedModel, out: Path, stored: torch.dtype) -> None:
    """The folder in Hugging Face's layout, weights as safetensors."""
    bars = hub_logging.is_progress_bar_enabled()
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with _writing(out):
            model.save_pretrained(out)
        if stored is not model.dtype:  # its configuration goes on saying what is computed in
            weights = read_tensors(out / WEIGHTS_NAME, "file of weights")
            halves = {name: value.to(stored) for name, value in weights.items()}
            write_tensors(out / WEIGHTS_NAME, halves, {"format": "pt"})
    finally:
        if bars:
            hub_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Within: what the disk does not take becomes an InputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write folder '{folder}': {error}.") from None
