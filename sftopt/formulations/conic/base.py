"""What CVXPY formulations share: problems with named constraints, and how bounds are proven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftopt.core.derived import Derived
from sftopt.formulations.base import Formulation


class ConicFormulation(Formulation):
    """A formulation whose model is a ``cvxpy.Problem``, as :class:`ProblemBuilder` makes it."""

    layer = "cvxpy"

    def proven_bound_s(self, derived: Derived, model: Any) -> float | None:
        """Return a lower bound in seconds from the solved model's duals; None where none is proven.

        Solvers' own dual objectives hold to their tolerances only, so they are never used: a
        formulation that has a bound computes it from the duals itself.
        """
        return None


class ProblemBuilder:
    """Collects named constraints and hands out the ``cvxpy.Problem``.

    The problem carries ``objective_unit_s`` (its objective times this is in seconds),
    ``named_constraints`` (name -> constraint; duals are their ``dual_value``) and
    ``constraint_index`` (name -> what its rows stand for, such as device ids).
    """

    def __init__(self) -> None:
        self.constraints: dict[str, Any] = {}
        self.index: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, constraint: Any, index: Sequence[str] = ()) -> None:
        """Add one constraint, scalar or with one row per entry of ``index``."""
        if name in self.constraints:
            raise ValueError(f"two constraints are called {name}")
        constraint.set_label(name)
        self.constraints[name] = constraint
        self.index[name] = tuple(index)

    def problem(self, objective: Any, objective_unit_s: float) -> Any:
        """Minimise ``objective`` under what was added."""
        from sftopt.formulations.conic.cvxpy_layer import cp

        problem = cp.Problem(cp.Minimize(objective), list(self.constraints.values()))
        problem.objective_unit_s = objective_unit_s
        problem.named_constraints = dict(self.constraints)
        problem.constraint_index = dict(self.index)
        return problem
