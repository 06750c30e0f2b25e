"""The workload builder against torch: FLOP counter, parameters, saved tensors, whole models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
import transformers
from torch.utils import flop_counter

from sftopt.core.errors import InputError
from sftopt.core.workload import completed, workload_from_config

TYPES = ("vit", "bert", "gpt2", "llama", "qwen2", "mistral")
TOKENS = 17
RANK = 3
HEAD_SIZE = {"llama": 20, "mistral": 20, "qwen2": 12}
"""Of the models with rotary tables."""
VIT_B_16 = {
    "model_type": "vit",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
}
MORE_TARGETS = {
    "vit": ["q_proj", "o_proj", "fc1", "fc2"],
    "bert": ["key", "intermediate.dense", "output.dense"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def tiny_config(model_type: str) -> Any:
    """Three blocks; head sizes, widths and head counts that no two formulas confuse."""
    common = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
              "intermediate_size": 200}  # fmt: skip
    if model_type == "vit":
        return transformers.ViTConfig(image_size=32, patch_size=8, num_labels=7, **common)
    if model_type == "bert":
        return transformers.BertConfig(
            vocab_size=97, max_position_embeddings=64, num_labels=7, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, **common)  # fmt: skip
    if model_type == "gpt2":
        return transformers.GPT2Config(
            vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_inner=200, n_positions=64,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0)  # fmt: skip
    kinds = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config,
             "mistral": transformers.MistralConfig}  # fmt: skip
    extra = {} if model_type == "qwen2" else {"head_dim": 20}
    return kinds[model_type](
        vocab_size=97, max_position_embeddings=64, num_key_value_heads=2, **extra, **common
    )


@dataclass
class Real:
    """A tiny model with adapters, ready to run."""

    model: Any
    blocks: Any
    inputs: dict[str, Any]
    config: dict[str, Any]
    targets: list[str]

    @property
    def tokens(self) -> int | None:
        return None if self.config["model_type"] == "vit" else TOKENS


def real(
    model_type: str,
    *,
    more: bool = False,
    dtype: Any = None,
    adapters: Any = None,
    change: dict[str, Any] | None = None,
) -> Real:
    """A model from a configuration in code, with peft's LoRA; nothing is downloaded."""
    config = tiny_config(model_type)
    for key, value in (change or {}).items():
        setattr(config, key, value)
    config._attn_implementation = "eager"
    kind = {"vit": transformers.ViTForImageClassification,
            "bert": transformers.BertForSequenceClassification,
            "gpt2": transformers.GPT2LMHeadModel, "llama": transformers.LlamaForCausalLM,
            "qwen2": transformers.Qwen2ForCausalLM,
            "mistral": transformers.MistralForCausalLM}[model_type]  # fmt: skip
    targets = {"bert": ["query", "value"], "gpt2": ["c_attn"]}.get(model_type, ["q_proj", "v_proj"])
    if more:
        targets = MORE_TARGETS.get(model_type, ["k_proj", "o_proj", "up_proj", "down_proj"])
    lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=targets,
                           fan_in_fan_out=model_type == "gpt2")  # fmt: skip
    model = peft.get_peft_model(kind(config), lora).train()
    if dtype is not None:
        model.to(dtype)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(adapters)
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3]
    if model_type == "vit":
        inputs: dict[str, Any] = {"pixel_values": torch.randn(1, 3, 32, 32, dtype=dtype)}
    else:
        inputs = {"input_ids": torch.randint(0, 97, (1, TOKENS))}
    if model_type not in ("vit", "bert"):
        inputs["use_cache"] = False
    return Real(model, lists[0], inputs, json.loads(config.to_json_string()), targets)


def middle_call(case: Real) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the middle block is called with in a real forward pass; its input requires grad."""
    calls: list[Any] = []
    hook = case.blocks[1].register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    case.model(**case.inputs)
    hook.remove()
    args, kwargs = calls[0]
    return with_gradient(args, kwargs)


def with_gradient(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's arguments, its hidden states detached and requiring a gradient."""
    if args:
        return (args[0].detach().requires_grad_(), *args[1:]), kwargs
    return (), {**kwargs, "hidden_states": kwargs["hidden_states"].detach().requires_grad_()}


def first(output: Any) -> Any:
    """The hidden states a block returns."""
    return output[0] if isinstance(output, tuple) else output


def counted() -> Any:
    """torch's counter of the FLOP of matrix products."""
    return flop_counter.FlopCounterMode(display=False)


def saved_bytes(case: Real) -> int:
    """Bytes of distinct storages the middle block saves, less parameters and shared tables."""
    args, kwargs = middle_call(case)
    tables = kwargs.get("position_embeddings") or ()
    outside = {t.untyped_storage().data_ptr() for t in (*case.model.parameters(), *tables)}
    sizes: dict[int, int] = {}
    kept: list[Any] = []  # alive until the end, so that no address is used twice

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        kept.append(tensor)
        if storage.data_ptr() not in outside:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = first(case.blocks[1](*args, **kwargs))
    sizes.pop(out.untyped_storage().data_ptr(), None)  # the boundary is counted elsewhere
    return sum(sizes.values())


def test_vit_b_16_has_the_reference_figures() -> None:
    work = workload_from_config(VIT_B_16, lora_rank=16)
    assert work.boundary_elements == 151_296
    assert work.block_forward_flops == pytest.approx(2.927e9, rel=2e-4)
    assert work.block_backward_flops == pytest.approx(3.066e9, rel=2e-4)
    assert work.block_activation_bytes == pytest.approx(7.94e6, rel=5e-4)
    assert work.adapter_bits_per_block == 4 * 768 * 16 * 32


def test_what_an_older_file_leaves_unknown_comes_from_the_configuration() -> None:
    work = workload_from_config(VIT_B_16, lora_rank=4, labels=30)
    layout = dict.fromkeys(("heads", "key_value_heads", "head_size", "element_bytes",
                            "adapted_matrices", "head_parameters", "head_bytes"))  # fmt: skip
    older = work.model_copy(update={**layout, "block_activation_bytes": 5e6})
    now = completed(older, VIT_B_16, labels=30)
    assert now == work.model_copy(update={"block_activation_bytes": 5e6}), "figures stay"
    assert now.head_parameters == 30 * 769
    assert completed(older, {**VIT_B_16, "hidden_size": 384}, labels=30) == older, "another model"
    assert completed(older, {"model_type": "t5"}) == older


def test_gpt2_adapters_count_as_splitlora_counts_them() -> None:
    """SplitLoRA's code: 9,216 parameters per unit of rank in three blocks of GPT-2 small."""
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
              "vocab_size": 50257, "n_positions": 1024}  # fmt: skip
    assert workload_from_config(config, tokens=512).adapter_parameters_per_rank * 3 == 9216


@pytest.mark.parametrize("more", [False, True], ids=["default-targets", "more-targets"])
@pytest.mark.parametrize("model_type", TYPES)
def test_block_flops_are_those_torch_counts(model_type: str, more: bool) -> None:
    case = real(model_type, more=more)
    work = workload_from_config(
        case.config, tokens=case.tokens, lora_rank=RANK, adapter_targets=case.targets
    )
    args, kwargs = middle_call(case)
    with counted() as forward:
        out = first(case.blocks[1](*args, **kwargs))
    with counted() as backward:
        out.sum().backward()
    assert work.block_forward_flops == forward.get_total_flops()
    assert work.block_backward_flops == backward.get_total_flops()


@pytest.mark.parametrize("model_type", TYPES)
def test_whole_model_flops_add_up(model_type: str) -> None:
    """Embedding + blocks + head, the first block made to return a gradient as it is charged."""
    case = real(model_type)
    work = workload_from_config(case.config, tokens=case.tokens, lora_rank=RANK)
    if model_type in ("vit", "bert"):
        case.model.get_submodule("base_model.model.classifier").requires_grad_(True)
    case.blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: with_gradient(args, kwargs), with_kwargs=True
    )
    with counted() as counter:
        case.model(**case.inputs).logits.sum().backward()
    expected = (
        work.embedding_forward_flops
        + work.blocks * (work.block_forward_flops + work.block_backward_flops)
        + work.head_flops
    )
    assert counter.get_total_flops() == expected


@pytest.mark.parametrize("model_type", TYPES)
def test_parameters_are_those_of_the_model(model_type: str) -> None:
    case = real(model_type)
    work = workload_from_config(case.config, tokens=case.tokens, lora_rank=RANK)
    named = list(case.blocks[1].named_parameters())
    adapters = sum(p.numel() for n, p in named if "lora_" in n)
    assert work.block_weight_bytes == 4 * sum(p.numel() for n, p in named if "lora_" not in n)
    assert work.adapter_bits_per_block == 32 * adapters
    assert work.block_adapter_bytes == 4 * 4 * adapters  # weight, gradient, Adam's two moments
    in_blocks = {id(p) for p in case.blocks.parameters()}
    outside = {n: p.numel() for n, p in case.model.named_parameters() if id(p) not in in_blocks}
    embedding = sum(
        size for n, size in outside.items() if any(k in n for k in ("embed", "wte", "wpe"))
    )
    rotary = 2 * TOKENS * HEAD_SIZE.get(model_type, 0)
    assert work.device_base_bytes == 4 * (embedding + rotary)
    head = sum(outside.values()) - embedding
    if model_type == "gpt2":
        head += 97 * 48  # the tied matrix: the server holds its own copy
    trained = 48 * 7 + 7 if model_type in ("vit", "bert") else 0
    logits = 7 if trained else TOKENS * 97
    assert work.server_base_bytes == work.head_bytes == 4 * (head + 3 * trained)
    assert work.sample_head_bytes == 2 * 4 * logits
    assert work.head_parameters == trained


@pytest.mark.parametrize("more", [False, True], ids=["default-targets", "more-targets"])
@pytest.mark.parametrize(("bits", "adapter_bits"), [(32, 32), (16, 16), (16, 32)])
@pytest.mark.parametrize("model_type", TYPES)
def test_saved_tensors_are_those_autograd_keeps(
    model_type: str, bits: Any, adapter_bits: Any, more: bool
) -> None:
    half = torch.bfloat16
    case = real(model_type, more=more, dtype=half if bits == 16 else None,
                adapters=half if adapter_bits == 16 else torch.float32)  # fmt: skip
    work = workload_from_config(
        case.config, tokens=case.tokens, lora_rank=RANK, adapter_targets=case.targets,
        dtype_bits=bits, adapter_bits=adapter_bits,
    )  # fmt: skip
    assert work.block_activation_bytes == saved_bytes(case)


@pytest.mark.parametrize(
    ("model_type", "change"),
    [
        ("vit", {"qkv_bias": False}),
        ("bert", {"hidden_act": "silu"}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False}),
        ("gpt2", {"n_inner": None}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("llama", {"head_dim": None, "num_key_value_heads": 4}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
        ("qwen2", {"head_dim": 20}),
        (
            "qwen2",
            {
                "layer_types": ["sliding_attention"] * 3,
                "sliding_window": 5,
                "use_sliding_window": True,
            },
        ),
        ("mistral", {"sliding_window": 5}),
    ],
)
def test_keys_have_the_part_in_a_block_that_torch_gives_them(
    model_type: str, change: dict[str, Any]
) -> None:
    """Whether a key is used or said to be without part: FLOP, parameters and saved bytes agree."""
    if change.get("head_dim", 0) is None:
        change = change | {"head_dim": 12}  # in code transformers sets it, in a file it is null
    case = real(model_type, change=change)
    work = workload_from_config(case.config, tokens=case.tokens, lora_rank=RANK)
    args, kwargs = middle_call(case)
    with counted() as forward:
        first(case.blocks[1](*args, **kwargs))
    assert work.block_forward_flops == forward.get_total_flops()
    named = case.blocks[1].named_parameters()
    assert work.block_weight_bytes == 4 * sum(p.numel() for n, p in named if "lora_" not in n)
    assert work.block_activation_bytes == saved_bytes(case)


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        ({}, {}, ["model_type", "missing", "llama"]),
        ({"model_type": "t5"}, {}, ["t5", "known by formula: vit, bert"]),
        (
            {"model_type": "gpt2", "n_embd": None, "n_layer": -1},
            {"tokens": 4},
            ["'n_embd' is None", "'n_layer' is -1"],
        ),
        (VIT_B_16, {"tokens": 50}, ["tokens", "50", "197"]),
        (VIT_B_16, {"adapter_targets": ["c_attn"]}, ["c_attn", "q_proj"]),
        (VIT_B_16, {"lora_rank": 0}, ["lora_rank", "0", "1"]),
        (VIT_B_16 | {"hidden_size": "768"}, {}, ["hidden_size", "'768'"]),
        (VIT_B_16 | {"hidden_act": ["gelu"]}, {}, ["hidden_act", "gelu_new"]),
        (VIT_B_16 | {"num_attention_heads": 7}, {}, ["num_attention_heads", "7", "768"]),
        (VIT_B_16 | {"num_hidden_layers": 1}, {}, ["1 block", "at least 2"]),
    ],
)
def test_bad_input_is_named(
    config: dict[str, Any], arguments: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        workload_from_config(config, **arguments)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.faults


@pytest.mark.parametrize("model_type", [t for t in TYPES if t != "vit"])
def test_tokens_beyond_the_positions_are_refused(model_type: str) -> None:
    config = json.loads(tiny_config(model_type).to_json_string())
    with pytest.raises(InputError, match=r"65.*1 to 64"):
        workload_from_config(config, tokens=65)
    with pytest.raises(InputError, match="padded length"):
        workload_from_config(config)
    assert workload_from_config(config, tokens=64).tokens == 64
