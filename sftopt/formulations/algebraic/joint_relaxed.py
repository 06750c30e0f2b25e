"""``joint-relaxed``: the continuous relaxation of ``joint-product``, for local solvers."""

from __future__ import annotations

import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.status import Promise
from sftopt.formulations.algebraic.joint_product import build_products
from sftopt.formulations.algebraic.start_values import read_candidate
from sftopt.formulations.base import Formulation, ProblemClass, Start


class JointRelaxed(Formulation):
    """Problem (13) in product form with cuts and option binaries continuous.

    A relaxation: its global optimum is a lower bound. It is not convex, so what a local solver
    returns is neither a bound nor a plan: its point is rounded and repaired, its value shown as
    claimed. Variables as in ``joint-product``.
    """

    name = "joint-relaxed"
    promise = Promise.RELAXATION
    problem_class = ProblemClass.NLP
    layer = "pyomo"
    summary = "joint-product with continuous cuts and modes; local solvers, no bound"

    def build(self, derived: Derived, start: Start | None) -> pyo.ConcreteModel:
        """Build the Pyomo model, in model units. Raises InfeasibleError where a domain is empty."""
        with PauseGC():  # a model is no garbage: collecting while it grows tripled the time
            return build_products(derived, start, integral=False, name=self.name)

    def read(self, derived: Derived, model: pyo.ConcreteModel) -> Candidate:
        """Read the candidate at the model's present variable values, as a rule fractional."""
        return read_candidate(derived, model)


FORMULATION = JointRelaxed()
