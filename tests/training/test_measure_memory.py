"""What a device's memory is made of, against counts by hand."""

from __future__ import annotations

import pytest
import torch

from sftopt.core.workload import workload_from_config
from sftopt.training.measure_memory import measure_device_memory
from sftopt.training.split import SplitConfig, SplitModel
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_model

pytestmark = pytest.mark.train

BATCH = 6
RANK = 3


def eager_split(family: str, *cuts: int) -> SplitModel:
    """With the attention that the formula of m_a counts."""
    base = tiny_model(family)
    base.set_attn_implementation("eager")
    return SplitModel(base, SplitConfig.of(list(cuts), lora={"rank": RANK, "alpha": 6.0}))


@pytest.mark.parametrize("family", ["vit", "gpt2"])
def test_parts_are_those_of_the_formula(family: str) -> None:
    """The workload's formula counts by hand what one block saves, and its weights."""
    split = eager_split(family, 1, 3)
    task = FakeTask(metric="accuracy" if family == "vit" else "negative_loss_nats")
    batches = {
        name: next(task.train_batches(number, 2, BATCH, 0))
        for number, name in enumerate(split.devices)
    }
    split.train_step(batches)
    config = split.server.model.config.to_dict()
    work = workload_from_config(config, tokens=None if family == "vit" else 9, lora_rank=RANK)
    before = [value.clone() for part in split.parts for value in part.trainable().values()]
    state = torch.get_rng_state()
    for name, device in split.devices.items():
        found = measure_device_memory(split, name, batches[name])
        count = device.cut
        assert found.block_weight_bytes == count * work.block_weight_bytes
        assert found.embedding_bytes == work.device_base_bytes
        # each of AdamW's tensors counts its steps in 4 bytes
        assert found.adapter_state_bytes == pytest.approx(
            count * work.block_adapter_bytes + 4 * len(device.trainable())
        )
        first_input = BATCH * 4 * work.boundary_elements
        # Nothing before the first block is trained: its input and norm are not saved; nor, in
        # eager attention, the queries, where the keys' own matrix carries no adapter.
        unsaved = first_input + BATCH * 4 * 2 * work.tokens
        unsaved += first_input if family == "vit" else 0
        expected = BATCH * count * work.block_activation_bytes - unsaved
        assert found.saved_bytes == pytest.approx(expected, rel=0.02)
        whole = found.saved_bytes - found.first_block_saved_bytes
        assert whole == pytest.approx(BATCH * (count - 1) * work.block_activation_bytes, rel=0.02)
        held = found.embedding_bytes + found.block_weight_bytes + found.saved_bytes
        assert found.peak_bytes > held + first_input, "the boundary is there, too"
    after = [value for part in split.parts for value in part.trainable().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("family", "saved"), [("vit", False), ("gpt2", False), ("bert", True)])
def test_adapters_that_read_the_first_input_as_it_is_have_it_saved(
    family: str, saved: bool
) -> None:
    """BERT norms behind its sums: queries are made of the block's input itself."""
    split = eager_split(family, 2)
    task = FakeTask(metric="negative_loss_nats" if family == "gpt2" else "accuracy")
    batch = next(task.train_batches(0, 1, BATCH, 0))
    if family == "bert":
        batch = {"input_ids": torch.ones(BATCH, 7, dtype=torch.int64), "labels": batch["labels"]}
    assert measure_device_memory(split, "device-0", batch).first_input_saved is saved


def test_a_device_without_blocks_saves_nothing() -> None:
    split = eager_split("vit", 0)
    (batch,) = (next(FakeTask().train_batches(0, 1, BATCH, 0)),)
    found = measure_device_memory(split, "device-0", batch)
    assert (found.saved_bytes, found.block_weight_bytes, found.adapter_state_bytes) == (0, 0, 0)


def test_the_peak_grows_with_the_batch() -> None:
    split = eager_split("vit", 2)
    small, large = (
        measure_device_memory(split, "device-0", next(FakeTask().train_batches(0, 1, size, 0)))
        for size in (64, 128)
    )
    assert large.saved_bytes == 2 * small.saved_bytes
    static = small.embedding_bytes + small.block_weight_bytes + small.adapter_state_bytes
    assert 1.8 < (large.peak_bytes - static) / (small.peak_bytes - static) < 2.2
