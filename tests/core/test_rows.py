"""Rows of long work: what a kill leaves behind, and what a resumed run takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftopt.core.errors import InputError
from sftopt.core.rows import RowFile


def written(folder: Path, rows: int, settings: dict[str, int] | None = None) -> None:
    with RowFile(folder, settings or {"seed": 1}, resume=False) as file:
        for number in range(rows):
            file.append({"round": number})


def test_resumed_rows_are_those_written(tmp_path: Path) -> None:
    written(tmp_path / "run", 3)
    with RowFile(tmp_path / "run", {"seed": 1}, resume=True) as file:
        assert [row["round"] for row in file.rows] == [0, 1, 2]
        file.append({"round": 3})
    assert len((tmp_path / "run" / "rows.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("rest", ['{"round": 3', '{"round": 3}', "nonsense\n", "[1]\n"])
def test_a_last_line_cut_short_is_dropped(tmp_path: Path, rest: str) -> None:
    written(tmp_path, 3)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(rest)
    with RowFile(tmp_path, {"seed": 1}, resume=True) as found:
        assert len(found.rows) == 3
        found.append({"round": 3})
    assert (tmp_path / "rows.jsonl").read_text().splitlines()[-1] == '{"round":3}'


def test_rows_are_not_overwritten_nor_mixed(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(InputError, match="--resume"):
        RowFile(tmp_path, {"seed": 1}, resume=False)
    with pytest.raises(InputError, match="seed"):
        RowFile(tmp_path, {"seed": 2}, resume=True)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1


def test_a_run_that_wrote_no_row_may_start_anew(tmp_path: Path) -> None:
    written(tmp_path, 0)
    written(tmp_path, 2, {"seed": 2})


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        RowFile(tmp_path / "file" / "run", {}, resume=False)


def test_at_most_so_many_rows_of_the_same_settings_are_taken_over(tmp_path: Path) -> None:
    written(tmp_path, 5)
    with pytest.raises(InputError, match="other settings"):
        RowFile(tmp_path, {"seed": 2}, resume=True, at_most=0)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 5
    with RowFile(tmp_path, {"seed": 1}, resume=True, at_most=3) as file:
        assert [row["round"] for row in file.rows] == [0, 1, 2]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


def test_changed_settings_are_named_down_to_the_field(tmp_path: Path) -> None:
    settings = {"split": {"seed": 1, "rank": 3}, "rounds": 2}
    with RowFile(tmp_path, settings, resume=False) as file:
        file.append({"round": 0})
    other = {"split": {"seed": 2, "rank": 3}, **{f"new{number}": number for number in range(9)}}
    with pytest.raises(InputError, match=r"\(new0, new1, new2, new3, new4 \.\.\.\)"):
        RowFile(tmp_path, other, resume=True)
    with pytest.raises(InputError, match=r"\(split\.seed\)"):
        RowFile(tmp_path, {**settings, "split": {"seed": 2, "rank": 3}}, resume=True)
