"""At the edges of limits: no bound above an accepted plan, no cell infeasible that has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sftopt
from benchmarks.studies.fuzz import solved
from benchmarks.studies.fuzz_plans import least_accepted_s
from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.limits import best_keep
from sftopt.core.memory import device_memory_bytes
from sftopt.core.plan import Provenance
from sftopt.core.point import best_delay, to_plan
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.heuristics.nudge import within_limits
from tests.edge_cells import LIMITS, accepted_plans, edge_cell
from tests.samples import sample_instance

CELLS: tuple[dict[str, Any], ...] = (
    {},
    {"accuracy": {"scope": "each"}},
    {"accuracy": {"scope": "common"}},
    {"server_order": "parallel"},
    {"radio": {"power": "total"}},
    {"server_order": "parallel", "accuracy": {"cut_factor": (0.6, 0.8, 1.0, 1.3)}},
)
ROUNDING = 1e-12
"""Relative error of bounds and delays themselves."""
FIRST = np.zeros(1, dtype=np.int64)
"""No blocks on the device."""


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    solver=st.sampled_from(["exhaustive", "certify"]),
    limit=st.sampled_from(LIMITS),
    exponent=st.floats(-10.0, -5.0),
    sign=st.sampled_from([-1.0, 0.0, 1.0, 1.0]),
    seed=st.integers(0, 999),
    cell=st.sampled_from(range(len(CELLS))),
    feas_tol=st.sampled_from([1e-9, 1e-9, 1e-7, 1e-6]),
)
def test_bounds_and_infeasibility_hold_for_plans_at_the_edge(
    solver: str, limit: str, exponent: float, sign: float, seed: int, cell: int, feas_tol: float
) -> None:
    instance = edge_cell(limit, sign * 10.0**exponent, seed, **CELLS[cell])
    plans = list(accepted_plans(instance, feas_tol))
    result = sftopt.solve(instance, solver=solver, feas_tol=feas_tol, rel_gap=1e-5)
    assert result.feas_tol == feas_tol
    if result.termination is Termination.INFEASIBLE_PROVEN:
        assert not plans
        return
    assert result.ok, result.message
    assert result.plan is not None
    assert result.bound_s is not None
    assert result.plan.feas_tol == feas_tol
    assert verify_plan(instance, result.plan).feasible
    for plan in plans:
        value = verify_plan(instance, plan, feas_tol=feas_tol).objective_s
        assert value is not None
        assert result.bound_s <= value * (1.0 + ROUNDING)


def test_memory_that_lacks_a_hair_of_one_more_block() -> None:
    """At 1e-6 the judge accepts the faster plan, and the bound lies below it; at 1e-9 neither."""
    cell = edge_cell("device memory", 5e-7)
    wide = sftopt.solve(cell, solver="exhaustive", feas_tol=1e-6)
    usual = sftopt.solve(cell, solver="exhaustive")
    assert wide.plan is not None
    assert wide.bound_s is not None
    assert usual.bound_s is not None
    assert max(part.blocks for part in wide.plan.devices) == 2
    assert wide.bound_s < usual.bound_s
    assert verify_plan(cell, wide.plan).feasible
    assert not verify_plan(cell, wide.plan, feas_tol=1e-9).feasible


def test_a_point_that_misses_limits_by_what_engines_err_is_moved_and_no_other() -> None:
    instance = sample_instance(3, 1)
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    shares = best_delay(derived, point).shares
    for off, accepted in ((1e-6, True), (1e-4, False)):
        given_point = Candidate.of(
            point.cuts, point.choice, point.keep * (1.0 - 0.1 * off), len(derived.options)
        )
        more = Shares(shares.uplink * (1.0 + off), shares.downlink, shares.adapter)
        moved = within_limits(
            derived, Candidate(given_point.cuts, given_point.option_weights, given_point.keep, more)
        )
        plan = to_plan(
            derived, point.with_keep(moved.keep), Provenance(), instance.name, moved.shares
        )
        assert verify_plan(instance, plan).feasible is accepted


def test_a_tolerance_that_is_too_wide_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"feas_tol is 1e-05; it must lie in 0..1e-06"):
        sftopt.solve(sample_instance(2, 1), feas_tol=1e-5)


@pytest.mark.parametrize("cell", ["one more block", "just below saturation"])
@pytest.mark.parametrize("feas_tol", [1e-9, 1e-6])
def test_cells_whose_bound_was_above_an_accepted_plan(cell: str, feas_tol: float) -> None:
    """A slow server and memory 5e-7 short of one more block; a_min 2e-5 below the best there is."""
    if cell == "one more block":
        plain = sftopt.load("weak-server")
        data, most = plain.to_dict(), derive(plain).cut_high
        for entry, device, held in zip(data["devices"], plain.devices, most, strict=True):
            entry["memory_bytes"] = device_memory_bytes(plain.workload, device, int(held))
            entry["memory_bytes"] *= 1.0 - 5e-7
    else:
        data = sample_instance(4, 5, modes=(4,), accuracy={"scope": "each"}).to_dict()
        derived = derive(Instance.model_validate(data))
        best = derived.loss(
            derived.options[0], best_keep(derived, derived.options[0], FIRST), FIRST
        )
        data["accuracy"]["minimum"] = data["accuracy"]["uncompressed"] - float(best[0]) - 2e-5
    instance = Instance.model_validate(data)
    result, bound_s = solved(instance, "certify", feas_tol, 60.0)
    assert result.ok, result.message
    assert result.plan is not None
    assert bound_s is not None
    assert result.objective_s is not None
    accepted = least_accepted_s(instance, derive(instance, feas_tol=feas_tol), result.plan)
    assert bound_s <= accepted * (1.0 + 1e-12)
    assert accepted <= result.objective_s * (1.0 + 1e-12)
