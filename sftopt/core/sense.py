"""Numbers that are legal but look like a slip of unit: off by 1e3, 1e6 or 1e9."""

from __future__ import annotations

from collections.abc import Iterator

from sftopt.core.faults import Fault, Severity
from sftopt.core.instance import Instance
from sftopt.core.parse import unit_of

_USUAL: dict[str, tuple[float, float]] = {
    "workload.block_forward_flops": (1e4, 1e14),
    "workload.block_backward_flops": (1e4, 1e14),
    "workload.block_weight_bytes": (1e3, 1e11),
    "workload.block_activation_bytes": (1e3, 1e11),
    "server.compute_flops_per_s": (1e9, 1e18),
    "server.memory_bytes": (1e7, 1e14),
    "server.transmit_power_w": (1e-3, 1e3),
    "radio.uplink_bandwidth_hz": (1e5, 1e11),
    "radio.downlink_bandwidth_hz": (1e5, 1e11),
    "radio.noise_w_per_hz": (1e-22, 1e-18),
    "devices.compute_flops_per_s": (1e8, 1e16),
    "devices.memory_bytes": (1e6, 1e13),
    "devices.transmit_power_w": (1e-4, 1e2),
    "devices.uplink_gain": (1e-17, 1e-1),
    "devices.downlink_gain": (1e-17, 1e-1),
}
"""Ours: generous ranges of what such a figure is in practice, SI units."""

_PREFIXES = ((1e3, "kilo"), (1e6, "mega"), (1e9, "giga"), (1e12, "tera"))
"""Factors by which a value may be off when its unit was given with a prefix."""


_EACH_UP_TO = 3
"""Up to so many devices with the same oddity are named one by one."""


def sense_warnings(instance: Instance) -> Iterator[Fault]:
    """Yield a warning for each value outside its usual range, with the likely slip.

    Where many devices share an oddity, one warning speaks for all of them.
    """
    for path, (low, high) in _USUAL.items():
        section, name = path.split(".")
        if section != "devices":
            yield from _judge(path, getattr(getattr(instance, section), name), low, high, "")
            continue
        values = [(device.id, getattr(device, name)) for device in instance.devices]
        odd = [(who, value) for who, value in values if _is_odd(value, low, high)]
        if len(odd) > _EACH_UP_TO:
            yield from _judge(name, odd[0][1], low, high, f"{odd[0][0]} and {len(odd) - 1} more")
        else:
            for who, value in odd:
                yield from _judge(name, value, low, high, who)


def _is_odd(value: float | None, low: float, high: float) -> bool:
    return value is not None and value != 0.0 and not low <= value <= high


def _judge(
    field: str, value: float | None, low: float, high: float, device: str
) -> Iterator[Fault]:
    if value is None or not _is_odd(value, low, high):
        return
    unit = unit_of(field)
    slip = ""
    for factor, prefix in _PREFIXES:
        if low <= value * factor <= high:
            slip = f"; was it given in {prefix}-units? {value * factor:g} {unit} would be usual"
            break
        if low <= value / factor <= high:
            slip = f"; is it {factor:g} times too large? {value / factor:g} {unit} would be usual"
            break
    where = f"device {device}: {field}" if device else field
    yield Fault(
        field=field,
        device=device or None,
        value=value,
        limit=low if value < low else high,
        unit=unit,
        severity=Severity.WARNING,
        message=f"{where} is {value:g} {unit}, outside the usual {low:g}..{high:g}{slip}",
    )
