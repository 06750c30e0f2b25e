"""A formulation in one file: problem (13) with the same cut on every device."""

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo

from sftopt.plugins import (
    Candidate,
    Derived,
    Formulation,
    ProblemClass,
    Promise,
    Start,
    get_formulation,
)


class ExampleEqualCuts(Formulation):
    """Problem (13), in the products of ``joint-product``, with l_n = l for all devices n.

    A restriction: every point is a plan, and there is no bound on (13). Ignored: nothing.
    Variables: those of ``joint-product`` and ``var_common_blocks`` (l).
    """

    name = "example-equal-cuts"
    promise = Promise.RESTRICTION
    layer = "pyomo"
    problem_class = ProblemClass.MINLP
    summary = "problem (13) with one cut for all devices (an example plug-in)"

    def refusal(self, derived: Derived) -> str | None:
        """Say why no cut suits all devices; None where one does."""
        low, high = int(derived.cut_low.max()), int(derived.cut_high.min())
        if low <= high:
            return None
        return f"no cut suits all devices: one needs {low} blocks or more, one {high} or fewer"

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the model, with bounds that hold for all plans: ``start`` may have other cuts."""
        model = get_formulation("joint-product").build(derived, None)
        low, high = int(derived.cut_low.max()), int(derived.cut_high.min())
        model.var_common_blocks = pyo.Var(bounds=(low, high), initialize=low)
        model.con_common_blocks = pyo.Constraint(
            derived.ids, rule=lambda m, device: m.var_blocks[device] == m.var_common_blocks
        )
        return model  # its objective_unit_s is joint-product's

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values."""
        return get_formulation("joint-product").read(derived, model)
