"""Batches without any label that counts: nothing goes up, nobody steps, the run goes on."""

from __future__ import annotations

import pytest
import torch

from sftopt.training.split import Direction, MessageKind, SplitModel
from tests.training.split.tiny_models import gradients, split_of, tiny_batch

pytestmark = pytest.mark.train


def without_labels(family: str, first: int | None = None) -> dict[str, torch.Tensor]:
    batch = tiny_batch(family)
    labels = torch.full_like(batch["labels"], -100)
    if first is not None:
        labels[:, 0] = first
    return {**batch, "labels": labels}


def trained(split: SplitModel) -> dict[str, torch.Tensor]:
    return {f"{number} {name}": value.detach().clone() for number, part in enumerate(split.parts)
            for name, value in part.trainable().items()}  # fmt: skip


@pytest.mark.parametrize("first", [None, 4])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_batch_without_labels_is_skipped(family: str, first: int | None) -> None:
    """A first token's label is nobody's next token, so that it does not count either."""
    split = split_of(family, {"a": 1, "b": 2})
    before = trained(split)
    report = split.train_step({"a": without_labels(family, first)})
    assert report.skipped == ("a",)
    assert not report.losses
    traffic = split.channels["a"].traffic
    assert traffic.of(Direction.UPLINK) == traffic.of(Direction.DOWNLINK, MessageKind.GRADIENT) == 0
    after = trained(split)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_others_weights_are_scaled_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = split_of("gpt2", {"a": 1, "b": 2}), split_of("gpt2", {"a": 1, "b": 2})
    for split in (one, other):
        for part in split.parts:
            monkeypatch.setattr(part, "update", lambda: None)
    report = one.train_step({"a": without_labels("gpt2"), "b": tiny_batch("gpt2")})
    other.train_step({"b": tiny_batch("gpt2")})
    assert report.skipped == ("a",)
    assert report.uplink_bytes.keys() == report.losses.keys() == {"b"}
    assert not gradients(one.devices["a"].model)
    truth, found = gradients(other.server.model), gradients(one.server.model)
    assert truth.keys() == found.keys()
    assert all(torch.equal(truth[name], found[name]) for name in truth)
