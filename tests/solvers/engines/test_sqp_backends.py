"""SLSQP, sqpmethod and Uno as backends: known answers, statuses, options, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.point import best_delay
from sftopt.core.status import Termination
from sftopt.formulations.base import Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.registry import get_solver
from tests.samples import sample_instance
from tests.solvers.small_models import (
    UNIT_S,
    infeasible_model,
    mixed_model,
    quadratic_model,
    task_for,
)

SQP = ("slsqp", "sqpmethod", "uno")
DONE = (Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE)


def round_task(devices: int = 3, stop: bool = False, **options: Any) -> Task:
    """A round of a sample cell at its constructed cuts, as ``spectrum-nlp``."""
    derived = derive(sample_instance(devices, 1))
    point = first_point(derived)
    assert point is not None
    start = Start(point.candidate(derived), best_delay(derived, point).round_s)
    formulation = get_formulation("spectrum-nlp")
    chosen = Options(**options)
    return Task(
        derived, formulation, formulation.build(derived, start), start, chosen,
        Deadline(chosen.time_limit), stop_requested=lambda: stop,
    )  # fmt: skip


@pytest.mark.parametrize("name", SQP)
def test_the_optimum_and_its_duals_by_name(name: str) -> None:
    outcome = get_solver(name).run(task_for(quadratic_model()))
    assert outcome.termination in DONE
    assert outcome.candidate is not None
    assert outcome.candidate.cuts[0] == pytest.approx(0.5, abs=1e-6)
    assert outcome.candidate.keep[0] == pytest.approx(1.5, abs=1e-6)
    assert outcome.claimed_s == pytest.approx(0.5 * UNIT_S, rel=1e-6)
    assert outcome.duals == pytest.approx({"con_sum": -UNIT_S, "con_far": 0.0}, abs=1e-5)
    assert outcome.bound_s is None
    assert outcome.start_used == ""


@pytest.mark.parametrize("name", SQP)
def test_an_infeasible_model_has_no_optimum(name: str) -> None:
    """SLSQP speaks of its line search there, sqpmethod of iterations: neither is convergence."""
    outcome = get_solver(name).run(task_for(infeasible_model(False)))
    ends = {
        "slsqp": (Termination.INFEASIBLE_LOCAL, Termination.NUMERICAL_ERROR),
        "sqpmethod": (Termination.ITERATION_LIMIT, Termination.NUMERICAL_ERROR),
        "uno": (Termination.INFEASIBLE_LOCAL,),
    }
    assert outcome.termination in ends[name]
    assert outcome.claimed_s is None
    assert outcome.duals == {}


@pytest.mark.parametrize("name", SQP)
def test_integers_are_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="integer"):
        get_solver(name).run(task_for(mixed_model()))


@pytest.mark.parametrize("name", SQP)
@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_no_time_no_point(name: str, limit: float) -> None:
    outcome = get_solver(name).run(task_for(quadratic_model(), time_limit=limit))
    assert outcome.termination is Termination.TIME_LIMIT
    assert (outcome.candidate, outcome.claimed_s) == (None, None)


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("slsqp", {"maxiter": "1"}),
        ("sqpmethod", {"max_iter": "1"}),
        ("uno", {"max_iterations": "1"}),
    ],
)
def test_an_iteration_limit_keeps_a_point_and_claims_nothing_more(
    name: str, native: dict[str, Any]
) -> None:
    outcome = get_solver(name).run(round_task(native=native))
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert outcome.candidate is not None
    assert outcome.candidate.shares is not None
    assert np.isfinite(outcome.candidate.shares.uplink).all()
    assert outcome.duals == {}


@pytest.mark.parametrize("name", SQP)
def test_a_request_to_stop_is_heeded(name: str) -> None:
    outcome = get_solver(name).run(round_task(stop=True))
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.candidate is not None


@pytest.mark.parametrize(
    ("name", "native", "message"),
    [
        ("slsqp", {"nosuch": 1}, "SLSQP does not take the option 'nosuch'"),
        ("slsqp", {"ftol": "tight"}, "takes numbers"),
        ("sqpmethod", {"nosuch": 1}, "sqpmethod does not take the options"),
        ("sqpmethod", {"qpsol": "nosuch"}, "must be one of piqp"),
        ("uno", {"nosuch": 1}, "Uno does not take the option 'nosuch'"),
        ("uno", {"max_iterations": "many"}, "must be a number"),
        ("uno", {"preset": "nosuch"}, "nosuch is not known"),
    ],
)
def test_an_option_that_is_not_taken_is_an_error(
    name: str, native: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        get_solver(name).run(task_for(quadratic_model(), native=native))


@pytest.mark.parametrize("qpsol", ["piqp", "osqp"])
def test_sqpmethod_takes_other_qp_solvers(qpsol: str) -> None:
    task = round_task(native={"qpsol": qpsol})
    outcome = get_solver("sqpmethod").run(task)
    assert outcome.termination in DONE
    assert task.start is not None
    assert outcome.claimed_s == pytest.approx(task.start.objective_s, rel=1e-7)


@pytest.mark.parametrize("name", [*SQP, "ipopt"])
def test_the_start_is_named_for_what_it_gave(name: str) -> None:
    plain = round_task()
    assert plain.start is not None
    assert get_solver(name).run(plain).start_used.endswith("shares from the model's scales")
    best = get_solver(name).run(plain).candidate
    assert best is not None
    warm = replace(plain.start, shares=best.shares)
    model = plain.formulation.build(plain.derived, warm)
    again = get_solver(name).run(replace(plain, model=model, start=warm))
    assert "and its shares" in again.start_used
    assert again.claimed_s == pytest.approx(plain.start.objective_s, rel=1e-8)
