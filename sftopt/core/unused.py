"""Fields of an instance that are given but that problem (13) does not use: said, not ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sftopt.core.faults import Fault, Severity
from sftopt.core.instance import Device, Instance
from sftopt.core.option import why_left_out
from sftopt.core.parse import unit_of

_NAMED = 3
"""Devices that a warning names one by one; of more it names the first and their number."""


def unused_warnings(instance: Instance) -> Iterator[Fault]:
    """Yield one warning for each field that is given and changes nothing in a plan."""
    yield from _mode_warnings(instance)
    yield from _device_warnings(instance)


def _mode_warnings(instance: Instance) -> Iterator[Fault]:
    for index, mode in enumerate(instance.compression.modes):
        text = why_left_out(mode)
        if text:
            field = f"compression.modes[{index}]"
            yield Fault(
                field=field, value=mode.label, severity=Severity.WARNING,
                message=f"{field}: mode '{mode.label}' is left out: {text}",
            )  # fmt: skip


def _device_warnings(instance: Instance) -> Iterator[Fault]:
    rank = instance.workload.lora_rank
    ranked = [d for d in instance.devices if d.lora_rank is not None and d.lora_rank != rank]
    if ranked:
        yield _device_warning("lora_rank", ranked, ranked[0].lora_rank,
                              f"every adapter is planned at the workload's rank of {rank}, "
                              "schemes with a rank for each device choose it")  # fmt: skip


def _warning(field: str, value: float, why: str, device: str | None = None) -> Fault:
    unit = unit_of(field)
    shown = f"{value:g} {unit}".strip()
    where = field if device is None else f"{device}: {field}"
    return Fault(
        field=field, device=device, value=value, unit=unit, severity=Severity.WARNING,
        message=f"{where} is {shown} and is not used: {why}",
    )  # fmt: skip


def _device_warning(field: str, devices: Sequence[Device], value: float | None, why: str) -> Fault:
    names = [device.id for device in devices]
    said = ", ".join(names) if len(names) <= _NAMED else f"{names[0]} and {len(names) - 1} more"
    fault = _warning(field, value or 0.0, why, f"device {said}" if len(names) == 1 else
                     f"devices {said}")  # fmt: skip
    return fault.model_copy(update={"device": said})
