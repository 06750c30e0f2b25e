"""Payload and loss of every device as functions of its keep fraction, at fixed cuts and options.

Solver-side arithmetic on derived arrays; the judge recomputes all of it from the plan.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option
from sftopt.core.entropy import LN2, entropy_slope_nats, inside, payload_bits
from sftopt.core.instance import DownlinkPayload, ModeKind

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class Coefficients:
    """Per-device coefficients of equations (1), (2) and (12) at fixed options, shapes (N,).

    beta = rho eta_u + omega H2(rho) + constant_u, beta_g = rho eta_d + constant_d,
    loss = loss_scale exp(-a_2 rho) + rho noise_slope + noise_constant. Options without a mask
    have eta = omega = 0 and a domain of one point, so their loss is a constant too; so is the
    measured one of an operating point. Side bits are a part of the payload up.
    """

    def __init__(self, derived: Derived, cuts: Integers, choice: Integers) -> None:
        options = derived.options

        def pick(values: list[float]) -> Array:
            return np.array(values)[choice]

        masked = [o.has_mask for o in options]
        dense_down = derived.downlink is DownlinkPayload.DENSE
        pairs = list(zip(options, masked, strict=True))
        self.eta_up = pick([o.eta if m else 0.0 for o, m in pairs])
        self.omega = pick([o.omega if m else 0.0 for o, m in pairs])
        self.constant_up = derived.constants_up[choice]
        self.eta_down = pick([o.eta if m and not dense_down else 0.0 for o, m in pairs])
        self.constant_down = derived.constants_down[choice]
        self.low = pick([o.keep_low for o in options])
        self.high = pick([o.keep_high for o in options])
        by_curve = pick([float(_follows_curve(o)) for o in options])
        self.decay = derived.decay
        self.loss_scale = derived.loss_keep * derived.cut_factor[cuts] * by_curve
        noise = pick([o.noise if o.own_loss is None else 0.0 for o in options])
        self.noise_slope = noise if derived.noise_scales else np.zeros_like(noise)
        self.noise_constant = np.zeros_like(noise) if derived.noise_scales else noise
        for index, option in enumerate(() if derived.plain else options):
            if option.own_loss is not None:
                own = choice == index
                self.noise_constant[own] = option.own_loss[cuts[own]]
        self.elements = derived.elements
        self.weight = derived.weight

    def bits_up(self, keep: Array) -> Array:
        """Return the uplink payload b E beta in bits per step, (N,); equation (1)."""
        return self.elements * payload_bits(keep, self.eta_up, self.omega, self.constant_up)

    def bits_up_slope(self, keep: Array) -> Array:
        """Return d(b E beta)/d rho in bits per unit of keep fraction, (N,)."""
        value: Array = self.elements * (self.eta_up + self.omega * entropy_slope_nats(keep) / LN2)
        return value

    def bits_up_bend(self, keep: Array) -> Array:
        """Return d^2(b E beta)/d rho^2 in bits per squared keep fraction, (N,), at most 0."""
        inner = inside(keep)
        return -self.elements * self.omega / (LN2 * inner * (1.0 - inner))

    def bits_down(self, keep: Array) -> Array:
        """Return the downlink payload b E beta_g in bits per step, (N,); equation (2)."""
        return self.elements * (keep * self.eta_down + self.constant_down)

    def loss(self, keep: Array) -> Array:
        """Return the loss of accuracy a_0 - a(rho, q), (N,); equation (12)."""
        value: Array = (
            self.loss_scale * np.exp(-self.decay * keep)
            + keep * self.noise_slope
            + self.noise_constant
        )
        return value

    def loss_slope(self, keep: Array) -> Array:
        """Return d loss / d rho, (N,)."""
        value: Array = -self.decay * self.loss_scale * np.exp(-self.decay * keep) + self.noise_slope
        return value

    def loss_bend(self, keep: Array) -> Array:
        """Return d^2 loss / d rho^2, (N,), at least 0."""
        value: Array = self.decay**2 * self.loss_scale * np.exp(-self.decay * keep)
        return value

    def mean_loss(self, keep: Array) -> float:
        """Return the mean loss of accuracy SUM w_n loss_n of equation (12)."""
        return float((self.weight * self.loss(keep)).sum())


def _follows_curve(option: Option) -> bool:
    """Whether equation (12)'s curve is the option's loss."""
    return option.kind is not ModeKind.NONE and option.own_loss is None
