"""Stopping and going on: everything a split run holds besides its base model and its data.

::

    split_config.json, server/, devices/   as in sftopt.training.split.saving
    optimizers.safetensors                 tensors of all optimisers: "server.0.exp_avg"
    state.json                             steps, rounds, optimiser settings, the caller's `extra`
    random.safetensors                     state of torch's generators

Only safetensors and JSON: nothing is ever unpickled. A checkpoint is written beside the old one
and takes its place when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sftopt.core.errors import InputError
from sftopt.core.files import READ_VERSIONS, SCHEMA_VERSION, read_json, write_json
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.saving import load_split, save_split

if TYPE_CHECKING:
    from sftopt.training.split.model import SplitModel


def write_checkpoint(split: SplitModel, directory: Path, extra: Mapping[str, Any]) -> None:
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
    with _replacing(directory) as fresh:
        save_split(split, fresh)
        save_file(tensors, fresh / "optimizers.safetensors")
        save_file(_random_state(), fresh / "random.safetensors")
        write_json(
            fresh / "state.json",
            {
                "schema_version": SCHEMA_VERSION,
                "steps_done": split.steps_done,
                "rounds_done": split.rounds_done,
                "optimizers": groups,
                "extra": dict(extra),
            },
        )


def read_checkpoint(split: SplitModel, directory: Path) -> dict[str, Any]:
    """Put ``split`` where the checkpoint was; returns the caller's ``extra``.

    Raises InputError where the checkpoint is not of this split.
    """
    _recover(directory)
    if not directory.is_dir():
        raise InputError(f"checkpoint folder '{directory}' does not exist.")
    state = read_json(directory / "state.json", "checkpoint")
    if state.get("schema_version") not in READ_VERSIONS:
        raise InputError(
            f"checkpoint '{directory}' has version {state.get('schema_version')!r}; this sftopt "
            f"reads versions {' and '.join(map(str, READ_VERSIONS))}."
        )
    tensors = _read_tensors(directory / "optimizers.safetensors")
    generators = _read_tensors(directory / "random.safetensors")
    _check_same_run(split, directory)
    load_split(split, directory)
    try:
        for name, part in _named_parts(split):
            if part.optimizer is not None:
                _load_optimizer(part.optimizer, name, state["optimizers"][name], tensors)
        split.steps_done = int(state["steps_done"])
        split.rounds_done = int(state["rounds_done"])
        torch.set_rng_state(generators["cpu"])
        if torch.cuda.is_available() and "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"])
        return dict(state["extra"])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"checkpoint '{directory}' does not fit this split: {error}.") from None


def has_checkpoint(directory: Path) -> bool:
    """Return whether :func:`read_checkpoint` finds one there, also after a write that was cut
    off.
    """
    return (directory / "state.json").is_file() or _old(directory).is_dir()


def rounds_in_checkpoint(directory: Path) -> int:
    """Return the number of rounds done when the checkpoint was written; 0 where there is none."""
    if not has_checkpoint(directory):
        return 0
    _recover(directory)
    return int(read_json(directory / "state.json", "checkpoint").get("rounds_done", 0))


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A fresh folder beside ``directory`` that takes its place when all is written.

    Killed on the way, the old folder is there as it was, or (between two renames) beside it under
    ``.<name>.old``, where :func:`_recover` finds it. Raises InputError where it cannot be written.
    """
    old = _old(directory)
    if directory.is_dir() and any(directory.iterdir()) and not (directory / "state.json").is_file():
        raise InputError(f"folder '{directory}' is no checkpoint and not empty; choose another.")
    try:
        _recover(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
        try:
            yield fresh
            fresh.chmod(0o755)
            if directory.exists():
                os.rename(directory, old)
            os.rename(fresh, directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if directory.exists():
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write folder '{directory}': {error.strerror or error}. Choose another place."
        ) from None


def _recover(directory: Path) -> None:
    """Put back the old folder of a write that was killed between its two renames."""
    if _old(directory).is_dir() and not directory.exists():
        os.rename(_old(directory), directory)


def _old(directory: Path) -> Path:
    return directory.parent / f".{directory.name}.old"


def _check_same_run(split: SplitModel, directory: Path) -> None:
    """Anything but the place of the base model must be the same, or the run would go elsewhere."""
    saved, own = SplitConfig.from_pretrained(directory).to_dict(), split.config.to_dict()
    free = ("base_model", "revision")
    odd = [name for name in own if name not in free and saved[name] != own[name]]
    if odd:
        raise InputError(f"checkpoint '{directory}' is of another run: {', '.join(odd)} differ.")


def _load_optimizer(
    optimizer: torch.optim.Optimizer, name: str, groups: Any, tensors: dict[str, torch.Tensor]
) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        part, number, field = key.rsplit(".", 2)
        if part == name:
            state.setdefault(int(number), {})[field] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in groups
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named_parts(split: SplitModel) -> list[tuple[str, DevicePart | ServerPart]]:
    devices = enumerate(split.devices.values())
    return [("server", split.server), *((f"device{number}", part) for number, part in devices)]


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError, OSError) as error:
        raise InputError(f"checkpoint file '{path}' cannot be read: {error}.") from None
