"""The schema of a row fits what simulations and fine-tunings write, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from sftopt.core.row_schema import FinetuneRow, Row, SimulationRow
from sftopt.face.cli import main
from sftopt.training.run import run_plan
from tests.face.command_line import small_data
from tests.training.run.small_run import small_run


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["schema", "row"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def simulated(folder: Path, *words: str) -> list[dict[str, Any]]:
    file = folder / "instance.json"
    file.write_text(json.dumps(small_data()))
    out = folder / "run"
    assert main(["simulate", str(file), "--out", str(out), "--no-plots", "--quiet", *words]) == 0
    return rows_of(out)


def test_rows_of_a_simulation(schema: dict[str, Any], tmp_path: Path) -> None:
    rows = simulated(tmp_path, "--rounds", "2", "--scenarios", "2")
    assert len(rows) == 2
    for row in rows:
        jsonschema.validate(row, schema)
        assert isinstance(Row.model_validate(row).root, SimulationRow)
        assert row["scenario_s"] > 0.0


def test_a_round_in_outage(schema: dict[str, Any], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("round,device,gain_db\n0,dev0,-90\n0,dev1,-90\n1,dev0,-245\n1,dev1,-90\n")
    for extra, status in (((), "infeasible"), (("--skip-outage",), "devices_skipped")):
        folder = tmp_path / status
        folder.mkdir()
        rows = simulated(folder, "--rounds", "2", "--frame-rounds", "2", "--trace", str(trace),
                         "--no-clairvoyant", *extra)  # fmt: skip
        assert rows[1]["status"] == status
        assert rows[1]["outage"] == ["dev0"]
        for row in rows:
            jsonschema.validate(row, schema)


def test_rows_of_a_fine_tuning(schema: dict[str, Any], tmp_path: Path) -> None:
    run_plan(small_run(tmp_path, evaluate_every=2), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert rows[0]["metric"] is None
    for row in rows:
        jsonschema.validate(row, schema)
        assert isinstance(Row.model_validate(row).root, FinetuneRow)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**row, "surprise": 1}, schema)
        with pytest.raises(ValidationError):
            Row.model_validate({name: row[name] for name in row if name != "loss"})
