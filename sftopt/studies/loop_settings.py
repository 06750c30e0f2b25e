"""What a closed loop runs, and the settings of its fine-tunings that follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sftopt.core.calibration import Calibration
from sftopt.core.errors import InputError
from sftopt.training.calibrate import CalibrationSettings
from sftopt.training.calibrate.budgets import MenuItem
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.data import Task
from sftopt.training.options import TrainingOptions

MOST_DEVICES = 100
"""Most devices of a loop's cell: each has its own part of the model in one process."""


@dataclass(frozen=True)
class LoopSettings:
    """What the loop runs; every default is ours."""

    devices: int = 2
    seeds: int = 10
    """Of the traffic arms, paired with the uncompressed run; 0: no traffic arms."""
    plan_seeds: int = 3
    """Runs of the plan."""
    calibration_seeds: int = 3
    keeps: tuple[float, ...] = (0.25, 0.36, 0.5, 0.62, 0.75, 0.9)
    """Where plans of a small allowed loss lie; equation (12) does not hold well far below."""
    bits: tuple[int, ...] = (2, 4, 8)
    workers: int = 2
    menu: tuple[MenuItem, ...] | None = ()
    """Codecs measured besides Top-K and planned with; None: those that suit model and task."""
    band: float = 1.0
    """Share of the cell's bandwidth that there is, both ways."""
    cell_seed: int = 0
    steps: int | None = None
    """Steps of every fine-tuning; None: the task's."""
    evaluation_limit: int | None = None
    tokens: int | None = None
    """Length of samples of text; None: the task's."""
    columns: tuple[tuple[str, str], ...] = ()
    """Of a table, by role."""
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        pairs = 1 if self.menu == () else 2
        least = {
            "devices": 1, "seeds": 2 if self.seeds else 0, "plan_seeds": pairs,
            "calibration_seeds": 2, "workers": 1, "cell_seed": 0,
        }  # fmt: skip
        faults = [
            f"{name} = {getattr(self, name)}; at least {limit} is needed"
            for name, limit in least.items()
            if getattr(self, name) < limit
        ]
        if self.devices > MOST_DEVICES:
            faults.append(f"devices = {self.devices}; at most {MOST_DEVICES} are possible")
        if not 0.0 < self.band <= 1.0:
            faults.append(f"band = {self.band:g}; a share above 0 and at most 1 is needed")
        if faults:
            raise InputError("this loop cannot be started:\n  - " + "\n  - ".join(faults))


QUICK: dict[str, Any] = {
    "seeds": 0, "plan_seeds": 3, "calibration_seeds": 3, "keeps": (0.36, 0.5, 0.7), "bits": (4, 8),
    "menu": (MenuItem("rotated", 2.0),), "band": 0.25, "steps": 60,
    "evaluation_limit": 1000,
}  # fmt: skip
"""Settings of a loop of minutes: short fine-tunings, no traffic arms, a narrow band."""


def calibration_settings(task: Task, settings: LoopSettings) -> CalibrationSettings:
    """Return the task's own settings, its batch shared out among the cell's devices."""
    count = settings.devices
    batch = {"batch": max(1, task.training.batch // count)}
    base = settings_for(
        task, seeds=tuple(range(settings.calibration_seeds)),
        cuts=(task.training.cut,) * count, evaluation_limit=settings.evaluation_limit,
        keeps=settings.keeps, bits=settings.bits, **batch | settings.training.asked(),
    )  # fmt: skip
    if settings.steps is not None:
        rounds, steps = _rounds(settings.steps, base.local_steps)
        base = replace(base, rounds=rounds, local_steps=steps)
    return base


def _rounds(steps: int, of: int) -> tuple[int, int]:
    """Rounds and their steps for so many steps of a fine-tuning, in rounds of ``of`` at most."""
    local = min(of, steps)
    if steps % local:
        below = steps - steps % local
        raise InputError(
            f"steps = {steps}; a round has {local} steps, so give {below} or {below + local}"
        )
    return steps // local, local


def check_calibration(given: Calibration, task: Task, grid: CalibrationSettings) -> None:
    """Raise InputError for a calibration of another task, or of other fine-tunings than the loop's.

    Its curve would tell nothing of them.
    """
    if given.source.task_fingerprint != task.fingerprint:
        raise InputError(
            f"calibration '{given.name}' is not of this version of task '{task.name}'; give one "
            "that is, or none."
        )
    made, asked = given.accuracy_fit().settings, grid.run_dict()
    odd = [
        f"{name} {made[name]}, here {asked[name]}"
        for name in asked
        if name in made and name not in ("codec", "ecsq_codec") and made[name] != asked[name]
    ]
    if odd:
        raise InputError(
            f"calibration '{given.name}' was made by other fine-tunings ({'; '.join(odd)}); ask "
            "for the same, or give none."
        )
