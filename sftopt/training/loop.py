"""Rounds of split fine-tuning: local steps of all devices, averaging, evaluation, checkpoints.

Equation numbers are those of ``sftopt/formulations/MODEL.md``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.plan import Order
from sftopt.training.evaluation import Evaluation, Task, diverged, evaluate
from sftopt.training.failures import memory_limits_told
from sftopt.training.orders import steps_of_round
from sftopt.training.schedule import Schedule
from sftopt.training.split import DivergedError, SplitModel, StepReport
from sftopt.training.split.checkpoint import has_checkpoint
from sftopt.training.split.parts import Batch

SERVER = "server"
"""Where the server's optimiser steps are counted in a round's seconds."""


@dataclass(frozen=True)
class RunSettings:
    """The schedule of a run. Learning rate and adapters are the split's own."""

    rounds: int
    local_steps: int
    """K, steps between two averagings."""
    batches: Mapping[str, int]
    """b_n, samples of a step, by device id."""
    seed: int = 0
    """Of the order of the data and of dropout."""
    evaluate_every: int = 1
    """Rounds between two evaluations; 0: only after the last. The last is always evaluated."""
    evaluation_limit: int | None = None
    """Samples of an evaluation at most."""
    evaluation_batch: int = 64
    evaluation_part: str = "test"
    """Held-out part that is evaluated on; ``validation`` where a choice hangs on it."""
    schedule: Schedule = Schedule.CONSTANT
    accumulation: int = 1
    """Local steps of one update, by their mean gradient; at a round's end fewer may be left."""
    absent: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Devices that miss a round, by its number from 1."""
    checkpoint_every: int = 1
    """Rounds between two checkpoints; there is always one after the last."""

    def updates_at(self, step: int) -> bool:
        """Return whether local step ``step`` of a round, from 1, ends with an update."""
        return step % self.accumulation == 0 or step == self.local_steps


@dataclass(frozen=True)
class RoundRow:
    """What one round did."""

    round: int
    """From 1."""
    participants: tuple[str, ...]
    losses: dict[str, float]
    """Mean training loss over the local steps, nats, by device; of those that had labels."""
    metric: float | None
    """SUM w_n metric_n over the devices' own splits; None where the round was not evaluated."""
    device_metrics: dict[str, float]
    """metric_n: through device n's own cut and codec; empty where not evaluated."""
    byte_counts: dict[str, dict[str, int]]
    """By device, then ``uplink_boundary_bytes``, ``downlink_gradient_bytes`` and so on."""
    cpu_s: dict[str, dict[str, float]]
    """Thread CPU seconds by device (or ``server``: its optimiser steps), then by phase."""
    wall_s: dict[str, dict[str, float]]
    """Wall seconds, likewise."""
    step_losses: dict[str, list[float]] = field(default_factory=dict)
    """Training loss of each local step, nats, by device."""
    skipped_batches: dict[str, int] = field(default_factory=dict)
    """Batches without any label that counts, by device that had some: nothing was sent of them."""

    @property
    def loss(self) -> float | None:
        """Return the mean training loss over the participants; None where none had a label."""
        return math.fsum(self.losses.values()) / len(self.losses) if self.losses else None

    def bytes_of(self, kind: str) -> int:
        """Sum the bytes of one direction and kind over all devices, such as ``uplink_boundary``."""
        return sum(counts.get(f"{kind}_bytes", 0) for counts in self.byte_counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON data."""
        return {**asdict(self), "participants": list(self.participants)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> RoundRow:
        """Return the row that :meth:`to_dict` wrote as ``data``."""
        return RoundRow(**{**data, "participants": tuple(data["participants"])})


@dataclass(frozen=True)
class RunRecord:
    """A finished run."""

    metric: str
    rounds: tuple[RoundRow, ...]

    @property
    def final_metric(self) -> float:
        """Return the metric after the last round, an accuracy or a negative loss in nats."""
        last = self.rounds[-1].metric
        assert last is not None, "the last round is always evaluated"
        return last

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON data."""
        rows = [row.to_dict() for row in self.rounds]
        return {"metric": self.metric, "final_metric": self.final_metric, "rounds": rows}


StepListener = Callable[[int, StepReport], None]
"""Called after each local step with the round's number."""


def fine_tune(
    model: SplitModel,
    task: Task,
    settings: RunSettings,
    *,
    on_round: Callable[[RoundRow], None] | None = None,
    on_step: StepListener | None = None,
    checkpoint_dir: Path | None = None,
    caller: Callable[[], Mapping[str, Any]] | None = None,
) -> RunRecord:
    """Run ``settings.rounds`` rounds: K local steps of all devices, then equation (8).

    The split's order and aggregation say how (:mod:`sftopt.training.orders`): this is the usual
    one. A device that is absent in a round takes no step, and its weight goes to the others; before
    its next round the server sends it what it lacks. With ``checkpoint_dir`` a checkpoint found
    there is gone on from: losses, metrics, bytes and adapters are then those of a run that was
    never stopped. ``caller`` gives plain JSON data that each checkpoint keeps beside its own.

    Raises InputError for settings, data or a checkpoint that do not fit; DivergedError where the
    loss is no number any more (the last checkpoint is kept); OutOfMemoryError.
    """
    check_settings(model, settings)
    with torch.random.fork_rng(devices=_cuda_devices(model)):
        torch.manual_seed(settings.seed)
        rows = _resumed_rows(model, task, settings, checkpoint_dir)
        data = _Data(model, task, settings, rows)
        for number in range(len(rows) + 1, settings.rounds + 1):
            with _failures_told(number, checkpoint_dir):
                rows.append(_round(model, task, settings, data, number, on_step))
            if on_round is not None:
                on_round(rows[-1])
            last = number == settings.rounds
            if checkpoint_dir is not None and (last or number % settings.checkpoint_every == 0):
                extra = {"caller": {} if caller is None else dict(caller())}
                model.save_checkpoint(checkpoint_dir, {**_extra(task, settings, rows), **extra})
        if rows[-1].metric is None:  # stopped there when it was not yet to be the last
            found = _evaluate_round(model, task, settings, settings.rounds)
            rows[-1] = replace(rows[-1], metric=found.metric, device_metrics=found.by_device)
    return RunRecord(task.metric, tuple(rows))


class _Data:
    """One endless iterator of batches for each device, at its place in the run."""

    def __init__(
        self, model: SplitModel, task: Task, settings: RunSettings, rows: Sequence[RoundRow]
    ) -> None:
        taken = Counter(name for row in rows for name in row.participants)
        self._iterators = {
            name: iter(
                task.train_batches(
                    device=number,
                    devices=len(model.devices),
                    batch=settings.batches[name],
                    seed=settings.seed,
                    skip=settings.local_steps * taken[name],
                )
            )
            for number, name in enumerate(model.devices)
        }

    def next(self, device_id: str) -> Batch:
        batch = next(self._iterators[device_id], None)
        if batch is None:
            raise InputError(f"the training data of device {device_id} ends; it must go round.")
        return batch


def _round(
    model: SplitModel,
    task: Task,
    settings: RunSettings,
    data: _Data,
    number: int,
    on_step: StepListener | None,
) -> RoundRow:
    absent = settings.absent.get(number, ())
    present = [name for name in model.devices if name not in absent]
    before = {name: dict(model.channels[name].traffic.to_dict()) for name in model.devices}
    losses: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[str, Counter[str]] = defaultdict(Counter)
    wall: defaultdict[str, Counter[str]] = defaultdict(Counter)
    skipped: Counter[str] = Counter()
    back = [name for name in settings.absent.get(number - 1, ()) if name in present]

    def begin_step(step: int, of: int) -> None:
        done = (number - 1) * of + step
        _set_learning_rate(model, settings.schedule.factor(done, settings.rounds * of))

    steps = steps_of_round(
        model, present, back, settings.local_steps, data.next, begin_step, settings.updates_at
    )
    for report in steps:
        skipped.update(report.skipped)
        for name, loss in report.losses.items():
            losses[name].append(loss)
        for name, times in {**report.times, SERVER: report.server_update}.items():
            cpu[name].update({phase.value: value for phase, value in times.cpu_s.items()})
            wall[name].update({phase.value: value for phase, value in times.wall_s.items()})
        if on_step is not None:
            on_step(number, report)
    _check_finite(model)
    found = None
    if number == settings.rounds or (
        settings.evaluate_every and number % settings.evaluate_every == 0
    ):
        found = _evaluate_round(model, task, settings, number)
    return RoundRow(
        round=number,
        participants=tuple(present),
        losses={name: math.fsum(each) / len(each) for name, each in losses.items()},
        metric=None if found is None else found.metric,
        device_metrics={} if found is None else found.by_device,
        byte_counts={
            name: _moved(before[name], model.channels[name].traffic.to_dict())
            for name in model.devices
        },
        cpu_s={name: dict(values) for name, values in cpu.items()},
        wall_s={name: dict(values) for name, values in wall.items()},
        step_losses=dict(losses),
        skipped_batches=dict(skipped),
    )


def _set_learning_rate(model: SplitModel, factor: float) -> None:
    """``factor`` times the configured rate, in every part's optimiser."""
    rate = factor * model.config.optimizer.learning_rate
    for part in model.parts:
        for group in () if part.optimizer is None else part.optimizer.param_groups:
            group["lr"] = rate


def _evaluate_round(
    model: SplitModel, task: Task, settings: RunSettings, number: int
) -> Evaluation:
    # in order sequential who missed a round gets the adapters in the next turn as all others do
    sequential = model.config.order is Order.SEQUENTIAL
    return evaluate(
        model,
        task,
        batch=settings.evaluation_batch,
        limit=settings.evaluation_limit,
        part=settings.evaluation_part,
        stale=() if sequential else settings.absent.get(number, ()),
    )


def _moved(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    moved = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    return {kind: count for kind, count in moved.items() if count}


def _check_finite(model: SplitModel) -> None:
    """Before anything is saved: an optimiser can step a finite gradient to infinity."""
    for name, part in [(SERVER, model.server), *model.devices.items()]:
        if not all(bool(torch.isfinite(value).all()) for value in part.trainable().values()):
            raise diverged(f"{name}: adapters are not finite after the averaging")


@contextmanager
def _failures_told(number: int, checkpoint_dir: Path | None) -> Iterator[None]:
    """Adds the round, and what is still there, to what goes wrong inside it."""
    kept = "" if checkpoint_dir is None else f" The last checkpoint is kept in '{checkpoint_dir}'."
    way_out = "Take smaller batches or fewer blocks on the devices, or a larger machine."
    try:
        with memory_limits_told(f"round {number}", way_out + kept):
            yield
    except DivergedError as error:
        raise DivergedError(f"round {number}: {error}{kept}") from None


def check_settings(model: SplitModel, settings: RunSettings) -> None:
    """Raise InputError naming everything in the settings that cannot be."""
    known = set(model.devices)
    faults = [
        f"{name} = {value}; at least {least} is needed"
        for name, value, least in (
            ("rounds", settings.rounds, 1),
            ("local_steps", settings.local_steps, 1),
            ("seed", settings.seed, 0),
            ("evaluate_every", settings.evaluate_every, 0),
            ("evaluation_batch", settings.evaluation_batch, 1),
            ("checkpoint_every", settings.checkpoint_every, 1),
            ("accumulation", settings.accumulation, 1),
            *((f"batches[{name}]", size, 1) for name, size in settings.batches.items()),
        )
        if value < least
    ]
    missing = known - set(settings.batches)
    if missing:
        faults.append(f"batches: no batch size for {', '.join(sorted(missing))}")
    for number, names in settings.absent.items():
        for name in names:
            if name not in known:
                raise UnknownNameError(f"device absent in round {number}", name, known)
        if known <= set(names) and number <= settings.rounds:
            faults.append(f"round {number}: no device takes part; at least one is needed")
    if faults:
        raise InputError("this run cannot be started:\n  - " + "\n  - ".join(faults))


def _identity(task: Task, settings: RunSettings) -> dict[str, Any]:
    """What a resumed run must share with the checkpoint's. More rounds may be asked for."""
    decays = settings.schedule is not Schedule.CONSTANT
    return {
        "task": task.name,
        "fingerprint": task.fingerprint,
        "schedule": f"{settings.schedule.value} over {settings.rounds} rounds" if decays else "",
        "local_steps": settings.local_steps,
        "accumulation": settings.accumulation,
        "batches": dict(settings.batches),
        "seed": settings.seed,
        "evaluation_limit": settings.evaluation_limit,
        "evaluation_part": settings.evaluation_part,
    }


def _extra(task: Task, settings: RunSettings, rows: Sequence[RoundRow]) -> dict[str, Any]:
    return {"run": _identity(task, settings), "rows": [row.to_dict() for row in rows]}


def _resumed_rows(
    model: SplitModel, task: Task, settings: RunSettings, checkpoint_dir: Path | None
) -> list[RoundRow]:
    """The rounds of the checkpoint, where there is one; ``model`` is then put there."""
    if checkpoint_dir is None or not has_checkpoint(checkpoint_dir):
        return []
    extra = model.load_checkpoint(checkpoint_dir)
    own = _identity(task, settings)
    try:
        known = {"accumulation": 1, "evaluation_part": "test", **extra["run"]}  # as earlier ones
        odd = [name for name in own if known[name] != own[name]]
        rows = [RoundRow.from_dict(row) for row in extra["rows"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"checkpoint '{checkpoint_dir}' is of no such run: {error}.") from None
    if odd == ["schedule"] and settings.schedule is not Schedule.CONSTANT:
        raise InputError(
            f"checkpoint '{checkpoint_dir}' is of a run whose learning rate was planned as "
            f"'{extra['run']['schedule'] or Schedule.CONSTANT}', not "
            f"'{own['schedule']}'. Ask for the same rounds and schedule, or name another folder."
        )
    if odd:
        raise InputError(f"checkpoint '{checkpoint_dir}' is of another run: {', '.join(odd)}.")
    if [row.round for row in rows] != list(range(1, model.rounds_done + 1)):
        raise InputError(
            f"checkpoint '{checkpoint_dir}' has the rows of rounds {[row.round for row in rows]}; "
            f"{model.rounds_done} rounds were averaged. Name another folder."
        )
    if len(rows) > settings.rounds:
        raise InputError(
            f"checkpoint '{checkpoint_dir}' has {len(rows)} rounds done; {settings.rounds} are "
            "asked for. Ask for as many or more."
        )
    return rows


def _cuda_devices(model: SplitModel) -> list[torch.device]:
    where = {part.model.device for part in model.parts}
    return [device for device in where if device.type == "cuda"]
