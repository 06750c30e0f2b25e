"""The adapter message: what goes in comes out, whatever the ranks; little beside the values."""

from __future__ import annotations

import pytest
import torch

from sftopt.training.split import SplitConfig, SplitModel
from sftopt.training.split.messages import pack_adapters, unpack_adapters
from tests.training.split.tiny_models import FAMILIES, stir, tiny_model

pytestmark = pytest.mark.train


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_come_out_as_they_went_in(family: str) -> None:
    config = SplitConfig.of(3, lora={"rank": 3, "rank_pattern": {1: 5}})
    split = SplitModel(tiny_model(family), config)
    stir(split)
    sent = split.devices["device-0"].adapters(range(3))
    payload = pack_adapters(sent)
    own = {name: torch.zeros_like(value) for name, value in sent.items()}
    found = unpack_adapters(payload, own)
    assert set(found) == set(sent)
    assert all(torch.equal(found[name], value) for name, value in sent.items())
    assert any(value.abs().max() > 0 for name, value in found.items() if "lora_B" in name)
    values_bytes = sum(4 * value.numel() for value in sent.values())
    assert len(payload) - values_bytes < 3 * 80


def test_the_senders_rank_is_told_by_the_shape() -> None:
    small = {"0.q.lora_A": torch.randn(2, 6), "0.q.lora_B": torch.randn(4, 2)}
    own = {"0.q.lora_A": torch.zeros(5, 6), "0.q.lora_B": torch.zeros(4, 5)}
    found = unpack_adapters(pack_adapters(small), own)
    assert all(torch.equal(found[name], value) for name, value in small.items())


def test_no_block_is_an_empty_message() -> None:
    assert unpack_adapters(pack_adapters({}), {}) == {}
