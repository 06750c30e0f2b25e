"""Accuracy loss against log payload of one device and option: where convex, and its envelope.

With v = ln beta(rho) and f(v) = loss(rho(v)), f = A e^(-a rho) + m rho + n (equations (1), (12)):

    v' = beta'/beta,   P = beta'/beta - beta''/beta' = -v''/v',   psi = A a e^(-a rho),
    f_v = -(psi - m)/v',   f_vv = (a psi - P (psi - m)) / v'^2.

On the useful interval f falls (psi >= m), so f is convex in v exactly where

    Q = a / (1 - m/psi) - P >= 0                    (equation (16): m = 0 gives a >= P).

The sign of Q is *certified*: on a cell [r, s] of rho, beta'/beta falls, beta' falls, psi falls and
-beta'' = omega / (ln 2 rho (1-rho)) is largest at an end of the cell and smallest at an end or at
1/2; the interval bounds of Q that follow decide the cell or it is halved. Cells that stay open
at a width of 1e-9 count as concave; the error is f_vv width^2 / 8, about 1e-18.

The sign pattern is concave, convex, concave (either concave part may be empty); an interval that
shows another pattern is cut into pieces that have it. For such a piece [p, q] the tangent of f at
a point t of the convex part lies below f on all of [p, q] exactly if it does so at p and at q, and
"at p" holds from some t1 on, "at q" up to some t2, because t -> f_v(t) (v(t) - v(p)) - f(t) + f(p)
has the derivative f_vv(t) (v(t) - v(p)) >= 0 there. So the convex envelope of f is: the line from
p to t1, f itself on [t1, t2], the line from t2 to q; or the chord where t1 > t2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

LN2 = math.log(2.0)
"""Natural logarithm of 2; of its own, as all algebra here."""
_OPEN_WIDTH = 1e-9
"""Width of a cell of rho at which curvature that is still open counts as concave."""
_BELOW_ONE = 1.0 - 2.0**-53
"""Keep fractions of 1 are taken for the double below it: a mask's curve has no end there."""
_BISECTIONS = 200
"""Most halvings; the doubles run out before."""


@dataclass(frozen=True)
class Curve:
    """Payload and loss of one device's option on [low, high]; convex on [convex_low, convex_high].

    The convex interval is empty where convex_low > convex_high; outside it f is concave in v.
    """

    eta: float
    omega: float
    sigma: float
    amplitude: float
    """A = a_1 times the cut's factor."""
    decay: float
    noise_slope: float
    """m: the noise term per unit of rho."""
    noise_base: float
    """n: the noise term without rho."""
    low: float
    high: float
    convex_low: float
    convex_high: float

    def payload(self, keep: float) -> float:
        """Return beta(rho) in bits per element, equation (1)."""
        if self.omega == 0.0:
            return keep * self.eta + self.sigma
        keep = min(keep, _BELOW_ONE)
        entropy = -(keep * math.log(keep) + (1.0 - keep) * math.log1p(-keep)) / LN2
        return keep * self.eta + self.omega * entropy + self.sigma

    def log_payload(self, keep: float) -> float:
        """Return v = ln beta(rho), the natural logarithm of bits per element."""
        return math.log(self.payload(keep))

    def payload_slope(self, keep: float) -> float:
        """Return beta'(rho) > 0 in bits per element and unit of keep fraction, on the domain."""
        if self.omega == 0.0:
            return self.eta
        keep = min(keep, _BELOW_ONE)
        return self.eta + self.omega * (math.log1p(-keep) - math.log(keep)) / LN2

    def loss(self, keep: float) -> float:
        """Return the loss of accuracy a_0 - a(rho, q), equation (12)."""
        fall = self.amplitude * math.exp(-self.decay * keep)
        return fall + self.noise_slope * keep + self.noise_base

    def gain(self, keep: float) -> float:
        """Return psi = A a e^(-a rho): what one unit of rho takes off the loss, noise aside."""
        return self.amplitude * self.decay * math.exp(-self.decay * keep)

    def slope(self, keep: float) -> float:
        """Return f_v = df/dv, loss per unit of log payload."""
        fall = self.gain(keep) - self.noise_slope
        return -fall * self.payload(keep) / self.payload_slope(keep)

    def least_loss_keep(self) -> float:
        """Return the keep fraction at which the loss is least on [low, high]."""
        if self.amplitude == 0.0:
            return self.low
        if self.noise_slope == 0.0:
            return self.high
        turning = math.log(self.amplitude * self.decay / self.noise_slope) / self.decay
        return min(max(turning, self.low), self.high)

    def within(self, budget: float) -> tuple[float, float] | None:
        """Return the least and largest keep fraction in [low, high] with loss <= budget, or None.

        The loss is convex in rho, so they are roots on either side of its minimum; both are
        rounded inwards, so that they meet the limit in floating point.
        """
        best = self.least_loss_keep()
        if self.loss(best) > budget:
            return None
        ends = []
        for end in (self.low, self.high):
            bad, good = end, best
            if self.loss(end) <= budget:
                good = end
            else:
                for _ in range(_BISECTIONS):
                    middle = 0.5 * (bad + good)
                    if middle in (bad, good):
                        break
                    if self.loss(middle) <= budget:
                        good = middle
                    else:
                        bad = middle
            ends.append(good)
        return ends[0], ends[1]


def convexity_bounds(curve: Curve, left: float, right: float) -> tuple[float, float]:
    """Bound Q, without unit, on [left, right] of rho: f is convex there if the first is >= 0."""
    if left >= right:
        right = left
    left, right = min(left, _BELOW_ONE), min(right, _BELOW_ONE)
    product_low = min(left * (1.0 - left), right * (1.0 - right))
    product_high = 0.25 if left <= 0.5 <= right else max(left * (1.0 - left), right * (1.0 - right))
    bend_high = curve.omega / (LN2 * product_low) if curve.omega > 0.0 else 0.0
    bend_low = curve.omega / (LN2 * product_high) if curve.omega > 0.0 else 0.0
    slope_left, slope_right = curve.payload_slope(left), curve.payload_slope(right)
    p_high = slope_left / curve.payload(left) + bend_high / slope_right
    p_low = slope_right / curve.payload(right) + bend_low / slope_left
    return _limit(curve, left) - p_high, _limit(curve, right) - p_low


def _limit(curve: Curve, keep: float) -> float:
    """a / (1 - m/psi), which rises with rho; infinite at the loss's minimum."""
    gain = curve.gain(keep)
    if gain <= curve.noise_slope:
        return math.inf
    return curve.decay / (1.0 - curve.noise_slope / gain)


def split_by_curvature(curve: Curve) -> list[Curve]:
    """Split ``curve`` into pieces that are concave, convex, concave; in practice one piece."""
    cells: list[tuple[float, float, bool]] = []
    stack = [(curve.low, curve.high)]
    while stack:
        left, right = stack.pop()
        least, most = convexity_bounds(curve, left, right)
        if least >= 0.0 or most <= 0.0 or right - left <= _OPEN_WIDTH:
            cells.append((left, right, least >= 0.0))
            continue
        middle = 0.5 * (left + right)
        stack += [(middle, right), (left, middle)]
    pieces: list[Curve] = []
    start, convex = curve.low, (math.inf, -math.inf)
    closed = False  # a concave cell has followed a convex one
    for left, right, is_convex in cells:
        if is_convex and closed:
            pieces.append(_piece(curve, start, left, convex))
            start, convex, closed = left, (math.inf, -math.inf), False
        if is_convex:
            convex = (min(convex[0], left), right)
        elif convex[0] <= convex[1]:
            closed = True
    pieces.append(_piece(curve, start, curve.high, convex))
    return pieces


def _piece(curve: Curve, low: float, high: float, convex: tuple[float, float]) -> Curve:
    return replace(curve, low=low, high=high, convex_low=convex[0], convex_high=convex[1])


@dataclass(frozen=True)
class Envelope:
    """The convex envelope of f on an interval, in v: a line, f itself, a line.

    Left of ``left_v`` it is the line through (left_v, left_loss) of slope left_slope, right of
    ``right_v`` likewise, f between; infinite values where there is no such line.
    """

    left_v: float = -math.inf
    left_loss: float = 0.0
    left_slope: float = 0.0
    right_v: float = math.inf
    right_loss: float = 0.0
    right_slope: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Tell whether the envelope is f everywhere."""
        return self.left_v == -math.inf and self.right_v == math.inf


def envelope(curve: Curve, low: float, high: float) -> Envelope:
    """Return the convex envelope of f in v on keep fractions [low, high] of the curve."""
    if high <= low or (low >= curve.convex_low and high <= curve.convex_high):
        return Envelope()
    first, last = max(low, curve.convex_low), min(high, curve.convex_high)
    v_low, v_high = curve.log_payload(low), curve.log_payload(high)
    loss_low, loss_high = curve.loss(low), curve.loss(high)

    def above_low(keep: float) -> float:
        """Loss at ``low`` minus the tangent at ``keep`` there; rises with ``keep``."""
        rise = curve.slope(keep) * (curve.log_payload(keep) - v_low)
        return rise - (curve.loss(keep) - loss_low)

    def above_high(keep: float) -> float:
        """Loss at ``high`` minus the tangent at ``keep`` there; falls with ``keep``."""
        rise = curve.slope(keep) * (v_high - curve.log_payload(keep))
        return loss_high - curve.loss(keep) - rise

    touch_left = touch_right = math.nan
    if first <= last and above_low(last) >= 0.0 and above_high(first) >= 0.0:
        touch_left = _first_true(lambda keep: above_low(keep) >= 0.0, first, last)
        touch_right = (
            first
            + last
            - _first_true(lambda keep: above_high(first + last - keep) >= 0.0, first, last)
        )
        touch_right = min(max(touch_right, first), last)
    if v_high <= v_low:
        return Envelope()  # no width in v: nothing to bound
    if not touch_left <= touch_right:
        chord = (loss_high - loss_low) / (v_high - v_low)
        return Envelope(right_v=v_low, right_loss=loss_low, right_slope=chord)
    shape = Envelope()
    if low < curve.convex_low and curve.log_payload(touch_left) > v_low:
        v_touch, loss_touch = curve.log_payload(touch_left), curve.loss(touch_left)
        slope = (loss_touch - loss_low) / (v_touch - v_low)
        shape = replace(shape, left_v=v_touch, left_loss=loss_touch, left_slope=slope)
    if high > curve.convex_high and curve.log_payload(touch_right) < v_high:
        v_touch, loss_touch = curve.log_payload(touch_right), curve.loss(touch_right)
        slope = (loss_high - loss_touch) / (v_high - v_touch)
        shape = replace(shape, right_v=v_touch, right_loss=loss_touch, right_slope=slope)
    return shape


def _first_true(test: Callable[[float], bool], low: float, high: float) -> float:
    """The least point of [low, high] from which the monotone ``test`` holds; it holds at high."""
    if test(low):
        return low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if test(middle):
            high = middle
        else:
            low = middle
    return high
