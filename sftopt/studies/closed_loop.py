"""Calibrate, plan, fine-tune, compare: does what the solver promises hold in real training?

One task at a time. A small cell is given the measured figures; its plan is made on the lower
confidence curve of the accuracy, run as real split fine-tuning, and every prediction is set beside
what was measured. The traffic arms answer another question: how much is lost at the traffic cut
that the literature claims, paired with the uncompressed run of the same seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sftopt.core.calibration import AccuracyCurve, Calibration, Speeds, calibrated
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.families import generate
from sftopt.core.files import canonical_json, write_json
from sftopt.core.folder_lock import FolderLock
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.core.version import SCHEMA_VERSION
from sftopt.solvers.registry import get_solver
from sftopt.solvers.run import solve
from sftopt.studies.traffic import Arm, ArmRow, arms_of, goals_of, measured_arms, summary_of_arms
from sftopt.training.calibrate import CalibrationNews, CalibrationSettings, Sources, calibrate
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.data import Task
from sftopt.training.options import TrainingOptions
from sftopt.training.run import PlanRun, RunSummary, run_plan
from sftopt.training.schedule import Schedule
from sftopt.training.split import AdapterDtype

SLACK_GOAL = 1e-3
"""The accuracy limit is active: a plan leaves at most this much of it unused."""
_LIMITS_TRIED = 4
"""Most accuracy limits tried until one is active."""
_GAP = 1e-5
"""Relative gap asked of the planning."""
_PLANNING_S = 60.0
"""Time limit of one planning."""
ALLOWED_LOSS = {"accuracy": 0.01, "negative_loss_nats": 0.03}
"""Below the uncompressed value: one point, about three per cent of perplexity."""


@dataclass(frozen=True)
class LoopSettings:
    """What the loop runs; every default is ours."""

    devices: int = 2
    seeds: int = 10
    """Of the traffic arms, paired with the uncompressed run."""
    plan_seeds: int = 3
    """Runs of the plan."""
    calibration_seeds: int = 3
    keeps: tuple[float, ...] = (0.25, 0.36, 0.5, 0.62, 0.75, 0.9)
    """Where plans of a small allowed loss lie; equation (12) does not hold well far below."""
    workers: int = 2
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
        least = {"devices": 1, "seeds": 2, "plan_seeds": 1, "calibration_seeds": 2, "workers": 1}
        faults = [
            f"{name} = {getattr(self, name)}; at least {limit} is needed"
            for name, limit in least.items()
            if getattr(self, name) < limit
        ]
        if faults:
            raise InputError("this loop cannot be started:\n  - " + "\n  - ".join(faults))


@dataclass(frozen=True)
class LoopNews:
    """How far the loop is."""

    stage: str
    text: str


News = Callable[[LoopNews], None]


def closed_loop(
    task: Task,
    model: str,
    out: Path,
    settings: LoopSettings,
    *,
    command: str = "",
    news: News = lambda _: None,
) -> dict[str, Any]:
    """Run all stages in folder ``out``; the result, also ``out/closed_loop.json``.

    ``model`` is a local folder of the task's pre-trained model. Finished parts are kept and reused,
    so a run that was stopped goes on when started again. Raises InputError where a stage cannot be
    done, and where another run is writing into ``out``.
    """
    with FolderLock(out):
        return _stages(task, model, out, settings, command, news)


def _stages(
    task: Task, model: str, out: Path, settings: LoopSettings, command: str, news: News
) -> dict[str, Any]:
    sources = Sources(model, task.name, tokens=settings.tokens, columns=settings.columns)
    grid = _calibration_settings(task, settings)
    measured = calibrate(
        sources, grid, work=out / "calibration", workers=settings.workers, command=command,
        news=lambda n: news(LoopNews(n.stage, _calibration_text(n))),
    )  # fmt: skip
    measured.save(out / "calibration.json")
    news(LoopNews("plan", "the cell with measured figures"))
    instance, plan, planning = _planned(task, measured, grid, settings)
    write_json(out / "instance.json", instance.to_dict())
    plan.save(out / "plan.json")
    runs = _runs(task, model, instance, plan, measured, grid, settings, out, news)
    arms = arms_of(task, measured)
    rows = measured_arms(
        sources, grid, arms, range(settings.seeds), out / "arms", settings.workers,
        lambda text: news(LoopNews("traffic", text)),
    )  # fmt: skip
    result = _result(task, measured, planning, runs, arms, rows, command)
    write_json(out / "closed_loop.json", result)
    return result


def _calibration_text(news: CalibrationNews) -> str:
    left = "" if news.left_s is None else f", {news.left_s:.0f} s left"
    done = f" {news.done}/{news.total}" if news.total else ""
    return f"{news.text}{done}{left}"


def _calibration_settings(task: Task, settings: LoopSettings) -> CalibrationSettings:
    """The task's own settings, its batch shared out among the cell's devices."""
    count = settings.devices
    batch = {"batch": max(1, task.training.batch // count)}
    base = settings_for(
        task, seeds=tuple(range(settings.calibration_seeds)),
        cuts=(task.training.cut,) * count, evaluation_limit=settings.evaluation_limit,
        keeps=settings.keeps, **batch | settings.training.asked(),
    )  # fmt: skip
    if settings.steps is not None:
        base = replace(base, rounds=max(1, settings.steps // base.local_steps))
    return base


def _cell(measured: Calibration, grid: CalibrationSettings, settings: LoopSettings) -> Instance:
    """A few Jetson boards in a street; batch and steps of a round are those calibrated."""
    data = generate("jetson-vit-b", settings.devices, settings.cell_seed).to_dict()
    for device in data["devices"]:
        device["batch"] = grid.batch
        device["weight"] = 1.0 / settings.devices
    data["training"]["local_steps"] = grid.local_steps
    data["compression"]["modes"] = [
        Mode(kind=ModeKind.TOPK, bits=bits).model_dump(mode="json")
        for bits in sorted(grid.statistics_bits)
    ]
    data["compression"]["keep_min"] = None
    data["name"] = f"closed-loop-{measured.source.task}"
    return Instance.model_validate(data)


def _planned(
    task: Task, measured: Calibration, grid: CalibrationSettings, settings: LoopSettings
) -> tuple[Instance, Plan, dict[str, Any]]:
    """The calibrated cell, its plan, and whether the accuracy limit decides on it."""
    fit = measured.accuracy
    if fit is None:
        raise InputError("the loop needs a calibration with fine-tunings")
    cell = _cell(measured, grid, settings)
    allowed = ALLOWED_LOSS[task.metric] + max(fit.fit.uncompressed - fit.lower.uncompressed, 0.0)

    def at(loss: float) -> tuple[Instance, Result]:
        instance = calibrated(
            cell, measured, curve=AccuracyCurve.LOWER, speeds=Speeds.MEASURED,
            minimum=fit.fit.uncompressed - loss,
        ).instance  # fmt: skip
        return instance, _optimal(instance)

    instance, result = at(allowed)
    # omega jumps between its intervals, and a plan may sit at such a step with some slack left: the
    # limit is ours, so it is drawn up to the plan, which stays the best one then
    for _ in range(_LIMITS_TRIED):
        if _slack(result) < SLACK_GOAL:
            break
        allowed -= _slack(result)
        instance, result = at(allowed)
    _, loose = at(1.5 * allowed)
    assert result.plan is not None
    assert loose.plan is not None
    facts = {
        "allowed_loss": allowed,
        "accuracy_minimum": instance.accuracy.minimum,
        "accuracy_slack": _slack(result),
        "round_s": result.objective_s,
        "solver": result.solver.name,
        "gap_rel": result.gap_rel,
        "loosened_by": 0.5 * allowed,
        "loosened_round_s": loose.objective_s,
        "loosening_changes_the_plan": _decisions(result.plan) != _decisions(loose.plan),
        "devices": _decisions(result.plan),
    }
    return instance, result.plan, facts


def _optimal(instance: Instance) -> Result:
    """The proven optimum, by enumeration where it is allowed: a second for a cell of two devices.

    Calibrated modes have omega by many intervals, and each counts as an option of its own.
    """
    few = get_solver("exhaustive").refusal(derive(instance)) is None
    result = solve(
        instance, solver="exhaustive" if few else None, rel_gap=_GAP, time_limit=_PLANNING_S
    )
    result.raise_if_interrupted().raise_for_status()
    return result


def _slack(result: Result) -> float:
    """What the plan leaves unused of the accuracy limit."""
    assert result.breakdown is not None
    slack = result.breakdown.accuracy_slack
    assert slack is not None, "a plan with a point has a known accuracy"
    return slack


def _decisions(plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "id": part.id,
            "blocks": part.blocks,
            "mode": part.mode.value,
            "bits": part.bits,
            "keep_fraction": part.keep_fraction,
        }
        for part in plan.devices
    ]


def _runs(
    task: Task,
    model: str,
    instance: Instance,
    plan: Plan,
    measured: Calibration,
    grid: CalibrationSettings,
    settings: LoopSettings,
    out: Path,
    news: News,
) -> list[RunSummary]:
    """The plan in real fine-tunings, one for each seed."""
    found = []
    made = hashlib.sha256(canonical_json(plan.to_dict()["devices"]).encode()).hexdigest()[:8]
    made = f"{instance.hash[:8]}-{made}"
    for seed in range(settings.plan_seeds):
        run = PlanRun(
            instance=instance, plan=plan, model=model, task=task, model_task=task.kind.model_task,
            labels=task.labels, rounds=grid.rounds, seed=seed, evaluate_every=0,
            evaluation_limit=grid.evaluation_limit,
            label_names=task.label_names, padding_token=task.padding_token,
            optimizer=grid.optimizer(), schedule=Schedule(grid.schedule),
            accumulation=grid.accumulation, lora=grid.lora(instance.workload.lora_rank),
            adapter_dtype=AdapterDtype(grid.adapter_dtype), calibration=measured,
            side_keys=grid.side_keys, local_files_only=True,
        )  # fmt: skip
        folder = out / f"run-{made}-seed{seed}"
        found.append(
            run_plan(
                run, folder, resume=(folder / "settings.json").exists(),
                on_round=lambda row, seed=seed: news(  # type: ignore[misc]
                    LoopNews("runs", f"seed {seed}, round {row['round']}: loss {row['loss']:.4g}")
                ),
            )
        )  # fmt: skip
    return found


def _result(
    task: Task,
    measured: Calibration,
    planning: dict[str, Any],
    runs: Sequence[RunSummary],
    arms: Sequence[Arm],
    rows: Sequence[ArmRow],
    command: str,
) -> dict[str, Any]:
    """Everything as plain data, with each goal, what was reached and whether it is met."""
    fit = measured.accuracy
    assert fit is not None
    finals = [run.data["final_metric"] for run in runs]
    mean = sum(finals) / len(finals)
    predicted = [row.to_dict() for row in runs[0].compared]
    summary = summary_of_arms(task, arms, rows)
    goals = [
        {"goal": "accuracy slack of the plan", "limit": SLACK_GOAL,
         "value": planning["accuracy_slack"],
         "met": planning["accuracy_slack"] < SLACK_GOAL},
        {"goal": "loosening the limit changes the plan", "limit": True,
         "value": planning["loosening_changes_the_plan"],
         "met": planning["loosening_changes_the_plan"]},
        {"goal": f"planned quality ({task.metric}), mean of {len(runs)} runs",
         "limit": planning["accuracy_minimum"], "value": mean,
         "met": mean >= planning["accuracy_minimum"]},
        *_prediction_goals(predicted),
        *goals_of(task, summary),
    ]  # fmt: skip
    result = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "task": task.name,
        "task_fingerprint": task.fingerprint,
        "metric": task.metric,
        "calibration": {
            "hash": measured.hash,
            "source": {**measured.source.model_dump(mode="json"),
                       "model": Path(measured.source.model).name, "command": ""},
            "fit": fit.fit.model_dump(mode="json"),
            "lower": fit.lower.model_dump(mode="json"),
            "half_width": fit.half_width,
            "uncompressed": list(fit.uncompressed),
        },
        "plan": planning,
        "runs": [
            {"seed": run.data["seed"], "final_metric": run.data["final_metric"],
             "bytes": run.data["bytes"], "compression": run.data["compression"],
             "cpu_s": run.data["cpu_s"], "wall_s": run.data["wall_s"]}
            for run in runs
        ],
        "predicted_against_measured": predicted,
        "traffic": summary,
        "goals": goals,
    }  # fmt: skip
    return dict(json.loads(canonical_json(result)))


def _prediction_goals(predicted: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst error of each quantity that has a goal."""
    found = []
    for name in dict.fromkeys(row["quantity"] for row in predicted if row["goal_rel"] is not None):
        errors = [
            abs(row["error_rel"])
            for row in predicted
            if row["quantity"] == name and row["error_rel"] is not None
        ]
        if not errors:
            continue
        limit = next(row["goal_rel"] for row in predicted if row["quantity"] == name)
        found.append(
            {"goal": f"{name}: largest relative error of the prediction", "limit": limit,
             "value": max(errors), "met": max(errors) <= limit}
        )  # fmt: skip
    return found
