"""The judge's reading of a plan: which mode it names, and what it asks that cannot be counted.

Part of the judge: like :mod:`sftopt.core.verify` it knows neither formulations nor solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sftopt.core.block_work import (
    block_activation_bytes,
    block_backward_flops,
    block_forward_flops,
    dense_update_bits,
)
from sftopt.core.delay import Conduct
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance, Mode, ModeKind, Workload
from sftopt.core.plan import Aggregation, DevicePlan, Order


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


def modes_of(
    instance: Instance, parts: Sequence[DevicePlan], conduct: Conduct
) -> list[Mode | None]:
    """Return the mode of every entry; in order federated one that sends nothing, on offer or not.

    None where an entry names no mode; :func:`mode_misses` says why.
    """
    if conduct.order is Order.FEDERATED:
        return [_NO_BOUNDARY] * len(parts)
    return [mode_of(instance, part) for part in parts]


_NO_BOUNDARY = Mode(kind=ModeKind.NONE, bits=32)
"""What a device without a boundary is judged by: the accuracy a_0."""


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


def server_speed_misses(instance: Instance, parts: Sequence[DevicePlan]) -> list[Miss]:
    """List the server speeds outside [f_min, f_max]: as given, else a quarter of f_s, and f_s."""
    server = instance.server
    speed = server.compute_flops_per_s
    low = server.compute_min_flops_per_s or min(
        speed / 4.0, server.compute_max_flops_per_s or speed
    )
    high = server.compute_max_flops_per_s or max(speed, low)
    return [
        Miss(f"{part.id}.server_flops_per_s", max(low - asked, asked - high),
             f"FLOP/s outside the server's range of {low:g} to {high:g}")
        for part in parts
        if (asked := part.server_flops_per_s) is not None
        and asked != speed
        and not low <= asked <= high
    ]  # fmt: skip


def uncounted(
    instance: Instance,
    parts: Sequence[DevicePlan],
    modes: Sequence[Mode | None],
    conduct: Conduct,
) -> list[Miss]:
    """List what a plan asks that nothing counts: no delay can be stated for it.

    A rank below 1, ranks that cannot be put together as asked, tokens of a decoder, figures of a
    block that the workload does not give, and what order federated needs.
    """
    found = []
    if conduct.order is Order.FEDERATED:
        found += _federated_misses(instance, parts)
    for part in parts:
        if part.rank is not None and part.rank < 1:
            text = f"rank: is {part.rank}; at least 1 is needed"
            found.append(Miss(f"{part.id}.rank", float(1 - part.rank), text))
        if part.server_flops_per_s is not None and part.server_flops_per_s <= 0.0:
            found.append(Miss(f"{part.id}.server_flops_per_s", -part.server_flops_per_s or 1.0,
                              "FLOP/s; more than 0 are needed"))  # fmt: skip
    if found:
        return found
    return [*_aggregation_misses(instance, parts, conduct),
            *_block_misses(instance, parts, modes, conduct)]  # fmt: skip


def _federated_misses(instance: Instance, parts: Sequence[DevicePlan]) -> list[Miss]:
    """What the whole model on every device needs: L blocks, no mode but none, and the head."""
    work, found = instance.workload, []
    for part in parts:
        if part.blocks != work.blocks:
            text = f"blocks: order federated trains all {work.blocks} on the device"
            found.append(Miss(f"{part.id}.blocks", float(abs(work.blocks - part.blocks)), text))
        if part.mode is not ModeKind.NONE:
            text = "mode: nothing crosses a boundary in order federated, it has to be none"
            found.append(Miss(f"{part.id}.mode", 1.0, text))
    for name in ("head_parameters", "head_bytes"):
        if getattr(work, name) is None:
            text = f"workload.{name} is not given; order federated trains the head on the device"
            found.append(Miss(f"all.workload.{name}", 1.0, text))
    return found


def _aggregation_misses(
    instance: Instance, parts: Sequence[DevicePlan], conduct: Conduct
) -> list[Miss]:
    """Whether adapters of these ranks can be put together as asked."""
    if conduct.aggregation is None:
        return []
    if conduct.order is Order.SEQUENTIAL:
        text = f"aggregation: '{conduct.aggregation.value}' is given, but order sequential hands "
        return [Miss("all.aggregation", 1.0, text + "adapters from one device to the next")]
    ranks = ranks_of(instance.workload, parts)
    if conduct.aggregation is not Aggregation.CONCATENATION and len(ranks) > 1:
        text = f"aggregation: ranks from {min(ranks)} to {max(ranks)} have no average; concatenate"
        return [Miss("all.aggregation", float(max(ranks) - min(ranks)), text)]
    return []


def ranks_of(work: Workload, parts: Sequence[DevicePlan]) -> set[int]:
    """Collect the ranks of all devices' adapters, each a number of columns (index r_n)."""
    return {work.lora_rank if part.rank is None else part.rank for part in parts}


def _block_misses(
    instance: Instance,
    parts: Sequence[DevicePlan],
    modes: Sequence[Mode | None],
    conduct: Conduct,
) -> list[Miss]:
    """Whether the workload says what a block costs at all tokens and ranks of the plan."""
    work = instance.workload
    ranks = ranks_of(work, parts)
    copy = max(ranks)
    found: dict[str, Miss] = {}
    if copy > work.hidden:
        for part in parts:
            if part.rank is not None and part.rank > max(work.hidden, work.lora_rank):
                text = f"rank: is {part.rank}; at most the hidden size of {work.hidden} is of use"
                amount = float(part.rank - work.hidden)
                found[part.id] = Miss(f"{part.id}.rank", amount, text)
    tokens = {mode.tokens for mode in modes if mode is not None}
    if work.is_decoder:
        found |= {
            part.id: Miss(f"{part.id}.mode", 1.0, f"mode: '{mode.label}' sends fewer tokens, which "
                          "needs an encoder with a CLS token; the workload is a decoder")
            for part, mode in zip(parts, modes, strict=True)
            if mode is not None and mode.tokens is not None
        }  # fmt: skip
    asked: list[Callable[[], float]] = [
        partial(figure, work, tokens=count, rank=rank)
        for rank, count in {(rank, None) for rank in ranks} | {(copy, count) for count in tokens}
        for figure in (block_forward_flops, block_backward_flops, block_activation_bytes)
    ]
    if _concatenates(ranks, conduct):
        asked.append(partial(dense_update_bits, work))
    for figure in asked:
        try:
            figure()
        except InputError as error:
            for fault in error.faults:
                found[fault.field] = Miss(f"all.{fault.field}", 1.0, fault.message)
    return list(found.values())


def _concatenates(ranks: set[int], conduct: Conduct) -> bool:
    if conduct.order is Order.SEQUENTIAL:
        return False
    return len(ranks) > 1 or conduct.aggregation in (
        Aggregation.CONCATENATION,
        Aggregation.CORRECTED,
    )
