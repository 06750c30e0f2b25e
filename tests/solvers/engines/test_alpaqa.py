"""alpaqa: known answers, agreement with Ipopt on the same model, true words about the rest."""

from __future__ import annotations

import pytest

from sftopt.core.errors import InputError, RefusedError
from sftopt.core.status import Termination
from sftopt.solvers.engines.alpaqa import SOLVER
from sftopt.solvers.run import solve
from tests.solvers.conformance import KNOWN, known_instance
from tests.solvers.small_models import (
    MIXED_OPTIMUM_S,
    UNIT_S,
    infeasible_model,
    mixed_model,
    quadratic_model,
    task_for,
)


def test_the_known_optimum_is_found() -> None:
    outcome = SOLVER.run(task_for(mixed_model(integral=False)))
    assert outcome.termination is Termination.CONVERGED_LOCAL
    assert outcome.claimed_s == pytest.approx(MIXED_OPTIMUM_S, rel=1e-6)
    assert outcome.bound_s is None
    assert outcome.candidate is not None
    assert outcome.candidate.keep[0] == pytest.approx(2.5**0.5, abs=1e-4)


def test_duals_are_slopes_in_seconds_under_constraint_names() -> None:
    outcome = SOLVER.run(task_for(quadratic_model()))
    assert outcome.claimed_s == pytest.approx(0.5 * UNIT_S, rel=1e-5)
    assert outcome.duals == pytest.approx({"con_sum": -UNIT_S, "con_far": 0.0}, abs=1e-4)


@pytest.mark.parametrize("name", ["equal pair", "mixed pair", "common parallel"])
def test_it_agrees_with_ipopt_on_the_relaxation(name: str) -> None:
    result = solve(known_instance(name), solver="alpaqa", formulation="joint-relaxed")
    assert result.objective_claimed_s == pytest.approx(KNOWN[name].relaxed_s, rel=1e-5)


def test_where_nothing_is_feasible_it_has_no_point_and_claims_nothing() -> None:
    outcome = SOLVER.run(task_for(infeasible_model(False)))
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert (outcome.candidate, outcome.claimed_s, outcome.bound_s) == (None, None, None)
    assert outcome.duals == {}
    assert "violates the model" in outcome.message


@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_no_time_no_point(limit: float) -> None:
    outcome = SOLVER.run(task_for(mixed_model(integral=False), time_limit=limit))
    assert outcome.termination is Termination.TIME_LIMIT
    assert (outcome.candidate, outcome.claimed_s) == (None, None)


def test_stopped_before_it_is_feasible_it_claims_nothing() -> None:
    native = {"alm.max_iter": "1", "panoc.max_iter": "1"}
    outcome = SOLVER.run(task_for(mixed_model(integral=False), native=native))
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert outcome.claimed_s is None


def test_integers_are_refused() -> None:
    with pytest.raises(RefusedError, match="integer"):
        SOLVER.run(task_for(mixed_model()))


@pytest.mark.parametrize(
    "native", [{"max_iter": "3"}, {"alm.nonsense": "1"}, {"panoc.max_iter": "many"}]
)
def test_options_it_does_not_know_are_bad_input(native: dict[str, str]) -> None:
    with pytest.raises(
        InputError, match=f"alpaqa does not take the options .*{next(iter(native))}"
    ):
        SOLVER.run(task_for(mixed_model(integral=False), native=native))


def test_it_says_which_library_answers() -> None:
    there = SOLVER.available()
    assert there
    assert there.engine_version.startswith("alpaqa")
    assert "libalpaqa" in there.linked_library
