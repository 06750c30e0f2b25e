"""``sftopt plan --many`` as a user sees it: the table, exit codes, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftopt.core.families import generate
from sftopt.core.files import write_json
from tests.face.command_line import Run


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir()
    for seed in range(3):
        write_json(folder / f"cell{seed}.json", generate("weichen", 2, seed).to_dict())
    return folder


def test_the_command(cells: Path, tmp_path: Path, run: Run) -> None:
    (cells / "torn.json").write_text("{")
    table = tmp_path / "plans.parquet"
    ran = run("plan", "--many", cells, "--out", table, "--solver", "constructive", "--json")
    assert ran.code == 4
    assert "1 of 4 cells have no plan: torn.json" in ran.err
    assert ran.data["plans"] == 3
    assert ran.data["without_plan"][0]["file"] == "torn.json"
    assert table.is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--many", "CELLS"), "give --out FILE.parquet"),
        (("--many", "CELLS", "--out", "plans.csv"), "name it 'plans.parquet'"),
        (("weichen", "--many", "CELLS", "--out", "p.parquet"), "is of one cell"),
        (("--many", "CELLS", "--out", "p.parquet", "--jobs", "0"), "--jobs is 0"),
        (("--many", "CELLS", "--out", "p.parquet", "--time-limit", "-1"), "time_limit"),
        ((), "give INSTANCE, or --many DIR"),
    ],
)
def test_misuse(cells: Path, run: Run, words: tuple[Any, ...], said: str) -> None:
    ran = run("plan", *(cells if word == "CELLS" else word for word in words))
    assert ran.code == 2
    assert said in ran.err
