"""Increments of adapters in the frozen weights: merged in, begun anew, told and brought back.

After concatenation or corrected averaging (:mod:`sftopt.training.split.aggregation`) the frozen
weights of the blocks that devices hold are no longer those of the base model. What is added stands
in the weights' own precision, scaled as peft scales adapters.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from sftopt.training.split.aggregation import DENSE
from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.errors import WireError
from sftopt.training.split.lora import ADAPTER_NAME, stack_adapters
from sftopt.training.split.stack import BlockStack


class Held(Protocol):
    """A part as merging needs it."""

    model: PreTrainedModel
    stack: BlockStack
    optimizer: torch.optim.Optimizer | None


def adapted_modules(part: Held, numbers: Iterable[int]) -> dict[str, LoraLayer]:
    """Return the modules that have adapters in some blocks by name: ``3.attn.c_attn``."""
    blocks = part.stack.blocks(part.model)
    return {
        f"{number}.{name}": module
        for number in numbers
        for name, module in blocks[number].named_modules()
        if isinstance(module, LoraLayer)
    }


def frozen_weights(part: Held, numbers: Iterable[int]) -> dict[str, torch.Tensor]:
    """Return copies of the frozen weights under the adapters of some blocks, by module."""
    modules = adapted_modules(part, numbers)
    return {name: _weight(module).detach().cpu().clone() for name, module in modules.items()}


def load_frozen_weights(part: Held, values: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into the modules they name. Raises WireError where they do not fit."""
    numbers = {int(name.split(".", 1)[0]) for name in values}
    modules = adapted_modules(part, sorted(numbers))
    for name, value in values.items():
        if name not in modules or _weight(modules[name]).shape != value.shape:
            raise WireError(f"frozen weights '{name}' do not fit the blocks held here.")
    with torch.no_grad():
        for name, value in values.items():
            _weight(modules[name]).copy_(value)


def merge(part: Held, update: Mapping[str, torch.Tensor]) -> None:
    """Add updates, by module (outputs, inputs), to the frozen weights, scaled as adapters are."""
    modules = adapted_modules(part, sorted({int(name.split(".", 1)[0]) for name in update}))
    with torch.no_grad():
        for name, value in update.items():
            module = modules[name]
            weight = _weight(module)
            scaled = module.scaling[ADAPTER_NAME] * as_stored(module, value)
            weight.add_(scaled.to(weight.device, weight.dtype))


def begin_anew(part: Held, numbers: Iterable[int], seed: str) -> None:
    """Draw the adapters of some blocks anew, A from ``seed`` and B zero, and forget the moments."""
    for name, parameter in stack_adapters(part.model, part.stack, numbers).items():
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        fresh = torch.zeros(parameter.shape)
        if name.endswith("lora_A"):  # as peft draws them: uniform, of the width of the input
            fresh.uniform_(-1.0, 1.0, generator=generator).mul_(1.0 / math.sqrt(fresh.shape[1]))
        with torch.no_grad():
            parameter.copy_(fresh)
        if part.optimizer is not None:
            part.optimizer.state.pop(parameter, None)


def weights_message(part: Held, cut: int) -> bytes:
    """Write the frozen weights of the first ``cut`` blocks: for a device that missed a round."""
    flat: dict[str, list[torch.Tensor]] = {}
    for name, value in frozen_weights(part, range(cut)).items():
        flat.setdefault(name.split(".", 1)[0], []).append(value.flatten())
    return pack({number + DENSE: torch.cat(values) for number, values in flat.items()})


def load_weights_message(part: Held, payload: bytes, cut: int) -> None:
    """Take what :func:`weights_message` wrote. Raises WireError where it does not fit."""
    tensors = unpack(payload)
    found: dict[str, torch.Tensor] = {}
    for number in range(cut):
        own = frozen_weights(part, [number])
        flat = tensors.pop(f"{number}{DENSE}", None)
        sizes = [value.numel() for value in own.values()]
        if flat is None or flat.numel() != sum(sizes):
            raise WireError(f"a message of frozen weights does not fit block {number}.")
        for (name, value), part_of_it in zip(own.items(), torch.split(flat, sizes), strict=True):
            found[name] = part_of_it.reshape(value.shape)
    if tensors:
        raise WireError(f"a message of frozen weights holds {', '.join(sorted(tensors))} as well.")
    load_frozen_weights(part, found)


def as_stored(module: LoraLayer, update: torch.Tensor) -> torch.Tensor:
    """Turn an update (outputs, inputs) as the module stores its weights; its own inverse."""
    turned = bool(cast(nn.Module, module).fan_in_fan_out)
    return update.transpose(0, 1) if turned else update


def _weight(module: LoraLayer) -> torch.Tensor:
    return cast(torch.Tensor, module.get_base_layer().weight)
