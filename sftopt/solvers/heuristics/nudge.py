"""Move a point that misses a limit by no more than engines err to where the judge accepts it.

Engines work to tolerances that are looser than the judge's. What misses a limit by more than that
stays as it is, and is refuted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope
from sftopt.core.point import IntegralPoint
from sftopt.solvers.heuristics.polish import keep_range, meet_budget

Array = NDArray[np.float64]

ENGINES_ERR = 1e-5
"""By how much engines' points miss limits: of shares, keep fractions and, relative, losses."""
LEAST_LOSS_UNIT = 1e-4
"""Models state losses in units of the loss allowed, and of this where that is less."""


def within_limits(derived: Derived, candidate: Candidate) -> Candidate:
    """Return ``candidate`` with keep fractions and shares moved to where the limits are met.

    Cuts and options, which must be whole, stay. So does everything that is off by more than
    :data:`ENGINES_ERR`.
    """
    shares = candidate.shares
    if shares is not None:
        total = 1.0 + derived.feas_tol
        parts = (_scaled(v, total) for v in (shares.uplink, shares.downlink, shares.adapter))
        shares = Shares(*parts)
    point = IntegralPoint(
        np.rint(candidate.cuts).astype(np.int64), candidate.choices(), candidate.keep
    )
    return replace(candidate, keep=_keep(derived, point), shares=shares)


def _scaled(shares: Array, most: float) -> Array:
    total = float(shares.sum())
    return shares / total if most < total <= 1.0 + ENGINES_ERR else shares


def _keep(derived: Derived, point: IntegralPoint) -> Array:
    """Keep fractions: into their domains, then up to each device's limit, then to the mean's."""
    known = Coefficients(derived, point.cuts, point.choice)
    keep = _near(point.keep, known.low, known.high)
    bounds = keep_range(derived, point)
    if bounds is None:
        return keep
    least, best = bounds
    missed = known.loss(keep) > derived.loss_budget_each
    keep = np.where(missed, _near(keep, least, np.ones_like(keep)), keep)
    if derived.scope is AccuracyScope.COMMON:
        return _near(keep, np.full_like(keep, max(keep.max(), least.max())), np.ones_like(keep))
    if derived.scope is AccuracyScope.EACH:
        return keep
    unit = max(abs(derived.loss_budget_each), LEAST_LOSS_UNIT)
    over = known.mean_loss(keep) - derived.loss_budget
    if not 0.0 < over <= ENGINES_ERR * unit or known.mean_loss(best) > derived.loss_budget:
        return keep
    return meet_budget(derived, known, keep, best)


def _near(keep: Array, low: Array, high: Array) -> Array:
    """``keep`` clipped to [low, high] where that moves it by no more than engines err."""
    inside = np.clip(keep, low, high)
    return np.where(np.abs(inside - keep) <= ENGINES_ERR, inside, keep)
