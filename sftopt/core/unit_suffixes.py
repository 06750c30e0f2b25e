"""Units that people write, turned into the SI units of the files, at the border alone.

A field's name ends in its unit: ``memory_bytes``. Whoever writes ``memory_gib`` means the same
field in another unit; this table says by what a value is then multiplied. Inside the package there
are SI units only.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

Convert = Callable[[float], float]
"""Value in the unit written -> value in SI."""


@dataclass(frozen=True)
class Unit:
    """One way to end a name: the SI ending it stands for, and the way there."""

    si_suffix: str
    convert: Convert


def _times(factor: float) -> Convert:
    return lambda value: value * factor


def from_decibel(value: float) -> float:
    """Return the linear factor of a value in dB: 10^(dB/10)."""
    return float(10.0 ** (value / 10.0))


def _from_dbm(value: float) -> float:
    return from_decibel(value - 30.0)


_UNITS: dict[str, Unit] = {
    "_dbm_per_hz": Unit("_w_per_hz", _from_dbm),
    "_gflops_per_s": Unit("_flops_per_s", _times(1e9)),
    "_tflops_per_s": Unit("_flops_per_s", _times(1e12)),
    "_kbit_per_s": Unit("_bits_per_s", _times(1e3)),
    "_mbit_per_s": Unit("_bits_per_s", _times(1e6)),
    "_ns_per_element": Unit("_s_per_element", _times(1e-9)),
    "_us_per_element": Unit("_s_per_element", _times(1e-6)),
    "_mflops": Unit("_flops_per_s", _times(1e6)),
    "_gflops": Unit("_flops_per_s", _times(1e9)),
    "_tflops": Unit("_flops_per_s", _times(1e12)),
    "_kb": Unit("_bytes", _times(1e3)),
    "_mb": Unit("_bytes", _times(1e6)),
    "_gb": Unit("_bytes", _times(1e9)),
    "_tb": Unit("_bytes", _times(1e12)),
    "_kib": Unit("_bytes", _times(2.0**10)),
    "_mib": Unit("_bytes", _times(2.0**20)),
    "_gib": Unit("_bytes", _times(2.0**30)),
    "_tib": Unit("_bytes", _times(2.0**40)),
    "_khz": Unit("_hz", _times(1e3)),
    "_mhz": Unit("_hz", _times(1e6)),
    "_ghz": Unit("_hz", _times(1e9)),
    "_mw": Unit("_w", _times(1e-3)),
    "_kw": Unit("_w", _times(1e3)),
    "_dbm": Unit("_w", _from_dbm),
    "_dbw": Unit("_w", from_decibel),
    "_db": Unit("", from_decibel),
    "_percent": Unit("", _times(1e-2)),
}
"""Ending of a name -> the SI ending and the way there."""

SHORT = {
    "bandwidth_hz": ("uplink_bandwidth_hz", "downlink_bandwidth_hz"),
    "power_w": ("transmit_power_w",),
    "gain": ("uplink_gain", "downlink_gain"),
}
"""Short words for fields, and for both links together."""
_PEOPLE = {"_flops_per_s": "_tflops", "_bytes": "_gb", "_hz": "_mhz", "_w": "_dbm"}
"""SI ending -> the one people write first, for hints."""


def with_short(fields: Iterable[str]) -> list[str]:
    """List ``fields`` and the short words that stand for some of them."""
    found = list(fields)
    return [*(word for word, meant in SHORT.items() if set(meant) <= set(found)), *found]


def people_spelling(field: str) -> str:
    """Return the name under which people would write ``field``: ``memory_gb``."""
    for ending, other in _PEOPLE.items():
        if field.endswith(ending):
            return field.removesuffix(ending) + other
    return field


def people_unit(field: str) -> tuple[str, float]:
    """Return the name under which people would write ``field``, and its unit in SI as a number of
    the field's own unit: ``memory_gb``, 1e9 bytes.

    Watts stay watts: dBm are no multiple.
    """
    name = people_spelling(field)
    if name == field or name.endswith("_dbm"):
        return field, 1.0
    return name, next(unit.convert(1.0) for suffix, unit in _UNITS.items() if name.endswith(suffix))


def in_si(name: str, fields: Container[str]) -> tuple[str, Convert] | None:
    """Return the field of ``fields`` that ``name`` means and how its value gets to SI.

    A name of a field itself is taken as it is; None where no ending leads to a field.
    """
    if name in fields:
        return name, _times(1.0)
    for suffix, unit in _UNITS.items():
        field = name.removesuffix(suffix) + unit.si_suffix
        if name.endswith(suffix) and field in fields:
            return field, unit.convert
    return None


def spellings(field: str) -> list[str]:
    """List the names under which ``field`` may be written, its own first."""
    found = [field]
    for suffix, unit in _UNITS.items():
        if unit.si_suffix and field.endswith(unit.si_suffix):
            found.append(field.removesuffix(unit.si_suffix) + suffix)
    return found
