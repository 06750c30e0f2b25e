"""A part's optimiser, and what is done to gradients before its step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sftopt.training.split.config import OptimizerName, OptimizerSettings


def make_optimizer(
    settings: OptimizerSettings, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return the optimiser over trained parameters; None where there are none."""
    if not parameters:
        return None
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name is OptimizerName.ADAMW:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=settings.momentum)


def prepare_gradients(
    parameters: Iterable[nn.Parameter], steps: int, clip_norm: float | None
) -> None:
    """Turn the sum of ``steps`` gradients into their mean, and clip its norm to ``clip_norm``."""
    held = [parameter for parameter in parameters if parameter.grad is not None]
    for parameter in held if steps > 1 else ():
        assert parameter.grad is not None
        parameter.grad.div_(steps)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(held, clip_norm)
