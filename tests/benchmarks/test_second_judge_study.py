"""The study of the two judges in small: its page counts right and hides no disagreement."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies import second_judge
from tests.second_judge_compare import Comparison
from tests.second_judge_draws import Case


def test_the_page_counts_every_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.md"
    assert second_judge.main(["--plans", "12", "--seed", "7", "--out", str(out)]) == 0
    page = out.read_text()
    assert page == capsys.readouterr().out
    assert "12 plans, 0 on which the judges differ" in page
    assert "python -m benchmarks.studies.second_judge --plans 12 --seed 7" in page
    assert "## Where they differ" not in page


def test_a_disagreement_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differ(case: Case) -> Comparison:
        return Comparison(True, set(), ["round_s: 1.0 against 2.0 (5.0e-01)"], {"round_s": 0.5})

    monkeypatch.setattr(second_judge, "compare", differ)
    assert second_judge.main(["--plans", "3"]) == 1
    page = capsys.readouterr().out
    assert "3 plans, 3 on which the judges differ" in page
    shown = [line for line in page.splitlines() if line.endswith("1.0 against 2.0 (5.0e-01)")]
    assert [line.split(" (")[0] for line in shown] == ["- plan 0", "- plan 1", "- plan 2"]
