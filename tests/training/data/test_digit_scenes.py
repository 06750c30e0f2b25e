"""The scenes: right labels, parts that do not meet, batches that can be drawn in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.data import TaskKind, digit_scenes, load_task, metric_of


@pytest.fixture(scope="module")
def task() -> digit_scenes.DigitScenes:
    return digit_scenes.load()


def test_says_what_it_is(task: digit_scenes.DigitScenes) -> None:
    assert load_task("digit-scenes").fingerprint == task.fingerprint
    assert (task.kind, task.metric, task.labels) == (
        TaskKind.IMAGE_CLASSIFICATION,
        "accuracy",
        30,
    )
    assert task.held_out("test") >= 5000
    assert len(task.fingerprint) == 64


def test_default_model_takes_a_batch(task: digit_scenes.DigitScenes) -> None:
    from transformers import ViTForImageClassification

    config = task.model_config()
    assert (config.num_hidden_layers, config.num_labels) == (6, 30)
    output = ViTForImageClassification(config)(**next(task.train_batches(0, 1, 2, 0)))
    assert output.logits.shape == (2, 30)
    assert torch.isfinite(output.loss)


def test_parts_share_no_class_and_cover_all(task: digit_scenes.DigitScenes) -> None:
    other = task.pretraining()
    assert other is not None
    assert other.pretraining() is None
    both = {tuple(pair) for pair in task.pairs.tolist()}
    rest = {tuple(pair) for pair in other.pairs.tolist()}
    assert not both & rest
    assert len(both | rest) == 100
    assert len(rest) == other.labels == 70
    for pairs in (task.pairs, other.pairs):
        for side in (0, 1):
            assert len(set(np.bincount(pairs[:, side], minlength=10))) == 1


def test_train_and_held_out_images_are_disjoint_and_complete() -> None:
    pools, _ = digit_scenes._pools()
    numbers = [set(np.concatenate(pool.members).tolist()) for pool in pools.values()]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 1797
    shares = [pools["train"].share(device, 3) for device in range(3)]
    owned = [set(np.concatenate(share.members).tolist()) for share in shares]
    assert sum(map(len, owned)) == len(set.union(*owned)) == len(numbers[0])


def test_label_is_the_pair_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits whose images have digit + 1 bright pixels: counting them reads the scene."""
    monkeypatch.setattr(digit_scenes, "_FRAGMENTS", 0)
    monkeypatch.setattr(digit_scenes, "_NOISE", 0.0)
    images = np.zeros((10, 8, 8), np.float32)
    for digit in range(10):
        images[digit].flat[: digit + 1] = 1.0
    pool = digit_scenes._Pool(images, tuple(np.array([digit]) for digit in range(10)))
    pairs = digit_scenes._pairs(True)
    scenes = digit_scenes._scenes(pool, pairs, 200, np.random.Generator(np.random.SFC64(3)))
    bright = scenes["pixel_values"][:, 0] > -0.99
    seen = torch.stack([bright[:, :, :10].sum((1, 2)), bright[:, :, 10:].sum((1, 2))], 1) - 1
    assert torch.equal(seen, torch.from_numpy(pairs)[scenes["labels"]])
    assert len(set(scenes["labels"].tolist())) == 30


def test_batches_are_deterministic_and_skipping_is_exact(task: digit_scenes.DigitScenes) -> None:
    first = task.train_batches(1, 3, 4, seed=5)
    batches = [next(first) for _ in range(4)]
    again = next(task.train_batches(1, 3, 4, seed=5, skip=3))
    assert torch.equal(again["pixel_values"], batches[3]["pixel_values"])
    assert torch.equal(again["labels"], batches[3]["labels"])
    for other in (task.train_batches(1, 3, 4, seed=6), task.train_batches(2, 3, 4, seed=5)):
        assert not torch.equal(next(other)["pixel_values"], batches[0]["pixel_values"])


def test_evaluation_is_the_same_at_every_call(task: digit_scenes.DigitScenes) -> None:
    whole = list(task.evaluation(7, "validation", limit=20))
    assert [len(batch["labels"]) for batch in whole] == [7, 7, 6]
    other = torch.cat([b["pixel_values"] for b in task.evaluation(20, "validation", limit=20)])
    assert torch.equal(torch.cat([b["pixel_values"] for b in whole]), other)
    assert sum(len(batch["labels"]) for batch in task.evaluation(512)) == task.held_out("test")
    assert not torch.equal(next(task.evaluation(20))["pixel_values"], other)


def test_accuracy_counts_samples(task: digit_scenes.DigitScenes) -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert metric_of(task, logits, torch.tensor([1, 1, 1])) == (2.0, 3)


def test_wrong_arguments_are_said(task: digit_scenes.DigitScenes) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'digit-scenes'"):
        load_task("digit-scene")
    with pytest.raises(UnknownNameError, match="validation"):
        task.evaluation(4, "training")
    with pytest.raises(InputError, match="device 3 of 3"):
        task.train_batches(3, 3, 4, 0)
    with pytest.raises(InputError, match="batch 0"):
        task.train_batches(0, 1, 0, 0)
