"""Workloads counted on a model without weights: the formulas' figures, and those of real blocks."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sftopt.core.errors import InputError
from sftopt.core.workload import workload_from_config
from sftopt.training.block_calls import block_calls
from sftopt.training.calibrate.memory import saved_bytes
from sftopt.training.counted import counted_workload
from sftopt.training.split import SplitConfig, find_blocks, lora_config
from sftopt.training.split.lora import add_adapters, block_adapters
from tests.training.conformance.architectures import CLASSES, SIZES, tiny_model

pytestmark = pytest.mark.train

TOKENS = 12
RANK = 4
HEADS = {"vit": "image", "dinov2": "image", "bert": "text", "deberta-v2": "text", "deberta": "text",
         "longformer": "text", "xlnet": "text",
         "mpnet": "text", "modernbert": "text"}  # fmt: skip
"""By model type, where it is not a causal language model."""


def settings_of(kind: str) -> dict[str, Any]:
    head = HEADS.get(kind, "causal")
    return {
        "tokens": None if head == "image" else TOKENS,
        "lora_rank": RANK,
        "labels": None if head == "causal" else CLASSES,
    }


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("kind", ["vit", "bert", "gpt2", "llama", "qwen2", "mistral"])
def test_what_has_a_formula_is_counted_as_the_formula_says(kind: str, bits: Any) -> None:
    config = {**SIZES[kind], "model_type": kind}
    dropped = {key: value for key, value in config.items() if "drop" not in key}
    formula = workload_from_config(dropped, dtype_bits=bits, **settings_of(kind)).model_dump()
    counted = counted_workload(dropped, dtype_bits=bits, **settings_of(kind)).model_dump()
    assert counted.keys() == formula.keys()
    for name, value in formula.items():
        if isinstance(value, float):
            assert counted[name] == pytest.approx(value, rel=1e-6), name
        else:
            assert counted[name] == value, name


@pytest.mark.parametrize(
    "kind",
    ["mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss", "llama4_text", "gemma2", "qwen3",
     "gpt_neox", "opt", "phi3", "bloom", "deberta-v2", "mpnet", "modernbert", "dinov2",
     "deberta", "longformer", "trocr"],
)  # fmt: skip
def test_counts_are_those_of_real_blocks(kind: str) -> None:
    """Real weights on the host, eager attention, eager experts: FLOP and saved bytes."""
    counted = counted_workload({**SIZES[kind], "model_type": kind}, **settings_of(kind))
    head = HEADS.get(kind, "causal")
    model = tiny_model(kind, head, attn_implementation="eager", experts_implementation="eager")
    model.train(False)
    model.config.use_cache = False
    stack = find_blocks(model)
    split = SplitConfig.of(1, lora={"rank": RANK})
    whole = sum(p.numel() for block in stack.blocks(model) for p in block.parameters())
    add_adapters(model, lora_config(split, model, stack), seed=0)
    inputs: dict[str, torch.Tensor] = {"pixel_values": torch.randn(1, 3, 16, 16)}
    if head != "image":
        ids = torch.randint(6, 60, (1, TOKENS), generator=torch.Generator().manual_seed(0))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    calls = block_calls(model, stack, inputs)
    forward, backward, saved = [], [], []
    for block, call in zip(stack.blocks(model), calls, strict=True):
        entry = call.hidden.detach().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            output = call.run(block, entry)
        forward.append(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(
                output, torch.ones_like(output), inputs=[entry, *block_adapters(block).values()]
            )
        backward.append(counter.get_total_flops())
        entry = call.hidden.detach().requires_grad_()
        saved.append(saved_bytes(block, lambda b=block, c=call, e=entry: c.run(b, e), call))
    assert counted.block_forward_flops == fmean(forward)
    assert counted.block_backward_flops == fmean(backward)
    assert counted.block_activation_bytes == fmean(saved)
    assert counted.block_weight_bytes == pytest.approx(4 * whole / stack.count)


def test_what_meta_tensors_cannot_run_is_counted_on_the_host() -> None:
    sizes = SIZES["deberta"]
    config = {**sizes, "model_type": "deberta"}
    made = counted_workload(
        config, **settings_of("deberta"), adapter_targets=["intermediate.dense"]
    )
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    assert made.adapter_parameters_per_rank == width + inner
    model = tiny_model("deberta", "text")
    block = find_blocks(model).blocks(model)[0]
    assert made.block_weight_bytes == 4 * sum(p.numel() for p in block.parameters())
    assert made.block_forward_flops > 2 * TOKENS * 2 * width * inner, "the MLP at least"


def test_a_stack_with_tokens_first_is_not_counted() -> None:
    config = {**SIZES["xlnet"], "model_type": "xlnet", "dropout": 0.0}
    with pytest.raises(InputError, match=r"\(batch, tokens, hidden\) is needed"):
        counted_workload(config, **settings_of("xlnet"))


@pytest.mark.parametrize(
    ("config", "tokens", "said"),
    [
        ({**SIZES["qwen3"], "model_type": "qwen3"}, None, "tokens: required"),
        ({**SIZES["qwen3"], "model_type": "qwen3"}, 65, "positions for 64"),
        ({**SIZES["t5"], "model_type": "t5"}, 9, "no head|encoder-decoder"),
        ({**SIZES["jamba"], "model_type": "jamba"}, 9, "hybrid stack"),
        ({**SIZES["qwen3"], "model_type": "qwen3", "auto_map": {"AutoModel": "own.Model"}}, 9,
         "code of its own"),
        ({**SIZES["qwen3"], "model_type": "qwen3", "quantization_config": {"bits": 4}}, 9,
         "quantised"),
        ({**SIZES["qwen3"], "model_type": "qwen3", "torch_dtype": "bfloat16"}, 9, "dtype"),
        ({"model_type": "qwen33"}, 9, "unknown model type 'qwen33'"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_told(
    config: dict[str, Any], tokens: int | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        counted_workload(config, tokens=tokens)


def test_a_large_model_is_counted_without_its_weights() -> None:
    config = {
        "model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 4,
        "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "intermediate_size": 12288,
    }  # fmt: skip
    made = counted_workload(config, tokens=128, dtype_bits=16, adapter_targets=["q_proj", "v_proj"])
    experts = 3 * 4096 * 1536 * 128
    attention = 4096 * 128 * (2 * 64 + 2 * 4)
    assert made.block_weight_bytes == pytest.approx(2 * (experts + attention), rel=2e-3)
    products = 2 * 128 * (3 * 4096 * 1536 * 8 + attention)
    assert made.block_forward_flops == pytest.approx(products, rel=0.02)
