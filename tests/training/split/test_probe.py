"""The check at construction: what it refuses, and that it leaves no trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from sftopt.core.errors import InputError
from sftopt.training.split import SplitConfig, SplitModel, probe, twin
from sftopt.training.split.twin import tiny_twin
from tests.training.split.tiny_models import BLOCKS, tiny_batch, tiny_model

pytestmark = pytest.mark.train


class OddHead(GPT2LMHeadModel):
    """Adds to its loss what only the tokens say: the server, which has none, cannot."""

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        output = super().forward(input_ids, **kwargs)
        if output.loss is not None:
            output.loss = output.loss * (1.0 + input_ids.float().mean())
        return output


def odd_model() -> OddHead:
    model = OddHead(tiny_model("gpt2").config)
    model.load_state_dict(tiny_model("gpt2").state_dict())
    return model


def test_a_loss_that_needs_the_tokens_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"gpt2.*block 2.*off the unsplit.*--side-keys input_ids"):
        SplitModel(odd_model(), SplitConfig.of([2, 3]))
    split = SplitModel(odd_model(), SplitConfig.of([2, 3], side_keys=["input_ids"]))
    batch = tiny_batch("gpt2")
    with torch.no_grad():
        truth = odd_model()(**batch).loss.item()
    assert split.evaluate("device-0", batch).loss == pytest.approx(truth, rel=1e-6)


def test_a_refused_model_is_as_it_was_and_can_be_used() -> None:
    model = odd_model()
    model.get_submodule("transformer.h.1").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    use_cache = model.config.use_cache
    with pytest.raises(InputError, match="cannot be split"):
        SplitModel(model, SplitConfig.of(2))
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == trained
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.config.use_cache == use_cache
    SplitModel(model, SplitConfig.of(2, side_keys=["input_ids"]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_check_changes_neither_values_nor_random_numbers(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(split: SplitModel) -> list[torch.Tensor]:
        return [
            value.detach().clone()
            for part in split.parts
            for value in (*part.model.parameters(), *part.model.buffers())
        ]

    torch.manual_seed(3)
    number = torch.random.get_rng_state()
    checked = SplitModel(tiny_model("bert").to(dtype), SplitConfig.of([1, 3]))
    assert torch.equal(torch.random.get_rng_state(), number)
    monkeypatch.setattr(twin, "probe", lambda split: probe.Findings())
    unchecked = SplitModel(tiny_model("bert").to(dtype), SplitConfig.of([1, 3]))
    for one, other in zip(state(checked), state(unchecked), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert all(p.grad is None for part in checked.parts for p in part.model.parameters())
    assert checked.server.model.config.to_dict() == unchecked.server.model.config.to_dict()


def test_devices_of_several_ranks_are_compared_in_what_they_have() -> None:
    config = SplitConfig.of([1, 2, 3], lora={"rank": 3, "rank_pattern": {0: 2}})
    ranks = {"device-0": 1, "device-1": 4, "device-2": 2}
    devices = [d.model_copy(update={"rank": ranks[d.id]}) for d in config.devices]
    split = SplitModel(tiny_model("llama"), config.model_copy(update={"devices": tuple(devices)}))
    assert len(split.devices) == 3


def test_a_large_model_is_checked_by_its_tiny_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(split: Any) -> probe.Findings:
        seen.append(sum(p.numel() for p in split.server.model.parameters()))
        return probe.probe(split)

    monkeypatch.setattr(twin, "probe", watched)
    monkeypatch.setattr(twin, "TWIN_FROM_PARAMETERS", 250_000)
    base = wide_model()
    size = sum(p.numel() for p in base.parameters())
    SplitModel(base, SplitConfig.of([1, 3]))
    assert seen
    assert seen[0] < 250_000 < size
    odd = odd_model()
    monkeypatch.setattr(twin, "TWIN_FROM_PARAMETERS", 0)
    with pytest.raises(InputError, match="cannot be split at block 2"):
        SplitModel(odd, SplitConfig.of(2))


def wide_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=37, hidden_size=128, intermediate_size=256, num_hidden_layers=BLOCKS,
        num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def large_model(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """Really more than 200 million parameters; their memory is never touched."""
    with no_init_weights():
        model = kind._from_config(config, dtype=torch.bfloat16)
    assert isinstance(model, PreTrainedModel)
    assert sum(p.numel() for p in model.parameters()) > twin.TWIN_FROM_PARAMETERS == 200_000_000
    return model


LARGE_LLAMA = LlamaConfig(
    vocab_size=37, hidden_size=1024, intermediate_size=8192, num_hidden_layers=8,
    num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=64,
)  # fmt: skip
LARGE_GPT2 = GPT2Config(
    vocab_size=37, n_positions=64, n_embd=1024, n_inner=16_384, n_layer=6, n_head=16,
    bos_token_id=1, eos_token_id=2,
)  # fmt: skip


def test_more_than_200_million_parameters_are_checked_without_running_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[PreTrainedModel] = []

    def watched(split: Any) -> probe.Findings:
        checked.append(split.server.model)
        return probe.probe(split)

    monkeypatch.setattr(twin, "probe", watched)
    base = large_model(LlamaForCausalLM, LARGE_LLAMA)
    split = SplitModel(base, SplitConfig.of([1, 7]))
    assert split.server.model is base
    (small,) = checked
    assert sum(p.numel() for p in small.parameters()) < 1_000_000
    assert small.config.num_hidden_layers == LARGE_LLAMA.num_hidden_layers


def test_what_a_twin_gives_away_is_refused_of_the_large_model() -> None:
    odd = large_model(OddHead, LARGE_GPT2)
    trained = {name for name, p in odd.named_parameters() if p.requires_grad}
    with pytest.raises(InputError, match=r"gpt2.*block 1.*off the unsplit.*--side-keys input_ids"):
        SplitModel(odd, SplitConfig.of(1))
    assert {name for name, p in odd.named_parameters() if p.requires_grad} == trained
    SplitModel(odd, SplitConfig.of(1, side_keys=["input_ids"]))


def test_the_twin_keeps_the_pattern_and_shrinks_the_rest() -> None:
    wide = wide_model()
    made = tiny_twin(type(wide), wide.config)
    assert made is not None
    assert made.config.num_hidden_layers == BLOCKS
    assert made.config.num_key_value_heads < made.config.num_attention_heads
    assert made.config.hidden_size < 128
    assert type(made) is LlamaForCausalLM
    given = copy.deepcopy(tiny_model("qwen2-sliding"))
    twin_of_given = tiny_twin(type(given), given.config)
    assert twin_of_given is not None
    assert twin_of_given.config.layer_types == given.config.layer_types


def test_side_keys_that_a_model_never_reads_are_refused() -> None:
    with pytest.raises(InputError, match="side_keys: 'weather' is not read"):
        SplitModel(tiny_model("vit"), SplitConfig.of(1, side_keys=["weather"]))


def test_own_code_that_takes_any_keyword_reads_every_key() -> None:
    batch = {**tiny_batch("gpt2"), "shade": torch.ones(3)}
    split = SplitModel(odd_model(), SplitConfig.of(2, side_keys=["input_ids"]))
    with pytest.raises(InputError, match=r"'shade' is read by the forward.*--side-keys shade"):
        split.train_step({"device-0": batch})
