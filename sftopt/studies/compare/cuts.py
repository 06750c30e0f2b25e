"""The rules by which schemes cut, and the ranks and server speeds that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from numbers import Real
from statistics import median
from typing import Any

import numpy as np

from sftopt.core.derived import derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Device, Instance, Mode
from sftopt.core.memory import device_memory_bytes
from sftopt.core.schemes.base import CutRule, RankRule, SpeedRule
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, Tolerance
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.turns import Choice, Speeds, Turn, best_choice, turns_of


def fixed_cut(instance: Instance, request: Request) -> int:
    """Return the blocks of a fixed cut: the option ``cut``, or max(1, floor(L/4))."""
    if "cut" in request.options:
        return int(request.options["cut"])
    return max(1, instance.workload.blocks // 4)


def parallel_cuts(instance: Instance, request: Request) -> list[int]:
    """Return the blocks of every device by a rule that looks at no turns."""
    rule, count = request.scheme.cut, len(instance.devices)
    if rule is CutRule.OWN:
        return _own_cuts(instance, request)
    if rule is CutRule.ALL:
        return [instance.workload.blocks] * count
    if rule is CutRule.BY_SPEED:
        return _cuts_by_speed(instance, request)
    if rule in (CutRule.MOST, CutRule.LEAST):
        derived = derive(instance)
        ends = derived.cut_high if rule is CutRule.MOST else derived.cut_low
        return [max(int(cut), 0) for cut in ends]
    return [fixed_cut(instance, request)] * count


def _own_cuts(instance: Instance, request: Request) -> list[int]:
    """What a plug-in says, checked. Raises InputError where it is no list of whole blocks."""
    assert request.scheme.own_cuts is not None
    count, most = len(instance.devices), instance.workload.blocks
    try:
        given = request.scheme.own_cuts(instance, request.options)
        cuts = list(islice(given, count + 1))  # what never ends is too long as well
    except (Exception, SystemExit) as error:  # noqa: BLE001  foreign code may fail
        raise RefusedError(
            f"scheme '{request.scheme.name}': its own_cuts failed: {type(error).__name__}: {error}"
        ) from None
    if len(cuts) != count or not all(_is_whole(cut, most) for cut in cuts):
        shown = ", ".join(str(cut) for cut in cuts[:8]) + (" .." if len(cuts) > 8 else "")
        raise InputError(
            f"scheme '{request.scheme.name}': its cuts are [{shown}]; own_cuts must give "
            f"{count} whole numbers of 0 to {most} blocks, one for each device"
        )
    return [int(cut) for cut in cuts]


def _is_whole(value: Any, most: int) -> bool:
    """Whether a plug-in's value is a whole number of 0 to ``most``, NumPy's or a float's too."""
    return (
        isinstance(value, Real | np.number)
        and 0 <= float(value) <= most
        and float(value).is_integer()
    )


def _cuts_by_speed(instance: Instance, request: Request) -> list[int]:
    """HSplitLoRA's: the faster a device, the more blocks, as memory allows.

    Moved into [max(1, l_min), memory]; where that is empty the floor stays, and is refused.
    """
    most = [int(cut) for cut in derive(instance).cut_high]
    lowest = [max(1, device.blocks_min) for device in instance.devices]
    if request.options.get("cuts") == "memory":
        wanted = most
    else:
        middle = median(device.compute_flops_per_s for device in instance.devices)
        base = fixed_cut(instance, request)
        speeds = [device.compute_flops_per_s for device in instance.devices]
        wanted = [math.floor(base * speed / middle + 0.5) for speed in speeds]
    ends = zip(wanted, lowest, most, strict=True)
    return [max(min(cut, high), low) for cut, low, high in ends]


def ranks_of(instance: Instance, request: Request, cuts: Sequence[int]) -> list[int] | list[None]:
    """Return the rank of every device; None for all where the workload's holds."""
    if request.scheme.ranks is RankRule.WORKLOAD:
        return [None] * len(instance.devices)
    top = int(request.options.get("rank", instance.workload.lora_rank))
    fastest = max(device.compute_flops_per_s for device in instance.devices)
    steps = sorted({top, *(2**k for k in range(top.bit_length()) if 2**k <= top)})
    tolerance = Tolerance(FEASIBILITY_TOLERANCE)
    work = instance.workload

    def rank(device: Device, cut: int) -> int:
        if device.lora_rank is not None:
            return device.lora_rank
        share = top * device.compute_flops_per_s / fastest
        limit = tolerance.most_bytes(device.memory_bytes)
        fitting = [
            step
            for step in steps
            if step <= share * (1.0 + 1e-12)
            and device_memory_bytes(work, device, cut, rank=step) <= limit
        ]
        return max(fitting, default=1)

    return [rank(device, cut) for device, cut in zip(instance.devices, cuts, strict=True)]


def sequential_decisions(
    instance: Instance, request: Request, mode: Mode
) -> tuple[list[int], list[float] | list[None]]:
    """Return blocks and server speed of every device of a sequential scheme.

    Speed in FLOP/s, None for all where the instance's holds. Where no cut fits a device, it gets
    its floor, which is then refused.
    """
    scheme, count = request.scheme, len(instance.devices)
    if scheme.cut not in (CutRule.COST, CutRule.MOST, CutRule.LEAST):
        fastest = None if scheme.server_speed is SpeedRule.GIVEN else Speeds.of(instance).most
        speed: list[Any] = [fastest] * count
        return parallel_cuts(instance, request), speed
    factor = 1.0 / count if request.options.get("power") == "share" else 1.0
    speeds = Speeds.of(instance)
    chosen = []
    for device in instance.devices:
        turns = [t for t in turns_of(instance, scheme, mode, device, factor) if t.fits]
        chosen.append(_choice(request, device, turns, speeds))
    cuts, flops = [one.cut for one in chosen], [one.flops_per_s for one in chosen]
    return cuts, [None] * count if scheme.server_speed is SpeedRule.GIVEN else flops


def _choice(request: Request, device: Device, turns: list[Turn], speeds: Speeds) -> Choice:
    if not turns:
        return Choice(device.blocks_min, speeds.most)
    if request.scheme.cut is CutRule.COST:
        return best_choice(turns, float(request.options["w"]), speeds)
    last = request.scheme.cut is CutRule.MOST
    return Choice(turns[-1 if last else 0].cut, speeds.most)
