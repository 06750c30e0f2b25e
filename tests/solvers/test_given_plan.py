"""Who gives a plan as x0 never gets a slower one back, whichever solver answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.instance import Instance
from sftopt.core.plan import Order, Plan
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.registry import availability, get_solver
from sftopt.solvers.run import solve
from tests.solvers.fakes import FakeGlobal, FakeHere, FakeRestricted, install, start_of, tiny

SOLVERS = (
    "greedy", "alternating", "constructive", "augmented-lagrangian", "slsqp", "ipopt", "cyipopt",
    "uno", "sqpmethod", "alpaqa", "mindtpy", "bonmin", "highs", "clarabel", "scs", "certify",
)  # fmt: skip
"""Local engines, heuristics, and provers of restrictions and relaxations."""


def best_plan(instance: Instance) -> Plan:
    found = solve(instance, solver="exhaustive").plan
    assert found is not None
    return found


def delay_s(instance: Instance, plan: Plan | None) -> float:
    assert plan is not None
    found = verify_plan(instance, plan)
    assert found.feasible
    assert found.objective_s is not None
    return found.objective_s


def shallow(task: Task) -> Outcome:
    """An answer that holds and is poor: one block on every device, much kept."""
    start = start_of(task)
    poor = replace(start, cuts=np.ones_like(start.cuts), keep=np.full_like(start.keep, 0.5))
    return Outcome(Termination.CONVERGED_LOCAL, poor)


@pytest.mark.parametrize("kind", [FakeHere, FakeRestricted])
def test_a_slower_answer_gives_way_to_the_plan(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tiny()
    best = best_plan(instance)
    install(monkeypatch, kind(shallow))
    how = {"solver": "fake", "formulation": "joint-grid-conic"} if kind is FakeRestricted else {
        "solver": "fake"}  # fmt: skip
    alone = solve(instance, **how)
    assert alone.objective_s is not None
    assert alone.objective_s > 1.01 * delay_s(instance, best)
    given = solve(instance, x0=best, **how)
    assert (given.termination, given.point) == (Termination.CONVERGED_LOCAL, Point.FEASIBLE)
    assert given.point_from == "start"
    assert delay_s(instance, given.plan) == pytest.approx(delay_s(instance, best), rel=1e-9)
    assert f"the solver's own plan is slower ({alone.objective_s:.6g} s)" in given.message


def test_a_better_answer_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tiny()
    best = best_plan(instance)
    poor = best.model_copy(
        update={"devices": tuple(one.model_copy(update={"keep_fraction": 0.5, "blocks": 1})
                                 for one in best.devices)}
    )  # fmt: skip
    found = solve(instance, solver="greedy", x0=poor)
    assert delay_s(instance, found.plan) < delay_s(instance, poor)
    assert "x0 is kept" not in found.message


def test_a_plan_of_another_order_is_no_plan_here(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tiny()
    whole = best_plan(instance).model_copy(
        update={"order": Order.FEDERATED, "devices": tuple(
            one.model_copy(update={"blocks": instance.workload.blocks})
            for one in best_plan(instance).devices)}
    )  # fmt: skip
    install(monkeypatch, FakeHere(shallow))
    found = solve(instance, solver="fake", x0=whole)
    assert delay_s(instance, found.plan) > 0.0
    assert "x0 is kept" not in found.message


def test_a_bound_above_the_plan_is_an_error_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tiny()
    best = best_plan(instance)

    def boasting(task: Task) -> Outcome:
        bound = 1.01 * delay_s(instance, best)
        return replace(shallow(task), bound_s=bound, bound_source="fake")

    install(monkeypatch, FakeGlobal(boasting))
    found = solve(instance, solver="fake", x0=best)
    assert found.termination is Termination.ERROR
    assert found.bound_s is None or found.bound_s <= delay_s(instance, best)


@pytest.mark.parametrize("name", SOLVERS)
def test_no_solver_makes_a_given_plan_slower(name: str) -> None:
    there = availability(get_solver(name))
    if not there.available:
        pytest.skip(f"{name} is not installed: {there.reason}")
    instance = tiny()
    best = best_plan(instance)
    found = solve(instance, solver=name, x0=best, time_limit=30.0)
    if found.plan is not None:
        assert delay_s(instance, found.plan) <= delay_s(instance, best) * (1.0 + 2e-9)
