"""The comparison of two checkouts: this one with itself, and what counts as slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.timings import compare
from benchmarks.timings.compare import Compared, report

ROOT = Path(__file__).parents[2]


def row(case: str, new_s: float, value: float = 1.0) -> Compared:
    return Compared(case, 1.0, new_s, 1.0, value)


def test_a_checkout_is_as_fast_as_itself(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    limits = ["--median", "100", "--single", "100", "--repeats", "2"]
    out = tmp_path / "rows.json"
    arguments = ["--base", str(ROOT), "--only", "check", "--out", str(out), *limits]
    assert compare.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "check weichen 1000" in shown
    assert "median ratio" in shown
    assert "value differs" not in shown
    assert out.read_text().count('"ratio"') == 2


def test_limits_are_of_the_median_and_of_the_highest_ratio() -> None:
    assert report([row("a", 1.0), row("b", 1.04), row("c", 1.19)], 1.05, 1.2)[1]
    assert not report([row("a", 1.0), row("b", 1.06), row("c", 1.19)], 1.05, 1.2)[1]
    lines, kept = report([row("a", 1.0), row("b", 1.0), row("c", 1.3)], 1.05, 1.2)
    assert not kept
    assert lines[0].endswith("c")


def test_another_value_is_told() -> None:
    lines, _ = report([row("a", 1.0), row("b", 1.0, value=2.0)], 1.05, 1.2)
    assert lines[1:] == ["value differs: b: 1.0 -> 2.0"]


def test_a_folder_without_sftopt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="was asked for, but its sftopt is"):
        compare.main(["--base", str(tmp_path), "--only", "check"])
