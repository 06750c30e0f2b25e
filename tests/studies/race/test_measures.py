"""Figures made of rows, against a second implementation and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean

from sftopt.studies.race.checks import find_wrong
from sftopt.studies.race.measures import (
    counted_s,
    factors_of,
    gap_curves,
    known_of,
    lines_of,
    noise_of,
    profile,
    shifted_mean_s,
    times_table,
)
from sftopt.studies.race.row import RaceRow
from tests.studies.race.made_up import row

TIMES = st.one_of(st.floats(1e-6, 1e5), st.just(math.inf))


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=40), st.floats(1e-3, 100.0))
def test_the_shifted_mean_is_scipys(times: list[float], shift: float) -> None:
    second = float(gmean(np.array(times) + shift)) - shift
    assert shifted_mean_s(times, shift) == pytest.approx(second, rel=1e-9, abs=1e-9 * shift)


def second_profile(times: list[list[float]], tau: float) -> list[float]:
    """Dolan and More (2002), as the paper writes it, with loops and no arrays."""
    shares = []
    for solver in range(len(times[0])):
        within = 0
        for problem in times:
            least = min(problem)
            ratio = problem[solver] / least if math.isfinite(problem[solver]) else math.inf
            within += ratio <= tau
        shares.append(within / len(times))
    return shares


@settings(max_examples=60, derandomize=True)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(TIMES, min_size=n, max_size=n), min_size=1, max_size=25)
    )
)
def test_profiles_are_those_of_a_second_implementation(times: list[list[float]]) -> None:
    taus = np.array([1.0, 1.5, 2.0, 10.0, 1e3, 1e12])
    ours = profile(np.array(times), taus)
    for place, tau in enumerate(taus):
        assert ours[:, place] == pytest.approx(second_profile(times, tau), abs=1e-9)


def test_an_instance_that_nobody_solved_lowers_every_profile() -> None:
    times = np.array([[1.0, 2.0], [np.inf, np.inf]])
    assert profile(times, np.array([1.0, 2.0])).tolist() == [[0.5, 0.5], [0.0, 0.5]]


def proved(entry: str, instance: str, seconds: float, **changes: Any) -> RaceRow:
    made = {
        "verdict": "optimal",
        "termination": "gap_limit",
        "proven_for": "problem",
        "objective_s": 10.0,
        "bound_s": 9.9999,
        "times_s": {"engine": seconds},
    }
    return row(entry, instance, **{**made, **changes})


def late(entry: str, instance: str, bound_s: float | None = 5.0, **changes: Any) -> RaceRow:
    made = {
        "verdict": "feasible",
        "termination": "time_limit",
        "proven_for": "problem",
        "objective_s": 10.0,
        "bound_s": bound_s,
        "times_s": {"engine": 10.0},
    }
    return row(entry, instance, **{**made, **changes})


def test_a_run_without_a_proof_counts_with_its_limit() -> None:
    assert counted_s(proved("a/x", "one", 0.25)) == 0.25
    assert counted_s(late("a/x", "one")) == 10.0
    assert counted_s(row("h/x", objective_s=10.0, termination="heuristic_done")) == 10.0


def test_lines_count_what_is_there() -> None:
    rows = [
        proved("certify/native", "one", 0.1),
        proved("certify/native", "two", 0.2),
        late("scip/j", "one"),
        row("scip/j", "two", verdict="crashed"),
        row("gurobi/j", "one", verdict="refused", termination="refused"),
        row("bad/j", "one", verdict="error", refuted=True, message="no"),
    ]
    first, second, *_ = lines = lines_of(rows, find_wrong(rows))
    assert (first.entry, first.proved, first.near_best) == ("certify/native", 2, 2)
    assert first.mean_s == pytest.approx(math.sqrt(1.1 * 1.2) - 1.0)
    assert (second.entry, second.late, second.failed) == ("scip/j", 1, 1)
    assert second.gap_median == pytest.approx(0.5)
    by_name = {line.entry: line for line in lines}
    assert by_name["gurobi/j"].mean_s is None
    assert by_name["bad/j"].wrong == 1


def test_plans_that_differ_by_rounding_are_the_first_ones() -> None:
    rows = [
        proved("slow/x", "one", 9.0),
        proved("quick/x", "one", 0.1, objective_s=10.0 * (1 + 1e-14)),
        row("bad/j", "one", verdict="error", refuted=True, message="no"),
    ]
    (one,) = known_of(rows).values()
    assert (one.value_by, one.bound_by) == ("quick/x", "quick/x")
    by_name = {line.entry: line for line in lines_of(rows, find_wrong(rows))}
    assert by_name["quick/x"].above_worst == 0.0
    assert (by_name["bad/j"].wrong, by_name["bad/j"].failed) == (1, 0), "counted once"


def test_bounds_of_wrong_rows_and_of_plugins_are_not_believed() -> None:
    rows = [
        proved("certify/native", "one", 0.1),
        proved("bad/x", "one", 0.1, bound_s=11.0, objective_s=11.5),
        proved("plug/x", "one", 0.1, bound_s=9.99999, proven_for="none", verdict="feasible"),
    ]
    known = known_of(rows, find_wrong(rows))
    (one,) = known.values()
    assert (one.bound_s, one.bound_by) == (9.9999, "certify/native")
    assert (one.value_s, one.value_by) == (10.0, "certify/native")


def test_factors_are_against_the_best_peer_and_censored_where_none_closes() -> None:
    rows = [
        proved("certify/native", "one", 0.1, devices=3),
        proved("scip/product", "one", 2.0, devices=3),
        proved("scip/ratio", "one", 1.0, devices=3),
        proved("exhaustive/native", "one", 1e-3, devices=3),  # ours: no peer
        proved("certify/native", "two", 0.2, devices=12),
        late("scip/product", "two", 9.0, devices=12),
        late("scip/ratio", "two", 8.0, devices=12),
    ]
    small, large = factors_of(rows, "certify/native")
    assert small.factor == pytest.approx(10.0)
    assert small.peer == "scip/ratio"
    assert large.factor is None
    assert large.least_factor == pytest.approx(50.0)
    assert large.gap_left == pytest.approx(0.1)


def test_a_table_of_times_has_a_place_for_what_is_not_there() -> None:
    rows = [proved("a/x", "one", 1.0), late("b/x", "one"), proved("b/x", "two", 3.0)]
    instances, entries, times = times_table(rows)
    assert (instances, entries) == (["one", "two"], ["a/x", "b/x"])
    assert times.tolist() == [[1.0, math.inf], [math.inf, 3.0]]


def test_gap_curves_step_when_an_incumbent_comes() -> None:
    points = [
        {"elapsed_s": 1.0, "incumbent_s": 20.0, "bound_s": None},
        {"elapsed_s": 2.0, "incumbent_s": 10.0, "bound_s": 9.0},
    ]
    made = proved("a/x", "one", 2.0, bound_s=10.0)
    traced = made.model_copy(update={"cost": made.cost.model_copy(update={"trace": points})})
    curves = gap_curves([traced], [], np.array([0.5, 1.0, 1.5, 3.0]))
    assert curves["a/x"].tolist() == [1.0, 0.5, 0.5, 0.0]


def test_noise_is_the_spread_of_one_computation() -> None:
    rows = []
    for number, seconds in enumerate([0.010, 0.011, 0.012]):
        machine = {"machine": {"reference_s": seconds}}
        rows.append(row("a/x", str(number), context=machine))
    middle, spread = noise_of(rows) or (0.0, 0.0)
    assert middle == pytest.approx(0.011)
    assert spread == pytest.approx((0.0119 - 0.0101) / 0.011)
    assert noise_of([row("a/x")]) is None
