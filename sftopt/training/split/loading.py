"""The base model: from a folder, a hub id, a configuration, or in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.files import read_json, refuse_lfs_pointer
from sftopt.training.failures import first_line, is_out_of_memory

_TASKS = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "image-classification": "AutoModelForImageClassification",
}
"""Classes of transformers that load a model with the head of a task."""


def load_base_model(
    source: str | os.PathLike[str] | PretrainedConfig | PreTrainedModel,
    *,
    task: str | None = None,
    dtype: str | torch.dtype | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> PreTrainedModel:
    """Load the model to split.

    ``source``: a folder with weights; a hub id (asked for only if no such folder exists, and never
    over the network with ``local_files_only``); a configuration, or a JSON file of one, for random
    weights drawn from ``seed``; or a model, returned as it is. ``task`` chooses the head; by
    default the configuration's own ``architectures`` does. Raises InputError for a folder that is
    missing or holds no model, a model type nothing knows, weights that are not safetensors.
    """
    if isinstance(source, PreTrainedModel):
        return source
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if attn_implementation is not None:
        common["attn_implementation"] = attn_implementation
    if isinstance(source, PretrainedConfig):
        return _from_config(source, task, dtype, seed, common)
    path = Path(source).expanduser()
    if path.is_file():
        return _from_config(_config_of_file(path), task, dtype, seed, common)
    name = _folder_or_id(source, path)
    local_files_only = local_files_only or path.is_dir()
    where = {"local_files_only": local_files_only, "revision": revision}
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, **where)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # a head that the folder lacks is drawn
            loaded = _class_for(config, task).from_pretrained(
                name, config=config, dtype=dtype or "auto", use_safetensors=True, **where, **common
            )
    except (SafetensorError, RuntimeError) as error:
        for weights in sorted(path.glob("*.safetensors")):
            refuse_lfs_pointer(weights, "file of weights")
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"model '{name}' cannot be loaded: its weights are damaged or of another shape than "
            f"its configuration says: {first_line(error)}"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        offline = " (only local files were looked at)" if local_files_only else ""
        raise InputError(f"model '{name}' cannot be loaded{offline}: {first_line(error)}") from None
    if not isinstance(loaded, PreTrainedModel):
        raise InputError(f"model '{name}' is a {type(loaded).__name__}, not a transformers model.")
    return loaded


def _folder_or_id(source: str | os.PathLike[str], path: Path) -> str:
    text = os.fspath(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"folder '{path}' holds no config.json; it is no saved model.")
        return str(path)
    looks_like_path = (
        not isinstance(source, str)
        or text.startswith((".", "~", os.sep))
        or text.count("/") > 1
        or "\\" in text
        or not text
    )
    if looks_like_path:
        raise InputError(
            f"model folder '{text}' does not exist. Give a folder that save_pretrained wrote, a "
            "config.json for random weights, or a hub id such as 'openai-community/gpt2'."
        )
    return text


def _config_of_file(path: Path) -> PretrainedConfig:
    data = read_json(path, "model configuration")
    kind = data.pop("model_type", None)
    known = list(transformers.models.auto.configuration_auto.CONFIG_MAPPING.keys())
    if not isinstance(kind, str):
        raise InputError(f"model configuration '{path}' names no model_type, such as 'gpt2'.")
    if kind not in known:
        raise UnknownNameError(f"model type in '{path}'", kind, known)
    try:
        return AutoConfig.for_model(kind, **data)
    except (TypeError, ValueError) as error:
        raise InputError(f"model configuration '{path}': {first_line(error)}") from None


def _from_config(
    config: PretrainedConfig,
    task: str | None,
    dtype: str | torch.dtype | None,
    seed: int,
    common: dict[str, Any],
) -> PreTrainedModel:
    kind = _class_for(config, task)
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not isinstance(named, torch.dtype):
        raise UnknownNameError("dtype", str(dtype), ["float32", "bfloat16", "float16"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind.__name__.startswith("Auto"):
            model = kind.from_config(config, **common)
        else:
            common = {k: v for k, v in common.items() if k != "trust_remote_code"}
            model = kind._from_config(config, **common)
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"'{config.model_type}' gives no transformers model.")
    if named is not None:
        cast(nn.Module, model).to(dtype=named)
    return model


def _class_for(config: PretrainedConfig, task: str | None) -> Any:
    """The model class: by task, else the one the configuration was saved with."""
    if task is not None:
        if task not in _TASKS:
            raise UnknownNameError("task", task, _TASKS)
        kind = getattr(transformers, _TASKS[task])
        if type(config) not in kind._model_mapping:
            raise InputError(f"model type '{config.model_type}' has no head for task '{task}'.")
        return kind
    for name in config.architectures or ():
        kind = getattr(transformers, name, None)
        if kind is not None:
            return kind
    raise InputError(
        f"model type '{config.model_type}': its configuration names no architecture that "
        f"transformers {transformers.__version__} knows; give a task: {', '.join(_TASKS)}."
    )
