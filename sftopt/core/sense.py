"""Numbers that are legal but look like a slip: a unit off by 1e3 to 1e12, dBm, dB, per cent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from sftopt.core.faults import Fault, Severity
from sftopt.core.instance import Device, Instance, Server
from sftopt.core.parse import unit_of


@dataclass(frozen=True)
class _Usual:
    """What a figure is in practice: its range, and the value that a slip is measured against."""

    low: float
    typical: float
    high: float


_DEVICES = {
    "compute_flops_per_s": _Usual(3e9, 1e12, 5e14),
    "memory_bytes": _Usual(3e7, 8e9, 1e12),
    "uplink_gain": _Usual(1e-17, 1e-10, 1e-1),
    "downlink_gain": _Usual(1e-17, 1e-10, 1e-1),
    "codec_s_per_element": _Usual(1e-12, 1e-8, 1e-5),
}
"""Ours: generous ranges of the fields of a device, SI units."""

_LONE_FACTOR = 100.0
"""One device this far from the median of the others looks like a slip of its own."""
_COMPARED = ("compute_flops_per_s", "memory_bytes")
"""Fields in which the devices of a cell are alike up to ``_LONE_FACTOR``."""

_POWERS_OF_TEN = tuple(sign * power for power in (3, 6, 9, 12) for sign in (1, -1))
"""By which powers of ten a value may be off when its unit had or lacked a prefix."""
_PREFIXES = {3: "kilo", 6: "mega", 9: "giga", 12: "tera"}
"""What a unit is called that is larger by a power of ten."""

_FAR = 100.0
"""A figure this far from what the model's size implies looks like a slip."""

_HAND_MADE_FLOPS = 1e11
"""FLOP of a block up to which a cell written by hand need not fit its hidden size."""

_DECIBELS = (30.0, 200.0)
"""Path losses in dB of links that work."""
_MACRO_DBM = (41.0, 53.0)
"""Powers in dBm of base stations; whole numbers in this range of watts are rare."""
_DEVICE_W = 5.0
"""A device that sends with more is rare; see also ``_DEVICE_SHARE_W``."""
_DEVICE_SHARE_W = 0.15
"""Under a fixed density, of which a device uses its share: the same, over an equal share."""

_EACH_UP_TO = 3
"""Up to so many devices with the same oddity are named one by one."""

_SERVER_COMPUTE_W = _Usual(1.0, 250.0, 1e5)
"""Ours: what a server's processors draw, kappa f^3."""
_DEVICE_COMPUTE_W = _Usual(1e-5, 5.0, 2e3)
"""Ours: what a device's processor draws."""

LONGEST_ROUND_S = 1e6
"""A round of more than eleven days looks like a slip."""
SHORTEST_ROUND_S = 1e-6
"""A round of less looks like a slip, too."""


def sense_warnings(instance: Instance) -> Iterator[Fault]:
    """Yield one warning for each value outside its usual range, with the likely slip where one
    fits.

    Where many devices share an oddity, one warning speaks for all of them.
    """
    for path, usual in _sections(instance).items():
        section, name = path.split(".")
        yield from _judged(path, getattr(getattr(instance, section), name), usual)
    for name, usual in _DEVICES.items():
        values = [(device.id, getattr(device, name)) for device in instance.devices]
        yield from _devices(name, values, usual)
    yield from _powers(instance)
    yield from _percentages(instance)
    yield from _speed_range(instance)
    yield from _compute_powers(instance)


def delay_warning(round_s: float | None) -> Fault | None:
    """Return a warning of a round delay that no cell has; None where it is usual."""
    if round_s is None or round_s == 0.0 or SHORTEST_ROUND_S <= round_s <= LONGEST_ROUND_S:
        return None
    size = f"{round_s / 86400.0:.3g} days" if round_s > 1.0 else "less than a microsecond"
    return Fault(
        field="round_s", value=round_s, unit="s", severity=Severity.WARNING,
        limit=LONGEST_ROUND_S if round_s > 1.0 else SHORTEST_ROUND_S,
        message=f"a round of {round_s:.4g} s ({size}) is outside what cells need; check the units "
        "of speeds, bandwidths, gains and FLOP ('sftopt check' names what looks odd)",
    )  # fmt: skip


def _sections(instance: Instance) -> dict[str, _Usual]:
    """Ranges of the fields outside the devices, some of them by the size of cell and model."""
    count, work = len(instance.devices), instance.workload
    elements, squared = float(work.tokens * work.hidden), float(work.hidden) ** 2
    flops = 24.0 * elements * work.hidden + 4.0 * elements * work.tokens
    adapter = work.adapter_bits_per_block / 8.0

    def around(value: float) -> _Usual:
        return _Usual(value / _FAR, value, value * _FAR)

    block = _Usual(flops / _FAR, flops, max(flops * _FAR, _HAND_MADE_FLOPS))
    band = _Usual(1.5e5, 2e6 * count, max(5e9, 1e7 * count))
    ranges = {
        "workload.block_forward_flops": block,
        "workload.block_backward_flops": block,
        "workload.embedding_forward_flops": _Usual(1e2, 1e8, 1e13),
        "workload.head_flops": _Usual(1e2, 1e8, 1e13),
        "workload.block_weight_bytes": around(36.0 * squared),
        "workload.block_activation_bytes": _Usual(elements, 60.0 * elements, 3e3 * elements),
        "workload.device_base_bytes": _Usual(1e4, 4e8, 1e11),
        "workload.server_base_bytes": _Usual(1e4, 1e9, 1e12),
        "server.compute_flops_per_s": _Usual(3e10, 6e11 * count, max(5e15, 1e13 * count)),
        "server.memory_bytes": _Usual(1e8, 5e9, max(5e12, 1e10 * count)),
        "server.transmit_power_w": _Usual(0.05, 0.4 * count, max(1e3, 2.0 * count)),
        "radio.uplink_bandwidth_hz": band,
        "radio.downlink_bandwidth_hz": band,
        "radio.noise_w_per_hz": _Usual(1e-22, 4e-21, 1e-18),
        "radio.uplink_noise_figure": _Usual(1.0, 3.0, 15.0),
        "radio.downlink_noise_figure": _Usual(1.0, 5.0, 15.0),
        "radio.efficiency_cap_bits_per_s_hz": _Usual(0.1, 7.4, 40.0),
    }
    if adapter > 0.0:
        ranges["workload.block_adapter_bytes"] = around(4.0 * adapter)
    return ranges


def _odd(value: float | None, usual: _Usual) -> bool:
    return value is not None and value != 0.0 and not usual.low <= value <= usual.high


def _devices(name: str, values: list[tuple[str, float | None]], usual: _Usual) -> Iterator[Fault]:
    """What is odd in one field of the devices; the usual ones are what a slip is measured by."""
    sound = [value for _, value in values if value and not _odd(value, usual)]
    typical = median(sound) if sound else usual.typical
    odd = [(who, value) for who, value in values if _odd(value, usual)]
    measure = _Usual(usual.low, typical, usual.high)
    if name in _COMPARED and len(sound) >= _EACH_UP_TO:
        lone = _Usual(typical / _LONE_FACTOR, typical, typical * _LONE_FACTOR)
        strays = [(who, value) for who, value in values if _odd(value, lone)]
        if len(strays) > len(odd) and 2 * len(strays) < len(values):
            odd, measure = strays, lone
    if len(odd) > _EACH_UP_TO:
        yield from _judged(name, odd[0][1], measure, f"{odd[0][0]} and {len(odd) - 1} more")
        return
    for who, value in odd:
        yield from _judged(name, value, measure, who)


def _judged(field: str, value: float | None, usual: _Usual, device: str = "") -> Iterator[Fault]:
    if value is None or not _odd(value, usual):
        return
    unit = unit_of(field)
    shown = f"{value:g} {unit}".strip()
    slip = _decibel_slip(field, value) or _prefix_slip(value, usual, unit)
    text = f"is {shown}, outside the usual {usual.low:.3g}..{usual.high:.3g}{slip}"
    limit = usual.low if value < usual.low else usual.high
    yield _warning(field, value, limit, text, device)


def _warning(field: str, value: float, limit: float, text: str, device: str = "") -> Fault:
    where = f"device {device}: {field}" if device else field
    return Fault(
        field=field, device=device or None, value=value, limit=limit, unit=unit_of(field),
        severity=Severity.WARNING, message=f"{where} {text}",
    )  # fmt: skip


def _prefix_slip(value: float, usual: _Usual, unit: str) -> str:
    """The power of ten that brings ``value`` nearest to what is typical, in words."""

    def distance(power: int) -> float:
        return abs(math.log10(value) + power - math.log10(usual.typical))

    fitting = [power for power in _POWERS_OF_TEN if usual.low <= value * 10.0**power <= usual.high]
    if not fitting:
        return ""
    power = min(fitting, key=distance)
    meant = f"{value * 10.0**power:g} {unit}".strip()
    if power > 0:
        return f"; was it given in {_PREFIXES[power]}-units? {meant} would be usual"
    return f"; is it {10.0**-power:g} times too large? {meant} would be usual"


def _decibel_slip(field: str, value: float) -> str:
    """A gain or a noise figure that was given in dB."""
    if field.endswith("_gain") and _DECIBELS[0] <= value <= _DECIBELS[1]:
        linear = 10.0 ** (-value / 10.0)
        return f"; was it given in dB? a path loss of {value:g} dB is a gain of {linear:.3g}"
    if field.endswith("noise_figure") and value < 30.0:
        return f"; was it given in dB? {value:g} dB is {10.0 ** (value / 10.0):.3g}"
    return ""


def _powers(instance: Instance) -> Iterator[Fault]:
    """Transmit powers: dBm in the place of watts, and prefixes."""
    share = 1.0 / len(instance.devices) if instance.radio.power.value == "psd" else 1.0
    values = [(device.id, device.transmit_power_w) for device in instance.devices]
    most = max(_DEVICE_W, _DEVICE_SHARE_W / share)
    usual = _Usual(1e-3, 0.02 / share if share < 1.0 else 0.2, most)
    odd = [(who, value) for who, value in values if _odd(value, usual)]
    for who, value in odd[:1] if len(odd) > _EACH_UP_TO else odd:
        name = f"{who} and {len(odd) - 1} more" if len(odd) > _EACH_UP_TO else who
        if most < value <= 60.0:
            yield _warning("transmit_power_w", value, most, _dbm_text(value), name)
        else:
            yield from _judged("transmit_power_w", value, usual, name)
    power = instance.server.transmit_power_w
    if power.is_integer() and _MACRO_DBM[0] <= power <= _MACRO_DBM[1]:
        yield _warning("server.transmit_power_w", power, _MACRO_DBM[0], _dbm_text(power))


def _dbm_text(value: float) -> str:
    watts = 10.0 ** (value / 10.0 - 3.0)
    return f"is {value:g} W; was it given in dBm? {value:g} dBm is {watts:.3g} W"


def _percentages(instance: Instance) -> Iterator[Fault]:
    """Accuracies above 1: given in per cent."""
    limits = instance.accuracy
    if limits.metric != "accuracy":
        return
    for name in ("uncompressed", "minimum", "minimum_each"):
        value = getattr(limits, name)
        if value is not None and value > 1.0:
            hint = f"; was it given in per cent? {value / 100.0:g}" if value <= 100.0 else ""
            text = f"is {value:g}, but an accuracy is a fraction of at most 1{hint}"
            yield _warning(f"accuracy.{name}", value, 1.0, text)


def _speed_range(instance: Instance) -> Iterator[Fault]:
    """A server's speed outside the range that schemes with a speed of their own choose from."""
    server = instance.server
    speed = server.compute_flops_per_s
    if _odd(speed, _sections(instance)["server.compute_flops_per_s"]):
        return  # a slip of unit, which is said already
    low, high = server.compute_min_flops_per_s, server.compute_max_flops_per_s
    for end, name, beyond, side in (
        (high, "compute_max_flops_per_s", high is not None and speed > high, "above"),
        (low, "compute_min_flops_per_s", low is not None and speed < low, "below"),
    ):
        if end is not None and beyond:
            yield _warning(
                "server.compute_flops_per_s", speed, end,
                f"is {speed:g} FLOP/s, {side} {name} of {end:g}: schemes that set the server's "
                "speed themselves (card, device-only, server-only) and 'sftopt pareto' keep to "
                f"that range; set server.{name} as well",
            )  # fmt: skip


def _compute_powers(instance: Instance) -> Iterator[Fault]:
    """Coefficients of energy that do not fit the speed: kappa f^3 is a power in watts."""
    field = "energy_coefficient_j_s2_per_flop3"
    server = instance.server
    if _odd(_compute_w(server), _SERVER_COMPUTE_W):
        yield _power_warning(f"server.{field}", server, _SERVER_COMPUTE_W)
    odd = [one for one in instance.devices if _odd(_compute_w(one), _DEVICE_COMPUTE_W)]
    for one in odd[:1] if len(odd) > _EACH_UP_TO else odd:
        name = f"{one.id} and {len(odd) - 1} more" if len(odd) > _EACH_UP_TO else one.id
        yield _power_warning(field, one, _DEVICE_COMPUTE_W, name)


def _compute_w(holder: Server | Device) -> float | None:
    kappa = holder.energy_coefficient_j_s2_per_flop3
    return None if kappa is None else kappa * holder.compute_flops_per_s**3


def _power_warning(field: str, holder: Server | Device, usual: _Usual, device: str = "") -> Fault:
    fitting = usual.typical / holder.compute_flops_per_s**3
    text = (
        f"times the cube of the speed is {_compute_w(holder):.3g} W, outside the usual "
        f"{usual.low:g}..{usual.high:g}; {usual.typical:g} W would be {fitting:.3g}"
    )
    kappa = holder.energy_coefficient_j_s2_per_flop3 or 0.0
    return _warning(field, kappa, fitting, text, device)
