"""Cells with operating points and tokens: exact ways agree, bounds below, plans above, all judged.

About a minute on one core.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import sftopt
from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.plan import Provenance
from sftopt.core.point import IntegralPoint, to_plan
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.registry import get_solver
from sftopt.studies.prices import prices
from tests.point_cells import point_cell
from tests.solvers.exhaustive.dense_grid import settle

FEASIBLE = tuple(seed for seed in range(40) if check(point_cell(seed, devices=2)).feasible)
"""Seeds of two-device cells that have a plan."""


def optimum(cell: Instance) -> float:
    found = settle(cell)
    assert found.claimed_s is not None
    assert found.bound_s is not None
    assert found.bound_s >= found.claimed_s * (1.0 - 1.1e-7)
    return found.claimed_s


@pytest.mark.parametrize("seed", range(24))
def test_exhaustive_finds_the_best_plan_the_judge_accepts(seed: int) -> None:
    """All cuts and modes without a keep fraction, every one judged."""
    cell = point_cell(seed, devices=2, topk=False)
    derived = derive(cell)
    options, common = range(len(derived.options)), derived.scope is AccuracyScope.COMMON
    delays = []
    for choice in itertools.product(options, repeat=2):
        if common and choice[0] != choice[1]:
            continue
        for cuts in itertools.product(range(derived.blocks), repeat=2):
            point = IntegralPoint(np.array(cuts), np.array(choice), np.ones(2))
            found = verify_plan(cell, to_plan(derived, point, Provenance(), cell.name))
            if found.feasible and found.objective_s is not None:
                delays.append(found.objective_s)
    found = settle(cell)
    if not delays:
        assert found.termination is Termination.INFEASIBLE_PROVEN
        return
    assert found.claimed_s == pytest.approx(min(delays), rel=2e-7)
    assert found.bound_s is not None
    assert found.bound_s <= min(delays) * (1.0 + 1e-9)


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio"])
@pytest.mark.parametrize("seed", FEASIBLE[:5])
def test_exact_forms_agree_with_exhaustive(form: str, seed: int) -> None:
    cell = point_cell(seed, devices=2)
    best = optimum(cell)
    found = sftopt.solve(cell, solver="scip", formulation=form, time_limit=60, rel_gap=1e-5)
    assert found.objective_s == pytest.approx(best, rel=2e-5)
    assert found.bound_s is not None
    assert found.bound_s <= best * (1.0 + 1e-6)


@pytest.mark.parametrize("seed", FEASIBLE[:10])
def test_the_grids_bound_from_below_and_plan_from_above(seed: int) -> None:
    cell = point_cell(seed, devices=2)
    best = optimum(cell)
    relaxed = sftopt.solve(cell, solver="clarabel", formulation="joint-grid-relaxed", time_limit=60)
    assert relaxed.bound_s is not None
    assert relaxed.bound_s <= best * (1.0 + 1e-7)
    lines = sftopt.solve(cell, solver="highs", formulation="joint-grid-milp", time_limit=60)
    assert lines.objective_s is not None
    assert best * (1.0 - 1e-7) <= lines.objective_s <= best * 1.01


@pytest.mark.parametrize("solver", ["greedy", "alternating", "constructive"])
def test_heuristics_end_with_a_judged_plan_on_every_cell(solver: str) -> None:
    ratios = []
    for seed in FEASIBLE:
        cell = point_cell(seed, devices=2)
        found = sftopt.solve(cell, solver=solver, time_limit=20)
        assert found.plan is not None, (solver, seed, found.message)
        assert found.objective_s is not None
        assert verify_plan(cell, found.plan).feasible
        ratios.append(found.objective_s / optimum(cell))
    assert min(ratios) >= 1.0 - 1e-7
    assert float(np.median(ratios)) < 1.05


def test_without_a_name_a_solver_that_takes_points_is_chosen() -> None:
    cell = point_cell(FEASIBLE[0], devices=2)
    if get_solver("certify").refusal(derive(cell)) is None:
        assert sftopt.solve(cell, time_limit=30).solver.name == "certify"
        return
    found = sftopt.solve(cell, time_limit=30)
    assert found.solver.name == "exhaustive"
    assert found.point.value == "optimal"


def test_a_plan_with_points_reads_back_with_prices_and_accuracy() -> None:
    cell = point_cell(FEASIBLE[0], devices=2)
    found = sftopt.solve(cell, solver="exhaustive", time_limit=30)
    assert found.plan is not None
    assert found.breakdown is not None
    modes = {mode.label: mode for mode in cell.compression.modes}
    for part, device in zip(found.plan.devices, found.breakdown.devices, strict=True):
        mode = modes[part.mode_name or ""]
        assert device.accuracy == pytest.approx(
            predicted_accuracy(cell.accuracy, mode, part.keep_fraction, part.blocks)
        )
    assert prices(cell, found.plan).round_s == pytest.approx(found.objective_s, rel=1e-6)
