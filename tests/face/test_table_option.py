"""``--table`` of simulate, compare and sweep: the same rows as CSV, Parquet and LaTeX."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import sftopt
from tests.face.command_line import Run

COMMANDS: dict[str, tuple[Any, ...]] = {
    "simulate": ("--rounds", 2, "--no-clairvoyant", "--no-plots", "--quiet", "--out", "run"),
    "compare": ("--schemes", "splitlora"),
    "sweep": ("--vary", "radio.bandwidth_mhz=10,20", "--schemes", "splitlora", "--no-plots",
              "--quiet", "--out", "run"),
}  # fmt: skip
"""Options that make each command short."""
COLUMNS = {"simulate": "resolved_s", "compare": "ratio_to_sft", "sweep": "round_s"}
"""A column of numbers of each."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_three_kinds_hold_the_same_rows(run: Run, small: Path, command: str) -> None:
    for ending in (".csv", ".parquet", ".tex"):
        resume = ("--resume",) if Path("run").exists() else ()
        ran = run(command, small, *COMMANDS[command], *resume, "--table", f"rows{ending}")
        assert ran.code == 0, ran.err
        assert f"wrote rows{ending}" in ran.err
    rows = list(csv.DictReader(Path("rows.csv").read_text().splitlines()))
    table = pyarrow.parquet.read_table("rows.parquet")
    name = COLUMNS[command]
    assert [float(row[name]) for row in rows] == table[name].to_pylist()
    assert len(rows) >= 2
    text = Path("rows.tex").read_text()
    assert text.startswith(f"% sftopt {command} ")
    assert text.count(r" \\") == len(rows) + 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_says_nothing_is_refused_before_the_work(
    run: Run, small: Path, command: str
) -> None:
    ran = run(command, small, *COMMANDS[command], "--table", "rows.xlsx")
    assert ran.code == 2
    assert "end the name in .csv, .parquet, .tex" in ran.err
    assert not Path("run").exists()


def test_comparisons_and_sweeps_show_themselves_in_notebooks(small: Path) -> None:
    cell = sftopt.load(str(small))
    compared = sftopt.compare(cell, ["splitlora"])
    shown = compared._repr_html_()
    assert "<td>splitlora</td>" in shown
    assert f"<td>{compared.schemes[0].round_s:.6g}</td>" in shown
    assert compared.plot()._repr_png_().startswith(b"\x89PNG")
    swept = sftopt.sweep(cell, {"radio.bandwidth_mhz": [10, 20]}, schemes=["splitlora"], out="s")
    lines = swept._repr_html_().split("<tr>")
    assert "<th>radio.bandwidth_mhz</th><th>sft</th><th>splitlora</th>" in lines[1]
    assert f"<td>20</td><td>{swept.rows[1].schemes[0]['round_s']:.6g}</td>" in lines[3]
    assert swept.plot()._repr_png_().startswith(b"\x89PNG")
    result = sftopt.solve(cell, time_limit=20)
    for picture in (result.plot(), result.gantt()):
        assert picture._repr_png_().startswith(b"\x89PNG")
