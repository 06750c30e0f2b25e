"""The large-timescale study in small: rows, gaps, going on where it stopped, contradictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies import large_timescale as study
from benchmarks.studies.large_timescale import Limits, Row, Run
from sftopt.core.families import FAMILIES
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.registry import get_solver

FEW = (("greedy", "native"), ("constructive", "native"))
ARGUMENTS = ["--instances", "2", "--time-limit", "5", "--bound-limit", "20"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fast contenders, a reference with a weak bound, instances of two devices."""
    monkeypatch.setattr(study, "CONTENDERS", FEW)
    monkeypatch.setattr(study, "REFERENCES", (("alternating", "native"),))
    monkeypatch.setattr(study, "drawn", lambda index: (("tight-memory", "jetson-vit-b")[index], 2))


def run(solver: str, value: float | None, bound: float | None, termination: str = "done") -> Run:
    return Run(solver, "f", termination, "feasible", value, bound, None, 1.0, 0.5, "said so")


def test_it_covers_every_feasible_family_and_size_and_names_that_exist() -> None:
    drawn = [study.drawn(index) for index in range(60)]
    assert {family for family, _ in drawn} == {f.name for f in FAMILIES.values() if f.feasible}
    assert {size for _, size in drawn} == set(range(3, 21))
    for solver, formulation in study.present():
        assert get_solver(solver).accepts(get_formulation(formulation))
    ours = {"augmented-lagrangian", "alternating", "greedy", "bonmin", "mindtpy", "alpaqa"}
    assert ours <= {solver for solver, _ in study.present()}


@pytest.mark.usefixtures("small")
def test_rows_hold_verified_gaps_and_a_second_run_adds_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "large.json"
    monkeypatch.setattr(study, "CONTENDERS", FEW[:1])
    assert study.main([*ARGUMENTS, "--out", str(out)]) == 0
    first = json.loads(out.read_text())
    assert [len(row["runs"]) for row in first["rows"]] == [1, 1]
    monkeypatch.setattr(study, "CONTENDERS", FEW)
    assert study.main([*ARGUMENTS, "--out", str(out)]) == 0
    second = json.loads(out.read_text())
    for before, after in zip(first["rows"], second["rows"], strict=True):
        assert after["runs"][0] == before["runs"][0], "what was done is kept, to the second"
        assert [item["solver"] for item in after["runs"]] == ["greedy", "constructive"]
        for item in after["runs"]:
            assert item["point"] in ("feasible", "optimal")
            expected = (item["objective_s"] - after["bound_s"]) / item["objective_s"]
            assert item["gap"] == pytest.approx(max(expected, 0.0))
    table = out.with_suffix(".md").read_text()
    assert "| greedy | native | 2 of 2 | 0 |" in table
    assert "ERROR" not in table
    assert table.strip() in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_rows_of_other_limits_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "large.json"
    out.write_text(json.dumps({"limits": {"time_limit_s": 1.0}, "rows": []}))
    with pytest.raises(SystemExit, match="other limits"):
        study.main([*ARGUMENTS, "--out", str(out)])


def test_a_contender_can_be_run_again() -> None:
    row = Row(0, "x", 3, 0, "hash", runs=(run("a", 1.0, None), run("b", 2.0, None)))
    assert [item.solver for item in study.without(row, ["a"]).runs] == ["b"]


def test_the_best_bound_is_the_highest_and_says_whose_it_is() -> None:
    runs = [run("a", 2.0, 1.0), run("b", None, 1.5), run("c", 3.0, None)]
    assert study.best_bound(runs) == (1.5, "b on f")
    assert study.best_bound([run("c", 3.0, None)]) == (None, None)
    assert study.gap(2.0, 1.5) == pytest.approx(0.25)
    assert study.gap(None, 1.5) is None


def test_a_value_below_a_proven_bound_is_an_error() -> None:
    runs = [run("a", 1.0, 0.9), run("b", 1.2, 1.1)]
    (text,) = study.contradictions(runs, 1.1, "b on f")
    assert "a on f has the verified value 1 s below the bound 1.1 s of b on f" in text
    assert study.contradictions([run("a", 1.0, None)], 1.0 + 1e-7, "b") == []
    (text,) = study.contradictions([run("a", None, None, "error")], 1.0, "b")
    assert "ended with 'error': said so" in text


def test_failures_stand_in_the_table_with_their_word() -> None:
    failed = replace(run("greedy", None, None, "time_limit"), formulation="native", point="none")
    good = replace(run("greedy", 2.0, None), formulation="native", gap=0.5)
    certify = replace(run("certify", 1.0, 1.0), formulation="native")
    rows = [
        Row(0, "x", 3, 0, "h", 1.0, "certify on native", (certify,), (good,)),
        Row(1, "x", 3, 1, "h", 1.0, "certify on native", (certify,), (failed,), ("it is wrong",)),
    ]
    table = study.markdown(rows, "command", Limits())
    assert "| greedy | native | 1 of 2 | 1 time_limit | 5.0e-01 | 5.0e-01 | 0 |" in table
    assert "| mindtpy | joint-ratio | not here |" in table
    assert "- ERROR in row 1: it is wrong" in table


def test_a_run_that_other_work_ended_is_told_from_one_that_its_limit_ended() -> None:
    starved = replace(run("a", None, None, "time_limit"), wall_s=10.2, cpu_s=1.5)
    assert starved.starved(10.0)
    assert not replace(starved, cpu_s=9.0).starved(10.0)
    assert not replace(starved, wall_s=3.0).starved(10.0)
    assert 1.0 <= study.slowness() <= 20.0
