"""What a split whose frozen weights moved has learnt in all: on disk, and as adapters for peft."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from peft import LoraConfig

from sftopt.core.errors import InputError
from sftopt.training.split.errors import WireError
from sftopt.training.split.lora import ADAPTER_NAME
from sftopt.training.split.merging import (
    adapted_modules,
    as_stored,
    frozen_weights,
    load_frozen_weights,
)
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.stack import BlockStack

_LEAST_REL = 1e-7
"""Singular values below this part of the largest are rounding of 32 bit, not learnt."""
_SERVER = "server"
"""Name of the server's weights on disk; devices' are named by their number."""


class Split(Protocol):
    """A split model as this module needs it."""

    stack: BlockStack
    server: ServerPart
    devices: dict[str, DevicePart]
    first_weights: dict[str, torch.Tensor]


def moved_weights(split: Split) -> dict[str, torch.Tensor]:
    """Return the frozen weights by part: the server's, and of devices what is not the same."""
    own = frozen_weights(split.server, _moved_blocks(split))
    found = {f"{_SERVER}.{name}": value for name, value in own.items()}
    for number, device in enumerate(split.devices.values()):
        for name, value in frozen_weights(device, range(device.cut)).items():
            if not torch.equal(value, own[name]):
                found[f"device{number}.{name}"] = value
    return found


def load_moved_weights(split: Split, tensors: dict[str, torch.Tensor], what: str) -> None:
    """Put in what :func:`moved_weights` gave. Raises InputError where it does not fit."""
    try:
        own = {name: tensors[f"{_SERVER}.{name}"] for name in split.first_weights}
        load_frozen_weights(split.server, own)
        for number, device in enumerate(split.devices.values()):
            held = [name for name in own if int(name.split(".", 1)[0]) < device.cut]
            load_frozen_weights(
                device, {name: tensors.get(f"device{number}.{name}", own[name]) for name in held}
            )
    except (KeyError, WireError) as error:
        raise InputError(f"{what} does not fit this split: {error}.") from None


def learnt_adapters(
    split: Split, settings: LoraConfig, device_id: str | None
) -> tuple[dict[str, torch.Tensor], LoraConfig]:
    """Return one set of adapters for the whole unsplit model, in peft's names, and its settings.

    Increments in the frozen weights and adapters together, factored at the ranks they need; with
    ``device_id``, of the blocks that it holds as that device has them.
    """
    state, ranks, alphas = {}, {}, {}
    device = None if device_id is None else split.devices[device_id]
    for number in range(split.stack.count):
        part = device if device is not None and number < device.cut else split.server
        weights, factors = frozen_weights(part, [number]), part.adapters([number])
        for name, module in adapted_modules(part, [number]).items():
            down, up = (factors[f"{name}.{factor}"].cpu() for factor in ("lora_A", "lora_B"))
            scaling = module.scaling[ADAPTER_NAME]
            if name in split.first_weights:
                moved = weights[name].double() - split.first_weights[name].double()
                total = as_stored(module, moved) + scaling * (up.double() @ down.double())
                down, up, scaling = *_factored(total, down.dtype), 1.0
            place = f"base_model.model.{split.stack.path}.{name}"
            state[f"{place}.lora_A.weight"], state[f"{place}.lora_B.weight"] = down, up
            pattern = f"{split.stack.list_name}.{name}"
            ranks[pattern], alphas[pattern] = len(down), scaling * len(down)
    return state, replace(settings, r=1, lora_alpha=1, rank_pattern=ranks, alpha_pattern=alphas)


def _moved_blocks(split: Split) -> list[int]:
    return sorted({int(name.split(".", 1)[0]) for name in split.first_weights})


def _factored(total: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of an update (outputs, inputs), at its rank, at least 1."""
    left, values, right = torch.linalg.svd(total, full_matrices=False)
    rank = max(1, int((values > _LEAST_REL * values[0]).sum()))
    root = values[:rank].sqrt()
    down, up = root[:, None] * right[:rank], left[:, :rank] * root
    return down.to(dtype).contiguous(), up.to(dtype).contiguous()
