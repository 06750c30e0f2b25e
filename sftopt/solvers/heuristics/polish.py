"""Choose the best keep fractions at fixed cuts and options: a local method, exact where convex.

Scopes ``each`` and ``common`` need no search: payload grows with rho, so the least rho that meets
the limit is best. Under ``mean``, prices of a bit in both directions follow from the share
equations (14); at those prices devices separate up to one multiplier on the mean loss, which is
found by root search; prices are then renewed. Where equation (16) holds, the fixed point of this
is the global optimum of the inner problem; elsewhere it is a local one. Nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope
from sftopt.core.least_time import least_time
from sftopt.core.limits import best_keep, least_keep
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.spectrum import RateLaw

Array = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 17)
"""Parts of the keep range where the cost is sampled, to choose between local minima."""
_ROUNDS = 40
"""Most renewals of prices."""
_BISECTIONS = 50
"""Halvings between a feasible and a slightly infeasible answer."""
_NEWTON_STEPS = 9
"""From a bracket of an eighth of the range, guarded by bisection."""
_HALVINGS = 5
"""How often a step that makes the delay worse is halved."""


def keep_range(derived: Derived, point: IntegralPoint) -> tuple[Array, Array] | None:
    """Return per device the keep fractions worth considering; None if some device has none.

    From the least one within the device's own loss budget to the one of least loss. None too where
    an option is not allowed at its device's cut.
    """
    if not derived.plain and np.any(point.cuts < derived.lowest_cuts(point.choice)):
        return None
    low = np.empty(derived.devices)
    high = np.empty(derived.devices)
    budget = np.full(derived.devices, derived.loss_budget_each)
    for index, option in enumerate(derived.options):
        chosen = point.choice == index
        if np.any(chosen):
            low[chosen] = least_keep(derived, option, budget[chosen], point.cuts[chosen])
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
    separate = _Separate(known, up, down, low, high)

    def excess(log_alpha: float) -> float:
        return known.mean_loss(separate.at(float(np.exp(log_alpha)))) - derived.loss_budget

    # alpha is in seconds per unit of loss; at the start of the bracket loss is free
    scale = float(np.max(up * known.bits_up(high))) / max(derived.loss_budget, 1e-12)
    start = float(np.log(max(scale, 1e-250)))
    small, large = start, start
    while excess(large) > 0.0:
        large += 3.0
        if large > start + 150.0:
            return high
    while excess(small) <= 0.0 and small > start - 60.0:
        small -= 3.0
    if excess(small) > 0.0:
        root = brentq(excess, small, large, xtol=1e-10, rtol=1e-12)
        small, large = root - 1e-8, root + 1e-8
    good = separate.at(float(np.exp(large)))
    cheap = separate.at(float(np.exp(small)))
    if known.mean_loss(good) > derived.loss_budget:
        good = high
    return _spend_slack(derived, known, good, cheap)


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


class _Separate:
    """argmin over rho in [low, high] of up bits + down bits + alpha w loss, device by device.

    The cost may have two local minima, so samples choose the basin and Newton's method on
    the slope, guarded by bisection, ends in it.
    """

    def __init__(
        self, known: Coefficients, up: Array, down: Array, low: Array, high: Array
    ) -> None:
        self.known, self.up, self.down_slope = known, up, down * known.elements * known.eta_down
        self.low, self.span = low, high - low
        samples = [low + part * self.span for part in _GRID]
        self.cost = np.array([up * known.bits_up(k) + self.down_slope * k for k in samples])
        self.loss = np.array([known.weight * known.loss(k) for k in samples])

    def at(self, alpha: float) -> Array:
        """The minimisers at one alpha, shape (N,)."""
        known = self.known
        nearest = np.argmin(self.cost + alpha * self.loss, axis=0)
        left = self.low + _GRID[np.maximum(nearest - 1, 0)] * self.span
        right = self.low + _GRID[np.minimum(nearest + 1, len(_GRID) - 1)] * self.span
        weight = alpha * known.weight

        def slope_at(keep: Array) -> Array:
            bits = self.up * known.bits_up_slope(keep) + self.down_slope
            return np.asarray(bits + weight * known.loss_slope(keep))

        # at an end of the range halving would only come near: see whether the end itself is best
        right = np.where((nearest == 0) & (slope_at(left) >= 0.0), left, right)
        left = np.where((nearest == len(_GRID) - 1) & (slope_at(right) <= 0.0), right, left)
        middle = 0.5 * (left + right)
        for _ in range(_NEWTON_STEPS):
            slope = slope_at(middle)
            rising = slope > 0.0
            right = np.where(rising, middle, right)
            left = np.where(rising, left, middle)
            bend = self.up * known.bits_up_bend(middle) + weight * known.loss_bend(middle)
            after = middle - slope / np.where(bend > 0.0, bend, np.inf)
            inside = (bend > 0.0) & (left <= after) & (after <= right)
            middle = np.where(inside, after, 0.5 * (left + right))
        return np.asarray(middle)
