"""The small problem (14) as plain arrays: for the native root search over the shares."""

from __future__ import annotations

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.errors import RefusedError
from sftopt.core.limits import least_loss_candidate
from sftopt.core.round import RoundProblem, round_problem
from sftopt.core.status import Promise
from sftopt.formulations.base import Formulation, Problem, ProblemClass, Start


class SpectrumNative(Formulation):
    """Problem (14): shares alone are free; cuts, options and keep fractions are the start's.

    A restriction of (13): its optimum is a plan, and no bound on (13). Variables: the shares
    x_n, y_n and, under the ``total`` law, x^a_n.
    """

    name = "spectrum-native"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.NATIVE
    problem = Problem.ROUND
    layer = "native"
    summary = "problem (14) at the start's cuts, options and keeps, as arrays"
    keeps_start = True

    def build(self, derived: Derived, start: Start | None) -> RoundProblem:
        """Build the links' arrays; least cuts and least loss without a start."""
        fixed = least_loss_candidate(derived) if start is None else start.candidate
        return round_problem(derived, fixed)

    def read(self, derived: Derived, model: RoundProblem) -> Candidate:
        """Refuse: there are no variables to read, the solver returns the shares."""
        raise RefusedError("the spectrum-native formulation has no model to read a point from")


FORMULATION = SpectrumNative()
