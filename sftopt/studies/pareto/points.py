"""What one server speed costs, and what CARD does at one weight."""

from __future__ import annotations

from pydantic import Field

from sftopt.core.fields import Reported
from sftopt.core.plan import Plan
from sftopt.core.status import Termination


class CurvePoint(Reported):
    """The best plan found at one speed of the server, as the judge finds it."""

    server_flops_per_s: float
    round_s: float | None = None
    bound_s: float | None = Field(default=None, description="no plan at this speed is faster")
    gap_rel: float | None = None
    server_j: float | None = None
    device_j: float | None = None
    dominated: bool = Field(
        default=False, description="another point of the curve is no slower and spends no more"
    )
    termination: Termination
    plan: Plan | None = None


class CardPoint(Reported):
    """CARD at one weight of delay against energy, on the same instance."""

    w: float
    round_s: float | None
    server_j: float | None
    refused: str | None
