"""A fixed set of samples that is visited again and again, out of any task.

Tasks draw endless fresh batches; codecs that remember a sample's last visit need samples that
return. Here each device has a set of its own, drawn once from the task whatever the run's seed, and
goes through it epoch after epoch, each time in another order. Batches carry the samples' numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.training.data.task import (
    Batch,
    Part,
    PretrainingDefaults,
    Task,
    generator_of,
)
from sftopt.training.split.known import SAMPLES

_SET_SEED = 4711
"""Seed of which samples are in the set; part of the fingerprint."""
_DRAWN = 64
"""Samples drawn at a time."""
_SETS: dict[tuple[str, str, int, int, int], Batch] = {}
"""Sets drawn so far, by all that decides on them."""


@dataclass(frozen=True)
class RevisitedTask(Task):
    """``task`` with a fixed set of ``samples`` on every device."""

    task: Task | None = field(default=None, repr=False)
    samples: int = 0

    @property
    def whole(self) -> Task:
        """Return the task that the set is of."""
        assert self.task is not None
        return self.task

    def held_out(self, part: str) -> int:
        """Return the number of samples of a held-out part: the task's own."""
        return self.whole.held_out(part)

    def model_config(self) -> PretrainedConfig:
        """Return the task's default model."""
        return self.whole.model_config()

    def pretraining(self) -> Task | None:
        """Return the part the default model is pre-trained on."""
        return self.whole.pretraining()

    def pretraining_defaults(self) -> PretrainingDefaults:
        """Return how the default model is pre-trained."""
        return self.whole.pretraining_defaults()

    def _endless(
        self, device: int, devices: int, batch: int, seed: int, number: int
    ) -> Iterator[Batch]:
        if self.samples % batch:
            raise InputError(
                f"a set of {self.samples} samples and batches of {batch}: the set must be a whole "
                "number of batches."
            )
        own, each = self._set(device, devices), self.samples // batch
        while True:
            epoch, place = divmod(number, each)
            order = generator_of(_SET_SEED, seed, device, devices, epoch).permutation(self.samples)
            yield _chosen(own, order[place * batch : (place + 1) * batch])
            number += 1

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        return _chosen(self._set(device, devices), generator.integers(self.samples, size=batch))

    def _held_out(self, part: Part, numbers: NDArray[np.int64]) -> Batch:
        return self.whole._held_out(part, numbers)

    def _set(self, device: int, devices: int) -> Batch:
        return _drawn(self.whole, self.samples, device, devices)


def revisited(task: Task, samples: int) -> RevisitedTask:
    """Return ``task`` with a fixed set of ``samples`` on every device. Raises InputError."""
    if samples < 1:
        raise InputError(f"a set of {samples} samples; 1 or more expected.")
    if isinstance(task, RevisitedTask):
        raise InputError(f"task '{task.name}' has a fixed set already.")
    mark = f"{task.fingerprint} {_SET_SEED} {samples}".encode()
    return RevisitedTask(
        name=f"{task.name}, {samples} samples revisited",
        kind=task.kind,
        metric=task.metric,
        labels=task.labels,
        fingerprint=hashlib.sha256(mark).hexdigest(),
        notes=task.notes,
        training=replace(task.training),
        recommended_codecs=task.recommended_codecs,
        task=task,
        samples=samples,
    )


def rounds_of(
    instance: Instance,
    rounds: int | None,
    samples: int | None,
    epochs: int | None,
    local_steps: int | None = None,
) -> int | None:
    """Return the rounds in which each of ``samples`` comes ``epochs`` times; else ``rounds``.

    The last round may go beyond. Raises InputError where both are given, where there is no fixed
    set, or where devices of unequal batches would need unequal rounds.
    """
    if epochs is None:
        return rounds
    if rounds is not None:
        raise InputError(f"{epochs} epochs and {rounds} rounds: give one of the two.")
    if samples is None:
        raise InputError(f"{epochs} epochs: of how many samples? Give the size of the fixed set.")
    batches = sorted({device.batch for device in instance.devices})
    if len(batches) > 1:
        raise InputError(
            f"devices with batches of {' and '.join(map(str, batches))}: an epoch is not one "
            "number of steps for all; give rounds in place of epochs."
        )
    steps = local_steps or instance.training.local_steps
    return -(-epochs * samples // (batches[0] * steps))


def _drawn(task: Task, samples: int, device: int, devices: int) -> Batch:
    key = (task.name, task.fingerprint, samples, device, devices)
    if key not in _SETS:
        draws = [
            task._draw(
                device, devices, min(_DRAWN, samples - first),
                generator_of(_SET_SEED, device, devices, first),
            )
            for first in range(0, samples, _DRAWN)
        ]  # fmt: skip
        joined = {name: torch.cat([draw[name] for draw in draws]) for name in draws[0]}
        _SETS[key] = {**joined, SAMPLES: torch.arange(samples)}
    return _SETS[key]


def _chosen(own: Batch, numbers: NDArray[np.int64]) -> Batch:
    chosen = torch.from_numpy(np.ascontiguousarray(numbers))
    return {name: value[chosen] for name, value in own.items()}
