"""``joint-grid-conic``: problem (13) on a declared grid of keep fractions, mixed-integer conic."""

from __future__ import annotations

from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.status import Promise
from sftopt.formulations.base import ProblemClass, Start
from sftopt.formulations.conic.base import ConicFormulation
from sftopt.formulations.conic.grid_items import OptionKeeps, chosen_items, default_keeps
from sftopt.formulations.conic.grid_model import build_grid, read_grid
from sftopt.formulations.conic.linear import chord_error, chord_rates
from sftopt.formulations.conic.links import LinkRules, send_by_cones

POINTS = 8
"""Keep fractions per option of the default grid, before those that matter by themselves."""
CHORDS = 40
"""Straight pieces of the concave rate law under ``total``."""


class JointGridConic(ConicFormulation):
    """Problem (13) with keep fractions from a list: a mixed-integer second-order cone programme.

    A restriction: every point is a plan, no bound. Exact on its grid under ``psd``: the optimum is
    the best plan whose keep fractions are on the grid. Under ``total`` rates are chords of the
    concave law from below, so that a point is still a plan and at most ``problem.relative_error``
    (relative) longer than the best on the grid; mixed-integer exponential cones are taken by no
    solver here.

    The grid: per option a list of keep fractions
    (:func:`~sftopt.formulations.conic.grid_items.default_keeps` unless another is given to
    :meth:`build_on`), and the start's own keep fraction for each device, so that the start is a
    point.

    Variables: ``var_item[dev, item]`` (binary; one row under scope common), ``var_blocks[dev]``
    (integer), ``var_cut[dev, cut]`` (binary, where accuracy or adapters look at the cut one by
    one); the others as in ``joint-grid-relaxed``.
    """

    name = "joint-grid-conic"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.MISOCP
    summary = "(13) on a grid of keep fractions, exact there: mixed-integer second-order cones"

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the ``cvxpy.Problem`` on the default grid. Raises InfeasibleError if empty."""
        return self.build_on(derived, start, default_keeps(derived, POINTS))

    def build_on(self, derived: Derived, start: Start | None, keeps: OptionKeeps) -> Any:
        """Build the ``cvxpy.Problem`` on a given grid: per option of ``derived`` its keeps."""
        items = chosen_items(derived, keeps, None if start is None else start.candidate)
        rules = LinkRules(send_by_cones, chord_rates(CHORDS))
        grid = build_grid(derived, start, items, rules, integral=True)
        errors = (chord_error(grid.frame, link, CHORDS) for link, _ in grid.links)
        grid.problem.relative_error = max(errors)
        return grid.problem

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values."""
        return read_grid(derived, model)


FORMULATION = JointGridConic()
