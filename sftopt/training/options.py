"""What may be asked of any fine-tuning: its data, its adapters, how it is trained; one home of it.

Commands and studies take the same options; what is not asked for is the task's own, or the
calibration's where one is given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.schedule import Schedule
from sftopt.training.split import AdapterDtype


@dataclass(frozen=True)
class TrainingOptions:
    """Options; None stands for what suits the task."""

    batch: int | None = None
    """Samples per device and step."""
    accumulation: int | None = None
    """Local steps of one update."""
    learning_rate: float | None = None
    schedule: str | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    """Largest norm of each part's gradient."""
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    target_modules: tuple[str, ...] | None = None
    """Ends of names in a block, or ``all-linear``."""
    rslora: bool | None = None
    dora: bool | None = None
    adapter_dtype: str | None = None
    """In which adapters travel."""
    side_keys: tuple[str, ...] | None = None
    """Keys of a batch to send to the server beside those always sent."""

    def __post_init__(self) -> None:
        """Raise InputError naming every option that cannot be."""
        faults = []
        for name, least in (("batch", 1), ("accumulation", 1), ("lora_rank", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                faults.append(f"{_flag(name)} is {value}; at least {least} is needed")
        for name in ("learning_rate", "clip_norm", "lora_alpha"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                faults.append(f"{_flag(name)} is {value:g}; a number above 0 is needed")
        if self.weight_decay is not None and not 0.0 <= self.weight_decay < float("inf"):
            faults.append(f"--weight-decay is {self.weight_decay:g}; 0 or more is needed")
        if self.lora_dropout is not None and not 0.0 <= self.lora_dropout < 1.0:
            faults.append(f"--lora-dropout is {self.lora_dropout:g}; 0 to below 1 is needed")
        if faults:
            raise InputError("; ".join(faults))
        for name, value, known in (
            ("schedule", self.schedule, list(Schedule)),
            ("adapter-dtype", self.adapter_dtype, list(AdapterDtype)),
        ):
            if value is not None and value not in known:
                raise UnknownNameError(f"value of --{name}", value, known)

    def asked(self) -> dict[str, Any]:
        """Return what is asked for, by the names of :class:`CalibrationSettings`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
