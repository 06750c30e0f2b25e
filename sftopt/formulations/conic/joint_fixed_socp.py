"""``joint-fixed-socp``: problem (13) at given modes and keep fractions; cuts and shares decide."""

from __future__ import annotations

from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.errors import InfeasibleError
from sftopt.core.limits import feasible_point
from sftopt.core.status import Promise
from sftopt.formulations.base import ProblemClass, Start
from sftopt.formulations.conic.base import ConicFormulation
from sftopt.formulations.conic.grid_items import own_items
from sftopt.formulations.conic.grid_model import build_grid, read_grid
from sftopt.formulations.conic.joint_grid_conic import CHORDS
from sftopt.formulations.conic.linear import chord_error, chord_rates
from sftopt.formulations.conic.links import LinkRules, send_by_cones


class JointFixedSocp(ConicFormulation):
    """Problem (13) in (l, x, tau) at fixed rho and modes, equation (16): a mixed-integer SOCP.

    A restriction: every point is a plan, no bound. Modes and keep fractions are those of the start
    (``x0`` or the constructed point), or of the most accurate plan without one. Exact in the rest
    under ``psd``; under ``total`` rates are chords from below, as in ``joint-grid-conic``, with
    ``problem.relative_error``.

    Variables: ``var_blocks[dev]`` (integer), ``var_uplink_share[dev]``,
    ``var_downlink_share[dev]``, ``var_adapter_share[dev]`` (total), rooms and barriers as in
    ``joint-grid-relaxed``; ``var_item[dev, item]`` has one item, which is 1.
    """

    name = "joint-fixed-socp"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.MISOCP
    summary = "(13) at the start's modes and keep fractions: cuts, shares and times by MISOCP"
    keeps_start = True

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the ``cvxpy.Problem``. Raises InfeasibleError where there is no plan at all."""
        own = feasible_point(derived) if start is None else start.candidate
        if own is None:
            raise InfeasibleError("no plan meets the limits, so there are no modes to fix")
        rules = LinkRules(send_by_cones, chord_rates(CHORDS))
        grid = build_grid(derived, start, own_items(derived, own), rules, integral=True)
        errors = (chord_error(grid.frame, link, CHORDS) for link, _ in grid.links)
        grid.problem.relative_error = max(errors)
        return grid.problem

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values."""
        return read_grid(derived, model)


FORMULATION = JointFixedSocp()
