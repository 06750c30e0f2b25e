"""A point of whole cuts and options: its best round, the plan it becomes and the way back.

Solver-side arithmetic on derived arrays; the judge recomputes all of it from the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived, Option
from sftopt.core.instance import ModeKind
from sftopt.core.plan import DevicePlan, Plan, Provenance
from sftopt.core.round import Delay, least_round
from sftopt.core.settle import settled_keep

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SUMS_ERR = 1e-12
"""Rounding of a sum of shares that was added up in another order."""
_BELOW = 1.0 - 4e-16
"""What keeps products below the number they should be."""


@dataclass(frozen=True)
class IntegralPoint:
    """Cuts, option indices and keep fractions, all of shape (N,)."""

    cuts: Integers
    choice: Integers
    keep: Array

    def with_keep(self, keep: Array) -> IntegralPoint:
        """Return the same cuts and options with other keep fractions, (N,)."""
        return replace(self, keep=keep)

    def candidate(self, derived: Derived) -> Candidate:
        """Return the point in the form in which solvers pass points on."""
        return Candidate.of(self.cuts, self.choice, self.keep, len(derived.options))


def best_delay(
    derived: Derived, point: IntegralPoint, coefficients: Coefficients | None = None
) -> Delay:
    """Return the round of a point at its shares of least delay; equation (14).

    ``coefficients`` of the point's cuts and options save time where they are known.
    """
    known = coefficients or Coefficients(derived, point.cuts, point.choice)
    return least_round(
        derived,
        point.cuts,
        known.bits_up(point.keep),
        known.bits_down(point.keep),
        point.choice,
    )


def to_plan(
    derived: Derived,
    point: IntegralPoint,
    provenance: Provenance,
    instance_name: str,
    shares: Shares | None = None,
) -> Plan:
    """Return the plan of a point, at its best shares unless ``shares`` are given.

    Keep fractions and shares that meet a limit up to rounding are moved until they meet it however
    losses and shares are added up.
    """
    point = point.with_keep(settled_keep(derived, point.cuts, point.choice, point.keep))
    if shares is None:
        shares = best_delay(derived, point).shares
    parts_of = (shares.uplink, shares.downlink, shares.adapter)
    shares = Shares(*(_within(part, 1.0 + derived.feas_tol) for part in parts_of))
    parts = []
    for n, name in enumerate(derived.ids):
        option = derived.options[int(point.choice[n])]
        parts.append(
            DevicePlan(
                id=name,
                blocks=int(point.cuts[n]),
                mode_name=option.label,
                mode=option.kind,
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
        feas_tol=derived.feas_tol,
    )


def _within(shares: Array, most: float) -> Array:
    """Shares that sum to ``most`` at most, where only rounding was in the way."""
    total = math.fsum(shares.tolist())
    return shares * (most / total * _BELOW) if most < total <= most + _SUMS_ERR else shares


def _is_mode_of(option: Option, part: DevicePlan) -> bool:
    if part.mode_name is not None:
        return option.label == part.mode_name
    return option.kind is part.mode and (option.kind is ModeKind.NONE or option.bits == part.bits)


def from_plan(derived: Derived, plan: Plan) -> IntegralPoint:
    """Return the point behind a plan, without its shares. Raises KeyError for a foreign plan."""
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
    """Return the shares of a plan, each shape (N,). Raises KeyError for a foreign plan."""
    by_id = {part.id: part for part in plan.devices}
    parts = [by_id[name] for name in derived.ids]
    return Shares(
        np.array([part.uplink_share for part in parts]),
        np.array([part.downlink_share for part in parts]),
        np.array([part.adapter_uplink_share or 0.0 for part in parts]),
    )
