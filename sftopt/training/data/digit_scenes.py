"""``digit-scenes``: which two digits stand in a cluttered scene, left and right.

Scenes of 20 x 20 pixels are made from scikit-learn's 1,797 handwritten digits (8 x 8, UCI Optical
Recognition of Handwritten Digits): a digit in each half, moved by up to two pixels, strokes of
other digits strewn over them, uneven contrast and noise. The class is the ordered pair of digits.
Training, validation and test scenes are made of different digits' images, and the test set has
enough scenes (5,120) to tell half a point. Of the 100 pairs, 70 are for pre-training and the 30
with (right - left) mod 10 in {3, 6, 9} for fine-tuning; every digit stands on both sides in both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import ViTConfig

from sftopt.core.errors import InputError
from sftopt.training.data.task import (
    Batch,
    Part,
    PretrainingDefaults,
    Task,
    TaskKind,
    TrainingDefaults,
    generator_of,
)

NAME = "digit-scenes"
"""Name of the task."""
SIZE = 20
"""Width and height of a scene in pixels."""
_DIGIT = 8
"""Width and height of a digit in pixels."""
_FRAGMENT = 4
"""Width and height of a fragment of a digit in pixels."""
_FRAGMENTS = 3
"""Number of fragments that distract in a scene."""
_NOISE = 0.08
"""Standard deviation of the noise, where white is 1."""
_ROWS = (5, 7)
"""First and last row where a digit may begin."""
_COLUMNS = ((0, 2), (10, 12))
"""First and last column where the left and the right digit may begin."""
_SHIFTS = (3, 6, 9)
"""Differences of the two digits, modulo 10, of the pairs that fine-tuning uses."""
_SPLIT_SEED = 20
"""Seed of which digits' images are training, validation, test; part of the fingerprint."""
_SCENES = {Part.TEST: 5120, Part.VALIDATION: 1024}
"""Number of scenes of the held-out parts."""
_SCENE_SEED = {Part.TEST: 101, Part.VALIDATION: 102}
"""Seeds of the held-out parts' scenes."""
_VERSION = 1
"""Version of the way scenes are made; part of the fingerprint."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class _Pool:
    """Images of digits, grouped: ``members[d]`` are the numbers of digit d's images."""

    images: FloatArray
    members: tuple[IntArray, ...]

    def share(self, device: int, devices: int) -> _Pool:
        """Every ``devices``-th image of each digit."""
        if devices == 1:
            return self
        return _Pool(self.images, tuple(own[device::devices] for own in self.members))


@lru_cache(maxsize=1)
def _pools() -> tuple[dict[str, _Pool], str]:
    """Digits by part (train, validation, test), and the hash of all of them."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            f"task '{NAME}' needs scikit-learn (the digits are inside it): "
            "pip install 'sftopt[train]'."
        ) from None
    data: Any = load_digits()
    images = np.asarray(data.images, dtype=np.float32) / np.float32(16.0)
    targets = np.asarray(data.target, dtype=np.int64)
    digest = hashlib.sha256(images.tobytes() + targets.tobytes())
    digest.update(
        f"{_VERSION} {_SPLIT_SEED} {SIZE} {_FRAGMENTS} {_NOISE} {_ROWS} {_COLUMNS}".encode()
    )
    order = generator_of(_SPLIT_SEED).permutation(targets.size)
    grouped: dict[str, list[IntArray]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        own = order[targets[order] == digit]
        ends = (int(0.6 * own.size), int(0.7 * own.size))
        for name, numbers in zip(grouped, np.split(own, ends), strict=True):
            grouped[name].append(numbers)
    pools = {name: _Pool(images, tuple(members)) for name, members in grouped.items()}
    return pools, digest.hexdigest()


def _pairs(fine_tuning: bool) -> IntArray:
    """The classes of a part, (classes, 2): left and right digit."""
    every = np.array([(left, right) for left in range(10) for right in range(10)])
    chosen = np.isin((every[:, 1] - every[:, 0]) % 10, _SHIFTS)
    return every[chosen if fine_tuning else ~chosen]


@dataclass(frozen=True)
class DigitScenes(Task):
    """One of the two parts of the scenes."""

    pairs: IntArray = field(default_factory=lambda: _pairs(True))

    def held_out(self, part: str) -> int:
        """Return the number of scenes of a held-out part."""
        return _SCENES[Part(part)]

    def model_config(self) -> ViTConfig:
        """Return the default model: 6 blocks, hidden 64, patches of 4 x 4: 26 tokens."""
        return ViTConfig(
            hidden_size=64,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=256,
            hidden_act="gelu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            image_size=SIZE,
            patch_size=4,
            num_channels=1,
            initializer_range=0.1,  # the usual 0.02 is for wide models: this one would not start
            id2label={n: f"{left} {right}" for n, (left, right) in enumerate(self.pairs.tolist())},
            architectures=["ViTForImageClassification"],
        )

    def pretraining(self) -> DigitScenes | None:
        """Return the scenes of the other 70 pairs."""
        if len(self.pairs) == 70:
            return None
        return replace(self, name=f"{NAME}/pretraining", labels=70, pairs=_pairs(False))

    def pretraining_defaults(self) -> PretrainingDefaults:
        """Return settings that take about 3 minutes on 2 cores."""
        return PretrainingDefaults(steps=6000, batch=32, learning_rate=2.5e-3)

    def pretraining_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the pair, and of each digit as the pairs imply it.

        Without the second, nothing is learnt for as long as no pair is recognised as a whole.
        """
        loss = functional.cross_entropy(logits, labels)
        chances = logits.softmax(-1)
        pairs = torch.from_numpy(self.pairs)
        for side in (0, 1):
            digits = pairs[:, side]
            alone = chances @ functional.one_hot(digits, 10).to(chances.dtype)
            loss = loss + functional.nll_loss(alone.clamp_min(1e-30).log(), digits[labels])
        return loss

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        pool = _pools()[0]["train"].share(device, devices)
        return _scenes(pool, self.pairs, batch, generator)

    def _held_out(self, part: Part, numbers: IntArray) -> Batch:
        pixels, labels = _held_out_scenes(part, len(self.pairs) == 30)
        chosen = torch.from_numpy(numbers)
        return {"pixel_values": pixels[chosen], "labels": labels[chosen]}


@lru_cache(maxsize=4)
def _held_out_scenes(part: Part, fine_tuning: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = generator_of(_SCENE_SEED[part], int(fine_tuning))
    scenes = _scenes(_pools()[0][part.value], _pairs(fine_tuning), _SCENES[part], generator)
    return scenes["pixel_values"], scenes["labels"]


def _scenes(pool: _Pool, pairs: IntArray, count: int, generator: np.random.Generator) -> Batch:
    """``count`` scenes: pixel_values (count, 1, 20, 20) about [-1, 1], labels (count,)."""
    labels = generator.integers(len(pairs), size=count)
    canvas = np.zeros((count, SIZE, SIZE), dtype=np.float32)
    for _ in range(_FRAGMENTS):
        anywhere = (0, SIZE - _FRAGMENT)
        _paste(canvas, _fragments(pool, count, generator), generator, anywhere, anywhere)
    for side, columns in enumerate(_COLUMNS):
        chosen = _choose(pool, pairs[labels, side], generator)
        contrast = generator.uniform(0.6, 1.0, (count, 1, 1)).astype(np.float32)
        _paste(canvas, pool.images[chosen] * contrast, generator, _ROWS, columns)
    canvas += np.float32(_NOISE) * generator.standard_normal(canvas.shape, dtype=np.float32)
    canvas = 2.0 * canvas - 1.0
    return {
        "pixel_values": torch.from_numpy(canvas[:, None]),
        "labels": torch.from_numpy(labels),
    }


def _choose(pool: _Pool, digits: IntArray, generator: np.random.Generator) -> IntArray:
    """One image of each of these digits."""
    drawn = generator.random(digits.size)
    chosen = np.empty(digits.size, dtype=np.int64)
    for digit, members in enumerate(pool.members):
        mine = digits == digit
        chosen[mine] = members[(drawn[mine] * members.size).astype(np.int64)]
    return chosen


def _fragments(pool: _Pool, count: int, generator: np.random.Generator) -> FloatArray:
    """Pieces of digits, 4 x 4 pixels, fainter than a digit may be."""
    chosen = _choose(pool, generator.integers(10, size=count), generator)
    rows = generator.integers(_DIGIT - _FRAGMENT + 1, size=(2, count))
    step = np.arange(_FRAGMENT)
    pieces = pool.images[
        chosen[:, None, None],
        (rows[0][:, None] + step)[:, :, None],
        (rows[1][:, None] + step)[:, None, :],
    ]
    faint: FloatArray = pieces * generator.uniform(0.4, 0.9, (count, 1, 1)).astype(np.float32)
    return faint


def _paste(
    canvas: FloatArray,
    pieces: FloatArray,
    generator: np.random.Generator,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    """Lay one piece on each scene, the brighter pixel wins; its upper left corner is drawn."""
    count, size = len(pieces), pieces.shape[1]
    top = generator.integers(rows[0], rows[1] + 1, size=count)
    left = generator.integers(columns[0], columns[1] + 1, size=count)
    step = np.arange(size, dtype=np.int64)
    where = (
        np.arange(count)[:, None, None],
        (top[:, None] + step)[:, :, None],
        (left[:, None] + step)[:, None, :],
    )
    canvas[where] = np.maximum(canvas[where], pieces)


def load() -> DigitScenes:
    """Load the task. Raises InputError without scikit-learn."""
    return DigitScenes(
        name=NAME,
        kind=TaskKind.IMAGE_CLASSIFICATION,
        metric="accuracy",
        labels=30,
        fingerprint=_pools()[1],
        training=TrainingDefaults(batch=32, steps=300, cut=2, learning_rate=3e-3),
    )
