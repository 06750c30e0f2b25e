"""Rounds to a target level of the metric: laws as data, and what they say of a loss.

Section 9 of ``formulations/MODEL.md``. A plan accepts a loss Omega = a_0 - SUM w_n a(rho_n, q_n);
it reaches the target a_t after R = mu g(Omega; a_t) rounds, with mu by order, rank and aggregation:

* ``linear``: g = R_0 (1 + k_g Omega), with R_0 and k_g of each level that was measured; between
  two levels ln g is interpolated, beyond them nothing is known;
* ``saturating``: g = T_g ln((a_0 - Omega - m_start) / (a_0 - Omega - a_t)), infinite where the
  target is out of reach.

R is a real number. A calibration holds measured laws; they may also be declared.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.fields import (
    Count,
    Finite,
    Fraction,
    Frozen,
    Name,
    NonNegative,
    Positive,
    PositiveCount,
    Text,
)
from sftopt.core.plan import Aggregation, Order


class LawError(Frozen):
    """How far a law's rounds were from measured ones that it was not fitted to."""

    median_abs_rel: NonNegative = Field(description="median of |predicted - measured| / measured")
    low: NonNegative = Field(description="lower end of its confidence interval")
    high: NonNegative
    confidence: Fraction = 0.95
    settings: PositiveCount = Field(description="settings predicted, each once for a level")
    text: Text = Field(default="", description="how it was found")


class LinearLevel(Frozen):
    """The linear law at one target level."""

    target: Finite = Field(description="a_t, in the unit of the metric")
    rounds: Positive = Field(description="R_0, rounds where nothing is lost")
    slope: NonNegative = Field(description="k_g, per unit of the metric")
    rounds_half_width: NonNegative | None = Field(
        default=None, description="95 %, over the seeds; null: not measured"
    )
    slope_half_width: NonNegative | None = None


class LinearLaw(Frozen):
    """g = R_0 (1 + k_g Omega), by target level."""

    kind: Literal["linear"] = "linear"
    levels: tuple[LinearLevel, ...] = Field(min_length=1, description="ascending")
    loss_to: NonNegative | None = Field(
        default=None, description="the largest loss it was fitted to; null: declared"
    )
    error: LawError | None = Field(default=None, description="null: not measured")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for lower, upper in pairwise(self.levels):
            if lower.target >= upper.target:
                raise ValueError(
                    f"levels must ascend: target {lower.target:g} is followed by {upper.target:g}"
                )
            if lower.rounds > upper.rounds:
                raise ValueError(
                    f"a higher target takes no fewer rounds: {lower.rounds:g} at {lower.target:g}, "
                    f"{upper.rounds:g} at {upper.target:g}"
                )
        return self

    def loss_limit(self, target: float, uncompressed: float) -> float:
        """Return the loss from which on ``target`` is out of reach: none, so infinite."""
        return math.inf

    def rounds(self, loss: float, target: float, uncompressed: float) -> float:
        """Return g, the rounds to ``target`` at ``loss``. Raises InputError beyond the levels."""
        self.check(target, uncompressed)
        below = [level for level in self.levels if level.target <= target][-1]
        above = next(level for level in self.levels if level.target >= target)
        low, high = (level.rounds * (1.0 + level.slope * loss) for level in (below, above))
        if below.target == above.target:
            return low
        part = (target - below.target) / (above.target - below.target)
        return low * math.exp(part * math.log(high / low))

    def check(self, target: float, uncompressed: float) -> None:
        """Raise InputError where nothing is known of ``target``."""
        first, last = self.levels[0].target, self.levels[-1].target
        if first <= target <= last:
            return
        only = f"{first:g}" if first == last else f"{first:g} to {last:g}"
        nearest = first if target < first else last
        raise InputError(
            f"target {target:g}: the linear law was measured for targets of {only}; the nearest "
            f"is {nearest:g}. Calibrate that level, or take the saturating law (--law saturating)"
        )


class SaturatingLaw(Frozen):
    """g = T_g ln((a_0 - Omega - m_start) / (a_0 - Omega - a_t))."""

    kind: Literal["saturating"] = "saturating"
    scale_rounds: Positive = Field(description="T_g, rounds in which a gap falls to 1/e")
    start: Finite = Field(description="m_start, the metric before the first round")
    scale_half_width: NonNegative | None = Field(
        default=None, description="95 %, over the seeds; null: not measured"
    )
    start_half_width: NonNegative | None = None
    loss_to: NonNegative | None = Field(
        default=None, description="the largest loss it was tried on; null: declared"
    )
    error: LawError | None = Field(default=None, description="null: not measured")

    def loss_limit(self, target: float, uncompressed: float) -> float:
        """Return the loss from which on ``target`` is out of reach, in the metric's unit."""
        return uncompressed - target

    def rounds(self, loss: float, target: float, uncompressed: float) -> float:
        """Return g, the rounds to ``target`` at ``loss``; infinite where it is out of reach."""
        reached = uncompressed - loss
        if reached <= target:
            return math.inf
        return self.scale_rounds * math.log1p((target - self.start) / (reached - target))

    def check(self, target: float, uncompressed: float) -> None:
        """Raise InputError for a ``target`` that is met before the first round."""
        if target <= self.start:
            raise InputError(
                f"target {target:g} is met before the first round: the metric begins at "
                f"{self.start:g}. Give a target above it"
            )


Law = Annotated[LinearLaw | SaturatingLaw, Field(discriminator="kind")]
"""One law of rounds."""


class RoundFactor(Frozen):
    """mu: rounds of one order, rank and aggregation over those of the reference.

    The reference is parallel, the workload's rank, averaging.
    """

    order: Order = Order.PARALLEL
    rank: PositiveCount | None = Field(default=None, description="null: any rank")
    aggregation: Aggregation | None = Field(default=None, description="null: any")
    factor: Positive
    half_width: NonNegative | None = Field(
        default=None, description="95 %, over the seeds; null: not measured"
    )


class TargetLaws(Frozen):
    """What a calibration knows of rounds to a target; at least one law."""

    metric: Name = "accuracy"
    linear: LinearLaw | None = None
    saturating: SaturatingLaw | None = None
    factors: tuple[RoundFactor, ...] = Field(default=(), description="mu; 1 where none is named")
    seeds: tuple[Count, ...] = Field(default=(), description="of the runs it was measured on")
    learning_rate: Positive | None = Field(default=None, description="constant over a run")
    local_steps: PositiveCount | None = Field(default=None, description="K of the runs")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.linear is None and self.saturating is None:
            raise ValueError("no law is given; linear or saturating is needed")
        return self

    @staticmethod
    def of(law: LinearLaw | SaturatingLaw, metric: str = "accuracy") -> TargetLaws:
        """Return one declared law as a set of laws."""
        if isinstance(law, LinearLaw):
            return TargetLaws(metric=metric, linear=law)
        return TargetLaws(metric=metric, saturating=law)

    def chosen(self, name: str | None, target: float) -> LinearLaw | SaturatingLaw:
        """Return the law called ``name``; None: linear where ``target`` is within its levels.

        Raises InputError where the law asked for is not there.
        """
        known = {law.kind: law for law in (self.linear, self.saturating) if law is not None}
        if name is not None:
            if name not in ("linear", "saturating"):
                raise UnknownNameError("law", name, ("linear", "saturating"))
            if name not in known:
                raise InputError(f"law '{name}' was not measured; there is: {', '.join(known)}")
            return known[name]
        if self.linear is None or self.saturating is None:
            return next(iter(known.values()))
        levels = self.linear.levels
        inside = levels[0].target <= target <= levels[-1].target
        return self.linear if inside else self.saturating

    def factor(
        self,
        order: Order = Order.PARALLEL,
        rank: int | None = None,
        aggregation: Aggregation | None = None,
    ) -> tuple[float, bool]:
        """Return mu, a fraction of the reference's rounds, and whether it was measured; else 1."""
        for known in self.factors:
            if (
                known.order is order
                and known.rank in (None, rank)
                and known.aggregation in (None, aggregation or Aggregation.AVERAGING)
            ):
                return known.factor, True
        return 1.0, False
