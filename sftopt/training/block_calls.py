"""How every block of a model is called in one forward pass, to call it again alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from sftopt.training.split import BlockStack
from sftopt.training.split.forward_keys import forward_keys
from sftopt.training.split.stand_ins import to_device


@dataclass(frozen=True)
class BlockCall:
    """What one block is called with in a forward pass of the whole model."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def hidden(self) -> torch.Tensor:
        """Return the block's input (batch, tokens, hidden)."""
        return cast(torch.Tensor, self.args[0] if self.args else self.kwargs["hidden_states"])

    def run(self, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Return the block's output for another input."""
        if self.args:
            output = block(hidden, *self.args[1:], **self.kwargs)
        else:
            output = block(**{**self.kwargs, "hidden_states": hidden})
        return cast(torch.Tensor, output[0] if isinstance(output, (tuple, list)) else output)


def block_calls(
    model: PreTrainedModel, stack: BlockStack, batch: Mapping[str, Any]
) -> list[BlockCall]:
    """Record how every block is called in one forward pass of the whole model."""
    calls: list[BlockCall] = []
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: calls.append(BlockCall(args, dict(kwargs))), with_kwargs=True
        )
        for block in stack.blocks(model)
    ]
    try:
        with torch.no_grad():
            model.base_model(**to_device(forward_keys(model).device_inputs(batch), model.device))
    finally:
        for handle in handles:
            handle.remove()
    return calls
