"""What a search for the least time to target is after, and what it knows when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from sftopt.core.breakdown import mean_accuracy
from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.status import Termination
from sftopt.core.target_laws import LinearLaw, SaturatingLaw, TargetLaws
from sftopt.studies.time_to_target.answer import LossLevel
from sftopt.studies.time_to_target.cells import Ladder


@dataclass(frozen=True)
class Goal:
    """What is to be reached, and by which law."""

    instance: Instance
    target: float
    law: LinearLaw | SaturatingLaw
    laws: TargetLaws
    free: bool
    feas_tol: float

    def factor(self, rank: int) -> tuple[float, bool]:
        """Return mu of a rank, and whether it was measured."""
        own = rank == self.instance.workload.lora_rank
        return (1.0, True) if own else self.laws.factor(rank=rank)

    def rounds(self, rank: int, loss: float) -> float:
        """Return R, the rounds to the target; infinite where it is out of reach."""
        uncompressed = self.instance.accuracy.uncompressed
        return self.factor(rank)[0] * self.law.rounds(loss, self.target, uncompressed)

    def loss_of(self, breakdown: Breakdown) -> float | None:
        """Return a plan's Omega in the metric's unit; None where an accuracy is not known."""
        each = [device.accuracy for device in breakdown.devices]
        known = [value for value in each if value is not None]
        if len(known) < len(each):
            return None
        return self.instance.accuracy.uncompressed - mean_accuracy(self.instance, known)


@dataclass(frozen=True)
class Best:
    """The plan of least time so far; a plan of its ladder's cell."""

    ladder: Ladder
    loss: float
    rounds: float
    round_s: float
    time_s: float
    plan: Plan
    least_accuracy: float
    """Of all devices, in the unit of the metric."""


@dataclass(frozen=True)
class Found:
    """What a search knows when it ends."""

    best: Best | None
    bound_s: float | None
    bound_source: str | None
    termination: Termination
    levels: tuple[LossLevel, ...]
    message: str
