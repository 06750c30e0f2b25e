"""Experts of a mixture, counted: top-k of them for every token, in the same products.

The experts of transformers pick their tokens by value and loop over those that were chosen, which
meta tensors cannot do. Inside :func:`counted_experts` they run one product over (tokens x top-k)
rows instead: as many FLOP, and as much saved, whatever the router chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

_FUSED = "gate_up_proj"
"""Name of the first matrix of experts, (experts, ...), gate and up in one."""


@contextmanager
def counted_experts(model: PreTrainedModel) -> Iterator[None]:
    """Run every stack of experts in ``model`` as top-k of them for each token, inside."""
    changed = [module for module in model.modules() if _is_experts(module)]
    for module in changed:
        module.forward = MethodType(_forward, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _is_experts(module: nn.Module) -> bool:
    weight = getattr(module, _FUSED, None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 3


def _forward(
    self: Any, hidden_states: torch.Tensor, indices: Any = None, weights: Any = None, **rest: Any
) -> torch.Tensor:
    indices = next((rest[name] for name in rest if "ind" in name), indices)
    weights = next((rest[name] for name in rest if "weight" in name), weights)
    if indices is None:  # sorted by expert already: every row is one choice
        return _one_expert(self, hidden_states)
    flat = hidden_states.reshape(-1, hidden_states.shape[-1])
    tokens, chosen = flat.shape[0], indices.shape[-1]
    token = torch.arange(tokens, device=flat.device).repeat_interleave(chosen)
    place = torch.arange(chosen, device=flat.device).repeat(tokens)
    made = _one_expert(self, flat[token]) * weights[token, place, None]
    whole = torch.zeros_like(flat).index_add_(0, token, made.to(flat.dtype))
    return whole.reshape(hidden_states.shape)


def _one_expert(self: Any, rows: torch.Tensor) -> torch.Tensor:
    """One expert's products over all rows."""
    first, second = self.gate_up_proj[0], self.down_proj[0]
    wide = rows @ (first if first.shape[0] == rows.shape[-1] else first.transpose(0, 1))
    if hasattr(self, "gate_up_proj_bias"):
        wide = wide + self.gate_up_proj_bias[0]
    if hasattr(self, "_apply_gate"):
        inner = self._apply_gate(wide)
    else:
        gate, up = wide.chunk(2, dim=-1)
        inner = self.act_fn(gate) * up
    made: torch.Tensor = inner @ (
        second if second.shape[0] == inner.shape[-1] else second.transpose(0, 1)
    )
    return made + self.down_proj_bias[0] if hasattr(self, "down_proj_bias") else made


class _AnsweringMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers what code asks of a meta tensor's value with yes, or 1: is the mask whole, say."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True if args[0].dtype is torch.bool else 1
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.native_layer_norm.default:
            # statistics in the input's type, as on the host; the meta device has them in 32 bits
            made = (made[0], made[1].to(made[0].dtype), made[2].to(made[0].dtype))
        return made


@contextmanager
def answering_meta() -> Iterator[None]:
    """Answer code that asks for the value of a meta tensor, inside."""
    with _AnsweringMeta():  # type: ignore[no-untyped-call]
        yield
