"""The model of a task: loaded with its head, which is made anew where the classes are others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.data import Task
from sftopt.training.split import load_base_model

_WEIGHT_SPREAD = 0.02
"""Standard deviation of a fresh head's weights."""


def load_task_model(
    source: str, task: Task, *, local_files_only: bool = False, seed: int = 0
) -> PreTrainedModel:
    """Load the model of a folder, hub id or configuration with the head that a task needs.

    Raises InputError where it cannot be had.
    """
    base = load_base_model(
        source, task=task.kind.model_task, local_files_only=local_files_only, seed=seed
    )
    fit_to_task(base, task.labels, seed, task.label_names, task.padding_token)
    return base


def fit_to_task(
    model: PreTrainedModel,
    labels: int | None,
    seed: int,
    names: Sequence[str] = (),
    padding_token: int | None = None,
) -> None:
    """Give ``model`` a head of ``labels`` classes, their names, and the padding token of its data.

    ``labels`` None leaves the head as it is. Raises InputError as :func:`fit_head`.
    """
    if labels is not None:
        fit_head(model, labels, seed)
        if len(names) == labels:
            model.config.id2label = dict(enumerate(names))
            model.config.label2id = {name: number for number, name in enumerate(names)}
    text: Any = model.config.get_text_config()
    if padding_token is not None and getattr(text, "pad_token_id", None) is None:
        # decoders that classify look for the last token that is no padding
        text.pad_token_id = padding_token
        model.config.pad_token_id = padding_token


def fit_head(model: PreTrainedModel, labels: int, seed: int) -> bool:
    """Give ``model`` a fresh last layer of ``labels`` classes; False where it has as many.

    Weights are drawn from ``seed``, biases zero; layers of the head before it stay. Raises
    InputError where no linear layer of the head gives the classes.
    """
    if model.config.num_labels == labels:
        return False
    found = [
        (name, module)
        for child, part in model.named_children()
        if child != model.base_model_prefix
        for name, module in part.named_modules(prefix=child)
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not found or not type(model).__name__.endswith("Classification"):
        raise InputError(
            f"the data has {labels} classes, and {type(model).__name__} has no head for them, nor "
            "one whose last layer could be replaced. Give a model with such a head."
        )
    name, old = found[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = nn.Linear(
            old.in_features, labels, bias=old.bias is not None, dtype=old.weight.dtype
        )
        nn.init.normal_(fresh.weight, std=_WEIGHT_SPREAD)
        if fresh.bias is not None:
            nn.init.zeros_(fresh.bias)
    model.set_submodule(name, fresh.to(old.weight.device))
    model.config.num_labels = labels
    setattr(model, "num_labels", labels)  # noqa: B010 - some heads read their own copy at the loss
    return True
