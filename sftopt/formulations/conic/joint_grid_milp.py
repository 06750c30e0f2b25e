"""``joint-grid-milp``: problem (13) on a grid of keep fractions with straight lines throughout."""

from __future__ import annotations

from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.status import Promise
from sftopt.formulations.base import ProblemClass, Start
from sftopt.formulations.conic.base import ConicFormulation
from sftopt.formulations.conic.grid_items import OptionKeeps, chosen_items, default_keeps
from sftopt.formulations.conic.grid_model import build_grid, read_grid
from sftopt.formulations.conic.joint_grid_conic import CHORDS, POINTS
from sftopt.formulations.conic.linear import chord_error, chord_rates, tangent_error, tangents_for
from sftopt.formulations.conic.links import LinkRules

ERROR = 1e-3
"""Room (relative) that tangents may leave a payload short of, where 200 of them are enough."""


class JointGridMilp(ConicFormulation):
    """Problem (13) on a grid of keep fractions as a mixed-integer linear programme.

    An approximation. Each room x rate >= payload is replaced by tangents from outside, and under
    ``total`` the concave rate by chords from below. With e = ``problem.tangent_error``, r =
    ``problem.chord_error``, V the optimum and T(p) the true delay of its cuts and items, against
    the optimum T* on the same grid:

        T(p) <= (1 + e) V   and   V <= (1 + r) T*,   so   T(p) <= (1 + e)(1 + r) T*;

    r is 0 under ``psd``, and ``problem.relative_error`` = (1 + e)(1 + r) - 1. The grid and the
    variables are those of ``joint-grid-conic``, with ``var_uplink_root[dev]``: the square root of
    the payload.

    Why T(p) <= (1 + e) V: at a point of the tangents with rate R and root w (size s = sqrt(load)
    w), the tangent nearest to theta' = R/s is theta = g theta' with 1/sqrt(q) <= g <= sqrt(q), so
    room >= (2 s - R/theta)/theta = (s^2/R)(2/g - 1/g^2) >= (s^2/R)(1 - (sqrt(q) - 1)^2): giving
    every payload 1 + e times the time it has is enough, at the same shares.
    """

    name = "joint-grid-milp"
    promise = Promise.APPROXIMATION
    problem_class = ProblemClass.MILP
    summary = "(13) on a grid of keep fractions by tangents and chords, with a stated error"

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the ``cvxpy.Problem`` on the default grid. Raises InfeasibleError if empty."""
        return self.build_on(derived, start, default_keeps(derived, POINTS), ERROR)

    def build_on(
        self, derived: Derived, start: Start | None, keeps: OptionKeeps, error: float
    ) -> Any:
        """Build the ``cvxpy.Problem`` on a grid of one's own and with an error of one's own."""
        items = chosen_items(derived, keeps, None if start is None else start.candidate)
        rules = LinkRules(tangents_for(error), chord_rates(CHORDS))
        grid = build_grid(derived, start, items, rules, integral=True)
        problem, links = grid.problem, grid.links
        problem.tangent_error = max(tangent_error(grid.frame, *link, error) for link in links)
        problem.chord_error = max(chord_error(grid.frame, link, CHORDS) for link, _ in links)
        problem.relative_error = (1.0 + problem.tangent_error) * (1.0 + problem.chord_error) - 1.0
        return problem

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values."""
        return read_grid(derived, model)


FORMULATION = JointGridMilp()
