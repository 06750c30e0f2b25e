"""Traces of runs: what a solver knew when, for every solver that tells while it runs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from sftopt.core.families import generate
from sftopt.core.result import Result
from sftopt.core.status import Termination
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Solver
from sftopt.solvers.engines.highs import Highs
from sftopt.solvers.engines.scip import Scip
from sftopt.solvers.run import solve
from sftopt.solvers.trace import MOST_POINTS, Trace
from tests.samples import sample_instance
from tests.solvers.engines.test_cvxpy_engines import task_for

TELLERS = (
    ("certify", "native", True),
    ("scip", "joint-ratio", True),
    ("scip", "joint-grid-conic", False),
    ("highs", "joint-grid-milp", False),
    ("augmented-lagrangian", "native", False),
    ("alternating", "native", False),
    ("greedy", "native", False),
)
"""Solver, formulation, and whether its bound is one on the problem."""


@pytest.mark.parametrize(("solver", "form", "bounds"), TELLERS)
def test_a_trace_ends_at_what_is_claimed(solver: str, form: str, bounds: bool) -> None:
    options = {"starts": 1} if solver == "augmented-lagrangian" else {}
    result = solve(
        generate("jetson-vit-b", 3), solver=solver, formulation=form, rel_gap=1e-3, options=options
    )
    points = result.trace
    assert points, "it tells while it runs"
    assert all(0.0 <= one.elapsed_s <= other.elapsed_s for one, other in pairwise(points))
    values = [point.incumbent_s for point in points if point.incumbent_s is not None]
    assert values == sorted(values, reverse=True), "each better than the one before"
    assert result.objective_claimed_s is not None
    assert values[-1] == pytest.approx(result.objective_claimed_s, rel=1e-3)
    found = [point.bound_s for point in points if point.bound_s is not None]
    assert found == sorted(found)
    assert bool(found) == bounds, "a bound on another problem is none"
    if bounds:
        assert result.objective_s is not None
        assert found[-1] <= result.objective_s * (1.0 + 1e-9)


def test_a_trace_is_part_of_the_result_file() -> None:
    result = solve(sample_instance(2, 0), solver="certify")
    again = Result.model_validate_json(result.to_json())
    assert again.trace == result.trace != ()


@pytest.mark.parametrize(
    ("engine", "form"), [(Highs(), "joint-grid-milp"), (Scip(), "joint-grid-conic")]
)
def test_an_engine_that_is_asked_to_stop_stops(engine: Solver, form: str) -> None:
    task = task_for(generate("jetson-vit-b", 5), get_formulation(form), rel_gap=1e-6)
    outcome = engine.run(replace(task, stop_requested=lambda: True))
    assert outcome.termination is Termination.INTERRUPTED


def test_figures_that_say_nothing_are_no_news() -> None:
    """certify's first bound is minus infinity, which no file can hold."""
    trace = Trace()
    trace.hear(0.1, math.inf, -math.inf)
    trace.hear(0.2, 12.0, math.nan)
    trace.hear(0.3, 13.0, 11.0)
    trace.hear(0.4, 12.0, 10.0)
    assert [(one.elapsed_s, one.incumbent_s, one.bound_s) for one in trace.points()] == [
        (0.2, 12.0, None),
        (0.3, 12.0, 11.0),
    ]


def test_a_long_trace_keeps_its_ends() -> None:
    trace = Trace()
    for number in range(1_000):
        trace.hear(0.01 * number, 1_000.0 - number, 1.0)
    kept = trace.points()
    assert 20 < len(kept) <= MOST_POINTS
    assert kept[0].incumbent_s == 1_000.0
    assert kept[-1].incumbent_s == 1.0
