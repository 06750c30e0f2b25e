"""The fine-tunings of menu_of_rows: MiniLM by the plan, each also as a row at equal bytes.

The plan is made from what was known before: the chain and a bit by their rows of 500 steps, half a
bit by the one of 200. It is kept in the folder with cell and calibration, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.studies.equal_bytes_arms import Arm
from sftopt.core.calibration import Calibration, load_calibration
from sftopt.core.files import canonical_json, read_json, write_json, write_text
from sftopt.core.instance import Instance
from sftopt.core.library import load
from sftopt.core.plan import Plan
from sftopt.training.calibrate import CalibrationSettings
from sftopt.training.data import Task
from sftopt.training.evaluation import evaluate
from sftopt.training.run import PlanRun, RunSummary, run_plan
from sftopt.training.run.drive import split_of
from sftopt.training.run.folder import CHECKPOINT_NAME
from sftopt.training.schedule import Schedule
from sftopt.training.split import AdapterDtype, LosslessCodec

ROWS_NAME = "by_plan.jsonl"
"""File of the runs' rows, for ``equal_bytes --take``."""
_INSTANCE = "instance.json"
"""File of the cell."""
_PLAN = "plan.json"
"""File of the plan, written last."""
_CALIBRATION = "calibration.json"
"""File of the calibration that cell and plan were made with."""
_WITHOUT_CODEC = "without_codec.json"
"""File of a run's metric with held-out samples evaluated without the codec."""


class ByPlan:
    """A plan that is kept in ``folder``, and its runs."""

    def __init__(
        self, folder: Path, model: Path, task: Task, grid: CalibrationSettings,
        make: Callable[[], tuple[Instance, Plan, Calibration]],
    ) -> None:  # fmt: skip
        self.folder, self.model, self.task, self.grid = folder, model, task, grid
        if not (folder / _PLAN).is_file():
            instance, plan, calibration = make()
            write_json(folder / _INSTANCE, instance.to_dict())
            calibration.save(folder / _CALIBRATION)
            plan.save(folder / _PLAN)
        self.instance = load(str(folder / _INSTANCE))
        self.calibration = load_calibration(folder / _CALIBRATION)
        self.plan = Plan.load(folder / _PLAN)

    def run(self, seed: int) -> RunSummary:
        """Fine-tune by the plan, or read it where that is done."""
        task, grid = self.task, self.grid
        run = PlanRun(
            instance=self.instance, plan=self.plan, model=str(self.model), task=task,
            model_task=task.kind.model_task, labels=task.labels, rounds=grid.rounds,
            seed=seed, evaluate_every=0, evaluation_limit=grid.evaluation_limit,
            label_names=task.label_names, padding_token=task.padding_token,
            optimizer=grid.optimizer(), schedule=Schedule(grid.schedule),
            accumulation=grid.accumulation,
            lora=grid.lora(self.instance.workload.lora_rank),
            adapter_dtype=AdapterDtype(grid.adapter_dtype), calibration=self.calibration,
            side_keys=grid.side_keys, local_files_only=True,
        )  # fmt: skip
        folder = self.folder / f"run-seed{seed}"
        start = time.perf_counter()

        def news(row: dict[str, Any]) -> None:
            since = time.perf_counter() - start
            print(
                f"{since:6.0f} s  seed {seed}, round {row['round']}: {row['loss']:.4g}", flush=True
            )

        summary = run_plan(run, folder, resume=(folder / "settings.json").exists(), on_round=news)
        if not (folder / _WITHOUT_CODEC).is_file():
            model = split_of(run)
            model.load_checkpoint(folder / CHECKPOINT_NAME)
            for device in model.devices.values():
                device.codec = LosslessCodec()
                model.server.codecs[device.id] = device.codec
            found = evaluate(model, task, limit=run.evaluation_limit)
            write_json(folder / _WITHOUT_CODEC, {"metric": found.metric})
        return summary

    def row(self, arm: Arm, summary: RunSummary) -> dict[str, Any]:
        """Return a run as a row of equal_bytes."""
        data = summary.data
        kept = read_json(self.folder / f"run-seed{data['seed']}" / _WITHOUT_CODEC, "metric")
        return {
            "task": self.task.name.partition(":")[0],
            "task_fingerprint": self.task.fingerprint,
            **asdict(arm),
            "label": arm.label,
            "codec": next(iter(data["codecs"].values())),
            "seed": data["seed"],
            "steps": data["rounds"] * data["local_steps"],
            "metric": data["final_metric"],
            "metric_without_codec": kept["metric"],
            "uplink_bytes": data["bytes"]["uplink"],
            "side_bytes": data["bytes"]["side"],
            "downlink_bytes": data["bytes"]["downlink"],
            "memory_bytes": 0,
            "cpu_s": round(data["cpu_s"], 3),
            "wall_s": round(data["wall_s"], 3),
            "by_plan": True,
        }

    def fine_tune(self, arm: Arm, seeds: int) -> None:
        """Run the first ``seeds`` seeds; every finished one is a line of the rows."""
        rows: list[dict[str, Any]] = []
        for seed in range(seeds):
            rows.append(self.row(arm, self.run(seed)))
            write_text(self.folder / ROWS_NAME, "".join(canonical_json(row) + "\n" for row in rows))
