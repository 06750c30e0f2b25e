"""Models that were handed out, edited and given back to ``solve``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pyomo.environ as pyo
import pytest

import sftopt
from sftopt.core.errors import InfeasibleError, InputError, UnknownNameError
from sftopt.core.result import Result
from sftopt.core.status import Point, Promise, Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.bound import GLOBAL_CLAIMS
from tests.samples import sample_instance
from tests.solvers.fakes import tiny


@pytest.fixture(scope="module")
def free() -> Result:
    """The optimum of the cell as it is."""
    return sftopt.solve(tiny(), solver="exhaustive")


def of_the_model(result: Result) -> bool:
    """What every verified plan of an edited model must say of itself."""
    assert result.plan is not None
    assert verify_plan(tiny(), result.plan).objective_s == result.objective_s
    return (
        result.point is Point.FEASIBLE
        and result.promise in (Promise.RESTRICTION, Promise.HEURISTIC)
        and result.bound_s is None
        and result.gap_rel is None
        and result.proven_for != "problem"
    )


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio"])
def test_an_added_constraint_holds_in_the_plan_and_nothing_bounds_the_cell(
    free: Result, form: str
) -> None:
    model = sftopt.build(tiny(), form)
    model.my_keep = pyo.Constraint(expr=model.var_keep["dev0"] >= 0.45)
    before = [pyo.value(model.var_blocks[d]) for d in model.var_blocks]
    result = sftopt.solve(model=model, instance=tiny(), solver="scip")
    assert of_the_model(result), result.message
    assert result.termination in GLOBAL_CLAIMS
    assert (result.proven_for, result.point_from) == ("formulation", "solver")
    assert (result.formulation, result.solver.name) == (form, "scip")
    assert result.plan is not None
    assert result.plan.devices[0].keep_fraction >= 0.45 - 1e-6
    assert result.objective_s > free.objective_s  # type: ignore[operator]
    assert [pyo.value(model.var_blocks[d]) for d in model.var_blocks] == before


def test_a_fixed_variable_stays_fixed_for_local_solvers_too(free: Result) -> None:
    assert free.plan is not None
    other = 1 if free.plan.devices[0].blocks != 1 else 2
    for solver in ("bonmin", "mindtpy"):
        model = sftopt.build(tiny())
        model.var_blocks["dev0"].fix(other)
        result = sftopt.solve(model=model, instance=tiny(), solver=solver)
        assert of_the_model(result), result.message
        assert result.proven_for == "none"
        assert result.plan is not None
        assert result.plan.devices[0].blocks == other


def test_a_relaxations_point_is_rounded_and_that_is_said() -> None:
    model = sftopt.build(tiny(), "joint-relaxed")
    result = sftopt.solve(model=model, instance=tiny(), solver="ipopt")
    assert of_the_model(result), result.message
    assert result.promise is Promise.HEURISTIC
    assert result.point_from == "polish"
    assert "rounded and repaired" in result.message


def test_infeasible_speaks_of_the_model() -> None:
    model = sftopt.build(tiny())
    blocks = model.var_blocks
    model.my_cuts = pyo.Constraint(expr=blocks["dev0"] + blocks["dev1"] >= 7)
    result = sftopt.solve(model=model, instance=tiny(), solver="scip")
    assert result.termination is Termination.INFEASIBLE_PROVEN
    assert (result.point, result.proven_for) == (Point.NONE, "formulation")
    assert result.plan is None
    assert "says nothing of the instance" in result.message
    with pytest.raises(InfeasibleError):
        result.raise_for_status()


@pytest.mark.parametrize("form", ["joint-grid-conic", "joint-grid-milp"])
def test_a_cvxpy_problem_with_more_constraints_comes_back(form: str) -> None:
    """An edited problem is a new object there; its variables say what it is of."""
    cp = import_module("cvxpy")
    given = sftopt.build(tiny(), form)
    blocks = next(v for v in given.variables() if v.name() == "var_blocks")
    edited = cp.Problem(given.objective, [*given.constraints, blocks == 1])
    result = sftopt.solve(model=edited, instance=tiny())
    assert of_the_model(result), result.message
    assert result.plan is not None
    assert [part.blocks for part in result.plan.devices] == [1, 1]
    assert "No solver was named" in result.message


def test_a_model_without_memory_is_read_as_told() -> None:
    model = sftopt.build(tiny())
    del model.sftopt_formulation
    with pytest.raises(InputError, match="name one in formulation="):
        sftopt.solve(model=model, instance=tiny())
    result = sftopt.solve(model=model, instance=tiny(), formulation="joint-product", solver="scip")
    assert of_the_model(result)


def foreign() -> Any:
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.goal = pyo.Objective(expr=model.x)
    return model


@pytest.mark.parametrize(
    ("model", "named", "said"),
    [
        (foreign, {}, "does not say which formulation"),
        (foreign, {"formulation": "joint-product"}, "it has no var_blocks, var_mode, var_keep"),
        (foreign, {"formulation": "spectrum-nlp"}, "it has no var_uplink_share"),
        (foreign, {"formulation": "joint-grid-conic"}, "not a cvxpy.Problem"),
        (foreign, {"formulation": "native"}, "has no model"),
        (dict, {"formulation": "joint-product"}, "it is a dict, not a pyomo ConcreteModel"),
        (lambda: sftopt.build(sample_instance(3, 0)), {}, "built for another instance"),
        (lambda: sftopt.build(tiny()), {"x0": "plan"}, "x0 and model"),
    ],
)
def test_a_model_that_is_not_ours_is_refused_in_words(
    free: Result, model: Any, named: dict[str, Any], said: str
) -> None:
    if "x0" in named:
        named = {"x0": free.plan}
    with pytest.raises(InputError, match=said):
        sftopt.solve(model=model(), instance=tiny(), **named)


def test_a_misspelt_formulation_of_a_model_is_told() -> None:
    with pytest.raises(UnknownNameError, match="joint-product"):
        sftopt.solve(model=sftopt.build(tiny()), instance=tiny(), formulation="joint-produkt")


def test_a_solver_that_does_not_fit_the_model_is_refused_with_those_that_do() -> None:
    result = sftopt.solve(model=sftopt.build(tiny()), instance=tiny(), solver="clarabel")
    assert result.termination is Termination.REFUSED
    assert "scip" in result.message
