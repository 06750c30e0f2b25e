"""Keep fractions that meet the accuracy limit in floating point, whoever adds the losses up.

The loss that solvers allow is all that the judge may accept, rounding included, so that bounds hold
for every plan it accepts. A plan is one that it does accept: its keep fractions are moved towards
the most accurate ones until the loss leaves that rounding. Where a curve is nearly flat and the
limit at what it just reaches, this is a long way for the last digit of a loss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope
from sftopt.core.limits import best_keep

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_FIRST_STEP = 1e-16
"""First part of the way to the most accurate keep fraction; each further one is twice as long."""
_ROUNDED = 1e-15
"""So far beyond an end of its domain a keep fraction is at that end."""
_ERR = 1.5
"""What misses a limit by more than this times its rounding is no rounding, and stays."""


def settled_keep(derived: Derived, cuts: Integers, choice: Integers, keep: Array) -> Array:
    """Return keep fractions (N,) moved so that losses leave what is rounding of the limits.

    Where even the most accurate ones do not, those are returned; what misses a limit by more than
    rounding is left as it is.
    """
    known = Coefficients(derived, cuts, choice)
    inside = np.clip(keep, known.low, known.high)
    keep = np.where(np.abs(keep - inside) <= _ROUNDED, inside, keep)
    each, spare = derived.loss_budget_each, derived.loss_rounding_each
    loss = known.loss(keep)
    over = (loss > each - spare) & (loss <= each + _ERR * spare)
    mean = derived.scope is AccuracyScope.MEAN
    total, spare_mean = derived.loss_budget, derived.loss_rounding
    held = mean and known.mean_loss(keep) > total - spare_mean
    if not over.any() and not held:
        return keep
    best = _most_accurate(derived, cuts, choice)
    if derived.scope is AccuracyScope.COMMON:
        over[:] = over.any() and bool(np.all(loss <= each + _ERR * spare))
        best = np.full_like(best, best[int(np.argmax(known.loss_scale))])
    part, start = 0.5 * _FIRST_STEP, keep
    while over.any() and part < 1.0:
        part = min(2.0 * part, 1.0)
        keep = np.where(over, _on_the_way(start, best, part), keep)
        late = known.loss(keep) > each - spare
        over &= late.any() if derived.scope is AccuracyScope.COMMON else late
    part, start = 0.5 * _FIRST_STEP, keep
    if mean and known.mean_loss(keep) <= total + _ERR * spare_mean:
        while known.mean_loss(keep) > total - spare_mean and part < 1.0:
            part = min(2.0 * part, 1.0)
            keep = _on_the_way(start, best, part)
    return keep


def _on_the_way(start: Array, best: Array, part: float) -> Array:
    """Points between, that no rounding takes beyond an end."""
    keep = start + part * (best - start)
    return np.clip(keep, np.minimum(start, best), np.maximum(start, best))


def _most_accurate(derived: Derived, cuts: Integers, choice: Integers) -> Array:
    best = np.empty(derived.devices)
    for index, option in enumerate(derived.options):
        chosen = choice == index
        if chosen.any():
            best[chosen] = best_keep(derived, option, cuts[chosen])
    return best
