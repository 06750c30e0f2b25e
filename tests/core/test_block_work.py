"""One block at other tokens and ranks, against the workload built at those, exactly (0.1 s)."""

from __future__ import annotations

from typing import Any

import pytest

from sftopt.core.block_work import (
    adapter_bits_of_block,
    block_activation_bytes,
    block_adapter_bytes,
    block_backward_flops,
    block_forward_flops,
)
from sftopt.core.errors import InputError
from sftopt.core.instance import Workload
from sftopt.core.workload import workload_from_config

ENCODER = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
           "intermediate_size": 200}  # fmt: skip
DECODER = {**ENCODER, "num_key_value_heads": 2, "vocab_size": 97, "max_position_embeddings": 512}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {**ENCODER, "patch_size": 4},
    "bert": {**ENCODER, "vocab_size": 97, "max_position_embeddings": 512},
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_inner": 200, "vocab_size": 97,
             "n_positions": 512},
    "llama": {**DECODER, "head_dim": 20},  # heads x head size is not the hidden size
    "qwen2": DECODER,
    "mistral": {**DECODER, "head_dim": 20},
}  # fmt: skip
LONG, SHORT = 197, 41


def built(model_type: str, tokens: int, rank: int, **options: Any) -> Workload:
    """The workload of a small model with so many tokens and this rank."""
    config = {"model_type": model_type, **CONFIGS[model_type]}
    if model_type == "vit":  # its tokens follow from the image: one column of patches, and CLS
        config["image_size"] = [4 * (tokens - 1), 4]
        return workload_from_config(config, lora_rank=rank, labels=7, **options)
    return workload_from_config(config, tokens=tokens, lora_rank=rank, **options)


def figures(work: Workload) -> tuple[float, ...]:
    """What one block of a workload costs, by the workload's own statement."""
    return (work.block_forward_flops, work.block_backward_flops, work.block_activation_bytes,
            work.block_adapter_bytes, work.adapter_bits_per_block)  # fmt: skip


def derived(work: Workload, tokens: int | None, rank: int | None) -> tuple[float, ...]:
    """The same by the functions under test."""
    return (
        block_forward_flops(work, tokens=tokens, rank=rank),
        block_backward_flops(work, tokens=tokens, rank=rank),
        block_activation_bytes(work, tokens=tokens, rank=rank),
        block_adapter_bytes(work, rank),
        adapter_bits_of_block(work, rank),
    )


@pytest.mark.parametrize("dtype_bits", [32, 16])
@pytest.mark.parametrize("adapter_bits", [32, 16])
@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_block_at_other_tokens_and_ranks_is_the_one_built_there(
    model_type: str, adapter_bits: int, dtype_bits: int
) -> None:
    options = {"adapter_bits": adapter_bits, "dtype_bits": dtype_bits}
    work = built(model_type, LONG, 16, **options)
    for tokens in (2, SHORT, LONG, 301):
        for rank in (1, 16, 24):
            # whole numbers below 2^53: exact, not merely close
            assert derived(work, tokens, rank) == figures(
                built(model_type, tokens, rank, **options)
            )


def test_llama_activations_are_not_linear_in_the_tokens() -> None:
    """The softmax in 32 bits and 16-bit elements: 6 bytes a pair; a linear rule is far off."""
    config = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
              "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
              "intermediate_size": 8192, "vocab_size": 128256}  # fmt: skip
    work = workload_from_config(config, tokens=1024, dtype_bits=16)
    half = workload_from_config(config, tokens=512, dtype_bits=16)
    assert block_activation_bytes(work, tokens=512) == half.block_activation_bytes
    assert work.block_activation_bytes / 2.0 > 1.25 * half.block_activation_bytes


def test_own_tokens_and_rank_give_the_workloads_figures_to_the_last_bit() -> None:
    odd = built("vit", LONG, 16).model_copy(
        update={"block_forward_flops": 2.9271e9 / 3.0, "block_activation_bytes": 7.94e7 / 7.0}
    )
    for tokens, rank in ((None, None), (LONG, None), (None, 16), (LONG, 16)):
        assert derived(odd, tokens, rank) == figures(odd)
    bare = odd.model_copy(
        update={"heads": None, "head_size": None, "element_bytes": None, "adapted_matrices": None}
    )
    assert derived(bare, LONG, 16) == figures(odd)


def test_a_missing_field_is_named() -> None:
    work = built("vit", LONG, 16)
    bare = work.model_copy(
        update={"heads": None, "head_size": None, "element_bytes": None, "adapted_matrices": None}
    )
    with pytest.raises(InputError, match=r"workload\.heads[^\n]*\n[^\n]*workload\.head_size"):
        block_forward_flops(bare, tokens=SHORT)
    with pytest.raises(InputError, match=r"workload\.element_bytes"):
        block_activation_bytes(bare, tokens=SHORT)
    with pytest.raises(InputError, match=r"workload\.adapted_matrices"):
        block_activation_bytes(bare, rank=8)
    # the rank's FLOP and bits need no more than every workload has
    assert block_forward_flops(bare, rank=8) == block_forward_flops(work, rank=8)


def test_work_below_its_own_attention_is_refused() -> None:
    work = built("vit", LONG, 16).model_copy(update={"block_forward_flops": 1e6})
    with pytest.raises(InputError, match=r"block_forward_flops is 1e\+06 FLOP, but its attention"):
        block_forward_flops(work, tokens=SHORT)
    nothing = work.model_copy(update={"block_activation_bytes": 0.0})
    assert block_activation_bytes(nothing, tokens=SHORT, rank=8) == 0.0  # not counted stays so
