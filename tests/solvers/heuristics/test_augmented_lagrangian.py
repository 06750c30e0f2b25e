"""(15): the relaxed functions against the judge's arithmetic and differences; the method's word."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import AdapterDownlink
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.status import Point, Termination
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.heuristics.augmented_lagrangian import SOLVER, settings_from
from sftopt.solvers.heuristics.augmented_lagrangian.model import Relaxation
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.run import solve
from tests.point_cells import point_cell
from tests.samples import VARIANTS, sample_instance
from tests.solvers.conformance import KNOWN, known_instance
from tests.solvers.exhaustive.dense_grid import settle

EVERYTHING: dict[str, dict[str, Any]] = {
    **VARIANTS,
    "total, parallel, multicast": {
        "radio": {"power": "total", "adapter_downlink": "multicast"},
        "server_order": "parallel",
    },
}


POINTS = [f"points {seed}" for seed in (0, 4, 6, 7, 8, 9, 11, 13)]
"""Cells whose modes have figures of their own, tokens among them."""


@lru_cache(maxsize=len(EVERYTHING) + len(POINTS))
def prepared(variant: str) -> tuple[Relaxation, IntegralPoint]:
    if variant in POINTS:
        derived = derive(point_cell(int(variant.split()[1]), devices=3))
        assert not derived.plain
    else:
        derived = derive(sample_instance(4, 1, **EVERYTHING[variant]))
    point = first_point(derived)
    assert point is not None
    return Relaxation(derived, point), point


def task(devices: int = 3, *, stop: bool = False, **options: Any) -> Task:
    derived = derive(sample_instance(devices, 0, blocks=4, modes=(2, 4)))
    chosen = Options(**options)
    return Task(
        derived, get_formulation("native"), None, None, chosen, Deadline(chosen.time_limit),
        stop_requested=lambda: stop,
    )  # fmt: skip


# --- the relaxed problem --------------------------------------------------------------------


@pytest.mark.parametrize("variant", [*EVERYTHING, *POINTS])
def test_slopes_are_those_of_differences(variant: str) -> None:
    model, _ = prepared(variant)
    draw = np.random.default_rng(0)
    prices = draw.normal(size=model.rows)
    low, high = np.array(model.bounds()).T
    v = low + draw.uniform(0.05, 0.95, len(low)) * (np.minimum(high, 3.0) - low)

    def value(at: np.ndarray) -> float:
        state = model.evaluate(at)
        return state.objective + float(prices @ state.constraints)

    step = 1e-6
    difference = np.array(
        [(value(v + step * unit) - value(v - step * unit)) / (2 * step) for unit in np.eye(len(v))]
    )
    slope = model.evaluate(v).slope(prices)
    assert slope == pytest.approx(difference, abs=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize(
    "variant", [*(name for name in EVERYTHING if "multicast" not in name), *POINTS]
)
def test_at_a_plan_it_is_the_problem_itself(variant: str) -> None:
    """Whole cuts, one option, the plan's barriers: its delay, and share sums of just 1."""
    model, point = prepared(variant)
    derived = model.derived
    state = model.evaluate(vector_of(model, point))
    delay = best_delay(derived, point)
    smoothed = derived.adapter_downlink is AdapterDownlink.MULTICAST
    off = 1e-3 if smoothed else 1e-9
    assert state.objective * model.unit_s == pytest.approx(delay.round_s, rel=off)
    known = Coefficients(derived, point.cuts, point.choice)
    assert state.bits_up == pytest.approx(known.bits_up(point.keep), rel=1e-12)
    assert state.bits_down == pytest.approx(known.bits_down(point.keep), rel=1e-12)
    assert state.loss == pytest.approx(known.loss(point.keep), rel=1e-9, abs=1e-15)
    assert state.share_up == pytest.approx(delay.shares.uplink, rel=1e-8)
    worst = {f.name: float(state.constraints[f.rows].max()) for f in model.families}
    assert worst["uplink_share"] == pytest.approx(0.0, abs=1e-8)
    assert worst["downlink_share"] == pytest.approx(0.0, abs=1e-8)
    assert max(worst.values()) <= 1e-8


def vector_of(model: Relaxation, point: IntegralPoint) -> np.ndarray:
    derived, at = model.derived, model.blocks
    delay = best_delay(derived, point)
    v = np.zeros(at.size)
    v[at.cuts] = (point.cuts - model.cut_low) / np.maximum(model.cut_span, 1e-300)
    rows = np.arange(model.choosers)
    weights = np.zeros((model.choosers, len(derived.options)))
    keep = np.zeros_like(weights)
    weights[rows, point.choice[: model.choosers]] = 1.0
    span = np.where(model.span > 0.0, model.span, 1.0)[point.choice[: model.choosers]]
    low = model.low[point.choice[: model.choosers]]
    masked = model.span[point.choice[: model.choosers]] > 0.0
    keep[rows, point.choice[: model.choosers]] = np.where(
        masked, (point.keep[: model.choosers] - low) / span, 0.0
    )
    v[at.weights], v[at.keep] = weights.ravel(), keep.ravel()
    v[at.tau_up] = delay.tau_up_s / model.tau_up_unit
    v[at.tau_down] = delay.tau_down_s / model.tau_down_unit
    if model.parallel:
        served = derived.s3_s(point.cuts, point.choice)
        v[at.tau_server] = served.max() / model.tau_server_unit
    if model.total_power:
        own = delay.round_s - derived.adapter_down_s(point.cuts)
        server = float(served.max()) if model.parallel else float(
            derived.s3_s(point.cuts, point.choice).sum())  # fmt: skip
        own -= derived.steps * (delay.tau_up_s + delay.tau_down_s + server)
        v[at.tau_adapter] = own / model.tau_adapter_unit
    return v


def test_too_little_time_on_a_link_is_continued_and_never_free() -> None:
    model, _ = prepared("total power")
    rooms = np.linspace(-3.0, 1.0, 41)[:, None] * model.up.least_room
    bits = np.full(4, 1e6)
    shares = np.array([model.up.shares(bits, room)[0] for room in rooms])
    assert np.isfinite(shares).all()
    assert (np.diff(shares, axis=0) < 0.0).all(), "less time always asks for more"


# --- the method -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["equal pair", "mixed pair", "common parallel"])
def test_it_converges_to_what_ipopt_finds_on_the_relaxation(name: str, tmp_path: Path) -> None:
    """Another model of the relaxation, another method: the same local optimum on these."""
    trace = tmp_path / "trace.jsonl"
    result = solve(
        known_instance(name), solver="augmented-lagrangian", options={"trace": str(trace)}
    )
    assert result.termination is Termination.HEURISTIC_DONE
    rows = [json.loads(line) for line in trace.read_text().splitlines()]
    ends = [row for row, after in zip(rows, [*rows[1:], None], strict=True)
            if after is None or after["start"] != row["start"]]  # fmt: skip
    solved = [row for row in ends if max(row["violations"].values()) <= 1e-6]
    assert solved
    best = min(row["objective_s"] for row in solved)
    assert best == pytest.approx(KNOWN[name].relaxed_s, rel=2e-5)
    assert "runs of the relaxation converged" in result.message


def test_the_trace_tells_every_step(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"trace.{kind}" for kind in ("jsonl", "csv")}
    for file in files.values():
        solve(known_instance("mixed pair"), solver="augmented-lagrangian",
              options={"trace": str(file), "starts": "1"})  # fmt: skip
    rows = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    table = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["outer"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(table) == len(rows) >= 3
    assert float(table[-1]["objective_s"]) == rows[-1]["objective_s"]
    assert float(table[0]["violation_uplink_share"]) == rows[0]["violations"]["uplink_share"]
    families = {"mode_weights", "uplink_share", "downlink_share", "accuracy", "accuracy_each"}
    assert set(rows[0]["violations"]) == families
    for before, after in pairwise(rows):
        assert after["penalty"] in (before["penalty"], 10.0 * before["penalty"])
        assert after["elapsed_s"] >= before["elapsed_s"]
    assert max(rows[-1]["violations"].values()) <= 1e-6
    assert rows[-1]["multipliers_norm"] > 0.0


def test_multipliers_are_slopes_in_seconds() -> None:
    """A longer share sum shortens the round: by what the multiplier says, to first order."""
    result = solve(known_instance("mixed pair"), solver="augmented-lagrangian")
    assert set(result.duals) == {"uplink_share", "downlink_share", "accuracy"}
    assert all(value <= 0.0 for value in result.duals.values())
    # of one device with nothing to decide the slope is its whole transmission time
    alone = solve(known_instance("one device"), solver="augmented-lagrangian")
    assert alone.duals["uplink_share"] == pytest.approx(-10 * 2 * 5000 * 4 / 5e6, rel=1e-3)


def test_options_are_checked_all_at_once() -> None:
    with pytest.raises(InputError) as caught:
        settings_from({"max_outre": 3, "tol": "-1", "max_inner": 2.5, "starts": "two"})
    for word in ("max_outre", "known:", "tol is '-1'", "max_inner is 2.5", "starts is 'two'"):
        assert word in str(caught.value)
    given = settings_from({"tol": "1", "max_outer": "7", "trace": "a.csv"})
    assert (given.tol, given.max_outer, given.trace) == (1.0, 7, "a.csv")


def test_a_trace_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        SOLVER.run(task(native={"trace": str(tmp_path / "file" / "trace.csv"), "starts": 1}))


def test_out_of_time_inside_it_still_has_a_plan() -> None:
    outcome = SOLVER.run(task(8, time_limit=1e-3))
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.candidate is not None


def test_a_request_to_stop_is_heeded_with_a_plan() -> None:
    outcome = SOLVER.run(task(stop=True))
    assert outcome.candidate is not None
    assert outcome.iterations == 0


def test_it_is_never_worse_than_the_plan_it_is_given() -> None:
    instance = known_instance("mixed pair")
    best = solve(instance, solver="exhaustive")
    assert best.plan is not None
    assert best.objective_s is not None
    result = solve(instance, solver="augmented-lagrangian", x0=best.plan,
                   options={"max_outer": 1, "max_inner": 1, "starts": 1})  # fmt: skip
    assert result.point in (Point.FEASIBLE, Point.OPTIMAL)
    assert result.objective_s == pytest.approx(best.objective_s, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 4, 6, 7, 9, 11, 13, 17])
def test_modes_with_figures_of_their_own_are_planned_and_never_below_the_optimum(seed: int) -> None:
    cell = point_cell(seed, devices=2)
    best = settle(cell).claimed_s
    assert best is not None
    found = solve(cell, solver="augmented-lagrangian", time_limit=None)
    assert found.point in (Point.FEASIBLE, Point.OPTIMAL)
    assert found.objective_s is not None
    assert best * (1.0 - 1e-7) <= found.objective_s <= 1.6 * best
    again = solve(cell, solver="augmented-lagrangian", time_limit=None)
    assert again.plan is not None
    assert found.plan is not None
    assert again.plan.devices == found.plan.devices
