"""The one tolerance: by how much a plan may miss a limit and still pass, for judge and solvers.

The judge accepts a plan within these relaxed limits, and :mod:`sftopt.core.derived` hands solvers
and bounds the same ones. So no bound lies above a plan that the judge accepts, a limit that is met
exactly is met, and what is called infeasible has no plan that the judge would accept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError

FEASIBILITY_TOLERANCE = 1e-9
"""Default: absolute on shares, keep fractions and accuracy, relative on memory and rates."""
LARGEST_TOLERANCE = 1e-6
"""No greater tolerance is taken: a plan would be judged by limits that nobody set."""
OLD_PLANS_TOLERANCE = 1e-6
"""What releases that did not write a plan's tolerance into it judged by."""
ROUNDING = 2e-15
"""Relative error of accuracies and their mean, which is no miss: sums differ by their order."""
REFUSED = 0.25
"""Last part of the rounding in a loss allowed, where the judge refuses; it forgives half."""

Number = TypeVar("Number", float, NDArray[np.float64])


@dataclass(frozen=True)
class Tolerance:
    """The limits of problem (13), relaxed by ``feas_tol``.

    Raises InputError where ``feas_tol`` is no number of 0 to :data:`LARGEST_TOLERANCE`.
    """

    feas_tol: float = FEASIBILITY_TOLERANCE

    def __post_init__(self) -> None:
        """Refuse a tolerance that is out of range."""
        if not 0.0 <= self.feas_tol <= LARGEST_TOLERANCE:
            raise InputError(tolerance_fault(self.feas_tol))

    def most_bytes(self, limit: Number) -> Number:
        """Return the memory in bytes up to which a limit in bytes counts as met."""
        return limit + self.feas_tol * limit

    def least_keep(self, limit: float) -> float:
        """Return the keep fraction down to which a least one counts as met; always above 0."""
        return limit - min(self.feas_tol, 0.5 * limit)

    def least_accuracy(self, limit: float) -> float:
        """Return the accuracy down to which a least one counts as met, in the metric's unit."""
        return limit - self.feas_tol

    def most_loss(self, uncompressed: float, limit: float) -> tuple[float, float]:
        """Return the loss up to which an accuracy of ``limit`` may count as met, and the part of it
        that is rounding; both in the metric's unit.

        Where accuracy hardly depends on what is kept, the last digit of a loss decides: the judge
        may accept all of that loss, and accepts every loss that is less by the rounding.
        """
        rounding = 2.0 * accuracy_rounding(uncompressed, limit)
        return uncompressed - self.least_accuracy(limit) + rounding, rounding

    def least_rate(self, limit: float) -> float:
        """Return the rate in bit/s down to which a least one counts as met."""
        return limit - self.feas_tol * limit


def accuracy_rounding(uncompressed: float, limit: float) -> float:
    """Return by how much rounding may move an accuracy against ``limit``, in the metric's unit."""
    return ROUNDING * max(abs(uncompressed), abs(limit))


def tolerance_fault(feas_tol: float) -> str:
    """Say what is wrong with a tolerance that is out of range, in words for users."""
    known = "not a number" if math.isnan(feas_tol) else f"{feas_tol:g}"
    return (
        f"feas_tol is {known}; it must lie in 0..{LARGEST_TOLERANCE:g} (the default is "
        f"{FEASIBILITY_TOLERANCE:g}). To allow more, change the limits themselves: memory_bytes, "
        "accuracy.minimum, compression.keep_min"
    )
