"""A split model on disk: standard PEFT folders that plain peft loads, and ``split_config.json``.

::

    split_config.json
    server/                  adapters of all L blocks, a trained head: a whole model for peft
    devices/000/ 001/ ...    in the configuration's order: adapters of the blocks a device holds

Each folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. Loading ``server`` in
plain peft gives the shared model; a device's folder gives its blocks alone on the base model. No
folder is written for a device that holds no block.

Where frozen weights hold increments (concatenation, corrected averaging), adapters alone are not
the model: ``frozen_weights.safetensors`` has those weights, server/ and devices/ have no
``adapter_config.json``, and ``whole/`` (of `save_pretrained`) is one PEFT folder of all that was
learnt: increments and adapters together, at the ranks they need.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.core.files import write_json
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.learnt import learnt_adapters, load_moved_weights, moved_weights
from sftopt.training.split.lora import ADAPTER_NAME, task_type_of
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.stack import BlockStack
from sftopt.training.tensor_files import read_tensors, write_tensors

WEIGHTS_NAME = "adapter_model.safetensors"
"""File of the weights in a PEFT folder."""
_SETTINGS_NAME = "adapter_config.json"
"""File of the settings in a PEFT folder."""
FROZEN_NAME = "frozen_weights.safetensors"
"""File of frozen weights that hold increments."""
WHOLE_NAME = "whole"
"""PEFT folder of all that was learnt, where frozen weights hold increments."""


class Split(Protocol):
    """A split model as saving and checkpoints need it; :class:`SplitModel` is one."""

    config: SplitConfig
    stack: BlockStack
    server: ServerPart
    devices: dict[str, DevicePart]
    steps_done: int
    rounds_done: int
    weights_moved: bool
    first_weights: dict[str, torch.Tensor]


def save_split(split: Split, directory: Path) -> None:
    """Write all parts into ``directory``, over an older save; other files there stay."""
    for folder, model in _folders(split, directory):
        if split.weights_moved:  # plain peft must not take the adapters for the whole model
            (folder / _SETTINGS_NAME).unlink(missing_ok=True)
            write_tensors(folder / WEIGHTS_NAME, _state(model), metadata={"format": "pt"})
        else:
            _write_folder(folder, model)
    if split.weights_moved:
        write_tensors(directory / FROZEN_NAME, moved_weights(split))
    else:
        (directory / FROZEN_NAME).unlink(missing_ok=True)
    split.config.save_pretrained(directory)  # last: a folder without it is an unfinished save


def load_split(split: Split, directory: Path) -> None:
    """Read all parts into ``split``. Raises InputError where the folder is of another split."""
    saved = SplitConfig.from_pretrained(directory)
    if saved.cut_layers != split.config.cut_layers or saved.lora != split.config.lora:
        raise InputError(f"'{directory}' holds another split (other cuts or other adapters).")
    for folder, model in _folders(split, directory):
        _read_folder(folder, model)
    moved = directory / FROZEN_NAME
    tensors = {f"server.{name}": value for name, value in split.first_weights.items()}
    split.weights_moved = moved.is_file()
    if split.weights_moved:
        tensors = read_tensors(moved, "file of the saved split")
    load_moved_weights(split, tensors, f"'{moved}'")


def save_merged(split: Split, directory: Path, device_id: str | None) -> None:
    """Save one PEFT folder for the unsplit model: the server's, or with one device's copies."""
    server = split.server.peft_model
    if device_id is not None:
        split.config.device(device_id)
    if split.weights_moved:
        state, settings = learnt_adapters(split, _settings(server), device_id)
        heads = {name: value for name, value in _state(server).items() if ".lora_" not in name}
        _write(directory, {**heads, **state}, settings)
        return
    if device_id is None:
        _write_folder(directory, server)
        return
    device = split.devices[device_id].peft_model
    state, settings = _state(server), _settings(server)
    if device is not None:
        state.update(_state(device))
        own, cut = _settings(device), split.devices[device_id].cut
        held = tuple(f"{split.stack.list_name}.{number}." for number in range(cut))
        settings = replace(
            settings,
            rank_pattern=_patched(settings.rank_pattern, own.rank_pattern, held),
            alpha_pattern=_patched(settings.alpha_pattern, own.alpha_pattern, held),
        )
    _write(directory, state, settings)


def _folders(split: Split, directory: Path) -> list[tuple[Path, PeftModel]]:
    """Every part that has adapters, and its folder."""
    found = [(directory / "server", split.server.peft_model)]
    for number, device in enumerate(split.devices.values()):
        if device.peft_model is not None:
            found.append((device_folder(directory, number), device.peft_model))
    return found


def device_folder(directory: Path, number: int) -> Path:
    """Return a device's folder by number: an id may hold what a file name may not."""
    return directory / "devices" / f"{number:03d}"


def _patched(
    whole: dict[str, Any] | None, own: dict[str, Any] | None, held: tuple[str, ...]
) -> dict[str, Any]:
    """The server's pattern with the device's in place of it for the blocks the device holds."""
    kept = {name: value for name, value in (whole or {}).items() if not name.startswith(held)}
    return {**kept, **(own or {})}


def _settings(model: PeftModel) -> LoraConfig:
    settings = cast(LoraConfig, model.peft_config[ADAPTER_NAME])
    task = task_type_of(cast(PreTrainedModel, model.get_base_model()))
    return replace(settings, inference_mode=True, task_type=task)


def _state(model: PeftModel) -> dict[str, torch.Tensor]:
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def _write_folder(directory: Path, model: PeftModel) -> None:
    _write(directory, _state(model), _settings(model))


def _write(directory: Path, state: dict[str, torch.Tensor], settings: LoraConfig) -> None:
    write_tensors(directory / WEIGHTS_NAME, state, metadata={"format": "pt"})
    data: dict[str, Any] = settings.to_dict()  # type: ignore[no-untyped-call]
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in data.items()}
    write_json(directory / _SETTINGS_NAME, plain)


def _read_folder(directory: Path, model: PeftModel) -> None:
    path = directory / WEIGHTS_NAME
    state = read_tensors(path, "file of the saved split")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    odd = [name for name in set(own) ^ set(state)]
    odd += [name for name in set(own) & set(state) if own[name].shape != state[name].shape]
    if odd:
        raise InputError(f"'{path}' does not fit this split: {', '.join(sorted(odd)[:4])}.")
    set_peft_model_state_dict(model, state)
