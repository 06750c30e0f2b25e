"""Every solver on every formulation it claims, on instances whose answer is known."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

import pytest

import sftopt.formulations
import sftopt.solvers
from sftopt.core.derived import derive
from sftopt.core.point import best_delay
from sftopt.core.result import Result
from sftopt.core.status import Point, Promise, Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.solvers.base import Solver
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.judge import BOUND_TOLERANCE
from sftopt.solvers.registry import formulations_for, get_solver, solver_names
from sftopt.solvers.run import solve
from tests.solvers.conformance import KNOWN, MAY_BE_MISSING, TABLE, known_instance, running

CASES = [
    (*pair, name) for pair, row in TABLE.items() for name in row.instances if pair[0] in running()
]


@lru_cache(maxsize=len(CASES))
def run(solver: str, formulation: str, name: str) -> Result:
    """The result of one cell of the table, solved once."""
    return solve(known_instance(name), solver=solver, formulation=formulation, time_limit=60.0)


@pytest.mark.parametrize(("solver", "formulation", "name"), CASES)
def test_a_pair_answers_as_the_table_says(solver: str, formulation: str, name: str) -> None:
    row, known = TABLE[solver, formulation], KNOWN[name]
    result = run(solver, formulation, name)
    assert result.termination in row.terminations, result.message
    assert result.point in row.points, result.message
    assert (result.solver.name, result.formulation) == (solver, formulation)
    assert result.plan is not None
    again = verify_plan(known_instance(name), result.plan)
    assert again.feasible
    assert result.objective_s == again.objective_s
    assert result.objective_s is not None
    assert result.objective_s >= known.optimum_s * (1.0 - 1e-6)
    if row.reaches is not None:
        assert result.objective_s <= known.optimum_s * (1.0 + row.reaches)
    assert result.bound_s is not None
    assert result.bound_s <= known.optimum_s * (1.0 + BOUND_TOLERANCE)
    assert result.promise is get_formulation(formulation).promise
    assert result.times_s.total < 60.0


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.by_hand])
def test_recorded_optima_equal_the_formula(name: str) -> None:
    known = KNOWN[name]
    assert known.by_hand is not None
    assert known.optimum_s == pytest.approx(known.by_hand(), rel=1e-9)
    assert run("exhaustive", "native", name).objective_s == pytest.approx(known.by_hand(), rel=1e-9)


@pytest.mark.parametrize("name", KNOWN)
def test_recorded_optima_are_what_enumeration_certifies(name: str) -> None:
    result = run("exhaustive", "native", name)
    assert result.objective_s == pytest.approx(KNOWN[name].optimum_s, rel=1e-8)
    assert result.gap_rel is not None
    assert result.gap_rel <= 1e-7


@pytest.mark.parametrize(
    "name", sorted(set(TABLE["cyipopt", "joint-relaxed"].instances))
)  # fmt: skip
def test_relaxation_exact_heuristic_stand_in_order(name: str) -> None:
    """A fact of these instances: from the constructed start Ipopt ends below the optimum."""
    known = KNOWN[name]
    for solver in {"cyipopt", "ipopt"} & set(running()):
        relaxed = run(solver, "joint-relaxed", name)
        assert relaxed.promise is Promise.RELAXATION
        assert relaxed.objective_claimed_s == pytest.approx(known.relaxed_s, rel=1e-6)
        assert relaxed.objective_claimed_s <= known.optimum_s * (1.0 + 1e-6)
    derived = derive(known_instance(name))
    start = first_point(derived)
    assert start is not None
    assert best_delay(derived, start).round_s >= known.optimum_s * (1.0 - 1e-8)


@pytest.mark.parametrize("name", KNOWN)
def test_the_exact_forms_agree(name: str) -> None:
    exact = [
        pair
        for pair in TABLE
        if pair[0] in ("scip", "exhaustive") and get_formulation(pair[1]).promise is Promise.EXACT
    ]
    values = [run(*pair, name).objective_s for pair in exact]
    assert all(value is not None for value in values)
    assert max(values) <= min(values) * (1.0 + 1e-4)  # type: ignore[type-var, operator]


def test_what_is_missing_says_how_to_mend_it() -> None:
    missing = set(solver_names()) - set(running())
    assert missing <= MAY_BE_MISSING
    for name in missing:
        result = solve(known_instance("one device"), solver=name)
        assert result.termination is Termination.REFUSED
        assert "Mend it with:" in result.message


# --- nothing is forgotten ------------------------------------------------------------------


def test_every_pair_is_in_the_table_with_two_instances_at_least() -> None:
    claimed = {
        (name, form) for name in solver_names() for form in formulations_for(get_solver(name))
    }
    assert set(TABLE) == claimed
    for pair, row in TABLE.items():
        assert len(set(row.instances)) >= 2, pair
        assert set(row.instances) <= set(KNOWN)
    assert all(known.optimum_s > 0.0 for known in KNOWN.values())


def test_every_formulation_has_a_solver_and_every_name_a_formulation() -> None:
    taken = {formulation for _, formulation in TABLE}
    assert taken == set(formulation_names())


def modules_with(package: object, attribute: str) -> dict[str, object]:
    """Module name -> its ``attribute``, for every module of a package that has one at its foot.

    Helper modules have none: that is what tells them from solvers and formulations.
    """
    found: dict[str, object] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        loaded = importlib.import_module(module.name)
        if attribute in vars(loaded):
            found[module.name] = vars(loaded)[attribute]
    return found


def test_folder_and_registry_hold_the_same_solvers() -> None:
    found = modules_with(sftopt.solvers, "SOLVER")
    names = [solver.name for solver in found.values() if isinstance(solver, Solver)]
    assert len(names) == len(found) == len(set(names))
    assert set(names) == set(solver_names())
    for name in solver_names():
        solver = get_solver(name)
        assert solver.name == name
        assert solver.kind in ("global", "local", "heuristic")
        assert type(solver).__module__ in found
        assert solver.accepts(get_formulation(solver.default))
        assert solver.summary


def test_folder_and_registry_hold_the_same_formulations() -> None:
    found = modules_with(sftopt.formulations, "FORMULATION")
    names = [formulation.name for formulation in found.values()]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(formulation_names())
    for name in formulation_names():
        formulation = get_formulation(name)
        assert formulation.name == name
        assert formulation.summary
        assert formulation.layer in ("pyomo", "cvxpy", "native")


def test_only_proofs_may_call_a_point_optimal() -> None:
    """Local and heuristic pairs may be optimal only where the elementary bound happens to meet."""
    for (solver, formulation), row in TABLE.items():
        if get_solver(solver).kind != "global":
            assert row.points != frozenset({Point.OPTIMAL}), (solver, formulation)
            assert row.reaches is None
