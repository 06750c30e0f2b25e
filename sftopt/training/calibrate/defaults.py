"""Settings that suit a task: its own defaults, with only what was asked for changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.data import Task

_LOCAL_STEPS = 10
"""Local steps of a round where none are asked for."""
_EVALUATED = 2000
"""Held-out samples of a run: the resolution of an accuracy is then half a point, and runs of one
seed are compared on the same samples."""


_STATISTICS = 16
"""Number of keep fractions whose bytes are measured."""


def between(keeps: Sequence[float], count: int = _STATISTICS) -> tuple[float, ...]:
    """Keep fractions over the range of ``keeps`` whose bytes are measured.

    Many: omega of equation (1) is constant between two of them, and jumps there.
    """
    return tuple(float(keep) for keep in np.geomspace(min(keeps), max(keeps), count).round(4))


def settings_for(task: Task, **asked: Any) -> CalibrationSettings:
    """Return a task's batch, cut, learning rate and adapters, but for fields ``asked``.

    A value of None in ``asked`` leaves the default. Raises InputError naming every fault.
    """
    chosen = {name: value for name, value in asked.items() if value is not None}
    training = task.training
    steps = chosen.get("local_steps", _LOCAL_STEPS)
    default = CalibrationSettings(
        cuts=(training.cut,),
        batch=training.batch,
        rounds=max(1, training.steps // max(1, steps)),
        local_steps=steps,
        learning_rate=training.learning_rate,
        schedule=training.schedule,
        lora_rank=training.lora_rank,
        lora_alpha=training.lora_alpha,
        target_modules=training.target_modules,
        evaluation_limit=min(_EVALUATED, task.held_out("test")),
    )
    if "lora_rank" in chosen and "lora_alpha" not in chosen:  # scaled as the task's own
        chosen["lora_alpha"] = default.lora_alpha / default.lora_rank * chosen["lora_rank"]
    made = replace(default, **chosen)
    if "statistics_keeps" not in chosen:
        made = replace(made, statistics_keeps=tuple(dict.fromkeys(between(made.keeps))))
    return made
