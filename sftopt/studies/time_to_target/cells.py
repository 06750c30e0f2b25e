"""The cells whose plans a search goes through: problem (13) at one rank and one loss allowed.

Every plan of the instance that loses at most Omega in the weighted mean is a plan of the cell of
Omega, so that a bound of the cell's problem bounds them all. The mean is held whatever the
instance's scope: under ``each`` its own limit stays as every device's floor. Under ``common`` all
devices send alike, so that the cell's limit on each is the mean's, but for losses that depend on
the cut: there it is looser by the most that two cuts can differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sftopt.core.block_work import (
    block_activation_bytes,
    block_adapter_bytes,
    block_backward_flops,
    block_forward_flops,
)
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import Accuracy, AccuracyScope, Instance, Workload
from sftopt.core.limits import feasible_point, reach

_SHADE = 1e-12
"""By what a least loss is drawn down, relative: rounding must not lift it above a plan's."""
_HALVINGS = 60
"""Halvings of the range of losses in which the least feasible one is sought."""


def workload_at_rank(work: Workload, rank: int) -> Workload:
    """Return the workload with adapters of ``rank``: FLOP per block and bytes follow.

    Raises InputError naming the fields that are needed for it and missing.
    """
    if rank == work.lora_rank:
        return work
    return work.model_copy(
        update={
            "lora_rank": rank,
            "block_forward_flops": block_forward_flops(work, rank=rank),
            "block_backward_flops": block_backward_flops(work, rank=rank),
            "block_activation_bytes": block_activation_bytes(work, rank=rank),
            "block_adapter_bytes": block_adapter_bytes(work, rank),
        }
    )


@dataclass(frozen=True)
class Ladder:
    """The cells of one rank, by the loss they allow."""

    given: Instance
    """The user's, at the workload's own rank."""
    rank: int
    free: bool
    """Whether the instance's a_min is lifted, and with it an a_each that follows it."""
    feas_tol: float

    @cached_property
    def _at_rank(self) -> Instance:
        work = workload_at_rank(self.given.workload, self.rank)
        return self.given if work is self.given.workload else self.given.model_copy(
            update={"workload": work}
        )  # fmt: skip

    @cached_property
    def derived(self) -> Derived:
        """Return the arrays of the loosest cell."""
        return derive(self.cell(math.inf), feas_tol=self.feas_tol)

    @cached_property
    def least_loss(self) -> float:
        """Return a loss in the metric's unit that no plan goes below."""
        best = float((self.derived.weight * reach(self.derived).loss).sum())
        return max(best * (1.0 - _SHADE) - _SHADE, 0.0) if math.isfinite(best) else 0.0

    @cached_property
    def largest_loss(self) -> float:
        """Return a loss in the metric's unit that no plan goes above, by limits or by modes."""
        return self._most_offered if self.free else min(self._allowed, self._most_offered)

    @property
    def _allowed(self) -> float:
        accuracy = self.given.accuracy
        return max(accuracy.uncompressed - accuracy.minimum, 0.0)

    @cached_property
    def _most_offered(self) -> float:
        """The largest loss of any mode at any cut and keep fraction."""
        losses = [0.0]
        derived = derive(self._at_rank, feas_tol=self.feas_tol)
        for option in derived.options:
            if option.own_loss is not None:
                losses.append(float(option.own_loss.max()))
                continue
            ends = np.array([option.keep_low, option.keep_high])
            losses += derived.loss_at(option, ends, float(derived.cut_factor.max())).tolist()
        # equation (12) is concave in rho: its largest loss is at an end
        return max(losses) * (1.0 + _SHADE) + _SHADE

    def cell(self, loss: float) -> Instance:
        """Return the cell of all plans that lose at most ``loss``, in the metric's unit."""
        accuracy = self.given.accuracy
        if accuracy.scope is AccuracyScope.COMMON:
            made = self._common(accuracy, loss)
        else:
            made = accuracy.model_copy(
                update={
                    "scope": AccuracyScope.MEAN,
                    "minimum": accuracy.uncompressed - min(loss, self.largest_loss),
                    "minimum_each": self._floor(accuracy),
                }
            )
        return self._at_rank.model_copy(update={"accuracy": made})

    def _floor(self, accuracy: Accuracy) -> float:
        """Below what no device may be: the instance's, or as low as any mode goes."""
        lowest = accuracy.uncompressed - self._most_offered
        if not self.free:
            return max(accuracy.floor_each, lowest)
        if accuracy.scope is AccuracyScope.MEAN and accuracy.minimum_each is not None:
            return max(accuracy.minimum_each, lowest)
        return lowest

    def _common(self, accuracy: Accuracy, loss: float) -> Accuracy:
        spread = self._spread
        most = min(loss * spread, self.largest_loss) if math.isfinite(spread) else self.largest_loss
        return accuracy.model_copy(update={"minimum": accuracy.uncompressed - most})

    @cached_property
    def _spread(self) -> float:
        """The most by which losses of one mode and keep fraction differ over cuts, as a factor."""
        derived = derive(self._at_rank, feas_tol=self.feas_tol)
        factors = [1.0]
        for option in derived.options:
            levels = derived.cut_factor if option.own_loss is None else option.own_loss
            low, high = float(levels.min()), float(levels.max())
            if high > low:
                factors.append(high / low if low > 0.0 else math.inf)
        return max(factors)

    def least_feasible_loss(self) -> float | None:
        """Return the least loss that a plan can have, in the metric's unit; None: there is no plan.

        By halving: whether a cell has a plan is decided exactly.
        """
        low, high = self.least_loss, self.largest_loss
        if not self._has_plan(high):
            return None
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            if not low < middle < high:
                break
            low, high = (low, middle) if self._has_plan(middle) else (middle, high)
        return high

    def _has_plan(self, loss: float) -> bool:
        return feasible_point(derive(self.cell(loss), feas_tol=self.feas_tol)) is not None
