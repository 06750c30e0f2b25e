"""A fine-tuning by a plan is the experiment of a row at equal bytes: same metric, same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.studies.equal_bytes_arms import Arm
from benchmarks.studies.equal_bytes_runs import Job, Runner
from benchmarks.studies.menu_by_plan import ROWS_NAME, ByPlan
from sftopt.core.calibration import Calibration, Speeds, calibrated, load_calibration
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.families import generate
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import Plan
from sftopt.solvers.run import solve
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.data import load_task
from sftopt.training.shipped import shipped_model

ARM = Arm("rotated", 1.0)
STEPS = 4
EVALUATED = 32


def test_a_run_by_the_plan_is_the_row_of_its_seed(tmp_path: Path) -> None:
    task = load_task("digit-scenes")
    model = shipped_model(task)
    assert model is not None
    grid = settings_for(task, rounds=1, local_steps=STEPS, evaluation_limit=EVALUATED)
    runner = Runner("digit-scenes", model, tmp_path / "files", "cpu", EVALUATED)
    codec = runner._maker.of(ARM)
    assert codec is not None

    def made() -> tuple[Instance, Plan, Calibration]:
        measured = load_calibration("digit-scenes")
        blocks, cut = measured.workload.blocks, task.training.cut
        mode = Mode(
            name=ARM.label, kind=ModeKind.DENSE, bits=1, value_bits=1.0, gradient_bits=1.0,
            loss=tuple(0.0 if at == cut else 1.0 for at in range(blocks)),
        )  # fmt: skip
        options = codec.to_dict() | {"cut": None}
        point = OperatingPoint(mode=mode, codec=options, cuts=(cut,), losses=())
        data = generate("jetson-vit-b", 1, 0).to_dict()
        data["devices"][0] |= {"batch": grid.batch, "weight": 1.0}
        data["training"]["local_steps"] = STEPS
        data["compression"]["modes"] = [{"kind": "none"}]
        cell = calibrated(Instance.model_validate(data), measured, speeds=Speeds.MEASURED).instance
        changed = cell.to_dict()
        changed["compression"]["modes"] = [mode.model_dump(mode="json")]
        instance = Instance.model_validate(changed)
        plan = solve(instance, solver="exhaustive").plan
        assert plan is not None
        return instance, plan, measured.model_copy(update={"points": (point,)})

    runs = ByPlan(tmp_path / "by_plan", model, task, grid, made)
    assert [part.blocks for part in runs.plan.devices] == [task.training.cut]
    runs.fine_tune(ARM, 2)
    lines = (tmp_path / "by_plan" / ROWS_NAME).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for seed, row in enumerate(rows):
        expected = runner.run(Job(ARM.label, seed, STEPS))
        seconds = {"cpu_s", "wall_s"}
        assert row.pop("by_plan")
        assert {k: v for k, v in row.items() if k not in seconds} == {
            k: v for k, v in expected.items() if k not in seconds
        }
    assert rows[0]["uplink_bytes"] != rows[1]["uplink_bytes"]
