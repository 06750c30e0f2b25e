"""One fine-tuning of one arm, in a process of its own, for equal_bytes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.studies.equal_bytes_arms import Maker, arms_of
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.codec import CodecConfig, codec_from
from sftopt.training.data import Task, load_task
from sftopt.training.data.epochs import revisited
from sftopt.training.evaluation import evaluate
from sftopt.training.loop import RunSettings, Schedule, fine_tune
from sftopt.training.split import BoundaryCodec, LosslessCodec, SplitModel, load_base_model
from sftopt.training.split.known import memory_bytes

_LOCAL_STEPS = 10
"""Steps between two averagings."""


@dataclass(frozen=True)
class Job:
    """One run: which arm by its label, and what else decides on the result."""

    label: str
    seed: int
    steps: int


class Runner:
    """Task, model and arms, loaded once for many runs."""

    def __init__(
        self, spec: str, model: Path, work: Path, device: str, evaluated: int | None
    ) -> None:
        torch.set_num_threads(1)
        self.task: Task = load_task(spec, model=model)
        base = load_base_model(model, task=self.task.kind.model_task, local_files_only=True)
        self.base = base.to(torch.device(device))  # type: ignore[arg-type]
        self.evaluated = evaluated
        work.mkdir(parents=True, exist_ok=True)
        self._maker = Maker(self.base, self.task, model, work)

    def run(self, job: Job) -> dict[str, Any]:
        """Fine-tune, evaluate through the codec and without it; return the row."""
        arm = next(arm for arm in arms_of(self.task) if arm.label == job.label)
        config = self._maker.of(arm)
        cpu, wall = time.process_time(), time.perf_counter()
        settings = settings_for(self.task, evaluation_limit=self.evaluated)
        batch = self.task.training.batch
        task = self.task
        if arm.epochs:
            task = revisited(task, batch * (job.steps // arm.epochs))
        split = SplitModel(
            copy.deepcopy(self.base), settings.split_config(job.seed),
            codecs=lambda _: _codec(config),
        )  # fmt: skip
        rounds = max(1, math.ceil(job.steps / _LOCAL_STEPS))
        run = RunSettings(
            rounds=rounds, local_steps=min(_LOCAL_STEPS, job.steps),
            batches={name: batch for name in split.devices}, seed=job.seed, evaluate_every=0,
            evaluation_limit=settings.evaluation_limit, schedule=Schedule(settings.schedule),
        )  # fmt: skip
        record = fine_tune(split, task, run)
        remembered = sum(memory_bytes(device.codec) for device in split.devices.values())
        for device in split.devices.values():
            device.codec = LosslessCodec()
            split.server.codecs[device.id] = device.codec
        plain = evaluate(split, task, limit=settings.evaluation_limit)
        return {
            "task": self.task.name.partition(":")[0],
            "task_fingerprint": self.task.fingerprint,
            **asdict(arm),
            "label": arm.label,
            "codec": None if config is None else config.to_dict(),
            "seed": job.seed,
            "steps": job.steps,
            "metric": record.final_metric,
            "metric_without_codec": plain.metric,
            "uplink_bytes": _sum(record.rounds, "uplink_boundary"),
            "side_bytes": _sum(record.rounds, "uplink_side"),
            "downlink_bytes": _sum(record.rounds, "downlink_gradient"),
            "memory_bytes": remembered,
            "cpu_s": round(time.process_time() - cpu, 3),
            "wall_s": round(time.perf_counter() - wall, 3),
        }


def _codec(config: CodecConfig | None) -> BoundaryCodec:
    return LosslessCodec() if config is None else codec_from(config)


def _sum(rounds: Any, kind: str) -> int:
    return sum(int(row.bytes_of(kind)) for row in rounds)


_RUNNER: list[Runner] = []
"""The runner of this process."""


def begin(make: Callable[[], Runner]) -> None:
    """Load what this process needs."""
    _RUNNER[:] = [make()]


def do(job: Job) -> dict[str, Any]:
    """Run a job in this process."""
    return _RUNNER[0].run(job)
