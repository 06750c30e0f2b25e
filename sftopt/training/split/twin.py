"""The tiny twin of a large model: its configuration with small widths and as many blocks.

What decides whether a split is right (the order of calls, per-block kinds of attention, what masks
and positions are made of) is in the code and in the configuration's pattern, not in the widths.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.core.plan import Order
from sftopt.training.failures import is_out_of_memory
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.crafted import crafted_batch
from sftopt.training.split.forward_keys import ForwardKeys, forward_keys
from sftopt.training.split.probe import BaseState, Findings, Probed, probe
from sftopt.training.split.stack import in_evaluation

TWIN_FROM_PARAMETERS = 200_000_000
"""Models with more parameters are checked by their twin."""

_HEAD_SIZE = 16
"""Of the twin: even quarters of it are left for rotary parts."""
_HEADS = 4
"""Heads of the twin's attention."""
_WIDTH = _HEADS * _HEAD_SIZE
"""Of the twin's hidden states."""
_LEAST_EXPERTS = 4
"""Fewest experts of a mixture in the twin."""
_SMALL: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "word_embed_proj_dim",
                     "embedding_size", "pooler_hidden_size", "attention_hidden_size"), _WIDTH),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim",
                     "moe_intermediate_size", "shared_expert_intermediate_size",
                     "intermediate_size_mlp", "d_ff", "d_inner", "encoder_ffn_dim",
                     "decoder_ffn_dim"), 2 * _WIDTH),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads",
                     "encoder_attention_heads", "decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("head_dim", "attention_head_size", "d_kv", "d_head", "v_head_dim",
                     "qk_nope_head_dim", "query_pre_attn_scalar"), _HEAD_SIZE),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), _HEAD_SIZE // 2),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), _HEAD_SIZE),
    # a table of all tokens for every block
    "hidden_size_per_layer_input": _HEAD_SIZE // 2,
    # four coordinates and two sizes of a box side by side are as wide as the hidden states
    "coordinate_size": 12, "shape_size": 8,
}  # fmt: skip
"""Configuration key -> its size in the twin, where the model's is larger."""
_KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
"""Keys that count the heads of keys and values."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Keys that count experts."""
_FLASH = "flash"
"""Part of the names of attention kernels that run on a GPU alone."""


class Checked(Probed, Protocol):
    """A new split as :func:`checked_keys` needs it; :class:`SplitModel` is one."""

    config: SplitConfig


def checked_keys(
    split: Checked, before: BaseState, split_of: Callable[[PreTrainedModel], Probed]
) -> ForwardKeys:
    """Check a new split; return its keys with what the check found out of them.

    Where it is refused, the base model is put back first. In order federated nothing is cut.
    """
    if split.config.order is Order.FEDERATED:
        return split.keys
    try:
        found = probed_keys(split, split_of)
    except InputError:
        before.put_back(split.server.peft_model)
        raise
    return replace(
        split.keys,
        needed_by_server=found.withheld,
        required=found.required,
        shifted=found.shifted,
    )


def probed_keys(split: Probed, split_of: Callable[[PreTrainedModel], Probed]) -> Findings:
    """Check a split by itself or, where it is large, by that of its twin: :func:`probe`."""
    model = split.server.model
    if sum(p.numel() for p in model.parameters()) > TWIN_FROM_PARAMETERS:
        twin = tiny_twin(type(model), model.config)
        if twin is not None:
            keys = split_of(twin).keys
            return Findings(keys.needed_by_server, keys.required, keys.shifted)
    return probe(split)


def tiny_twin(kind: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel | None:
    """Make a small model of a class and pattern; None where its sizes cannot be shrunk.

    What is made does run: one that fails on a batch says nothing about the model.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            twin = cast(Any, kind)._from_config(tiny_config(config), dtype=torch.float32)
            if sum(p.numel() for p in twin.parameters()) > TWIN_FROM_PARAMETERS:
                return None
            with in_evaluation(twin):
                twin(**crafted_batch(twin, forward_keys(twin)))
    except Exception as error:  # a foreign model's own checks of sizes
        if is_out_of_memory(error):
            raise
        return None
    return cast(PreTrainedModel, twin)


def tiny_config(config: PretrainedConfig) -> PretrainedConfig:
    """Copy a configuration with small widths; blocks, options and token numbers stay."""
    tiny = copy.deepcopy(config)
    heads = getattr(config, "num_attention_heads", None)
    small = {name: size for name, size in _SMALL.items() if _number(config, name) > size}
    for name in _KEY_VALUE_HEADS:
        value = _number(config, name)
        if value and isinstance(heads, int):
            small[name] = _HEADS if value == heads else min(value, _HEADS // 2)
    groups = max(_number(config, "n_group"), 1)  # a router chooses groups of two experts or more
    least = max(_LEAST_EXPERTS, _number(config, "num_experts_per_tok") + 1, 2 * groups)
    for name in _EXPERTS:
        if _number(config, name) > _LEAST_EXPERTS:
            small[name] = -(-least // groups) * groups
    for name, size in small.items():
        with suppress(AttributeError):  # what follows from other sizes cannot be set
            setattr(tiny, name, size)
    if _number(config, "qk_rope_head_dim"):  # latent attention: the parts of a head in two sizes
        tiny.head_dim = tiny.qk_rope_head_dim
        tiny.qk_head_dim = tiny.qk_nope_head_dim + tiny.qk_rope_head_dim
    if _FLASH in (getattr(config, "_attn_implementation", None) or ""):
        tiny._attn_implementation = "eager"
    return tiny


def _number(config: PretrainedConfig, name: str) -> int:
    """The number of that name; 0 where it is none."""
    value = None
    with suppress(Exception):  # where blocks differ in it, a configuration refuses to answer
        value = getattr(config, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
