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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftopt.core.calibration import Calibration
from sftopt.core.files import canonical_json, write_json
from sftopt.core.folder_lock import FolderLock
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.version import SCHEMA_VERSION
from sftopt.studies.chain import best_chain
from sftopt.studies.loop_menu import gain_of, goals_of_menu
from sftopt.studies.loop_plans import SLACK_GOAL, over_bands, planned, planned_with_menu
from sftopt.studies.loop_settings import LoopSettings, calibration_settings, check_calibration
from sftopt.studies.traffic import Arm, ArmRow, arms_of, goals_of, measured_arms, summary_of_arms
from sftopt.training.calibrate import CalibrationNews, CalibrationSettings, Sources, calibrate
from sftopt.training.calibrate.points import with_points
from sftopt.training.calibrate.start import check_start
from sftopt.training.data import Task
from sftopt.training.run import PlanRun, RunSummary, run_plan
from sftopt.training.schedule import Schedule
from sftopt.training.split import AdapterDtype

__all__ = ["LoopNews", "LoopSettings", "closed_loop", "prediction_goals"]


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
    given: Calibration | None = None,
    command: str = "",
    news: News = lambda _: None,
) -> dict[str, Any]:
    """Run all stages in folder ``out``; the result, also ``out/closed_loop.json``.

    ``model`` is a local folder of the task's pre-trained model. ``given`` is a calibration by the
    very same fine-tunings, in place of one made now. Finished parts are kept and reused, so a run
    that was stopped goes on when started again. Raises InputError where a stage cannot be done,
    before anything is measured or written, and where another run is writing into ``out``.
    """
    sources = Sources(model, task.name, tokens=settings.tokens, columns=settings.columns)
    grid = calibration_settings(task, settings)
    if given is not None:
        check_calibration(given, task, grid)
    check_start(sources, grid, settings.menu, fine_tunings=given is None)
    with FolderLock(out):
        return _stages(task, sources, grid, out, settings, given, command, news)


def _stages(
    task: Task, sources: Sources, grid: CalibrationSettings, out: Path, settings: LoopSettings,
    given: Calibration | None, command: str, news: News,
) -> dict[str, Any]:  # fmt: skip
    if given is None:
        measured = calibrate(
            sources, grid, work=out / "calibration", workers=settings.workers, command=command,
            news=lambda n: news(LoopNews(n.stage, _calibration_text(n))),
        )  # fmt: skip
    else:
        measured = given
    alone = measured.model_copy(update={"points": ()})
    if settings.menu != ():
        measured = with_points(
            measured, sources, grid, settings.menu, out / "calibration", settings.workers,
            tell=lambda text: news(LoopNews("menu", text)),
        )  # fmt: skip
    measured.save(out / "calibration.json")
    news(LoopNews("plan", "the cell with measured figures"))
    loop = _Loop(task, sources.model or "", grid, settings, out, news)
    instance, plan, planning = planned(task, alone, grid, settings)
    write_json(out / "instance.json", instance.to_dict())
    plan.save(out / "plan.json")
    runs = loop.runs(instance, plan, alone, "runs")
    gain = None
    if settings.menu != ():
        minimum = planning["accuracy_minimum"]
        other, best, choice = planned_with_menu(measured, grid, settings, minimum)
        write_json(out / "menu_instance.json", other.to_dict())
        best.save(out / "menu_plan.json")
        chosen = loop.runs(other, best, measured, "menu's runs")
        bands = over_bands(task, alone, measured, grid, settings)
        gain = gain_of(task, measured, planning, choice, bands, (runs, chosen))
    arms, tried = _arms(task, alone, sources, grid, settings, out, news)
    rows = measured_arms(
        sources, grid, arms, range(settings.seeds), out / "arms", settings.workers,
        lambda text: news(LoopNews("traffic", text)),
    )  # fmt: skip
    result = _result(task, alone, planning, runs, (arms, rows), gain, command)
    if tried:
        result["chain_tried"] = tried
    write_json(out / "closed_loop.json", result)
    return result


def _arms(
    task: Task, measured: Calibration, sources: Sources, grid: CalibrationSettings,
    settings: LoopSettings, out: Path, news: News,
) -> tuple[list[Arm], list[dict[str, Any]]]:  # fmt: skip
    """The traffic arms, where any are asked for, and what was tried to find the chain's form."""
    if not settings.seeds:
        return [], []
    chain, tried = best_chain(
        measured, sources, grid, out / "chain", settings.workers,
        lambda text: news(LoopNews("chain", text)),
    )  # fmt: skip
    return arms_of(task, measured, chain), tried


def _calibration_text(news: CalibrationNews) -> str:
    left = "" if news.left_s is None else f", {news.left_s:.0f} s left"
    done = f" {news.done}/{news.total}" if news.total else ""
    return f"{news.text}{done}{left}"


@dataclass(frozen=True)
class _Loop:
    """What all fine-tunings by a plan share."""

    task: Task
    model: str
    grid: CalibrationSettings
    settings: LoopSettings
    out: Path
    news: News

    def runs(
        self, instance: Instance, plan: Plan, measured: Calibration, stage: str
    ) -> list[RunSummary]:
        """The plan in real fine-tunings, one for each seed."""
        found = []
        made = hashlib.sha256(canonical_json(plan.to_dict()["devices"]).encode()).hexdigest()[:8]
        made = f"{instance.hash[:8]}-{made}"
        task, grid = self.task, self.grid
        for seed in range(self.settings.plan_seeds):
            run = PlanRun(
                instance=instance, plan=plan, model=self.model, task=task,
                model_task=task.kind.model_task, labels=task.labels, rounds=grid.rounds, seed=seed,
                evaluate_every=0, evaluation_limit=grid.evaluation_limit,
                label_names=task.label_names, padding_token=task.padding_token,
                optimizer=grid.optimizer(), schedule=Schedule(grid.schedule),
                accumulation=grid.accumulation, lora=grid.lora(instance.workload.lora_rank),
                adapter_dtype=AdapterDtype(grid.adapter_dtype), calibration=measured,
                side_keys=grid.side_keys, local_files_only=True,
            )  # fmt: skip
            folder = self.out / f"run-{made}-seed{seed}"
            found.append(
                run_plan(
                    run, folder, resume=(folder / "settings.json").exists(),
                    on_round=lambda row, seed=seed: self.news(  # type: ignore[misc]
                        LoopNews(
                            stage, f"seed {seed}, round {row['round']}: loss {row['loss']:.4g}"
                        )
                    ),
                )
            )  # fmt: skip
        return found


def _result(
    task: Task,
    measured: Calibration,
    planning: dict[str, Any],
    runs: Sequence[RunSummary],
    traffic: tuple[Sequence[Arm], Sequence[ArmRow]],
    gain: dict[str, Any] | None,
    command: str,
) -> dict[str, Any]:
    """Everything as plain data, with each goal, what was reached and whether it is met."""
    fit = measured.accuracy
    assert fit is not None
    finals = [run.data["final_metric"] for run in runs]
    mean = sum(finals) / len(finals)
    predicted = [row.to_dict() for row in runs[0].compared]
    summary = summary_of_arms(task, *traffic)
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
        *prediction_goals(predicted),
        *goals_of(task, summary),
    ]  # fmt: skip
    if gain is not None:
        goals += goals_of_menu(gain, planning["accuracy_minimum"], task.metric)
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
    if gain is not None:
        result["menu"] = gain
    return dict(json.loads(canonical_json(result)))


def prediction_goals(predicted: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the worst relative error of each quantity that has a goal, and whether it is met."""
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
