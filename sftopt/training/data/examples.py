"""Samples of text that stand for themselves, padded to one length: labelled texts, chats, answers.

A language model's samples have a label at each token, or none where no loss is taken; a
classifier's have one label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.training.data.task import Batch, Part, Task, generator_of
from sftopt.training.split.side import IGNORED_LABEL

IntArray = NDArray[np.int64]
TokenArray = NDArray[np.int32]

_SHARES_SEED = 7
"""Seed of the order in which samples are shared among devices."""


@dataclass(frozen=True)
class Examples:
    """Samples of unequal length, one behind the other."""

    tokens: TokenArray
    """Of all samples."""
    starts: IntArray
    """Where each sample begins, and at last where all end."""
    labels: IntArray
    """One for each token, or one for each sample."""

    @staticmethod
    def of(
        ids: Sequence[Sequence[int]], labels: Sequence[int] | Sequence[Sequence[int]]
    ) -> Examples:
        """Join samples; labels are one number each, or one list as long as the sample each."""
        lengths = [len(one) for one in ids]
        flat: list[int] = []
        for one in labels:
            flat += one if isinstance(one, Sequence) else [one]
        return Examples(
            np.array([number for one in ids for number in one], dtype=np.int32),
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            np.array(flat, dtype=np.int64),
        )

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return int(self.starts.size - 1)

    def feed(self, digest: hashlib._Hash) -> None:
        """Put all content into a hash."""
        for array, kind in ((self.tokens, "<i4"), (self.starts, "<i8"), (self.labels, "<i8")):
            digest.update(f"{array.size} ".encode())
            digest.update(array.astype(kind).tobytes())


def _no_examples() -> Mapping[str, Examples]:
    return {}


@dataclass(frozen=True)
class ExampleTask(Task):
    """Samples in rows of ``tokens`` tokens, padded behind; devices hold equal random shares."""

    tokens: int = 128
    parts: Mapping[str, Examples] = field(default_factory=_no_examples)

    def held_out(self, part: str) -> int:
        """Return the number of samples of a held-out part."""
        return self.parts[Part(part).value].size

    def model_config(self) -> PretrainedConfig:
        """Raise InputError: texts of the user's own have no model of ours."""
        raise InputError(f"data '{self.name}' has no default model; give one with --model.")

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        train = self.parts["train"]
        own = generator_of(_SHARES_SEED).permutation(train.size)[device::devices]
        if own.size == 0:
            raise InputError(f"task '{self.name}': fewer training samples than {devices} devices.")
        return self._batch(train, own[generator.integers(own.size, size=batch)])

    def _held_out(self, part: Part, numbers: IntArray) -> Batch:
        return self._batch(self.parts[part.value], numbers)

    def _batch(self, examples: Examples, numbers: IntArray) -> Batch:
        shape = (numbers.size, self.tokens)
        ids = np.full(shape, self.padding_token or 0, np.int64)
        mask = np.zeros(shape, np.int64)
        each = self.kind.labels_tokens
        labels = np.full(shape, IGNORED_LABEL, np.int64) if each else examples.labels[numbers]
        for row, number in enumerate(numbers):
            place = slice(examples.starts[number], examples.starts[number + 1])
            size = place.stop - place.start
            ids[row, :size] = examples.tokens[place]
            mask[row, :size] = 1
            if each:
                labels[row, :size] = examples.labels[place]
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
        }
