"""Do laws of rounds predict how long a target takes, and does planning for it pay?

``OMP_NUM_THREADS=1 python -m benchmarks.studies.time_to_target --work DIR`` runs short fine-tunings
of digit-scenes at a constant learning rate, goes on where it stopped, and writes
``benchmarks/results/time_to_target.json`` and ``.md``:

1. laws of rounds are fitted to uncompressed runs and four settings (keep fraction, bits), with the
   losses of the bundled calibration, which then carries them (``--calibration`` is rewritten);
2. five other settings are run, and their rounds to each level set beside the predicted ones;
3. one small cell is planned for the least round and for the least time to a target, and both plans
   are run over ten seeds, on the virtual clock of ``sftopt finetune``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.studies.time_to_target_page import page_of
from sftopt.core.calibration import AccuracyCurve, Calibration, Speeds, apply, load_calibration
from sftopt.core.families import generate
from sftopt.core.files import write_json, write_text
from sftopt.core.instance import Instance, Mode
from sftopt.core.plan import Plan
from sftopt.core.target_laws import LawError, TargetLaws
from sftopt.face.default_model import default_model
from sftopt.solvers.run import solve
from sftopt.studies.time_to_target import TimeToTarget, time_to_target
from sftopt.training.calibrate import Cell, CellResult, Sources
from sftopt.training.calibrate.cells import CELLS_NAME, FinishedCells
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.calibrate.rounds_fit import Curves, fit_laws, law_error, rounds_to
from sftopt.training.calibrate.settings import CONDUCTS, CalibrationSettings
from sftopt.training.calibrate.workers import run_in_processes
from sftopt.training.data import Task
from sftopt.training.loop import Schedule
from sftopt.training.model_hash import model_hash
from sftopt.training.run import PlanRun, run_plan
from sftopt.training.split import OptimizerSettings

DATA = "digit-scenes"
"""The task."""
CALIBRATION = Path("sftopt/data/calibrations/digit-scenes.json")
"""Whose losses and bytes are used, and which carries the laws afterwards."""
OUT = Path("benchmarks/results/time_to_target.json")
"""The result; the page stands beside it."""
SEEDS = (0, 1)
"""Runs of each setting."""
ROUNDS = 10
"""Rounds of each run, of 10 local steps."""
EVALUATED = 500
"""Held-out samples after every round."""
FITTED = ((0.25, 4), (0.36, 2), (0.5, 4), (0.9, 4))
"""Settings that the laws are fitted to: keep fraction, bits."""
OTHER_RANK = 4
"""Half the task's rank."""
TRIED = ((0.3, 3), (0.36, 8), (0.4, 4), (0.62, 3), (0.75, 4))
"""Settings that no law has seen."""
PLAN_SEEDS = 10
"""Runs of each plan."""
PLAN_ROUNDS = 8
"""Rounds of each of them: what is not there by then counts with all of them."""
ALLOWED_LOSS = 0.03
"""What the cell's accuracy.minimum lets a plan lose: the loosest of the usual limits."""
GOAL = 0.15
"""Of the median absolute relative error of predicted rounds."""


def settings_of(task: Task) -> CalibrationSettings:
    """Return the settings of every run: the bundled calibration's, at a constant rate."""
    return settings_for(
        task, cuts=(task.training.cut,) * 2, batch=task.training.batch // 2, rounds=ROUNDS,
        schedule="constant", evaluation_limit=EVALUATED, every_round=True, ranks=(OTHER_RANK,),
        conducts=tuple(CONDUCTS),
        seeds=SEEDS,
    )  # fmt: skip


class Runs:
    """Fine-tunings by content, in folder ``work``; what is there is not run again."""

    def __init__(self, model: str, work: Path, workers: int) -> None:
        self.sources, self.workers = Sources(model, DATA, True), workers
        self.task = self.sources.load_task()
        self.settings = settings_of(self.task)
        key = model_hash(self.sources.load_model(self.task))
        self.finished = FinishedCells(work / CELLS_NAME, key, self.task, self.settings)

    def curves(self, **cell: Any) -> tuple[tuple[float, ...], ...]:
        """Return the metric after every round of every seed's run of one setting."""
        wanted = [Cell(seed=seed, **cell) for seed in SEEDS]
        missing = [one for one in wanted if self.finished.get(one) is None]
        if missing:
            run_in_processes(self.sources, self.settings, missing, self.workers, self._keep)
        return tuple(_known(self.finished.get(one)).metrics for one in wanted)

    def _keep(self, cell: Cell, result: CellResult) -> None:
        self.finished.add(cell, result)
        print(f"{cell.label}: {result.metric:.4f} ({result.cpu_s:.0f} CPU s)", flush=True)


def _known(result: CellResult | None) -> CellResult:
    assert result is not None, "every run was made above"
    return result


def topk(setting: tuple[float, int]) -> dict[str, Any]:
    """Return a setting as a cell's fields."""
    return {"kind": "topk", "keep": setting[0], "bits": setting[1]}


def fitted(runs: Runs, calibration: Calibration) -> TargetLaws:
    """Fit the laws to the runs of part 1."""
    curve = calibration.accuracy_fit().fit
    laws = fit_laws(
        Curves(
            metric=runs.task.metric,
            uncompressed=curve.uncompressed,
            seeds=SEEDS,
            plain=runs.curves(kind="none"),
            settings={curve.loss(*setting): runs.curves(**topk(setting)) for setting in FITTED},
            ranks={OTHER_RANK: runs.curves(kind="none", rank=OTHER_RANK)},
            conducts={name: runs.curves(kind="none", conduct=name) for name in CONDUCTS},
            learning_rate=runs.settings.learning_rate,
            local_steps=runs.settings.local_steps,
        )
    )
    assert laws is not None
    assert laws.linear is not None
    return laws


def predictions(runs: Runs, calibration: Calibration, laws: TargetLaws) -> list[dict[str, Any]]:
    """Set predicted rounds beside measured ones: one row for each unseen setting and level."""
    curve = calibration.accuracy_fit().fit
    assert laws.linear is not None
    rows = []
    for setting in TRIED:
        loss, each = curve.loss(*setting), runs.curves(**topk(setting))
        for level in laws.linear.levels:
            found = [rounds_to(one, level.target) for one in each]
            row: dict[str, Any] = {
                "keep": setting[0], "bits": setting[1], "loss": loss, "target": level.target,
                "measured": None if any(map(math.isnan, found)) else float(np.mean(found)),
            }  # fmt: skip
            for law in (laws.linear, laws.saturating):
                if law is not None:
                    predicted = law.rounds(loss, level.target, curve.uncompressed)
                    row[law.kind] = predicted if math.isfinite(predicted) else None
            rows.append(row)
    return rows


def error_of(rows: Sequence[dict[str, Any]], law: str) -> LawError | None:
    """Return the median error of one law over unseen settings, with its interval."""
    errors: dict[float, list[float]] = {}
    for row in rows:
        if row["measured"] is not None and law in row:
            predicted = math.inf if row[law] is None else row[law]
            errors.setdefault(row["loss"], []).append(abs(predicted / row["measured"] - 1.0))
    return law_error(errors, "five settings that no law has seen")


@dataclass(frozen=True)
class Arm:
    """One plan that is run."""

    name: str
    instance: Instance
    plan: Plan
    predicted_rounds: float


def planned(
    calibration: Calibration, settings: CalibrationSettings
) -> tuple[TimeToTarget, list[Arm]]:
    """Plan one small cell for the least round, and for the least time to the second last level."""
    laws = calibration.time_to_target
    assert laws is not None
    assert laws.linear is not None
    target = laws.linear.levels[-2:][0].target
    data = generate("jetson-vit-b", 2, 0).to_dict()
    for device in data["devices"]:
        device["batch"], device["weight"] = settings.batch, 0.5
    data["training"]["local_steps"] = settings.local_steps
    data["compression"]["modes"] = [
        Mode(bits=bits).model_dump(mode="json") for bits in settings.statistics_bits
    ]
    data["name"] = f"time-to-target-{DATA}"
    a_0 = calibration.accuracy_fit().fit.uncompressed
    instance = apply(
        Instance.model_validate(data), calibration, curve=AccuracyCurve.FIT,
        speeds=Speeds.MEASURED, minimum=a_0 - ALLOWED_LOSS,
    )  # fmt: skip
    soonest = time_to_target(instance, target, laws, rel_gap=1e-3, time_limit=120.0)
    fastest = solve(instance, time_limit=60.0)
    assert soonest.plan is not None
    assert fastest.plan is not None
    assert fastest.breakdown is not None
    loss = a_0 - (fastest.breakdown.accuracy or a_0)
    return soonest, [
        Arm("time to target", instance, soonest.plan, soonest.rounds or 0.0),
        Arm("round delay", instance, fastest.plan, soonest.law.rounds(loss, target, a_0)),
    ]  # fmt: skip


def run_of(
    arm: Arm, seed: int, model: str, calibration: Calibration, target: float, work: Path
) -> dict[str, Any]:
    """Run one plan with one seed: virtual seconds and rounds until its metric is at ``target``."""
    sources = Sources(model, DATA, True)
    task = sources.load_task()
    grid = settings_of(task)
    folder = work / f"{arm.name.replace(' ', '-')}-{arm.plan.instance_hash[:8]}-{seed}"
    done = folder / "summary.json"
    run = PlanRun(
        instance=arm.instance, plan=arm.plan, model=model, task=task,
        model_task=task.kind.model_task, labels=task.labels, rounds=PLAN_ROUNDS, seed=seed,
        evaluate_every=1, evaluation_limit=EVALUATED,
        optimizer=OptimizerSettings(learning_rate=grid.learning_rate),
        lora=grid.lora(),
        schedule=Schedule.CONSTANT, calibration=calibration, local_files_only=True,
    )  # fmt: skip
    if not done.exists():
        run_plan(run, folder, resume=(folder / "settings.json").exists())
    text = (folder / "rows.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    metrics, ends = [row["metric"] for row in rows], [0.0, *(row["time_s"] for row in rows)]
    rounds = rounds_to(metrics, target)
    reached = not math.isnan(rounds)
    whole = next((n for n, value in enumerate(metrics, 1) if value >= target), len(rows))
    before = math.floor(rounds) if reached else len(rows)
    part = rounds - before if reached else 0.0
    end = ends[min(before + 1, len(rows))]
    return {
        "arm": arm.name,
        "seed": seed,
        "reached": reached,
        "rounds": rounds if reached else float(len(rows)),
        "time_s": ends[before] + part * (end - ends[before]),
        "time_whole_s": ends[whole],
        "final_metric": metrics[-1],
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of ``values`` and its 95 % interval (Student)."""
    mean, count = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return {"mean": mean, "low": mean - half, "high": mean + half, "runs": count}


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare the two plans, paired by seed: seconds to the target of the one less the other's."""
    by = {(row["arm"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    pairs = [
        (by["time to target", seed], by["round delay", seed])
        for seed in seeds
        if ("time to target", seed) in by and ("round delay", seed) in by
    ]
    own, other = ([pair[n]["time_s"] for pair in pairs] for n in (0, 1))
    differences = [a - b for a, b in zip(own, other, strict=True)]
    return {
        "seconds": interval(differences),
        "relative": interval([d / b for d, b in zip(differences, other, strict=True)]),
        "rounds": interval([a["rounds"] / b["rounds"] - 1.0 for a, b in pairs]),
        "time_to_target_s": float(np.mean(own)),
        "round_delay_s": float(np.mean(other)),
        "not_reached": sum(not row["reached"] for row in rows),
    }


def measured_plans(
    jobs: Sequence[tuple[Arm, int]], model: str, calibration: Calibration, target: float,
    work: Path, workers: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Run plans with seeds, ``workers`` at a time."""
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [
            pool.submit(run_of, arm, seed, model, calibration, target, work) for arm, seed in jobs
        ]
        for (arm, seed), one in zip(jobs, waiting, strict=True):
            rows.append(one.result())
            print(f"{arm.name}, seed {seed}: {rows[-1]['time_s']:.4g} s", flush=True)
    return rows


def result_of(
    calibration: Calibration, tried: list[dict[str, Any]], soonest: TimeToTarget,
    arms: Sequence[Arm], runs: Sequence[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Gather everything as plain data."""
    laws = calibration.time_to_target
    assert laws is not None
    errors = {kind: error_of(tried, kind) for kind in ("linear", "saturating")}
    return {
        "laws": laws.model_dump(mode="json"),
        "fitted_settings": [list(setting) for setting in FITTED],
        "predictions": tried,
        "errors": {
            kind: None if error is None else error.model_dump(mode="json")
            for kind, error in errors.items()
        },
        "goal": GOAL,
        "target": soonest.target,
        "plans": {
            arm.name: {
                "round_s": arm.plan.breakdown.round_s if arm.plan.breakdown else None,
                "accuracy": arm.plan.breakdown.accuracy if arm.plan.breakdown else None,
                "predicted_rounds": arm.predicted_rounds,
                "devices": [
                    {"id": d.id, "blocks": d.blocks, "bits": d.bits, "keep": d.keep_fraction}
                    for d in arm.plan.devices
                ],
            }
            for arm in arms
        },
        "bound_s": soonest.bound_s,
        "predicted_s": soonest.time_s,
        "runs": list(runs),
        "compared": compared(runs) if runs else None,
    }


def main() -> None:
    """Run the study from a command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--calibration", type=Path, default=CALIBRATION)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plan-seeds", type=int, default=PLAN_SEEDS)
    given = parser.parse_args()
    model = default_model(DATA, quiet=False)
    runs = Runs(model, given.work, given.workers)
    calibration = load_calibration(given.calibration)
    laws = fitted(runs, calibration)
    calibration = calibration.model_copy(update={"time_to_target": laws})
    tried = predictions(runs, calibration, laws)
    soonest, arms = planned(calibration, runs.settings)
    print(soonest, flush=True)
    calibration.save(given.calibration)

    def write(rows: Sequence[dict[str, Any]]) -> None:
        data = result_of(calibration, tried, soonest, arms, rows)
        write_json(given.out, data)
        write_text(given.out.with_suffix(".md"), page_of(data))

    write([])
    jobs = [(arm, seed) for seed in range(given.plan_seeds) for arm in arms]
    write(measured_plans(jobs, model, calibration, soonest.target, given.work, given.workers))


if __name__ == "__main__":
    main()
