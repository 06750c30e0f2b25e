"""Sequential schemes: what one device's turn costs at every cut, and CARD's choice among them.

A turn is judged as a round of its one device, which has the whole band; turns share nothing but the
server, one after another. CARD weighs the turn's delay D, adapters included, and the server's
energy E = kappa_s f^2 W, each by its range over the device's feasible cuts and the server's speeds:

    min over cut and f of w (D - Dmin) / (Dmax - Dmin) + (1 - w) (E - Emin) / (Emax - Emin).

D = A + W / f, so the best speed is f* = (w DE / (2 (1 - w) kappa_s DD))^(1/3), moved into
[f_min, f_max]: the same for all cuts, as W cancels. E is in proportion to kappa_s, which cancels as
well: the choice stands where the instance names none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sftopt.core.instance import Device, Instance, Mode
from sftopt.core.schemes.base import Scheme
from sftopt.core.verify import verify_plan
from sftopt.core.violations import Family
from sftopt.studies.compare.plans import plan_of

_LIMITS = (Family.DEVICE_MEMORY, Family.SERVER_MEMORY, Family.DOMAIN)
"""What a cut can break."""


@dataclass(frozen=True)
class Turn:
    """One device's turn at one cut, with the server at its fastest."""

    cut: int
    delay_s: float
    server_s: float
    """Seconds that the server works for it, of ``delay_s``."""
    fits: bool
    """Whether floor and memories allow the cut."""


@dataclass(frozen=True)
class Speeds:
    """The range of the server's speed in FLOP/s."""

    least: float
    most: float

    @staticmethod
    def of(instance: Instance) -> Speeds:
        """Return the instance's range; where it names none, f_s/4 to f_s."""
        server = instance.server
        speed, most = server.compute_flops_per_s, server.compute_max_flops_per_s
        least = server.compute_min_flops_per_s or min(speed / 4.0, most or speed)
        return Speeds(least, most or max(speed, least))


@dataclass(frozen=True)
class Choice:
    """The cut and the server's speed in FLOP/s for one device."""

    cut: int
    flops_per_s: float


def best_choice(turns: Sequence[Turn], weight: float, speeds: Speeds) -> Choice:
    """Return CARD's cut and server speed of least cost for one device; ties: the smaller cut."""
    delay_s, energy = _range(turns, speeds, _delay_s), _range(turns, speeds, _energy)
    speed = best_speed(weight, delay_s[1] - delay_s[0], energy[1] - energy[0], speeds)

    def cost(turn: Turn) -> float:
        slow = _scaled(_delay_s(turn, speed, speeds), delay_s)
        dear = _scaled(_energy(turn, speed, speeds), energy)
        return weight * slow + (1.0 - weight) * dear

    best = min(turns, key=lambda turn: (cost(turn), turn.cut))
    return Choice(best.cut, speed)


def best_speed(weight: float, delay_range: float, energy_range: float, speeds: Speeds) -> float:
    """Return f* in FLOP/s, the same for all cuts; ``energy_range`` is in units of kappa_s."""
    if weight >= 1.0 or energy_range <= 0.0:
        return speeds.most
    if weight <= 0.0 or delay_range <= 0.0:
        return speeds.least
    free = math.cbrt(weight * energy_range / (2.0 * (1.0 - weight) * delay_range))
    return min(max(free, speeds.least), speeds.most)


def _delay_s(turn: Turn, speed: float, speeds: Speeds) -> float:
    """The turn's delay with the server at another speed: its part of it grows as 1/f."""
    return turn.delay_s + turn.server_s * (speeds.most / speed - 1.0)


def _energy(turn: Turn, speed: float, speeds: Speeds) -> float:
    """f^2 W: the server's energy in units of kappa_s."""
    return speed**2 * turn.server_s * speeds.most


def _range(
    turns: Sequence[Turn], speeds: Speeds, value: Callable[[Turn, float, Speeds], float]
) -> tuple[float, float]:
    values = [value(turn, speed, speeds) for turn in turns for speed in (speeds.least, speeds.most)]
    return min(values), max(values)


def _scaled(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies in its range; a range of nothing drops its term."""
    low, high = ends
    return (value - low) / (high - low) if high > low else 0.0


def turns_of(
    instance: Instance, scheme: Scheme, mode: Mode, device: Device, power_factor: float
) -> list[Turn]:
    """List a device's turns, one for every cut that has a finite delay.

    ``power_factor``: what part of p_n the device radiates.
    """
    watts = device.transmit_power_w * power_factor
    alone = device.model_copy(update={"weight": 1.0, "transmit_power_w": watts})
    cell = instance.model_copy(update={"devices": (alone,)})
    speed, steps = Speeds.of(instance).most, instance.training.local_steps
    found = []
    for cut in range(instance.workload.blocks):
        verdict = verify_plan(cell, plan_of(cell, scheme, mode, [cut], [None], [speed]))
        if verdict.breakdown is None:
            continue
        found.append(
            Turn(
                cut,
                verdict.breakdown.round_s,
                steps * verdict.breakdown.devices[0].s3_s,
                not any(v.family in _LIMITS for v in verdict.violations),
            )
        )
    return found
