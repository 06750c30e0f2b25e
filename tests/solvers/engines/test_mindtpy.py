"""MindtPy: known answers, no bound, no point that an NLP did not find, options, limits."""

from __future__ import annotations

import pytest

from sftopt.core.errors import InputError
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.base import Progress
from sftopt.solvers.engines.mindtpy import SOLVER
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


def test_the_known_optimum_is_found_and_reported_on_the_way() -> None:
    heard: list[Progress] = []
    outcome = SOLVER.run(task_for(mixed_model(), report=heard.append))
    assert outcome.termination is Termination.CONVERGED_LOCAL
    assert outcome.claimed_s == pytest.approx(MIXED_OPTIMUM_S, rel=1e-6)
    assert outcome.candidate is not None
    assert outcome.candidate.cuts[0] == 0.0
    values = [news.incumbent_s for news in heard]
    assert values[-1] == outcome.claimed_s
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert all(news.candidate is not None for news in heard)


def test_its_lower_bound_is_not_passed_on() -> None:
    outcome = SOLVER.run(task_for(mixed_model()))
    assert (outcome.bound_s, outcome.bound_source) == (None, None)
    assert outcome.termination is not Termination.CONVERGED_GLOBAL


def test_without_integers_its_one_nlp_is_the_answer() -> None:
    outcome = SOLVER.run(task_for(quadratic_model()))
    assert outcome.termination is Termination.CONVERGED_LOCAL
    assert outcome.claimed_s == pytest.approx(0.5 * UNIT_S, rel=1e-5)


def test_where_no_nlp_finds_a_point_there_is_none() -> None:
    """The model is left with start values that violate it: they are nobody's point."""
    outcome = SOLVER.run(task_for(infeasible_model(True)))
    assert outcome.termination is Termination.INFEASIBLE_LOCAL
    assert (outcome.candidate, outcome.claimed_s, outcome.bound_s) == (None, None, None)


@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_no_time_no_point(limit: float) -> None:
    outcome = SOLVER.run(task_for(mixed_model(), time_limit=limit))
    assert outcome.termination is Termination.TIME_LIMIT
    assert (outcome.candidate, outcome.claimed_s) == (None, None)


def test_stopped_before_an_nlp_found_a_point_the_plan_is_the_start() -> None:
    """The model still holds the feasible start: it is kept, and not called MindtPy's."""
    result = solve(known_instance("mixed pair"), solver="mindtpy", formulation="joint-ratio",
                   options={"iteration_limit": "1"})  # fmt: skip
    assert (result.termination, result.point) == (Termination.ITERATION_LIMIT, Point.FEASIBLE)
    assert result.point_from == "start"


def test_its_plan_is_no_better_than_the_optimum() -> None:
    result = solve(known_instance("mixed pair"), solver="mindtpy", formulation="joint-ratio")
    assert result.plan is not None
    assert verify_plan(known_instance("mixed pair"), result.plan).feasible
    assert result.objective_s is not None
    assert result.objective_s >= KNOWN["mixed pair"].optimum_s * (1.0 - 1e-8)


def test_a_constant_row_that_fails_is_no_point() -> None:
    model = mixed_model()
    model.var_size.fix(0.5)
    model.cut.fix(1)
    outcome = SOLVER.run(task_for(model))
    assert outcome.candidate is None
    assert outcome.termination in (
        Termination.INFEASIBLE_PROVEN,
        Termination.INFEASIBLE_LOCAL,
        Termination.NUMERICAL_ERROR,
    )


@pytest.mark.parametrize("native", [{"nonsense": "1"}, {"iteration_limit": "many"}])
def test_options_it_does_not_know_are_bad_input(native: dict[str, str]) -> None:
    with pytest.raises(InputError, match=f"MindtPy does not take .*{next(iter(native))}"):
        SOLVER.run(task_for(mixed_model(), native=native))


def test_a_point_of_it_is_never_called_optimal_by_itself() -> None:
    result = solve(known_instance("mixed pair"), solver="mindtpy")
    assert result.point is Point.FEASIBLE
    assert result.bound_source == "elementary"
