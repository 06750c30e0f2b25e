"""What a pre-training is made of: all that decides on its weights, and its learning rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from transformers import PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.core.files import canonical_json
from sftopt.training.data import PretrainingDefaults, Task
from sftopt.training.schedule import Schedule

_ADDED = {"clip_norm": 1.0, "schedule": "cosine", "accumulation": 1, "stored": "float32"}
"""Settings that were constants once, with their values then."""
_RECIPE_VERSION = 1
"""Raised when the same settings would give other weights than before."""


def recipe_of(task: Task, seed: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that decides on the weights, as plain data. Raises InputError."""
    chosen = {name: value for name, value in asked.items() if value is not None}
    if seed < 0 or chosen.get("steps", 1) < 1:
        raise InputError(f"seed = {seed}, steps = {chosen['steps']}; 0 and 1 or more expected.")
    settings = asdict(replace(task.pretraining_defaults(), **chosen))
    for name, usual in _ADDED.items():  # models made before these were settings keep their names
        if settings[name] == usual:
            del settings[name]
    part = task.pretraining()
    if part is None:
        raise InputError(f"task '{task.name}' has no pre-training part; give a model folder.")
    recipe = {
        "version": _RECIPE_VERSION,
        "task": part.name,
        "data": part.fingerprint,
        "seed": seed,
        "settings": settings,
        "model": _plain(part.model_config()),
        "labels": task.labels,
    }
    as_json: dict[str, Any] = _text_keys(recipe)
    return as_json


def _plain(config: PretrainedConfig) -> dict[str, Any]:
    """A configuration without what names the library's release."""
    data: dict[str, Any] = config.to_diff_dict()
    return {name: value for name, value in data.items() if name != "transformers_version"}


def key_of(recipe: dict[str, Any]) -> str:
    """Return the name of a recipe: the sha256 of its JSON form, in hex."""
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def _text_keys(data: Any) -> Any:
    """JSON's view of nested data: ``id2label`` has numbers as keys, which do not sort with text."""
    if isinstance(data, dict):
        return {str(name): _text_keys(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_text_keys(value) for value in data]
    return data


def learning_rate(settings: PretrainingDefaults, step: int) -> float:
    """Return the learning rate of a step, without unit: a linear warm-up, then half a cosine or a
    straight line down to a twentieth, or neither.
    """
    warmup = min(settings.warmup_steps, settings.steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(settings.steps - warmup, 1)
    left = {
        Schedule.CONSTANT: 1.0,
        Schedule.LINEAR: 1.0 - done,
        Schedule.COSINE: 0.5 * (1.0 + math.cos(math.pi * done)),
    }[Schedule(settings.schedule)]
    return settings.learning_rate * (0.05 + 0.95 * left)
