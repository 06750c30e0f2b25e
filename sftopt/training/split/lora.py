"""The adapters: which modules get them, as real peft configurations, and their tensors by block."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.core.plan import Order
from sftopt.training.failures import first_line
from sftopt.training.split.config import LoraSettings, SplitConfig
from sftopt.training.split.forward_keys import is_causal
from sftopt.training.split.stack import BlockStack

_DEFAULT_TARGETS = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("c_attn",),
    ("query_key_value",),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q_b_proj", "kv_b_proj"),
    ("q_proj", "kv_b_proj"),
    ("Wqkv",),
    ("qkv_proj",),
    ("in_proj",),
    ("q", "v"),
)
"""Query and value projections by the names the families use; the first that is there."""

ALL_LINEAR = "all-linear"
"""As target: every linear layer of a block."""
_TASK_TYPES = {
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
    "ForQuestionAnswering": TaskType.QUESTION_ANS,
}
"""Ends of class names of transformers -> peft's task."""

ADAPTER_NAME = "default"
"""peft's own name for the only adapter of a model."""

_LORA_TENSOR = re.compile(rf"\.(lora_A|lora_B|lora_magnitude_vector)\.{ADAPTER_NAME}\.weight$")
"""Matches the name of a parameter that is an adapter's factor, or DoRA's vector of norms."""


def lora_config(
    config: SplitConfig,
    model: PreTrainedModel,
    stack: BlockStack,
    device_id: str | None = None,
) -> LoraConfig:
    """Return the adapters of one device's blocks, or (None) of the server, which holds all blocks.

    What a plan exports to: it makes a plain ``get_peft_model`` put the same adapters on the whole
    model. The scaling alpha / rank is the same for every rank, so that copies of unequal rank mean
    the same update. Raises InputError where a target names no module of a block.
    """
    numbers = list(range(stack.count if device_id is None else config.device(device_id).blocks))
    suffixes = target_suffixes(config, model, stack)
    lora = config.lora
    with_head = device_id is None or config.order is Order.FEDERATED
    ranks = {
        f"{stack.list_name}.{number}.{path}": config.rank(number, device_id)
        for number in numbers
        for path in _target_paths(stack.blocks(model)[number], suffixes)
        if config.rank(number, device_id) != config.lora.rank
    }
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=cast(int, config.lora.alpha),  # only a hint: peft divides any number
        lora_dropout=config.lora.dropout,
        target_modules=list(suffixes),
        layers_to_transform=numbers,
        layers_pattern=stack.list_name,
        rank_pattern=ranks,
        alpha_pattern={path: _alpha(lora, rank) for path, rank in ranks.items()},
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        modules_to_save=(list(trained_modules(config, model)) or None) if with_head else None,
        task_type=task_type_of(model),
        fan_in_fan_out=_is_conv1d(stack.blocks(model)[0], suffixes),
        bias="none",
        base_model_name_or_path=absolute(config.base_model or model.config._name_or_path) or None,
        revision=config.revision,
    )


def _alpha(lora: LoraSettings, rank: int) -> float:
    """The alpha that gives an adapter of ``rank`` the common scaling."""
    share = rank / lora.rank
    return lora.alpha * (math.sqrt(share) if lora.rslora else share)


def task_type_of(model: PreTrainedModel) -> TaskType | None:
    """Return peft's name for the model's task; None where it has none (images, masked words)."""
    name = type(model).__name__
    if is_causal(model) and hasattr(model, "prepare_inputs_for_generation"):
        return TaskType.CAUSAL_LM
    return next((kind for end, kind in _TASK_TYPES.items() if name.endswith(end)), None)


def absolute(name: str) -> str:
    """Return a path to something that is there as an absolute one, a hub id as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name


def settings_of(lora: LoraConfig) -> LoraSettings:
    """Convert a plain peft configuration to ours. Raises InputError for what has no equal here.

    Which blocks get adapters is the split's business, so ``layers_to_transform`` is not read.
    """
    faults = []
    if isinstance(lora.target_modules, str) and lora.target_modules != ALL_LINEAR:
        faults.append("target_modules as one regular expression; give a list of names")
    if lora.rank_pattern or lora.alpha_pattern:
        faults.append("rank_pattern or alpha_pattern by name; give LoraSettings.rank_pattern")
    if lora.bias != "none":
        faults.append("trained biases")
    if faults:
        raise InputError("this LoraConfig cannot be split: " + "; ".join(faults) + ".")
    named = lora.target_modules
    targets = {named} if isinstance(named, str) else named
    return LoraSettings(
        rank=lora.r,
        alpha=float(lora.lora_alpha),
        dropout=lora.lora_dropout,
        rslora=lora.use_rslora,
        dora=lora.use_dora,
        target_modules=None if targets is None else tuple(sorted(targets)),
        trained_modules=None if lora.modules_to_save is None else tuple(lora.modules_to_save),
    )


def target_suffixes(
    config: SplitConfig, model: PreTrainedModel, stack: BlockStack
) -> tuple[str, ...]:
    """Return the ends of names of adapted modules. Raises InputError where none is there."""
    block = stack.blocks(model)[0]
    names = [name for name, module in block.named_modules() if not list(module.children())
             and any(parameter.ndim > 1 for parameter in module.parameters())]  # fmt: skip
    if config.lora.target_modules == (ALL_LINEAR,):
        return tuple(
            name for name, module in block.named_modules()
            if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        )  # fmt: skip
    if config.lora.target_modules is None:
        ends = {name.rsplit(".", 1)[-1] for name in names}
        for suffixes in _DEFAULT_TARGETS:
            if ends.issuperset(suffixes):
                return suffixes
        raise InputError(
            f"model type '{model.config.model_type}': no query and value projections found in a "
            f"block; name lora.target_modules out of: {', '.join(names)}."
        )
    for suffix in config.lora.target_modules:
        if not any(_ends(name, suffix) for name in names):
            raise InputError(
                f"lora.target_modules: '{suffix}' names no module of a block of model type "
                f"'{model.config.model_type}'; there are: {', '.join(names)}."
            )
    return config.lora.target_modules


def trained_modules(config: SplitConfig, model: PreTrainedModel) -> tuple[str, ...]:
    """Name the modules trained in full: as configured, else a new head (classes, answers)."""
    children = [name for name, module in model.named_children()
                if next(module.parameters(), None) is not None]  # fmt: skip
    if config.lora.trained_modules is not None:
        for name in config.lora.trained_modules:
            if name not in children or name == model.base_model_prefix:
                heads = ", ".join(n for n in children if n != model.base_model_prefix) or "none"
                raise InputError(
                    f"lora.trained_modules: '{name}' is no head of this model; there are: {heads}."
                )
        return config.lora.trained_modules
    if not type(model).__name__.endswith(("Classification", "QuestionAnswering")):
        return ()
    return tuple(name for name in children if name != model.base_model_prefix)


def add_adapters(model: PreTrainedModel, settings: LoraConfig, seed: int) -> PeftModel:
    """Give ``model`` its own, freshly drawn adapters: A from ``seed``, B zero; all else frozen.

    Raises InputError where peft has no adapters of the asked ranks for a target's kind of module.
    """
    base = settings.base_model_name_or_path
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft says on every copy that fan_in_fan_out or a re-used name was set for us: it is meant
        warnings.filterwarnings("ignore", module=r"peft\..*", category=UserWarning)
        # peft looks for experts in every copy: what it made of them is checked below
        warnings.filterwarnings("ignore", module=r"peft\..*", category=RuntimeWarning)
        # peft asks transformers by the old name, to which newer releases answer with a warning
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", category=FutureWarning)
        torch.manual_seed(seed)
        if settings.task_type is not TaskType.CAUSAL_LM:
            # peft's own wrapper of such a task would train a head whatever was asked for
            settings = replace(settings, task_type=None)
        try:
            wrapped = cast(PeftModel, get_peft_model(model, settings))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise InputError(
                f"model type '{model.config.model_type}' gets no adapters from peft: "
                f"{first_line(error)}"
            ) from None
    odd = _odd_rank(model, settings)
    if odd is not None:
        wrapped.unload()
        raise InputError(
            f"model type '{model.config.model_type}': peft gives {odd} (experts that lie in one "
            "tensor); name lora.target_modules that are matrices of their own, such as those of "
            "the attention."
        )
    # peft takes the name the model was loaded by, which may be a path relative to somewhere else
    wrapped.peft_config[ADAPTER_NAME].base_model_name_or_path = base
    return wrapped


def _odd_rank(model: nn.Module, settings: LoraConfig) -> str | None:
    """The first adapter whose rank is none of those asked for, in words."""
    asked = {settings.r, *(settings.rank_pattern or {}).values()}
    for name, parameter in model.named_parameters():
        if f".lora_A.{ADAPTER_NAME}" in name and parameter.shape[0] not in asked:
            return f"'{name.split('.lora_A')[0]}' adapters of rank {parameter.shape[0]}"
    return None


def block_adapters(block: nn.Module) -> dict[str, nn.Parameter]:
    """Return the adapter parameters of one block by name: ``attn.c_attn.lora_A``."""
    found = {}
    for name, parameter in block.named_parameters():
        if _LORA_TENSOR.search(name):
            found[name.removesuffix(f".{ADAPTER_NAME}.weight")] = parameter
    return found


def stack_adapters(
    model: nn.Module, stack: BlockStack, numbers: Iterable[int]
) -> dict[str, nn.Parameter]:
    """Return the adapter parameters of some blocks by name: ``3.attn.c_attn.lora_A``."""
    blocks = stack.blocks(model)
    return {
        f"{number}.{name}": parameter
        for number in numbers
        for name, parameter in block_adapters(blocks[number]).items()
    }


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def _target_paths(block: nn.Module, suffixes: tuple[str, ...]) -> list[str]:
    return [name for name, _ in block.named_modules() if any(_ends(name, end) for end in suffixes)]


def _is_conv1d(block: nn.Module, suffixes: tuple[str, ...]) -> bool:
    """Whether the targets store (inputs, outputs), as GPT-2's do."""
    return any(
        type(module).__name__ == "Conv1D"
        for name, module in block.named_modules()
        if any(_ends(name, end) for end in suffixes)
    )
