"""Rows written as tables come back as they were."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet
import pytest

from sftopt.core.errors import InputError
from sftopt.core.table_files import check_ending, write_table

ROWS = [
    {"id": "a,b", "s": 0.1 + 0.2, "n": 3},
    {"id": "50 % & _x_", "s": None, "n": 4, "more": True},
]


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [row["id"] for row in back] == ["a,b", "50 % & _x_"]
    assert float(back[0]["s"]) == 0.1 + 0.2
    assert (back[1]["s"], back[0]["more"]) == ("", "")


def test_parquet_keeps_types(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "t.parquet")
    back = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert back == [{"more": None, **ROWS[0]}, ROWS[1]]


def test_latex_escapes_what_means_something_to_it(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / "t.tex", "of a test")
    text = (tmp_path / "t.tex").read_text()
    assert text.startswith("% of a test\n% needs \\usepackage{booktabs}\n\\begin{tabular}{lrrr}")
    assert r"50 \% \& \_x\_ & -- & 4 & True \\" in text
    assert r"a,b & 0.3 & 3 & -- \\" in text


def test_an_unknown_ending_is_refused() -> None:
    with pytest.raises(InputError, match=r"\.csv, \.parquet, \.tex"):
        check_ending(Path("t.xlsx"), "--table")
