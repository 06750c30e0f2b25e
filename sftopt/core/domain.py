"""The judge's reading of a plan: which mode it names, and what it asks that nothing counts.

Part of the judge: like :mod:`sftopt.core.verify` it knows neither formulations nor solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import DevicePlan, Order, Plan


@dataclass(frozen=True)
class Miss:
    """A field of a plan that lies outside its domain: by ``amount``, ``unit`` says of what."""

    index: str
    amount: float
    unit: str


def mode_of(instance: Instance, part: DevicePlan) -> Mode | None:
    """Return the mode that an entry names, by name or else by kind and bits; None where none is.

    Kind and bits that several modes share name none of them.
    """
    modes = instance.compression.modes
    if part.mode_name is not None:
        return next((mode for mode in modes if mode.label == part.mode_name), None)
    fitting = [mode for mode in modes if _kind_and_bits(mode, part)]
    return fitting[0] if len(fitting) == 1 else None


def _kind_and_bits(mode: Mode, part: DevicePlan) -> bool:
    return mode.kind is part.mode and (mode.kind is ModeKind.NONE or mode.bits == part.bits)


def mode_misses(instance: Instance, part: DevicePlan, mode: Mode | None) -> list[Miss]:
    """List what is wrong with the mode of an entry, given what :func:`mode_of` found for it."""
    modes = instance.compression.modes
    if mode is not None:
        found = []
        if mode.kind is not part.mode:
            text = f"mode: '{mode.label}' is of kind {mode.kind.value}, not {part.mode.value}"
            found.append(Miss(f"{part.id}.mode", 1.0, text))
        elif not _kind_and_bits(mode, part):
            text = f"bits: mode '{mode.label}' has {mode.bits}"
            found.append(Miss(f"{part.id}.bits", float(abs(part.bits - mode.bits)), text))
        return found
    if part.mode_name is not None:
        offered = ", ".join(mode.label for mode in modes)
        text = f"mode: '{part.mode_name}' is not on offer ({offered})"
        return [Miss(f"{part.id}.mode_name", 1.0, text)]
    alike = [mode.label for mode in modes if _kind_and_bits(mode, part)]
    if alike:
        text = f"mode name: {', '.join(alike)} are of this kind and these bits"
        return [Miss(f"{part.id}.mode_name", 1.0, text)]
    offered_bits = [mode.bits for mode in modes if mode.kind is part.mode]
    nearest = min((abs(part.bits - bits) for bits in offered_bits), default=1)
    return [Miss(f"{part.id}.mode", float(max(nearest, 1)), "bits to a mode on offer")]


def uncounted(
    instance: Instance, plan: Plan, parts: Sequence[DevicePlan], modes: Sequence[Mode | None]
) -> list[Miss]:
    """List what a plan asks that equations (1)-(12) do not count: no delay can be stated for it."""
    found = []
    if plan.order is not Order.PARALLEL:
        text = f"order: '{plan.order.value}' is not judged yet, only 'parallel' is"
        found.append(Miss("all.order", 1.0, text))
    rank, speed = instance.workload.lora_rank, instance.server.compute_flops_per_s
    for part, mode in zip(parts, modes, strict=True):
        if mode is not None and mode.beyond_equations:
            text = f"mode: '{mode.label}' has {mode.beyond_equations}, which is not judged yet"
            found.append(Miss(f"{part.id}.mode", 1.0, text))
        if part.rank is not None and part.rank != rank:
            text = f"rank: only the workload's {rank} is judged yet"
            found.append(Miss(f"{part.id}.rank", float(abs(part.rank - rank)), text))
        if part.server_flops_per_s is not None and part.server_flops_per_s != speed:
            text = f"FLOP/s: only the server's {speed:g} is judged yet"
            amount = abs(part.server_flops_per_s - speed)
            found.append(Miss(f"{part.id}.server_flops_per_s", amount, text))
    return found
