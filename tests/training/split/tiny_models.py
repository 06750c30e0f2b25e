"""Tiny models of every supported family, built from configurations: no download, no file."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from sftopt.training.split import OptimizerSettings, SplitConfig, SplitModel, find_blocks
from sftopt.training.split.lora import add_adapters, lora_config, stack_adapters

BLOCKS = 4
VOCABULARY = 37
TOKENS = 9
BATCH = 3
CLASSES = 5

_LLAMA_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = ("gpt2", "bert", "vit", "llama", "qwen2", "qwen2-sliding", "mistral")
CAUSAL = ("gpt2", "llama", "qwen2", "qwen2-sliding", "mistral")


def tiny_model(family: str, seed: int = 0) -> PreTrainedModel:
    """A model of 4 blocks with all dropout off, random weights from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(family)


def _build(family: str) -> PreTrainedModel:
    if family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=BLOCKS, n_head=4,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
            )
        )  # fmt: skip
    if family == "bert":
        return BertForSequenceClassification(
            BertConfig(
                vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=BLOCKS,
                num_attention_heads=4, intermediate_size=24, max_position_embeddings=32,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=CLASSES,
            )
        )  # fmt: skip
    if family == "vit":
        return ViTForImageClassification(
            ViTConfig(
                hidden_size=16, num_hidden_layers=BLOCKS, num_attention_heads=4,
                intermediate_size=24, image_size=12, patch_size=4, num_channels=1,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=CLASSES,
            )
        )  # fmt: skip
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**_LLAMA_LIKE))
    if family == "mistral":
        # a window below the length of the text, so that it matters
        return MistralForCausalLM(MistralConfig(**_LLAMA_LIKE, sliding_window=4))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**_LLAMA_LIKE))
    if family == "qwen2-sliding":
        # full attention in blocks 0 and 1, a window of 3 tokens from block 2 on
        return Qwen2ForCausalLM(
            Qwen2Config(
                **_LLAMA_LIKE, use_sliding_window=True, sliding_window=3, max_window_layers=2
            )
        )
    raise ValueError(family)


def tiny_batch(family: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch with labels; text is padded on the right in its last two rows."""
    generator = torch.Generator().manual_seed(seed)
    if family == "vit":
        return {
            "pixel_values": torch.randn(BATCH, 1, 12, 12, generator=generator),
            "labels": torch.randint(0, CLASSES, (BATCH,), generator=generator),
        }
    ids = torch.randint(3, VOCABULARY, (BATCH, TOKENS), generator=generator)
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[1, 6:] = 0
    mask[2, 4:] = 0
    ids = ids * mask
    if family == "bert":
        labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        kinds = torch.zeros_like(ids)
        kinds[:, 3:] = 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds, "labels": labels}
    labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def stir(split: SplitModel, seed: int = 7) -> None:
    """Give the server's B factors values and hand them to all devices: with B = 0, as adapters
    start, the gradients of A are zero and comparing them would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in stack_adapters(
            split.server.model, split.stack, range(BLOCKS)
        ).items():
            if name.endswith("lora_B"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    for device_id in split.devices:
        split.rejoin(device_id)


def split_of(
    family: str, cuts: int | list[int] | Mapping[str, int], **settings: object
) -> SplitModel:
    """A split tiny model with stirred adapters and a plain SGD optimiser unless told otherwise."""
    settings.setdefault("optimizer", OptimizerSettings(name="sgd", learning_rate=0.1).model_dump())
    settings.setdefault("lora", {"rank": 3, "alpha": 6.0})
    config = SplitConfig.of(cuts, **settings)
    split = SplitModel(tiny_model(family), config)
    stir(split)
    return split


def unsplit_twin(family: str, split: SplitModel) -> PreTrainedModel:
    """The same model in one piece with the server's adapters: what plain peft would train."""
    base = tiny_model(family)
    stack = find_blocks(base)
    add_adapters(base, lora_config(split.config, base, stack), seed=99)
    twin = stack_adapters(base, stack, range(BLOCKS))
    with torch.no_grad():
        for name, value in stack_adapters(split.server.model, stack, range(BLOCKS)).items():
            twin[name].copy_(value)
    copy_trained_head(split.server.model, base)
    return base


def copy_trained_head(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Values of trained parameters that are no adapters."""
    trained = {
        name: p for name, p in source.named_parameters() if p.requires_grad and "lora_" not in name
    }
    own = dict(target.named_parameters())
    with torch.no_grad():
        for name, value in trained.items():
            own[name].copy_(value)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients of all trained parameters by name, copied."""
    return {
        name: copy.deepcopy(p.grad)
        for name, p in model.named_parameters()
        if p.requires_grad and p.grad is not None
    }


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """Largest difference over the largest true value."""
    return float((value - truth).abs().max() / truth.abs().max().clamp(min=1e-30))
