"""Drives a plan: its cuts, modes, keep fractions, bits and shares, in real split fine-tuning.

In the folder of a run::

    settings.json, rows.jsonl      what was asked; one row per round (see `RunFolder`)
    checkpoint/                    where a stopped run goes on; checkpoint-previous/ is one before
    adapters/                      standard PEFT folders: server/, devices/000/ ...
    summary.json                   written last
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.errors import InputError, UnknownNameError, VerificationError
from sftopt.core.files import json_digest, write_json
from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.verify import verify_plan
from sftopt.core.version import SCHEMA_VERSION
from sftopt.training.failures import memory_limits_told, misfits_told
from sftopt.training.loop import RoundRow, RunSettings, check_settings, fine_tune
from sftopt.training.measure_memory import DeviceMemory, measure_device_memory
from sftopt.training.merge import ADAPTERS_NAME, TaskModel
from sftopt.training.model_hash import model_hash
from sftopt.training.run.callbacks import Callback
from sftopt.training.run.clock import RoundDelays, VirtualClock, outages
from sftopt.training.run.codecs import codec_chooser, codec_of
from sftopt.training.run.compare import Compared, compare
from sftopt.training.run.folder import CHECKPOINT_NAME, RunFolder
from sftopt.training.run.notices import notices
from sftopt.training.run.request import PlanRun
from sftopt.training.run.setup import send_bases
from sftopt.training.run.speed import first_batch, reference_speed, trial_step
from sftopt.training.run.totals import totals, versions
from sftopt.training.split import (
    AdapterDtype,
    LoraSettings,
    SplitConfig,
    SplitModel,
    StepReport,
    load_base_model,
)
from sftopt.training.split.messages import rounding_error
from sftopt.training.task_model import fit_to_task
from sftopt.training.threads import one_thread

SUMMARY_NAME = "summary.json"
"""File of a finished run's summary."""
_SHOWN = 5
"""Most violations listed in a message."""


@dataclass(frozen=True)
class RunSummary:
    """A finished run of a plan."""

    data: dict[str, Any]
    """The content of ``summary.json``."""
    compared: tuple[Compared, ...]
    rows: tuple[dict[str, Any], ...]
    """The rows of ``rows.jsonl``."""
    planned_metric: float | None
    """What the plan promises, by equation (12); None: nothing, its accuracy is not known."""


RoundListener = Callable[[dict[str, Any]], None]
"""Called with each round's row as it is written."""


def run_plan(
    run: PlanRun,
    out: Path,
    *,
    resume: bool = False,
    on_round: RoundListener | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunSummary:
    """Fine-tune as the plan says and compare with what it promised.

    Nothing is written before everything has been checked. Raises VerificationError for a plan that
    the judge refutes or that is of another instance; InputError for a model, data or folder that
    do not fit; DivergedError; OutOfMemoryError. With ``resume`` a run that was stopped goes on; its
    losses, metrics, bytes and adapters are those of a run that was not.
    """
    breakdown = judged(run.instance, run.plan)
    absent = _absences(run)
    way_out = "Take smaller batches, fewer devices or a smaller model, or a larger machine."
    with one_thread(), memory_limits_told("fine-tuning", way_out):
        base = _base_of(run)
        weights = model_hash(base)
        model = split_of(run, base)
        settings = _settings(run, absent)
        check_settings(model, settings)
        _check_data(run, model)
        asked = _asked(run, model, settings, weights)
        with RunFolder(out, asked, resume=resume) as folder:
            speed = folder.speed or _speed(run, model)
            for callback in callbacks:
                callback.on_run_begin(asked, folder.rows)
            setup = send_bases(model)
            rows, delays = _train(run, model, settings, folder, speed, on_round, callbacks)
            compared = compare(
                run.instance, run.plan, breakdown, rows, delays, _memory(run, model), run.steps
            )
            data = {
                "schema_version": SCHEMA_VERSION,
                **asked,
                **conduct_of(run.plan, model.config),
                **totals(run.instance, rows, folder.rows, run.steps, setup),
                **_outcome(run, model, absent, rows, speed),
                "compared": [row.to_dict() for row in compared],
                "adapters": str(out / ADAPTERS_NAME),
            }
            model.save_pretrained(out / ADAPTERS_NAME)
            _about(run, weights).save(out / ADAPTERS_NAME)
            write_json(out / SUMMARY_NAME, data)  # last: a folder without it is unfinished
            for callback in callbacks:
                callback.on_run_end(data)
            return RunSummary(data, tuple(compared), tuple(folder.rows), breakdown.accuracy)


def conduct_of(plan: Plan, config: SplitConfig) -> dict[str, Any]:
    """Return how rounds are conducted, as summary and rows tell it."""
    return {
        "scheme": plan.scheme,
        "order": config.order.value,
        "aggregation": None if config.aggregation is None else config.aggregation.value,
        "ranks": {device.id: device.rank or config.lora.rank for device in config.devices},
    }


def _about(run: PlanRun, weights: str) -> TaskModel:
    """What it takes to load the base model again as this run trains it."""
    place = Path(run.model).expanduser()
    source = str(place.resolve()) if place.exists() else run.model
    return TaskModel(
        source, run.model_task, run.labels, run.label_names, run.padding_token, weights
    )


def _outcome(
    run: PlanRun,
    model: SplitModel,
    absent: Mapping[int, tuple[str, ...]],
    rows: Sequence[RoundRow],
    speed: float,
) -> dict[str, Any]:
    """What came out besides the totals, and what a reader must know of it."""
    return {
        "seed": run.seed,
        "metric": run.task.metric,
        "final_metric": rows[-1].metric,
        "device_metrics": rows[-1].device_metrics,
        "absent": {str(number): list(names) for number, names in absent.items()},
        "reference_flops_per_s": speed,
        "adapter_rounding_rel": _adapter_rounding(model),
        "notices": notices(run, model),
        "versions": versions(),
    }


def _adapter_rounding(model: SplitModel) -> float:
    """What the adapters lose on their way, as a fraction of their norm; 0 at full width."""
    server = model.server
    if server.adapter_dtype is None:
        return 0.0
    return rounding_error(server.adapters(range(model.stack.count)), server.adapter_dtype)


def judged(instance: Instance, plan: Plan) -> Breakdown:
    """Return the judge's figures of a plan that may be run.

    One whose accuracy nobody knows may: running it is how to know. Raises VerificationError for one
    that it refutes, or that is of another instance.
    """
    verdict = verify_plan(instance, plan)
    if not verdict.hash_matches:
        raise VerificationError(
            f"the plan was made for another instance (hash {plan.instance_hash[:12]}..., "
            f"'{instance.name}' has {instance.hash[:12]}...); give the instance it was made for, "
            "with the same calibration options"
        )
    if verdict.broken or verdict.breakdown is None:
        lines = [
            f"{v.family.value} {v.index}: misses by {v.amount:.4g} {v.unit}"
            for v in verdict.broken[:_SHOWN]
        ]
        raise VerificationError(
            "the judge refutes this plan, so it is not run:\n  - "
            + "\n  - ".join(lines or ["it has no finite delay"])
        )
    return verdict.breakdown


def _absences(run: PlanRun) -> dict[int, tuple[str, ...]]:
    """Who misses which round: as asked, and who is in outage at the round's gains."""
    known = [device.id for device in run.instance.devices]
    if run.channels is not None and len(run.channels) < run.rounds:
        raise InputError(f"the channel has {len(run.channels)} rounds; {run.rounds} are asked for.")
    for number, names in run.drops.items():
        for name in names:
            if name not in known:
                raise UnknownNameError(f"device to drop in round {number}", name, known)
        if not 1 <= number <= run.rounds:
            raise InputError(f"round {number} to drop in; the run has rounds 1 to {run.rounds}.")
    found: dict[int, tuple[str, ...]] = {}
    for number in range(1, run.rounds + 1):
        out = outages(run.instance, _channel(run, number)) if run.channels is not None else ()
        missing = {*out, *run.drops.get(number, ())}
        if missing:
            found[number] = tuple(name for name in known if name in missing)
    return found


def _channel(run: PlanRun, number: int) -> RoundChannel:
    """The gains of round ``number``, from 1."""
    if run.channels is None:
        return statistical_channel(run.instance)
    return run.channels[number - 1].of(run.instance)


def _base_of(run: PlanRun) -> PreTrainedModel:
    """Load the base model with the head that the run trains. Raises InputError."""
    base = load_base_model(
        run.model, task=run.model_task, local_files_only=run.local_files_only, seed=run.seed
    )
    fit_to_task(base, run.labels, run.seed, run.label_names, run.padding_token)
    return base


def split_of(run: PlanRun, base: PreTrainedModel | None = None) -> SplitModel:
    """Split the model as planned. Raises InputError for a cut beyond it."""
    work = run.instance.workload
    lora = run.lora or LoraSettings(rank=work.lora_rank, alpha=2.0 * work.lora_rank)
    narrow = AdapterDtype.FLOAT16 if work.adapter_bits == 16 else AdapterDtype.FLOAT32
    config = SplitConfig.from_plan(run.plan, run.instance, lora)
    config = config.model_copy(
        update={
            "optimizer": run.optimizer,
            "adapter_dtype": run.adapter_dtype or narrow,
            "side_keys": run.side_keys,
            "seed": run.seed,
            "base_model": run.model,
        }
    )
    choose = codec_chooser(run.instance, run.calibration, run.codec, run.plan.scheme, run.model)
    if base is None:
        base = _base_of(run)
    return SplitModel(base, config, codecs=lambda device: codec_of(choose(device)))


def _check_data(run: PlanRun, model: SplitModel) -> None:
    """One step of every device that trains nothing, before anything is written.

    Raises InputError where the data does not fit the model.
    """
    for number, device in enumerate(run.instance.devices):
        batch = first_batch(run.instance, run.task, number, run.seed)
        with misfits_told(run.task.name, run.model, batch):
            trial_step(model, device.id, batch)


def _settings(run: PlanRun, absent: Mapping[int, tuple[str, ...]]) -> RunSettings:
    return RunSettings(
        rounds=run.rounds,
        local_steps=run.steps,
        batches={device.id: device.batch for device in run.instance.devices},
        seed=run.seed,
        evaluate_every=run.evaluate_every,
        evaluation_limit=run.evaluation_limit,
        schedule=run.schedule,
        accumulation=run.accumulation,
        absent=absent,
    )


def _asked(run: PlanRun, model: SplitModel, settings: RunSettings, weights: str) -> dict[str, Any]:
    """What a run is: resumed, all of it must be the same. More rounds may be asked for."""
    choose = codec_chooser(run.instance, run.calibration, run.codec, run.plan.scheme, run.model)
    return {
        "command": "finetune",
        "instance_hash": run.instance.hash,
        "plan_hash": json_digest(run.plan.to_dict()),
        "calibration_hash": None if run.calibration is None else run.calibration.hash,
        "model": run.model,
        "model_hash": weights,
        "task": run.task.name,
        "task_fingerprint": run.task.fingerprint,
        "channel": run.channel_name,
        "split": model.config.to_dict(),
        "codecs": {device.id: choose(device).to_dict() for device in model.config.devices},
        "local_steps": settings.local_steps,
        "schedule": settings.schedule.value,
        **({} if settings.accumulation == 1 else {"accumulation": settings.accumulation}),
        "batches": dict(settings.batches),
        "evaluation_limit": settings.evaluation_limit,
        "drops": {str(number): list(names) for number, names in run.drops.items()},
    }


def _speed(run: PlanRun, model: SplitModel) -> float:
    if run.calibration is not None:
        return run.calibration.profile.speed_flops_per_s
    return reference_speed(run.instance, model, run.task, run.seed)


def _train(
    run: PlanRun,
    model: SplitModel,
    settings: RunSettings,
    folder: RunFolder,
    speed: float,
    on_round: RoundListener | None,
    callbacks: Sequence[Callback],
) -> tuple[Sequence[RoundRow], list[RoundDelays]]:
    clock = VirtualClock(run.instance, run.plan, speed)
    conduct = conduct_of(run.plan, model.config)

    def step_done(number: int, report: StepReport) -> None:
        clock.add(report)
        for callback in callbacks:
            callback.on_step_end(number, report.losses)

    def round_done(row: RoundRow) -> None:
        delays = clock.finish(row, _channel(run, row.round))
        written = folder.append(row, delays, speed, conduct)
        if on_round is not None:
            on_round(written)
        for callback in callbacks:
            callback.on_round_end(written)

    record = fine_tune(
        model,
        run.task,
        settings,
        on_round=round_done,
        on_step=step_done,
        checkpoint_dir=folder.path / CHECKPOINT_NAME,
        caller=folder.extra,
    )
    return record.rounds, folder.delays()


def _memory(run: PlanRun, model: SplitModel) -> dict[str, DeviceMemory]:
    """Measured on each device's first batch, after training: its optimiser has its moments."""
    return {
        device.id: measure_device_memory(
            model, device.id, first_batch(run.instance, run.task, number, run.seed)
        )
        for number, device in enumerate(run.instance.devices)
    }
