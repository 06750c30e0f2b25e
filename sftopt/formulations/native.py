"""Problem (13) itself, with no algebraic model: for solvers that work on the derived arrays."""

from __future__ import annotations

from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.errors import RefusedError
from sftopt.core.status import Promise
from sftopt.formulations.base import Formulation, ProblemClass, Start


class Native(Formulation):
    """The exact problem (13) as derived arrays; nothing is built."""

    name = "native"
    promise = Promise.EXACT
    problem_class = ProblemClass.NATIVE
    layer = "native"
    summary = "problem (13) as arrays, for sftopt's own solvers"

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Return None: native solvers need no model."""
        return None

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Refuse: there is no model to read."""
        raise RefusedError("the native formulation has no model to read a point from")


FORMULATION = Native()
