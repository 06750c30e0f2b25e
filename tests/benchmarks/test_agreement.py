"""The agreement study in small: it agrees, it repeats, and it hides no disagreement."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.studies import agreement
from benchmarks.studies.agreement import Limits, Row, Run
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.families import FAMILIES
from sftopt.solvers.exhaustive.space import combination_count
from sftopt.studies.race.cases import cases_of
from sftopt.studies.race.suite import load_suite

SMALL = Limits(time_limit_s=10.0, rel_gap=1e-5, combinations=500)
INDICES = (0, 5, 8, 19, 23, 30)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Six instances of six families, studied once."""
    return [agreement.study(index, SMALL) for index in INDICES]


def test_six_small_instances_agree(rows: list[Row]) -> None:
    assert [row.errors for row in rows] == [()] * len(rows)
    counted = agreement.counts(rows)
    assert counted["instances"] == counted["families"] == counted["enumerated"] == 6
    assert counted["all_three_proved"] >= 4
    assert counted["relaxed_compared"] == 6
    for row in rows:
        assert row.relaxed_difference is not None
        assert row.relaxed_difference <= 1e-6
        assert row.combinations <= SMALL.combinations
        if row.spread is not None:
            assert row.spread <= 1e-4
            assert row.claimed_spread is not None
            assert row.claimed_spread <= 1e-4


def test_a_row_can_be_replayed(rows: list[Row]) -> None:
    assert "--only 5 --time-limit 10 --rel-gap 1e-05 --combinations 500" in rows[1].replay
    again = agreement.study_instance(5, SMALL)[0]
    assert again.hash == rows[1].instance_hash


def test_the_full_study_covers_every_feasible_family_and_size() -> None:
    drawn = [agreement.drawn(index) for index in range(40)]
    assert {family for family, _ in drawn} == {f.name for f in FAMILIES.values() if f.feasible}
    assert {size for _, size in drawn} == {2, 3, 4, 5}
    assert len(set(drawn)) >= 30


@pytest.mark.parametrize("index", [2, 4, 6, 7])
def test_a_reduced_instance_stays_feasible_and_small(index: int) -> None:
    instance, full = agreement.study_instance(index, replace(SMALL, combinations=2_000))
    assert check(instance).feasible
    assert combination_count(derive(instance)) <= 2_000 < full
    assert (instance.source.family, len(instance.devices)) == agreement.drawn(index)


def run(solver: str, value: float | None, bound: float | None, *, proved: bool = True) -> Run:
    return Run(
        solver=solver,
        formulation="f",
        termination="gap_limit" if proved else "time_limit",
        point="optimal" if proved else "feasible",
        objective_s=value,
        claimed_s=value,
        bound_s=bound,
        proved=proved,
        wall_s=1.0,
        message="said so",
    )


def test_two_proofs_of_different_values_are_an_error() -> None:
    errors = agreement.exact_errors([run("a", 1.0, 0.9999), run("b", 1.001, 0.99)])
    assert len(errors) == 2, "the verified values and the claims"
    assert "a on f proved 1 s and b on f 1.001 s: 1.00e-03 apart" in errors[0]
    assert agreement.exact_errors([run("a", 1.0, 0.9999), run("b", 1.00005, 0.99)]) == []


def test_equal_verified_values_do_not_hide_different_claims() -> None:
    too_low = replace(run("a", 1.0, 0.98), claimed_s=0.99)
    (error,) = agreement.exact_errors([too_low, run("b", 1.0, 0.99)])
    assert "a on f claims 0.99 s and b on f 1 s" in error


def test_a_bound_above_anothers_point_is_an_error() -> None:
    unproved = run("a", 1.2, 1.1, proved=False)
    errors = agreement.exact_errors([unproved, run("b", 1.0, 0.99, proved=False)])
    assert len(errors) == 1
    assert "a on f has the bound 1.1 s above the verified 1 s of b on f" in errors[0]
    assert agreement.exact_errors([unproved, run("b", None, 1.15, proved=False)]) == []


def test_a_run_that_failed_is_an_error() -> None:
    broken = replace(run("a", None, None, proved=False), termination="error")
    assert agreement.exact_errors([broken]) == ["a on f ended with 'error': said so"]


def test_the_roads_to_ipopt_are_compared() -> None:
    assert agreement.relaxed_errors([run("a", 1.0, None), run("b", 1.0 + 1e-8, None)]) == []
    (apart,) = agreement.relaxed_errors([run("a", 1.0, None), run("b", 1.0001, None)])
    assert "1.00e-04 apart" in apart
    (silent,) = agreement.relaxed_errors([run("a", 1.0, None), run("b", None, None)])
    assert "b on f has no value" in silent


def test_an_error_row_shows_in_table_and_exit_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[Row],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = replace(rows[0], errors=("a and b differ",))
    monkeypatch.setattr(agreement, "study", lambda index, limits: bad if index == 0 else rows[1])
    out = tmp_path / "agreement.json"
    assert agreement.main(["--instances", "2", "--out", str(out)]) == 1
    table = out.with_suffix(".md").read_text()
    assert (
        "ERROR in row 0: a and b differ; replay: `python -m benchmarks.studies.agreement" in table
    )
    assert "python -m benchmarks.studies.agreement --instances 2 --out" in table
    data = json.loads(out.read_text())
    assert data["counts"]["rows_with_errors"] == 1
    assert len(data["rows"]) == 2
    assert "ERROR a and b differ" in capsys.readouterr().err
    monkeypatch.setattr(agreement, "study", lambda index, limits: rows[1])
    assert agreement.main(["--instances", "1"]) == 0


def test_the_suite_ground_truth_has_the_instances_of_this_study() -> None:
    """The suite is to take the study's place: the same cells, reduced alike."""
    suite = load_suite("ground-truth")
    (cells,) = suite.instances
    assert isinstance(cells.family, tuple)
    assert isinstance(cells.devices, tuple)
    assert list(zip(cells.family, cells.devices, strict=True)) == [
        agreement.drawn(k) for k in range(40)
    ]
    assert cells.seed == tuple(range(40))
    assert cells.change.combinations == Limits().combinations
    for index, case in enumerate(islice(cases_of(suite), 2)):
        assert case.instance.hash == agreement.study_instance(index, Limits())[0].hash
