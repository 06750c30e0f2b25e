"""Stopping and going on: everything a split run holds besides its base model and its data.

::

    split_config.json, server/, devices/   as in sftopt.training.split.saving
    optimizers.safetensors                 tensors of all optimisers: "server.0.exp_avg"
    state.json                             steps, rounds, optimiser settings, the caller's `extra`
    random.safetensors                     state of torch's generators
    memory.safetensors                     what codecs remember of samples: "device0.values"

    checksums.json                         sha256 of every file above

Only safetensors and JSON: nothing is ever unpickled. A checkpoint is written beside the last one
and takes its place when it is complete; the last one then stands in ``<name>-previous``. A file
whose checksum is not its own is named, and the checkpoint before is gone on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sftopt.core.errors import InputError
from sftopt.core.files import read_json, write_json
from sftopt.core.version import READ_VERSIONS, SCHEMA_VERSION
from sftopt.training.codec import CodecError
from sftopt.training.split import known
from sftopt.training.split.boundary import BoundaryCodec
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.kept_folders import STATE_NAME, is_kept, replacing, take_whole
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.saving import Split, load_split, save_split
from sftopt.training.tensor_files import read_tensors, write_tensors

_OPTIMIZERS = "optimizers.safetensors"
"""File of the tensors of all optimisers."""
_RANDOM = "random.safetensors"
"""File of the state of torch's generators."""
_MEMORY = "memory.safetensors"
"""File of what codecs remember of samples, at both ends; only where one does."""


def write_checkpoint(split: Split, directory: Path, extra: Mapping[str, Any]) -> None:
    """Write a checkpoint between two steps. Raises InputError where that fails."""
    tensors: dict[str, torch.Tensor] = {}
    groups: dict[str, Any] = {}
    for name, part in _named_parts(split):
        if part.optimizer is None:
            continue
        state = part.optimizer.state_dict()
        groups[name] = state["param_groups"]
        for number, values in state["state"].items():
            for key, value in values.items():
                if value is not None:  # SGD without momentum keeps an empty buffer
                    tensors[f"{name}.{number}.{key}"] = torch.as_tensor(value).cpu().clone()
    with replacing(directory) as fresh:
        save_split(split, fresh)
        write_tensors(fresh / _OPTIMIZERS, tensors)
        write_tensors(fresh / _RANDOM, _random_state())
        remembered = _remembered(split)
        if remembered:
            write_tensors(fresh / _MEMORY, remembered)
        write_json(
            fresh / STATE_NAME,
            {
                "schema_version": SCHEMA_VERSION,
                "steps_done": split.steps_done,
                "rounds_done": split.rounds_done,
                "optimizers": groups,
                "extra": dict(extra),
            },
        )


def read_checkpoint(split: Split, directory: Path) -> dict[str, Any]:
    """Put ``split`` where the checkpoint was; returns the caller's ``extra``.

    Raises InputError where the checkpoint is not of this split, or no whole one is there.
    """
    state = _state(directory)
    tensors = read_tensors(directory / _OPTIMIZERS, "checkpoint file")
    generators = read_tensors(directory / _RANDOM, "checkpoint file")
    memory = directory / _MEMORY
    remembered = read_tensors(memory, "checkpoint file") if memory.is_file() else {}
    _check_same_run(split, directory)
    load_split(split, directory)
    try:
        for name, part in _named_parts(split):
            if part.optimizer is not None:
                _load_optimizer(part.optimizer, name, state["optimizers"][name], tensors)
        for name, codec in _named_codecs(split):
            known.restore(codec, _under(remembered, name))
        split.steps_done = int(state["steps_done"])
        split.rounds_done = int(state["rounds_done"])
        torch.set_rng_state(generators["cpu"])
        if torch.cuda.is_available() and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"])
        return dict(state["extra"])
    except (CodecError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"checkpoint '{directory}' does not fit this split: {error}.") from None


def has_checkpoint(directory: Path) -> bool:
    """Return whether there is a checkpoint, whole or not; also after a write that was cut off."""
    return is_kept(directory)


def extra_of_checkpoint(directory: Path) -> dict[str, Any] | None:
    """Return the caller's ``extra`` of the checkpoint that is gone on from; None without one.

    Raises InputError where no whole one is there.
    """
    if not has_checkpoint(directory):
        return None
    extra: dict[str, Any] = _state(directory).get("extra", {})
    return extra


def _state(directory: Path) -> dict[str, Any]:
    """Content of the state file of a whole checkpoint. Raises InputError."""
    take_whole(directory, "checkpoint")
    state = read_json(directory / STATE_NAME, "checkpoint")
    if state.get("schema_version") not in READ_VERSIONS:
        raise InputError(
            f"checkpoint '{directory}' has version {state.get('schema_version')!r}; this sftopt "
            f"reads versions {' and '.join(map(str, READ_VERSIONS))}."
        )
    return state


def _check_same_run(split: Split, directory: Path) -> None:
    """Anything but the place of the base model must be the same, or the run would go elsewhere."""
    saved, own = SplitConfig.from_pretrained(directory).to_dict(), split.config.to_dict()
    free = ("base_model", "revision")
    names = dict.fromkeys([*own, *saved])  # what is usual need not stand there
    odd = [name for name in names if name not in free and saved.get(name) != own.get(name)]
    if odd:
        raise InputError(f"checkpoint '{directory}' is of another run: {', '.join(odd)} differ.")


def _load_optimizer(
    optimizer: torch.optim.Optimizer, name: str, groups: Any, tensors: dict[str, torch.Tensor]
) -> None:
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        part, number, field = key.rsplit(".", 2)
        if part != name:
            continue
        own = parameters[int(number)].shape
        if value.shape not in (own, torch.Size([])) or not value.is_floating_point():
            raise ValueError(f"'{key}' has shape {tuple(value.shape)}, its parameter {tuple(own)}")
        state.setdefault(int(number), {})[field] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in groups
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named_parts(split: Split) -> list[tuple[str, DevicePart | ServerPart]]:
    devices = enumerate(split.devices.values())
    return [("server", split.server), *((f"device{number}", part) for number, part in devices)]


def _named_codecs(split: Split) -> list[tuple[str, BoundaryCodec]]:
    """The codecs of both ends of every device."""
    names = list(split.devices)
    ours = [(f"device{number}", split.devices[name].codec) for number, name in enumerate(names)]
    theirs = [(f"server{number}", split.server.codecs[name]) for number, name in enumerate(names)]
    return [*ours, *theirs]


def _remembered(split: Split) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, codec in _named_codecs(split)
        for key, value in known.state_of(codec).items()
    }


def _under(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Tensors of one codec, by the rest of their names."""
    return {
        key.partition(".")[2]: value
        for key, value in tensors.items()
        if key.partition(".")[0] == name
    }


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
