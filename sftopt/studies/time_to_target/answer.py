"""What came of one search for the least time to a target."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ConfigDict, Field

from sftopt.core.errors import (
    InfeasibleError,
    InterruptedRunError,
    NoPointError,
    RefusedError,
    SftoptError,
    VerificationError,
)
from sftopt.core.fields import Reported, Versioned
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.status import Point, Termination
from sftopt.core.target_laws import Law


class LossLevel(Reported):
    """Problem (13) solved once: the best round of all plans that lose at most so much."""

    rank: int
    loss_limit: float = Field(description="Omega allowed, in the unit of the metric")
    loss: float | None = Field(description="Omega of the plan found; null: no plan")
    round_s: float | None = None
    round_bound_s: float | None = Field(default=None, description="no such plan has a faster round")
    rounds: float | None = Field(default=None, description="of the plan; null: out of reach")
    time_s: float | None = None
    termination: Termination


class TimeToTarget(Versioned):
    """The plan of least time to a target level; every delay is the judge's.

    ``time_s`` = ``rounds`` x ``round_s``. No plan that meets the instance's limits reaches the
    target, by the law, in less than ``bound_s``. How good the law is, ``law.error`` says, where a
    calibration measured it; neither plan nor bound can be better than the law.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)

    instance_name: str = ""
    instance_hash: str = ""
    target: float
    metric: str
    law: Law
    termination: Termination
    point: Point
    rank: int | None = Field(default=None, description="of the plan's adapters")
    factor: float | None = Field(default=None, description="mu, by which rounds are multiplied")
    factor_measured: bool = Field(default=False, description="false: mu is taken as 1")
    rounds: float | None = Field(default=None, description="R, a real number; null: no plan")
    rounds_whole: int | None = Field(default=None, description="R rounded up")
    loss: float | None = Field(default=None, description="Omega, the weighted mean over devices")
    round_s: float | None = None
    time_s: float | None = Field(default=None, description="R T, what was minimised")
    time_whole_s: float | None = Field(default=None, description="with R rounded up")
    bound_s: float | None = Field(default=None, description="proven, by the law: none takes less")
    gap_rel: float | None = Field(default=None, description="(time_s - bound_s) / time_s")
    bound_source: str | None = None
    nearest_target: float | None = Field(
        default=None, description="the nearest that can be reached, where this one cannot"
    )
    free_accuracy: bool = Field(default=False, description="whether its a_min was lifted")
    edits: dict[str, float] = Field(
        default_factory=dict,
        description="changes to the instance, by dotted path, that the plan was made for; empty: "
        "it is a plan of the instance as it is",
    )
    levels: tuple[LossLevel, ...] = Field(default=(), description="in the order of solving")
    feas_tol: float | None = None
    seed: int | None = None
    total_s: float = Field(default=0.0, description="wall seconds in all")
    breakdown: Breakdown | None = None
    plan: Plan | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Return whether there is a plan that the judge accepts."""
        return self.point in (Point.FEASIBLE, Point.OPTIMAL)

    def raise_for_status(self) -> TimeToTarget:
        """Return self where there is a feasible plan; raise the matching SftoptError otherwise."""
        if self.ok and self.termination is not Termination.ERROR:
            return self
        raise self._error()(self.message or self.termination.value)

    def _error(self) -> type[SftoptError]:
        known = {
            Termination.REFUSED: RefusedError,
            Termination.INFEASIBLE_PROVEN: InfeasibleError,
            Termination.INTERRUPTED: InterruptedRunError,
            Termination.ERROR: VerificationError,
        }
        return known.get(self.termination, NoPointError)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain JSON data."""
        return self.model_dump(mode="json")

    def to_json(self, indent: int | None = 2) -> str:
        """Return the answer as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __repr__(self) -> str:
        if self.time_s is None:
            return f"TimeToTarget({self.instance_name}: {self.termination.value}, no plan)"
        bound = "none" if self.bound_s is None else f"{self.bound_s:.6g} s"
        return (
            f"TimeToTarget({self.instance_name}: {self.metric} {self.target:g} after "
            f"{self.rounds:.4g} rounds of {self.round_s:.6g} s: {self.time_s:.6g} s, bound {bound})"
        )

    __str__ = __repr__
