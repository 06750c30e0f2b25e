"""A search of its own for the tests: good points of the large problem (13), no solver involved.

Compression on a grid of (option, keep fraction), priced by the links' shadow prices and one common
multiplier on accuracy; cuts by moving one device's, or two devices' in opposite directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, derive
from sftopt.core.instance import AccuracyScope, Instance, PowerLaw, ServerOrder
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.spectrum import RateLaw, least_time

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """What was found: cuts, options, keep fractions and shares, all of shape (N,)."""

    delay_s: float
    cuts: Integers
    options: Integers
    keep: Array
    up: Array
    down: Array
    adapters: Array

    def plan(self, instance: Instance, derived: Derived) -> Plan:
        """For the judge."""
        total = instance.radio.power is PowerLaw.TOTAL
        return Plan(
            instance_hash=instance.hash,
            devices=tuple(
                DevicePlan(
                    id=derived.ids[n],
                    blocks=int(self.cuts[n]),
                    mode=derived.options[self.options[n]].kind,
                    bits=derived.options[self.options[n]].bits,
                    keep_fraction=float(self.keep[n]),
                    uplink_share=float(self.up[n]),
                    downlink_share=float(self.down[n]),
                    adapter_uplink_share=float(self.adapters[n]) if total else None,
                )
                for n in range(derived.devices)
            ),
        )


class CoordinateDescent:
    """One instance; :meth:`best` searches, :meth:`best_uniform` does so over equal decisions."""

    def __init__(self, instance: Instance, grid: int = 41) -> None:
        self.d = derive(instance)
        pairs = [
            (index, keep)
            for index, option in enumerate(self.d.options)
            for keep in np.linspace(
                option.keep_low, option.keep_high, grid if option.has_mask else 1
            )
        ]
        options = self.d.options
        self.option = np.array([index for index, _ in pairs])
        self.keep = np.array([keep for _, keep in pairs])
        self.beta_up = np.array([float(self.d.beta_up(options[i], k)) for i, k in pairs])
        self.beta_down = np.array([float(self.d.beta_down(options[i], k)) for i, k in pairs])
        self.loss = np.array([float(self.d.loss(options[i], k)) for i, k in pairs])

    def point(self, cuts: Integers, choice: Integers) -> Point:
        """The delay and best shares at these cuts and grid points."""
        return self._point(cuts, choice)[0]

    def _point(self, cuts: Integers, choice: Integers) -> tuple[Point, Array]:
        """The point, and the shadow price of each grid point for each device, shape (N, grid)."""
        d = self.d
        up_fixed = d.s1_base_s + cuts * d.s1_block_s
        down_fixed = d.s5_base_s + cuts * d.s5_block_s
        up_bits, down_bits = d.elements * self.beta_up[choice], d.elements * self.beta_down[choice]
        tau_u, up = least_time(up_fixed, up_bits, d.uplink_law)
        tau_d, down = least_time(down_fixed, down_bits, d.downlink_law)
        server = d.s3_base_s - cuts * d.s3_block_s
        server_s = server.sum() if d.server_order is ServerOrder.IN_TURN else server.max()
        zero = np.zeros(d.devices)
        tau_a, adapters = least_time(zero, cuts * d.adapter_bits_per_block, d.uplink_law)
        round_s = d.steps * (tau_u + server_s + tau_d) + tau_a + d.adapter_down_s(cuts)
        price = np.outer(
            _price(tau_u - up_fixed, up_bits, d.uplink_law) * d.elements, self.beta_up
        ) + np.outer(
            _price(tau_d - down_fixed, down_bits, d.downlink_law) * d.elements, self.beta_down
        )
        found = Point(round_s, cuts, self.option[choice], self.keep[choice], up, down, adapters)
        return found, price

    def compress(self, cuts: Integers, choice: Integers, rounds: int) -> Integers:
        """Grid points that minimise priced payload within the accuracy limits."""
        d = self.d
        allowed = self.loss <= d.loss_budget_each + 1e-12
        for _ in range(rounds):
            price = np.where(allowed, self._point(cuts, choice)[1], np.inf)

            def pick(multiplier: float, price: Array = price) -> Integers:
                return np.argmin(price + multiplier * d.weight[:, None] * self.loss, axis=1)

            low, high = 0.0, 1e9
            for _ in range(50 if d.scope is AccuracyScope.MEAN else 0):
                middle = float(np.sqrt(max(low, 1e-6) * high))
                if d.weight @ self.loss[pick(middle)] <= d.loss_budget:
                    high = middle
                else:
                    low = middle
            new = pick(high if d.scope is AccuracyScope.MEAN else 0.0)
            if np.array_equal(new, choice):
                break
            choice = new
        return choice

    def fits(self, cuts: Integers) -> bool:
        """Device memory, privacy floors and server memory."""
        d = self.d
        if np.any(cuts < d.cut_low) or np.any(cuts > d.cut_high):
            return False
        held = float((d.server_activation_bytes * (d.blocks - cuts)).sum())
        return d.server_order is ServerOrder.IN_TURN or held <= d.server_activation_budget_bytes

    def best(self) -> Point:
        """The best of three starts."""
        d = self.d
        starts = (d.cut_low, (d.cut_low + d.cut_high) // 2, d.cut_high)
        found = [self._descend(cuts.copy()) for cuts in starts if self.fits(cuts)]
        return min(found, key=lambda point: point.delay_s)

    def _descend(self, cuts: Integers) -> Point:
        n = self.d.devices
        safest = np.full(n, int(np.argmin(self.loss)))
        choice = self.compress(cuts, safest, 12)
        value = self.point(cuts, choice).delay_s
        unit = np.eye(n, dtype=np.int64)
        moves = [sign * unit[i] for i in range(n) for sign in (-1, 1, -2, 2)]
        moves += [unit[i] - unit[k] for i in range(n) for k in range(n) if i != k]
        improved = True
        while improved:
            improved = False
            for move in moves:
                if not self.fits(cuts + move):
                    continue
                other = self.compress(cuts + move, choice, 3)
                new = self.point(cuts + move, other).delay_s
                if new < value * (1.0 - 1e-9):
                    cuts, choice, value, improved = cuts + move, other, new, True
        return self.point(cuts, choice)

    def best_uniform(self) -> float:
        """The least delay with one cut, one mode and one keep fraction for all, by enumeration."""
        d = self.d
        allowed = np.flatnonzero(self.loss <= min(d.loss_budget, d.loss_budget_each))
        # within an option the payload grows with the keep fraction: its first allowed one is best
        firsts = np.unique(self.option[allowed], return_index=True)[1]
        found = [np.inf]
        for cut in range(d.blocks):
            cuts = np.full(d.devices, cut)
            if self.fits(cuts):
                found += [
                    self.point(cuts, np.full(d.devices, index)).delay_s for index in allowed[firsts]
                ]
        return float(min(found))


def _price(room_s: Array, bits: Array, law: RateLaw) -> Array:
    """d tau / d bits_n of :func:`least_time`, shape (N,), by implicit differentiation."""
    slope: Any = law.inverse(bits / room_s)[1]
    price: Array = slope / room_s / (slope * bits / room_s**2).sum()
    return price
