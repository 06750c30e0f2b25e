"""What the plan side and the bound side tell each other: multipliers, times and prices, data only.

Nothing here is proven and nothing has to be: any multipliers of at least zero give a valid bound,
and plans are judged by their value. The two sides share these two types and no function.
"""

from __future__ import annotations

from typing import NamedTuple


class Multipliers(NamedTuple):
    """Prices of the four coupling limits, in seconds of delay per unit of each; all at least 0."""

    uplink: float
    """lambda: of the sum of uplink shares."""
    downlink: float
    """mu: of the sum of downlink shares."""
    loss: float
    """alpha: of the mean loss."""
    memory: float
    """nu: of the summed server memory, scaled as in ``BoundData.held``."""


class TimesAndPrices(NamedTuple):
    """The barrier times of a settled plan in seconds, and the prices that hold there."""

    tau_up: float
    tau_down: float
    loss_price: float
    """Seconds of delay per unit of mean loss; 0 where it is not known."""
    up_price: float
    """Seconds of delay per unit of uplink share."""
    down_price: float
    """Seconds of delay per unit of downlink share."""
