"""The engines behind CVXPY: statuses, points that are none, options, limits, honest failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Instance
from sftopt.core.point import best_delay
from sftopt.core.status import Point, Termination
from sftopt.formulations.base import Start
from sftopt.formulations.conic.base import ProblemBuilder
from sftopt.formulations.conic.joint_grid_milp import FORMULATION as MILP
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.engines.clarabel import Clarabel
from sftopt.solvers.engines.cvxpy_bridge import CvxpyEngine, point_fault
from sftopt.solvers.engines.gurobi import Gurobi
from sftopt.solvers.engines.highs import Highs
from sftopt.solvers.engines.scip import Scip
from sftopt.solvers.engines.scs import Scs
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.run import solve
from tests.samples import sample_instance

PAIRS = (
    ("clarabel", "joint-grid-relaxed"),
    ("scs", "joint-grid-relaxed"),
    ("highs", "joint-grid-milp"),
    ("scip", "joint-grid-conic"),
    ("scip", "joint-fixed-socp"),
)
ENGINES = (Clarabel(), Scs(), Highs(), Scip())


def task_for(instance: Instance, form: Any, **options: Any) -> Task:
    """A task with the constructed start."""
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    start = Start(point.candidate(derived), best_delay(derived, point).round_s)
    settings = Options(**options)
    model = form.build(derived, start)
    return Task(derived, form, model, start, settings, Deadline(settings.time_limit))


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_no_time_gives_no_point_and_says_so(name: str, form: str) -> None:
    result = solve(sample_instance(3, 1), solver=name, formulation=form, time_limit=0.0)
    assert result.termination is Termination.TIME_LIMIT
    assert result.point is Point.NONE
    assert result.plan is None


def test_highs_without_incumbent_has_no_point() -> None:
    """CVXPY hands out HiGHS's empty vector under ``user_limit``; it violates everything."""
    limits = {"mip_max_nodes": 0, "mip_max_improving_sols": 1, "simplex_iteration_limit": 0,
              "presolve": "off", "mip_heuristic_effort": 0.0}  # fmt: skip
    task = task_for(sample_instance(4, 2), MILP, native=limits)
    outcome = Highs().run(task)
    assert outcome.candidate is None
    assert outcome.claimed_s is None
    assert outcome.termination in (
        Termination.ITERATION_LIMIT, Termination.TIME_LIMIT, Termination.NUMERICAL_ERROR
    )  # fmt: skip


def test_scip_stopped_before_its_first_solution_has_no_point() -> None:
    form = get_formulation("joint-grid-conic")
    task = task_for(sample_instance(6, 2), form, native={"limits/time": 1e-4})
    outcome = Scip().run(task)
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.candidate is None


def test_a_vector_that_violates_the_problem_is_named() -> None:
    task = task_for(sample_instance(3, 1), MILP)
    assert Highs().run(task).candidate is not None
    assert point_fault(task.model) is None
    shares = task.model.var_dict["var_uplink_share"]
    kept = shares.value
    shares.save_value(kept * 0.0)
    assert "is missed by" in str(point_fault(task.model))
    shares.save_value(kept * np.nan)
    assert "var_uplink_share is not finite" in str(point_fault(task.model))
    shares.save_value(kept)
    item = task.model.var_dict["var_item"]
    item.save_value(item.value * 0.5)
    assert "var_item is not whole" in str(point_fault(task.model))


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.title)
def test_unknown_options_are_an_error_in_words(engine: CvxpyEngine) -> None:
    forms = {"HIGHS": "joint-grid-milp", "SCIP": "joint-grid-conic"}
    form = get_formulation(forms.get(engine.cvxpy_name, "joint-grid-relaxed"))
    task = task_for(sample_instance(2, 1), form, native={"no_such_option": 3})
    with pytest.raises(InputError, match="no_such_option"):
        engine.run(task)


def test_native_options_reach_the_engine() -> None:
    form = get_formulation("joint-grid-relaxed")
    task = task_for(sample_instance(3, 1), form, native={"max_iter": "2"})
    outcome = Clarabel().run(task)
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert outcome.candidate is None
    few = task_for(sample_instance(3, 1), form, native={"max_iters": 20})
    stopped = Scs().run(few)
    assert stopped.termination is Termination.ITERATION_LIMIT
    assert stopped.iterations == 20


@pytest.mark.parametrize("engine", [Clarabel(), Scs()], ids=lambda e: e.title)
def test_an_infeasible_relaxation_proves_infeasibility(engine: CvxpyEngine) -> None:
    form = get_formulation("joint-grid-relaxed")
    task = task_for(sample_instance(2, 1), form)
    problem = task.model
    builder = ProblemBuilder()
    for name, constraint in problem.named_constraints.items():
        builder.add(name, constraint, problem.constraint_index[name])
    builder.add("con_impossible", problem.var_dict["var_tau_up"] <= -1.0)
    worse = builder.problem(problem.objective.args[0], problem.objective_unit_s)
    outcome = engine.run(Task(task.derived, form, worse, None, Options(), Deadline(60.0)))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert outcome.candidate is None


def test_an_infeasible_restriction_proves_nothing() -> None:
    task = task_for(sample_instance(2, 1), MILP)
    problem = task.model
    builder = ProblemBuilder()
    for name, constraint in problem.named_constraints.items():
        builder.add(name, constraint, problem.constraint_index[name])
    builder.add("con_impossible", problem.var_dict["var_tau_up"] <= -1.0)
    worse = builder.problem(problem.objective.args[0], problem.objective_unit_s)
    outcome = Highs().run(Task(task.derived, MILP, worse, None, Options(), Deadline(60.0)))
    assert outcome.termination is Termination.INFEASIBLE_LOCAL


def test_two_constraints_of_one_name_are_refused() -> None:
    builder = ProblemBuilder()
    form = get_formulation("joint-grid-relaxed")
    variable = task_for(sample_instance(2, 1), form).model.var_dict["var_tau_up"]
    builder.add("con_a", variable >= 0.0)
    with pytest.raises(ValueError, match="two constraints are called con_a"):
        builder.add("con_a", variable >= 1.0)


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_a_spread_of_1e9_ends_in_a_verified_plan_or_an_honest_error(
    name: str, form: str, power: str
) -> None:
    instance = sample_instance(4, 3, blocks=4, modes=(2, 4), radio={"power": power})
    gains = (1e-14, 1e-11, 1e-8, 1e-5)
    devices = tuple(
        device.model_copy(update={"uplink_gain": gain})
        for device, gain in zip(instance.devices, gains, strict=True)
    )
    result = solve(
        instance.model_copy(update={"devices": devices}), solver=name, formulation=form,
        time_limit=20.0,
    )  # fmt: skip
    assert result.termination in (
        Termination.CONVERGED_GLOBAL, Termination.GAP_LIMIT, Termination.ACCEPTABLE,
        Termination.ITERATION_LIMIT, Termination.TIME_LIMIT, Termination.NUMERICAL_ERROR,
    )  # fmt: skip
    assert result.point is not Point.INFEASIBLE
    if result.plan is not None:
        assert result.objective_s is not None
        assert result.bound_s is not None
        assert result.bound_s <= result.objective_s * (1.0 + 1e-9)


def test_infeasible_cells_are_proven_so_before_any_engine_runs() -> None:
    instance = sample_instance(3, 1, accuracy={"minimum": 0.9199, "scope": "each"}, modes=(2,))
    for name, form in PAIRS:
        result = solve(instance, solver=name, formulation=form)
        assert result.termination is Termination.INFEASIBLE_PROVEN
        assert result.plan is None


def test_gurobi_is_refused_with_the_line_that_installs_it() -> None:
    """Where Gurobi is installed and licensed, it answers instead."""
    result = solve(sample_instance(2, 1), solver="gurobi", formulation="joint-grid-conic")
    if result.termination is Termination.REFUSED:
        assert "pip install 'sftopt[gurobi]'" in result.message
        assert result.plan is None
    else:
        assert result.point in (Point.FEASIBLE, Point.OPTIMAL)


def test_a_model_beyond_gurobis_licence_is_refused_in_words() -> None:
    """CVXPY swallows Gurobi's complaint; the model is left as it was loaded."""
    loaded = SimpleNamespace(Status=1, NumVars=5_000, NumConstrs=7_000)
    with pytest.raises(RefusedError, match=r"5000 variables and 7000 rows are more than this lic"):
        Gurobi().verdict({"model": loaded})


def test_wrong_pairs_are_refused_naming_who_could() -> None:
    result = solve(sample_instance(2, 1), solver="highs", formulation="joint-grid-conic")
    assert result.termination is Termination.REFUSED
    assert "scip" in result.message
