"""What is wrong with rows that were made up: each claim against everybody's plans."""

from __future__ import annotations

from typing import Any

import pytest

from sftopt.studies.race.checks import find_wrong
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.suite import Checks
from sftopt.studies.race.verdict import outcome_of
from tests.studies.race.made_up import row


def reasons(*rows: RaceRow, checks: Checks | None = None) -> list[str]:
    return [str(one) for one in find_wrong(rows, checks or Checks())]


def test_sound_rows_are_not_wrong() -> None:
    assert reasons(
        row("a/x", objective_s=10.0, bound_s=9.9999, verdict="optimal"),
        row("b/x", objective_s=10.0005, bound_s=10.0 * (1 + 0.9e-6), verdict="optimal"),
        row("c/x", objective_s=12.0),
        row("d/x", verdict="no_point"),
        row("e/x", verdict="refused", termination="refused"),
    ) == []  # fmt: skip


def test_a_bound_above_anothers_plan() -> None:
    (text,) = reasons(row("a/x", objective_s=11.0, bound_s=10.5), row("b/x", objective_s=10.0))
    assert text == "a/x on cell: its bound 10.5 s is above the verified 10 s of b/x"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"promise": "relaxation", "proven_for": "problem"}, 1),
        ({"promise": "exact", "proven_for": "none"}, 1),  # a plug-in's word
        ({"promise": "restriction", "proven_for": "formulation"}, 0),
        ({"promise": "approximation"}, 0),
        ({"promise": "exact", "proven_for": "formulation"}, 0),
    ],
)
def test_only_what_claims_to_bound_the_instance_is_held_to_it(
    changes: dict[str, Any], wrong: int
) -> None:
    found = reasons(
        row("a/x", objective_s=11.0, bound_s=10.5, **changes), row("b/x", objective_s=10.0)
    )
    assert len(found) == wrong


def test_rows_of_other_instances_say_nothing() -> None:
    assert (
        reasons(row("a/x", "one", objective_s=11.0, bound_s=10.5), row("b/x", objective_s=10.0))
        == []
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "optimal"}, "claims an optimum"),
        ({"termination": "gap_limit"}, "claims an optimum"),
        ({"termination": "converged_local"}, ""),
        ({"termination": "gap_limit", "promise": "restriction"}, ""),
    ],
)
def test_an_optimum_that_another_beats(changes: dict[str, Any], said: str) -> None:
    found = reasons(row("a/x", objective_s=10.01, **changes), row("b/x", objective_s=10.0))
    assert bool(found) is bool(said)
    assert all(said in text for text in found)
    close = reasons(row("a/x", objective_s=10.0009, **changes), row("b/x", objective_s=10.0))
    assert close == [], "within the gap asked for"


def test_infeasible_where_there_is_a_plan() -> None:
    claim = row("a/x", verdict="infeasible_claimed", termination="infeasible_proven")
    assert reasons(claim) == []
    (text,) = reasons(claim, row("b/x", objective_s=10.0))
    assert "there is no plan; b/x has one of 10 s" in text


def test_what_the_judge_refutes() -> None:
    (text,) = reasons(row("a/x", verdict="error", refuted=True, message="the judge refutes it"))
    assert "the judge refutes it" in text


def test_relaxations_that_must_be_the_same() -> None:
    relaxed = {"promise": "relaxation", "verdict": "no_point"}
    rows = (row("a/r", claimed_s=10.0, **relaxed), row("b/r", claimed_s=10.001, **relaxed))
    assert reasons(*rows) == []
    (text,) = reasons(*rows, checks=Checks(relaxation=(("a/r", "b/r"),)))
    assert "1.00e-04 apart" in text


def test_of_two_proven_values_that_differ_the_greater_is_wrong() -> None:
    loose = {"verdict": "optimal", "rel_gap": 1e-2}
    rows = (row("a/x", objective_s=10.0, **loose), row("b/x", objective_s=10.05, **loose))
    assert reasons(*rows) == []
    tight = {"verdict": "optimal", "rel_gap": 1e-4}
    rows = (row("a/x", objective_s=10.0, **tight), row("b/x", objective_s=10.05, **tight))
    (text,) = reasons(*rows)
    assert text.startswith("b/x on cell: claims an optimum")


def test_a_result_that_cannot_be_read_is_a_row() -> None:
    outcome = outcome_of({"result": {"termination": "gap_limit", "point": None}}, {}, 1.0)
    assert outcome.verdict == "error"
    assert "cannot be read" in outcome.message
