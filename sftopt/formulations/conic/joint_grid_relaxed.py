"""``joint-grid-relaxed``: a convex relaxation of problem (13) over cells of keep fractions."""

from __future__ import annotations

from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.status import Promise
from sftopt.formulations.base import ProblemClass, Start
from sftopt.formulations.conic.base import ConicFormulation
from sftopt.formulations.conic.grid_bound import grid_bound_s
from sftopt.formulations.conic.grid_items import covering_items
from sftopt.formulations.conic.grid_model import build_grid, read_grid
from sftopt.formulations.conic.links import EXACT_RULES

CELLS = 24
"""Cells per option; the error falls with their square."""


class JointGridRelaxed(ConicFormulation):
    """Problem (13) relaxed to one convex conic problem: cuts and items continuous.

    A relaxation. Items cover every keep fraction from below
    (:func:`~sftopt.formulations.conic.grid_items.covering_items`); with the chosen item's mass m_g,
    ``room x rate >= load (SUM_g sqrt(beta_g) m_g)^2`` holds at every plan, as the root of a plan's
    payload is at least the mixture's. Cuts are continuous; products of cuts and items (a factor
    on a_1 by cut) are replaced by their convex hull, roots of blocks by their chord. Rates are
    exact in both laws.

    The bound is not the solver's word: it is the Lagrangian at the solver's multipliers, minimised
    by enumeration (:mod:`sftopt.formulations.conic.grid_bound`).

    Variables: ``var_blocks[dev]``, ``var_item[dev, item]`` (one row under scope common),
    ``var_uplink_share[dev]``, ``var_downlink_share[dev]``, ``var_adapter_share[dev]`` (total),
    ``var_uplink_room[dev]``, ``var_downlink_room[dev]``, ``var_tau_up``, ``var_tau_down``,
    ``var_tau_server`` (parallel), ``var_tau_block[block]`` (multicast); MODEL.md has the rest.
    """

    name = "joint-grid-relaxed"
    promise = Promise.RELAXATION
    problem_class = ProblemClass.CONIC
    evaluates_bound = True
    summary = "convex conic relaxation of (13) over cells of keep fractions, with a proven bound"

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the ``cvxpy.Problem`` in model units. Raises InfeasibleError on empty domains."""
        items = covering_items(derived, CELLS)
        return build_grid(derived, start, items, EXACT_RULES, integral=False).problem

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values, as a rule fractional."""
        return read_grid(derived, model)

    def proven_bound_s(self, derived: Derived, model: Any) -> float | None:
        """Return a lower bound on problem (13) in seconds, proven at any solver's tolerance."""
        return grid_bound_s(model)


FORMULATION = JointGridRelaxed()
