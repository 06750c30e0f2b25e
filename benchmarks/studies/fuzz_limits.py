"""Limits of fuzz's cells: where a plan just meets them, misses them by a hair, or has room.

What a plan just meets is what the judge finds for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.breakdown import mean_accuracy
from sftopt.core.channel import statistical_channel
from sftopt.core.delay import downlink_rate_bits_per_s, uplink_rate_bits_per_s
from sftopt.core.derived import Derived, Option, derive
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.limits import best_keep, reach
from sftopt.core.memory import device_memory_bytes, server_memory_bytes

Data = dict[str, Any]

EXACT = (0.0, 1e-15, -1e-15, 3e-10, -3e-10, 1e-9, -1e-9, 1.1e-9, 5e-7, -5e-7, 1e-4)
"""By what a limit lies beyond what a plan just meets; relative, of accuracy absolute."""
NO_LIMIT = 1e39
"""Memory in bytes that limits nothing."""


class Dice:
    """A generator of random numbers with the distributions that cells are drawn by."""

    def __init__(self, *seed: int) -> None:
        self.draw = np.random.default_rng(seed)

    def spread(self, low: float, high: float) -> float:
        """Return ten to a power between ``low`` and ``high``, without unit."""
        return float(10.0 ** self.draw.uniform(low, high))

    def chance(self, part: float) -> bool:
        """Return true in this part of all cases."""
        return bool(self.draw.random() < part)

    def pick(self, values: Sequence[Any]) -> Any:
        """Return one of ``values``."""
        return values[int(self.draw.integers(len(values)))]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included, without unit."""
        return int(self.draw.integers(low, high + 1))


def put_limit(
    data: Data, instance: Instance, limit: str, edge: bool, feas_tol: float, dice: Dice
) -> None:
    """Put one limit into ``data``: at an edge, with room, or (seldom) beyond what there is."""

    def factor() -> float:
        if edge:
            return 1.0 - dice.pick(EXACT)
        return 0.98 if dice.chance(0.02) else 1.0 + dice.spread(-3.0, 2.0)

    if limit == "device memory":
        for entry, device in zip(data["devices"], instance.devices, strict=True):
            most = min(instance.workload.blocks - 1, device.blocks_max or instance.workload.blocks)
            held = dice.whole(min(device.blocks_min, most), most)
            need = device_memory_bytes(instance.workload, device, held)
            entry["memory_bytes"] = min(max(need * factor(), 1.0), NO_LIMIT)
    elif limit == "server memory":
        derived = derive(instance, feas_tol=feas_tol)
        top = np.maximum(derived.cut_high, derived.cut_floor)
        held_there = [dice.whole(int(low), int(high))
                      for low, high in zip(derived.cut_floor, top, strict=True)]  # fmt: skip
        need = server_memory_bytes(instance, held_there)
        data["server"]["memory_bytes"] = min(max(need * factor(), 1.0), NO_LIMIT)
    elif limit == "outage":
        rate = min(_rates(instance))
        least = rate * (2.0 - factor()) if edge else rate * dice.spread(-6.0, -0.01)
        data["radio"]["outage_rate_bits_per_s"] = min(max(least, 1e-60), 1e39)
    else:
        _accuracy_limit(data, instance, edge, feas_tol, dice)


def _rates(instance: Instance) -> list[float]:
    """The judge's rates over the whole band, both links of every device."""
    known = statistical_channel(instance)
    found = []
    for device, up, down in zip(
        instance.devices, known.uplink_gain, known.downlink_gain, strict=True
    ):
        found.append(uplink_rate_bits_per_s(instance, device, 1.0, up))
        found.append(downlink_rate_bits_per_s(instance, 1.0, down))
    return found


def _accuracy_limit(
    data: Data, instance: Instance, edge: bool, feas_tol: float, dice: Dice
) -> None:
    derived = derive(instance, feas_tol=feas_tol)
    if not derived.options or np.any(derived.cut_low > derived.cut_high):
        data["accuracy"]["minimum"] = data["accuracy"]["uncompressed"] - 1.0
        return
    best = _best_accuracy(instance, derived)
    if edge:
        wanted = best + dice.pick(EXACT)
    elif dice.chance(0.02):
        wanted = best + dice.spread(-5.0, -1.0)
    else:
        wanted = best - dice.pick([0.01, 0.03, dice.spread(-6.0, 1.0), 10.0])
    data["accuracy"]["minimum"] = float(np.clip(wanted, -1e39, 1e39))
    if instance.accuracy.scope is AccuracyScope.MEAN and dice.chance(0.4):
        least = wanted - dice.pick([0.0, dice.spread(-4.0, 0.0), 10.0])
        data["accuracy"]["minimum_each"] = float(np.clip(least, -1e39, 1e39))


def _best_accuracy(instance: Instance, derived: Derived) -> float:
    """The judge's accuracy of the most accurate plan, by the scope; server memory left aside."""
    top = reach(derived)
    limits = instance.accuracy
    if limits.scope is AccuracyScope.COMMON:
        worst = top.cut[[int(np.argmax(derived.cut_factor[top.cut]))]]
        return max(
            _accuracy(instance, option, float(best_keep(derived, option, worst)[0]), int(worst[0]))
            for option in derived.options
        )
    values = [
        _accuracy(instance, derived.options[int(choice)], float(keep), int(cut))
        for choice, keep, cut in zip(top.choice, top.keep, top.cut, strict=True)
    ]
    mean = limits.scope is AccuracyScope.MEAN
    return mean_accuracy(instance, values) if mean else min(values)


def _accuracy(instance: Instance, option: Option, keep: float, cut: int) -> float:
    """The judge's accuracy of an option."""
    mode = instance.compression.modes[option.mode]
    value = predicted_accuracy(instance.accuracy, mode, keep, cut)
    assert value is not None  # no mode on offer without one is an option
    return value
