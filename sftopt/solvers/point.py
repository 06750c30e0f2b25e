"""An integral point as arrays: its payloads, shares and delay, and the plan it becomes.

Solver-side arithmetic on derived arrays; the judge recomputes all of it from the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import LN2, Derived, Option
from sftopt.core.instance import DownlinkPayload, ModeKind, ServerOrder
from sftopt.core.plan import DevicePlan, Plan, Provenance
from sftopt.solvers.spectrum.least_time import least_time

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class IntegralPoint:
    """Cuts, option indices and keep fractions, all of shape (N,)."""

    cuts: Integers
    choice: Integers
    keep: Array

    def with_keep(self, keep: Array) -> IntegralPoint:
        """The same cuts and options with other keep fractions."""
        return replace(self, keep=keep)

    def candidate(self, derived: Derived) -> Candidate:
        """As the solvers' common currency."""
        return Candidate.of(self.cuts, self.choice, self.keep, len(derived.options))


class Coefficients:
    """Per-device coefficients of equations (1), (2) and (12) at fixed options, shapes (N,).

    beta = rho eta_u + omega H2(rho) + constant_u, beta_g = rho eta_d + constant_d,
    loss = loss_scale exp(-a_2 rho) + rho noise_slope + noise_constant. Options without a mask
    have eta = omega = 0 and a domain of one point, so their loss is a constant too.
    """

    def __init__(self, derived: Derived, cuts: Integers, choice: Integers) -> None:
        options = derived.options

        def pick(values: list[float]) -> Array:
            return np.array(values)[choice]

        masked = [o.has_mask for o in options]
        reference = derived.reference_bits
        dense_down = derived.downlink is DownlinkPayload.DENSE
        plain_up = [reference if o.kind is ModeKind.NONE else o.eta + o.sigma for o in options]
        pairs = list(zip(options, masked, strict=True))
        self.eta_up = pick([o.eta if m else 0.0 for o, m in pairs])
        self.omega = pick([o.omega if m else 0.0 for o, m in pairs])
        self.constant_up = pick(
            [o.sigma if m else up for (o, m), up in zip(pairs, plain_up, strict=True)]
        )
        self.eta_down = pick([o.eta if m and not dense_down else 0.0 for o, m in pairs])
        self.constant_down = pick(
            [
                reference if dense_down else (o.sigma if m else up)
                for (o, m), up in zip(pairs, plain_up, strict=True)
            ]
        )
        self.low = pick([o.keep_low for o in options])
        self.high = pick([o.keep_high for o in options])
        none = pick([float(o.kind is ModeKind.NONE) for o in options])
        self.decay = derived.decay
        self.loss_scale = derived.loss_keep * derived.cut_factor[cuts] * (1.0 - none)
        noise = pick([o.noise for o in options])
        self.noise_slope = noise if derived.noise_scales else np.zeros_like(noise)
        self.noise_constant = np.zeros_like(noise) if derived.noise_scales else noise
        self.elements = derived.elements
        self.weight = derived.weight

    def bits_up(self, keep: Array) -> Array:
        """b E beta, equation (1)."""
        inner = np.clip(keep, 1e-300, 1.0 - 1e-16)
        entropy = -(inner * np.log(inner) + (1.0 - inner) * np.log1p(-inner)) / LN2
        value: Array = self.elements * (
            keep * self.eta_up + self.omega * entropy + self.constant_up
        )
        return value

    def bits_up_slope(self, keep: Array) -> Array:
        """d(b E beta)/d rho."""
        inner = np.clip(keep, 1e-300, 1.0 - 1e-16)
        value: Array = self.elements * (
            self.eta_up + self.omega * (np.log1p(-inner) - np.log(inner)) / LN2
        )
        return value

    def bits_up_bend(self, keep: Array) -> Array:
        """d^2(b E beta)/d rho^2, at most 0."""
        inner = np.clip(keep, 1e-300, 1.0 - 1e-16)
        return -self.elements * self.omega / (LN2 * inner * (1.0 - inner))

    def bits_down(self, keep: Array) -> Array:
        """b E beta_g, equation (2)."""
        return self.elements * (keep * self.eta_down + self.constant_down)

    def loss(self, keep: Array) -> Array:
        """a_0 - a(rho, q), equation (12)."""
        value: Array = (
            self.loss_scale * np.exp(-self.decay * keep)
            + keep * self.noise_slope
            + self.noise_constant
        )
        return value

    def loss_slope(self, keep: Array) -> Array:
        """d loss / d rho."""
        value: Array = -self.decay * self.loss_scale * np.exp(-self.decay * keep) + self.noise_slope
        return value

    def loss_bend(self, keep: Array) -> Array:
        """d^2 loss / d rho^2, at least 0."""
        value: Array = self.decay**2 * self.loss_scale * np.exp(-self.decay * keep)
        return value

    def mean_loss(self, keep: Array) -> float:
        """SUM w_n loss_n."""
        return float((self.weight * self.loss(keep)).sum())


@dataclass(frozen=True)
class Delay:
    """The round of a point at its best shares, equations (7)-(9), (14)."""

    round_s: float
    tau_up_s: float
    tau_down_s: float
    uplink_shares: Array
    downlink_shares: Array
    adapter_shares: Array


def server_s(derived: Derived, cuts: Integers) -> float:
    """The server's time per step, equation (7)."""
    each = derived.s3_base_s - cuts * derived.s3_block_s
    return float(each.sum() if derived.server_order is ServerOrder.IN_TURN else each.max())


def best_delay(
    derived: Derived, point: IntegralPoint, coefficients: Coefficients | None = None
) -> Delay:
    """Shares of least delay for a point and the round they give; equation (14)."""
    known = coefficients or Coefficients(derived, point.cuts, point.choice)
    tau_up, up = least_time(
        derived.s1_base_s + point.cuts * derived.s1_block_s,
        known.bits_up(point.keep),
        derived.uplink_law,
    )
    tau_down, down = least_time(
        derived.s5_base_s + point.cuts * derived.s5_block_s,
        known.bits_down(point.keep),
        derived.downlink_law,
    )
    adapter_bits = np.asarray(point.cuts * derived.adapter_bits_per_block, dtype=float)
    tau_a, adapter = least_time(np.zeros(derived.devices), adapter_bits, derived.uplink_law)
    step = tau_up + server_s(derived, point.cuts) + tau_down
    total = derived.steps * step + tau_a + derived.adapter_down_s(point.cuts)
    return Delay(total, tau_up, tau_down, up, down, adapter)


def to_plan(
    derived: Derived,
    point: IntegralPoint,
    provenance: Provenance,
    instance_name: str,
    shares: Shares | None = None,
) -> Plan:
    """The plan of a point, at its best shares unless ``shares`` are given."""
    if shares is None:
        best = best_delay(derived, point)
        shares = Shares(best.uplink_shares, best.downlink_shares, best.adapter_shares)
    parts = []
    for n, name in enumerate(derived.ids):
        option = derived.options[int(point.choice[n])]
        parts.append(
            DevicePlan(
                id=name,
                blocks=int(point.cuts[n]),
                mode=option.kind,
                mode_name=option.label,
                bits=option.bits,
                keep_fraction=float(point.keep[n]) if option.has_mask else 1.0,
                uplink_share=float(shares.uplink[n]),
                downlink_share=float(shares.downlink[n]),
                adapter_uplink_share=float(shares.adapter[n]),
            )
        )
    return Plan(
        instance_hash=derived.instance_hash,
        instance_name=instance_name,
        provenance=provenance,
        devices=tuple(parts),
    )


def _is_mode_of(option: Option, part: DevicePlan) -> bool:
    if part.mode_name is not None:
        return option.label == part.mode_name
    return option.kind is part.mode and (option.kind is ModeKind.NONE or option.bits == part.bits)


def from_plan(derived: Derived, plan: Plan) -> IntegralPoint:
    """The point behind a plan (its shares are dropped). Raises KeyError for a foreign plan."""
    by_id = {part.id: part for part in plan.devices}
    cuts, choice, keep = [], [], []
    for name in derived.ids:
        part = by_id[name]
        fits = [index for index, option in enumerate(derived.options) if _is_mode_of(option, part)]
        inside = [
            index
            for index in fits
            if derived.options[index].keep_low
            <= part.keep_fraction
            <= derived.options[index].keep_high
        ]
        cuts.append(part.blocks)
        choice.append((inside or fits)[0] if fits else 0)
        keep.append(part.keep_fraction)
    return IntegralPoint(
        np.array(cuts, dtype=np.int64), np.array(choice, dtype=np.int64), np.array(keep)
    )


def plan_shares(derived: Derived, plan: Plan) -> Shares:
    """The shares of a plan, each shape (N,). Raises KeyError for a foreign plan."""
    by_id = {part.id: part for part in plan.devices}
    parts = [by_id[name] for name in derived.ids]
    return Shares(
        np.array([part.uplink_share for part in parts]),
        np.array([part.downlink_share for part in parts]),
        np.array([part.adapter_uplink_share or 0.0 for part in parts]),
    )
