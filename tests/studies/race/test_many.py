"""Many cells planned: a row for every file, whatever is in it; nothing planned twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import generate
from sftopt.core.files import write_json
from sftopt.core.library import load
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from sftopt.studies.race import slot
from sftopt.studies.race.many import COLUMNS, Asked, plan_many, rows_folder
from sftopt.studies.race.runner import RaceSettings

STUB = Path(__file__).with_name("stub_agent.py")
ASKED = Asked(solver="constructive", limit_s=20.0)
BUSY = RaceSettings(allow_busy=True)


def save(path: Path, devices: int, seed: int) -> None:
    write_json(path, generate("weichen", devices, seed).to_dict())


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir()
    for seed in range(3):
        save(folder / f"cell{seed}.json", 2, seed)
    return folder


def test_every_file_is_a_row_and_nothing_is_planned_twice(cells: Path, tmp_path: Path) -> None:
    shutil.copy(cells / "cell0.json", cells / "twin.json")
    (cells / "torn.json").write_text('{"name": "to')
    data = json.loads((cells / "cell1.json").read_text())
    data["radio"]["uplink_bandwidth_hz"] = -1.0
    (cells / "wrong.json").write_text(json.dumps(data))
    table = tmp_path / "plans.parquet"
    made: list[str] = []
    told = lambda done, total, row: made.append(row.instance.name)  # noqa: E731
    plan_many(cells, table, ASKED, BUSY, told)
    rows = {row["file"]: row for row in pyarrow.parquet.read_table(table).to_pylist()}
    assert list(rows) == ["cell0.json", "cell1.json", "cell2.json", "torn.json", "twin.json",
                          "wrong.json"]  # fmt: skip
    assert set(rows["cell0.json"]) == set(COLUMNS)
    for name in ("cell0.json", "cell1.json", "cell2.json", "twin.json"):
        plan = Plan.model_validate_json(rows[name]["plan"])
        judged = verify_plan(load(str(cells / name)), plan)
        assert judged.objective_s == pytest.approx(rows[name]["objective_s"], rel=1e-12)
    assert "is not JSON" in rows["torn.json"]["fault"]
    assert "uplink_bandwidth_hz" in rows["wrong.json"]["fault"]
    assert rows["wrong.json"]["verdict"] == "bad_cell"
    assert len(made) == 3, "two files of one cell are one run"
    save(cells / "added.json", 3, 9)
    plan_many(cells, table, ASKED, BUSY, told)
    assert len(made) == 4, "only what was added is planned"
    assert pyarrow.parquet.read_table(table).num_rows == 7


def test_a_run_that_is_killed_goes_on(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "COMMAND", (sys.executable, "-S", str(STUB)))
    monkeypatch.setenv("STUB_AGENT_S", "0.05")
    for seed in range(3, 16):
        save(cells / f"cell{seed}.json", 2, seed)
    table = tmp_path / "plans.parquet"
    for wait_s in (0.4, 0.7):
        child = multiprocessing.get_context("fork").Process(
            target=plan_many, args=(cells, table, ASKED, BUSY)
        )
        child.start()
        child.join(wait_s)
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert not table.exists() or pyarrow.parquet.read_table(table).num_rows == 16
    rows = plan_many(cells, table, ASKED, BUSY)
    assert len(rows) == 16
    lines = (rows_folder(table) / "rows.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    assert len(keys) == len(set(keys)) == 16


def test_what_makes_no_sense_is_said_before_anything_starts(cells: Path, tmp_path: Path) -> None:
    table = tmp_path / "plans.parquet"
    with pytest.raises(InputError, match="no such folder"):
        plan_many(tmp_path / "nowhere", table, ASKED, BUSY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no \*\.json"):
        plan_many(tmp_path / "empty", table, ASKED, BUSY)
    with pytest.raises(UnknownNameError, match="certify"):
        plan_many(cells, table, Asked(solver="certfy"), BUSY)
    assert not rows_folder(table).exists()


def test_of_bad_cells_alone_there_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.json").write_text("[]")
    (row,) = plan_many(tmp_path / "cells", tmp_path / "plans.parquet", ASKED, BUSY)
    assert row["verdict"] == "bad_cell"
    assert pyarrow.parquet.read_table(tmp_path / "plans.parquet").num_rows == 1
