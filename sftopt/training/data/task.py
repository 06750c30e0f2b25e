"""What a fine-tuning task is: batches for every device, held-out batches, a metric, defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch
from transformers import PretrainedConfig

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.codec import CodecConfig
from sftopt.training.evaluation import ACCURACY, NEGATIVE_LOSS
from sftopt.training.split.side import IGNORED_LABEL

Batch = dict[str, torch.Tensor]
"""What the model's forward takes, ``labels`` included."""


class TaskKind(StrEnum):
    """What is learnt."""

    IMAGE_CLASSIFICATION = "image_classification"
    TEXT_CLASSIFICATION = "text_classification"
    TOKEN_CLASSIFICATION = "token_classification"
    LANGUAGE_MODELLING = "language_modelling"

    @property
    def model_task(self) -> str:
        """Return the head the task needs, as ``load_base_model`` calls it."""
        return {
            TaskKind.IMAGE_CLASSIFICATION: "image-classification",
            TaskKind.TEXT_CLASSIFICATION: "text-classification",
            TaskKind.TOKEN_CLASSIFICATION: "token-classification",
            TaskKind.LANGUAGE_MODELLING: "causal-lm",
        }[self]

    @property
    def metric(self) -> str:
        """Return the metric by which it is judged, as evaluations name it; bigger is better."""
        return NEGATIVE_LOSS if self is TaskKind.LANGUAGE_MODELLING else ACCURACY

    @property
    def labels_tokens(self) -> bool:
        """Return whether each token has a label of its own."""
        return self in (TaskKind.TOKEN_CLASSIFICATION, TaskKind.LANGUAGE_MODELLING)


class Part(StrEnum):
    """The held-out parts of a task."""

    TEST = "test"
    """What reported figures are taken on."""
    VALIDATION = "validation"
    """What settings may be chosen on."""


@dataclass(frozen=True)
class TrainingDefaults:
    """Settings of a fine-tuning that suit a task's default model; found by trial."""

    batch: int = 16
    """Samples per device and step."""
    steps: int = 300
    """Steps of a whole fine-tuning."""
    cut: int = 2
    """Blocks on the device."""
    learning_rate: float = 1e-3
    schedule: str = "linear"
    """A value of ``sftopt.training.schedule.Schedule``."""
    lora_rank: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] | None = None
    """None: query and value."""


@dataclass(frozen=True)
class PretrainingDefaults:
    """Settings of the pre-training of a task's default model."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.05
    warmup_steps: int = 100
    clip_norm: float = 1.0
    schedule: str = "cosine"
    """A value of ``sftopt.training.schedule.Schedule``, behind the warm-up."""
    accumulation: int = 1
    """Batches of one update."""
    stored: str = "float32"
    """In which the weights are rounded and written, ``float32`` or ``float16``; computed is in
    float32 either way."""


@dataclass(frozen=True)
class Task(ABC):
    """A task. Batches are drawn by (seed, device, number) alone, so any of them can be made first.

    The fine-tuning part; `pretraining` is the other one, where the task has one.
    """

    name: str
    """The spec it was loaded by."""
    kind: TaskKind
    metric: str
    """``accuracy`` or ``negative_loss_nats``: bigger is better."""
    labels: int | None
    """Classes of a classifier."""
    fingerprint: str
    """sha256 of the data that is really used."""
    notes: tuple[str, ...] = ()
    """What a reader of results should know about the data (files that differ, say)."""
    training: TrainingDefaults = field(default_factory=TrainingDefaults)
    label_names: tuple[str, ...] = ()
    """Of the classes, where they have names."""
    padding_token: int | None = None
    """The token that fills up samples, which a classifier has to know; None: nothing is padded."""
    recommended_codecs: Mapping[str, CodecConfig] = field(default_factory=dict)
    """By the cut of traffic they make, such as ``ecsq at 93.6 %``; set by ``load_task``."""

    def train_batches(
        self, device: int, devices: int, batch: int, seed: int, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield endless batches of one device's own share of the data, from number ``skip`` on.

        Batches that are skipped are not made. Raises InputError for a device that is not one of
        ``devices``.
        """
        if not 0 <= device < devices:
            raise InputError(f"device {device} of {devices}; 0 to {devices - 1} expected.")
        if batch < 1 or seed < 0 or skip < 0:
            raise InputError(f"batch {batch}, seed {seed}, skip {skip}: 1, 0, 0 or more expected.")
        return self._endless(device, devices, batch, seed, skip)

    def _endless(
        self, device: int, devices: int, batch: int, seed: int, number: int
    ) -> Iterator[Batch]:
        while True:
            yield self._draw(device, devices, batch, generator_of(seed, device, devices, number))
            number += 1

    def evaluation(
        self, batch: int, part: str = "test", limit: int | None = None
    ) -> Iterator[Batch]:
        """Yield the held-out samples in order, the first ``limit`` of them; the same at every call.

        ``part`` is ``test`` or ``validation``; the last batch may be smaller.
        """
        if part not in set(Part):
            raise UnknownNameError("part of the data", part, [p.value for p in Part])
        if batch < 1 or (limit is not None and limit < 1):
            raise InputError(f"batch {batch}, limit {limit}: 1 or more expected.")
        count = self.held_out(part)
        count = count if limit is None else min(count, limit)
        return (
            self._held_out(Part(part), np.arange(first, min(first + batch, count)))
            for first in range(0, count, batch)
        )

    @abstractmethod
    def held_out(self, part: str) -> int:
        """Return the number of samples of a held-out part."""

    @abstractmethod
    def model_config(self) -> PretrainedConfig:
        """Return the default small model for this task."""

    def pretraining(self) -> Task | None:
        """Return the part the default model is pre-trained on; None where there is none."""
        return None

    def pretraining_defaults(self) -> PretrainingDefaults:
        """Return how the default model is pre-trained. Raises InputError without one."""
        raise InputError(f"task '{self.name}' has no pre-training part; give a model with --model.")

    def pretraining_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Return what is minimised in pre-training; None stands for the model's own loss."""
        return None

    @abstractmethod
    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        """A training batch."""

    @abstractmethod
    def _held_out(self, part: Part, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Batch:
        """Held-out samples by number."""


def generator_of(*parts: int) -> np.random.Generator:
    """Make a seeded generator named by numbers."""
    return np.random.Generator(np.random.SFC64(list(parts)))


def metric_of(task: Task, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
    """Sum of the task's metric over a batch, and over how many it was taken: divide at the end.

    Accuracy counts labels; negative loss sums -nats over predicted tokens (a token's label is the
    next one's, as in every causal model). ``logits`` as :meth:`SplitModel.evaluate` gives them.
    """
    labels = labels.to(logits.device)
    if task.metric == ACCURACY:
        counted = labels != IGNORED_LABEL
        return float(((logits.argmax(-1) == labels) & counted).sum()), int(counted.sum())
    shifted, targets = logits[:, :-1].float(), labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        shifted.reshape(-1, shifted.shape[-1]),
        targets.reshape(-1),
        ignore_index=IGNORED_LABEL,
        reduction="sum",
    )
    return -loss.item(), int((targets != IGNORED_LABEL).sum())
