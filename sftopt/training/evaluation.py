"""The metric of a split model on held-out data, through every device's cut and codec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from sftopt.core.errors import InputError
from sftopt.training.codec import Codec, CodecError
from sftopt.training.split import DivergedError, LosslessCodec, SplitModel
from sftopt.training.split.parts import Batch
from sftopt.training.split.scores import ScoredCodec
from sftopt.training.split.side import IGNORED_LABEL

ACCURACY = "accuracy"
"""Metric of classifiers: the share of right answers."""
NEGATIVE_LOSS = "negative_loss_nats"
"""Metric of language models: minus the mean loss of a predicted token, in nats."""


class Task(Protocol):
    """Data to fine-tune on, and how it is judged."""

    @property
    def name(self) -> str:
        """Name the task for messages and records."""
        ...

    @property
    def metric(self) -> str:
        """Name the metric: ``accuracy`` or ``negative_loss_nats``; more is better."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        ...

    def train_batches(
        self, device: int, devices: int, batch: int, seed: int, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield endless batches of one device's share of the data, without the first ``skip``."""
        ...

    def evaluation(
        self, batch: int, part: str = "test", limit: int | None = None
    ) -> Iterable[Batch]:
        """Yield held-out batches, ``limit`` samples at most."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """The metric of a split model: by device, and their mean weighted by w_n."""

    metric: float
    by_device: dict[str, float]


def evaluate(
    model: SplitModel,
    task: Task,
    *,
    batch: int = 64,
    limit: int | None = None,
    part: str = "test",
    stale: Iterable[str] = (),
) -> Evaluation:
    """Evaluate the metric through every device's cut and codec, and the mean weighted by w_n.

    Devices that share cut, rank and codec are evaluated once: after an averaging their adapters are
    the same. ``stale`` names devices that missed it. Raises DivergedError where the loss is not
    finite.
    """
    kept = set(stale)
    values: dict[tuple[Any, ...], float] = {}
    by_device = {}
    for device_id in model.devices:
        key = (device_id,) if device_id in kept else _sameness(model, device_id)
        if key not in values:
            batches = task.evaluation(batch, part=part, limit=limit)
            values[key] = _metric(model, device_id, task.metric, batches)
        by_device[device_id] = values[key]
    total = math.fsum(model.weights.values())
    mean = math.fsum(model.weights[name] * value for name, value in by_device.items()) / total
    return Evaluation(mean, by_device)


def _sameness(model: SplitModel, device_id: str) -> tuple[Any, ...]:
    """What devices must share for their evaluations to be the same."""
    split, codec = model.config.device(device_id), model.devices[device_id].codec
    if isinstance(codec, LosslessCodec):
        return ("lossless", split.rank)  # then the place of the cut does not matter
    if isinstance(codec, ScoredCodec):
        codec = codec.inner
    coding = codec.config if isinstance(codec, Codec) else id(codec)
    return (split.blocks, split.rank, coding)


def _metric(model: SplitModel, device_id: str, metric: str, batches: Iterable[Batch]) -> float:
    total, count = 0.0, 0
    for batch in batches:
        try:
            found = model.evaluate(device_id, batch)
        except CodecError as error:  # a whole tensor of the right kind: only NaN is left
            raise diverged(f"device {device_id}, evaluation: {error}") from None
        if not math.isfinite(found.loss):
            raise diverged(f"device {device_id}, evaluation: the loss is {found.loss}")
        labels = batch["labels"]
        if metric == ACCURACY:
            counted = labels.cpu() != IGNORED_LABEL
            right = found.logits.argmax(-1).cpu() == labels.cpu()
            total += int((right & counted).sum())
            count += int(counted.sum())
        else:
            predicted = labels[:, 1:] if found.logits.ndim == 3 else labels
            weight = int((predicted != IGNORED_LABEL).sum())
            total -= weight * found.loss
            count += weight
    if count == 0:
        raise InputError("the evaluation data is empty.")
    return total / count


def diverged(what: str) -> DivergedError:
    """Make the error for a value that is no finite number."""
    return DivergedError(f"{what}. Lower the learning rate.")
