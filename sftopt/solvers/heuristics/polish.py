"""Choose the best keep fractions at fixed cuts and options: a local method, exact where convex.

Scopes ``each`` and ``common`` need no search: payload grows with rho, so the least rho that meets
the limit is best. Under ``mean``, prices of a bit in both directions follow from the share
equations (14); at those prices devices separate up to one multiplier on the mean loss, which is
found by root search; prices are then renewed. Where equation (16) holds, the fixed point of this
is the global optimum of the inner problem; elsewhere it is a local one. Nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.entropy import LN2
from sftopt.core.instance import AccuracyScope
from sftopt.core.least_time import least_time
from sftopt.core.limits import best_keep, least_keeps
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.spectrum import RateLaw

if TYPE_CHECKING:
    from sftopt.solvers.heuristics.separate import Costs

Array = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 17)
"""Parts of the keep range where the cost is sampled, to choose between local minima."""
_ROUNDS = 40
"""Most renewals of prices."""
_BISECTIONS = 50
"""Halvings between a feasible and a slightly infeasible answer."""
_HALVINGS = 5
"""How often a step that makes the delay worse is halved."""


def keep_range(derived: Derived, point: IntegralPoint) -> tuple[Array, Array] | None:
    """Return per device the keep fractions worth considering; None if some device has none.

    From the least one within the device's own loss budget to the one of least loss. None too where
    an option is not allowed at its device's cut.
    """
    if not derived.plain and np.any(point.cuts < derived.lowest_cuts(point.choice)):
        return None
    low = least_keeps(derived)[point.choice, point.cuts]
    high = np.empty(derived.devices)
    for index, option in enumerate(derived.options):
        chosen = point.choice == index
        if np.any(chosen):
            high[chosen] = best_keep(derived, option, point.cuts[chosen])
    if np.any(np.isnan(low)):
        return None
    return low, np.maximum(low, high)


def polish(
    derived: Derived,
    point: IntegralPoint,
    *,
    rounds: int = _ROUNDS,
    scenarios: Sequence[Derived] = (),
) -> IntegralPoint | None:
    """Make the keep fractions of a point feasible and as good as this method gets.

    None where these cuts and options cannot meet the accuracy limit. The returned point meets it
    in floating point, not just up to a tolerance. Fewer ``rounds`` of price renewal are faster and
    a little worse. With ``scenarios``, the same cell at other gains, the mean of their delays is
    made small instead, the shares being free in each.
    """
    bounds = keep_range(derived, point)
    if bounds is None:
        return None
    low, high = bounds
    known = Coefficients(derived, point.cuts, point.choice)
    if derived.scope is AccuracyScope.COMMON:
        return _common(derived, point, low, known)
    if derived.scope is AccuracyScope.EACH or known.mean_loss(low) <= derived.loss_budget:
        return point.with_keep(low)
    if known.mean_loss(high) > derived.loss_budget:
        return None
    channels = tuple(scenarios) or (derived,)
    return point.with_keep(_mean(derived, channels, point, known, low, high, rounds))


def load_polish() -> None:
    """Import and compile, once a process, what :func:`polish` calls."""
    from sftopt.solvers.heuristics.separate import Costs, within_budget

    one, rows = np.ones(1), np.ones((2, 1))
    costs = Costs(one, one, one, one, one, one, 1.0, np.zeros(1), one, rows, rows)
    within_budget(costs, 1.0, 0.0, one, np.empty(1))


def average_delay_s(
    channels: Sequence[Derived], point: IntegralPoint, coefficients: Coefficients | None = None
) -> float:
    """Return the mean delay over ``channels`` in seconds, at best shares of each; equation (14)."""
    known = coefficients or Coefficients(channels[0], point.cuts, point.choice)
    return float(np.mean([best_delay(channel, point, known).round_s for channel in channels]))


def _common(
    derived: Derived, point: IntegralPoint, low: Array, known: Coefficients
) -> IntegralPoint | None:
    if np.any(point.choice != point.choice[0]):
        return None
    keep = np.full_like(low, low.max())
    if np.any(known.loss(keep) > derived.loss_budget):
        return None
    return point.with_keep(keep)


def _mean(
    derived: Derived,
    channels: Sequence[Derived],
    point: IntegralPoint,
    known: Coefficients,
    low: Array,
    high: Array,
    rounds: int,
) -> Array:
    keep = _for_prices(derived, known, *_even_prices(derived, known), low, high)
    best, best_s = keep, average_delay_s(channels, point.with_keep(keep), known)
    for _ in range(rounds):
        prices = _prices(channels, point, known, best)
        if not np.all(np.isfinite(prices)):  # time on a link vanishes beside a device's own
            break
        keep = _for_prices(derived, known, *prices, low, high)
        value = average_delay_s(channels, point.with_keep(keep), known)
        for _ in range(_HALVINGS):  # while the step goes too far: half the way
            if value < best_s:
                break
            keep = meet_budget(derived, known, 0.5 * (keep + best), high)
            value = average_delay_s(channels, point.with_keep(keep), known)
        if value >= best_s * (1.0 - 1e-14):
            break
        done = best_s - value < 1e-12 * best_s
        best, best_s = keep, value
        if done:
            break
    return best


def _even_prices(derived: Derived, known: Coefficients) -> tuple[Array, Array]:
    """Seconds per bit if all fixed times were equal."""
    return 1.0 / derived.uplink_full_bits_per_s, 1.0 / derived.downlink_full_bits_per_s


def _prices(
    channels: Sequence[Derived], point: IntegralPoint, known: Coefficients, keep: Array
) -> tuple[Array, Array]:
    """d tau_u / d bits and d tau_d / d bits at the best shares, by the implicit function rule.

    Means over the channels.
    """
    bits_up, bits_down = known.bits_up(keep), known.bits_down(keep)
    up, down = np.zeros_like(keep), np.zeros_like(keep)
    for channel in channels:
        fixed_up = channel.s1_s(point.cuts, point.choice)
        fixed_down = channel.s5_s(point.cuts, point.choice)
        up += _link_prices(fixed_up, bits_up, channel.uplink_law)
        down += _link_prices(fixed_down, bits_down, channel.downlink_law)
    return up / len(channels), down / len(channels)


def _link_prices(fixed: Array, bits: Array, law: RateLaw) -> Array:
    tau, shares = least_time(fixed, bits, law)
    room = np.maximum(tau - fixed, 1e-300)
    _, slope = law.inverse(bits / room, near=shares)
    per_bit = slope / room
    fall = float((per_bit * bits / room).sum())
    return np.asarray(per_bit / fall)


def _for_prices(
    derived: Derived, known: Coefficients, up: Array, down: Array, low: Array, high: Array
) -> Array:
    """Least cost at fixed prices of a bit, within the mean loss budget."""
    from sftopt.solvers.heuristics.separate import within_budget  # compiled: loaded on first use

    # the multiplier is in seconds per unit of loss; at the start of the bracket loss is free
    scale = float(np.max(up * known.bits_up(high))) / max(derived.loss_budget, 1e-12)
    start = float(np.log(min(max(1e-250, scale), 1e250)))
    keep = np.empty_like(high)
    within_budget(_costs(known, up, down, low, high), derived.loss_budget, start, high, keep)
    return meet_budget(derived, known, keep, high)


def _costs(known: Coefficients, up: Array, down: Array, low: Array, high: Array) -> Costs:
    """What devices cost at these prices of a bit, by keep fraction."""
    from sftopt.solvers.heuristics.separate import Costs

    span = high - low
    down_slope = down * known.elements * known.eta_down
    samples = low + _GRID[:, None] * span
    per_element = up * known.elements
    return Costs(
        linear=per_element * known.eta_up + down_slope,
        mask=per_element * known.omega / LN2,
        weight=known.weight,
        curve=known.loss_scale,
        slope=known.noise_slope,
        constant=known.noise_constant,
        decay=float(known.decay),
        low=low,
        span=span,
        sampled_s=up * known.bits_up(samples) + down_slope * samples,
        sampled_loss=known.weight * known.loss(samples),
    )


def _spend_slack(derived: Derived, known: Coefficients, good: Array, cheap: Array) -> Array:
    """Between a feasible and a slightly infeasible answer, as far towards the cheap one as fits."""
    safe, bold = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (safe + bold)
        if known.mean_loss(good + middle * (cheap - good)) <= derived.loss_budget:
            safe = middle
        else:
            bold = middle
    return good + safe * (cheap - good)


def meet_budget(derived: Derived, known: Coefficients, keep: Array, high: Array) -> Array:
    """Move keep fractions (N,) towards ``high``, the most accurate, until the mean loss fits."""
    if known.mean_loss(keep) <= derived.loss_budget:
        return keep
    return _spend_slack(derived, known, high, keep)
