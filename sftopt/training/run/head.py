"""A classifier's head for another number of classes than the model was saved with."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError

_WEIGHT_SPREAD = 0.02
"""Standard deviation of a fresh head's weights."""


def fit_head(model: PreTrainedModel, labels: int, seed: int) -> bool:
    """Give ``model`` a fresh linear head of ``labels`` classes; False where it has as many.

    Weights are drawn from ``seed``, biases zero. Raises InputError where the model's head is not
    one linear layer.
    """
    if model.config.num_labels == labels:
        return False
    heads = {
        name: module
        for name, module in model.named_children()
        if name != model.base_model_prefix and isinstance(module, nn.Linear)
    }
    if len(heads) != 1 or not type(model).__name__.endswith("Classification"):
        raise InputError(
            f"the data has {labels} classes, and {type(model).__name__} has no head for them, nor "
            "one of a single linear layer that could be replaced. Give a model with such a head."
        )
    ((name, old),) = heads.items()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = nn.Linear(old.in_features, labels, dtype=old.weight.dtype)
        nn.init.normal_(fresh.weight, std=_WEIGHT_SPREAD)
        nn.init.zeros_(fresh.bias)
    setattr(model, name, fresh.to(old.weight.device))
    model.config.num_labels = labels
    setattr(model, "num_labels", labels)  # noqa: B010 - some heads read their own copy at the loss
    return True
