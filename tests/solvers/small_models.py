"""Small Pyomo models whose optimum is known by hand, as tasks for the solver backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyomo.environ as pyo

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, derive
from sftopt.core.status import Promise
from sftopt.formulations.base import Formulation, ProblemClass, Start
from sftopt.solvers.base import Deadline, Progress, Task
from sftopt.solvers.options import Options
from tests.samples import sample_instance

UNIT_S = 10.0


class Handmade(Formulation):
    """Reads the variables ``cut`` and ``keep`` of a model that a test has built."""

    name = "handmade"
    promise = Promise.EXACT
    problem_class = ProblemClass.MINLP
    layer = "pyomo"
    summary = "a model built by hand"

    def build(self, derived: Derived, start: Start | None) -> Any:
        raise NotImplementedError("tests bring their own model")

    def read(self, derived: Derived, model: Any) -> Candidate:
        """One device: ``cut`` blocks, ``keep`` kept."""
        cut, keep = pyo.value(model.cut), pyo.value(model.keep)
        return Candidate(np.array([cut]), np.ones((1, 1)), np.array([keep]))


class HandmadeRelaxation(Handmade):
    """The same, declared a relaxation."""

    promise = Promise.RELAXATION


class HandmadeRestriction(Handmade):
    """The same, declared a restriction: no bound carries over."""

    promise = Promise.RESTRICTION


def mixed_model(integral: bool = True) -> Any:
    """min cut + a/b + b with a b >= 2, cut + a >= 2.5, exp(-b) <= 0.3: 2 sqrt(2.5).

    At fixed a the best b is sqrt(a), so a/b + b = 2 sqrt(a); a whole block costs 1 and saves
    2 sqrt(2.5) - 2 sqrt(1.5) < 0.72: cut = 0, a = 2.5, b = sqrt(2.5). ``keep`` is b.
    """
    model = pyo.ConcreteModel()
    model.objective_unit_s = UNIT_S
    domain = pyo.Integers if integral else pyo.Reals
    model.cut = pyo.Var(bounds=(0, 5), domain=domain, initialize=2)
    model.var_size = pyo.Var(bounds=(0.1, 4.0), initialize=2.0)
    model.keep = pyo.Var(bounds=(0.1, 4.0), initialize=1.5)
    size = model.var_size
    model.con_product = pyo.Constraint(expr=size * model.keep >= 2)
    model.con_cover = pyo.Constraint(expr=model.cut + size >= 2.5)
    model.con_decay = pyo.Constraint(expr=pyo.exp(-model.keep) <= 0.3)
    model.obj = pyo.Objective(expr=model.cut + size / model.keep + model.keep)
    return model


MIXED_OPTIMUM_S = UNIT_S * 2.0 * 2.5**0.5


def quadratic_model() -> Any:
    """min (cut - 1)^2 + (keep - 2)^2, con_sum: cut + keep <= 2, con_far: -cut >= -9.

    (0.5, 1.5), objective 0.5; with right-hand side r it is (3 - r)^2 / 2, of slope -1 at r = 2.
    """
    model = pyo.ConcreteModel()
    model.objective_unit_s = UNIT_S
    model.cut = pyo.Var(bounds=(-4, 4), initialize=0.0)
    model.keep = pyo.Var(bounds=(-4, 4), initialize=0.0)
    model.con_far = pyo.Constraint(expr=-model.cut >= -9)
    model.con_sum = pyo.Constraint(expr=model.cut + model.keep <= 2)
    model.obj = pyo.Objective(expr=(model.cut - 1) ** 2 + (model.keep - 2) ** 2)
    return model


def infeasible_model(integral: bool) -> Any:
    """cut * keep >= 20 where neither exceeds 4."""
    model = pyo.ConcreteModel()
    model.objective_unit_s = UNIT_S
    domain = pyo.Integers if integral else pyo.Reals
    model.cut = pyo.Var(bounds=(0, 4), domain=domain, initialize=1)
    model.keep = pyo.Var(bounds=(0.1, 4), initialize=1.0)
    model.con_product = pyo.Constraint(expr=model.cut * model.keep >= 20)
    model.obj = pyo.Objective(expr=model.cut + model.keep)
    return model


@lru_cache(maxsize=1)
def _some_derived() -> Derived:
    return derive(sample_instance(1))


def task_for(
    model: Any,
    *,
    formulation: Formulation | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Task:
    """A task on ``model``; keywords are common options."""
    chosen = Options(**options)
    return Task(
        derived=_some_derived(),
        formulation=formulation or Handmade(),
        model=model,
        start=None,
        options=chosen,
        deadline=Deadline(chosen.time_limit),
        report=report,
        stop_requested=stop_requested,
    )
