"""What people call a field and its values: server compute, 8.4 TFLOP/s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sftopt.studies.sweep.axes import DEVICES, SCALE, is_number

UNITS = {
    "_hz": (1e6, "MHz"), "_flops_per_s": (1e12, "TFLOP/s"), "_bytes": (1e9, "GB"), "_w": (1.0, "W"),
    "_mhz": (1.0, "MHz"), "_ghz": (1.0, "GHz"), "_khz": (1.0, "kHz"),
    "_gflops": (1.0, "GFLOP/s"), "_tflops": (1.0, "TFLOP/s"), "_mflops": (1.0, "MFLOP/s"),
    "_gflops_per_s": (1.0, "GFLOP/s"), "_tflops_per_s": (1.0, "TFLOP/s"),
    "_mb": (1.0, "MB"), "_gb": (1.0, "GB"), "_mib": (1.0, "MiB"), "_gib": (1.0, "GiB"),
    "_kb": (1.0, "kB"), "_kib": (1.0, "KiB"), "_tb": (1.0, "TB"), "_tib": (1.0, "TiB"),
    "_mw": (1.0, "mW"), "_kw": (1.0, "kW"), "_dbm": (1.0, "dBm"), "_dbw": (1.0, "dBW"),
    "_db": (1.0, "dB"), "_w_per_hz": (1.0, "W/Hz"), "_dbm_per_hz": (1.0, "dBm/Hz"),
    "_bits_per_s": (1e6, "Mbit/s"), "_mbit_per_s": (1.0, "Mbit/s"), "_kbit_per_s": (1.0, "kbit/s"),
    "_s_per_element": (1e-9, "ns per element"), "_ns_per_element": (1.0, "ns per element"),
    "_us_per_element": (1.0, "us per element"), "_percent": (1.0, "%"),
    "_j_s2_per_flop3": (1.0, "J s2/FLOP3"), "_s": (1.0, "s"),
    "_m": (1.0, "m"), "_bits": (1.0, "bits"),
}  # fmt: skip
"""Ending of a name: how many of its unit make one of the unit people are shown, and what that is.

The longest ending counts.
"""
_WRITTEN = {"_flops_per_s": "_tflops", "_hz": "_mhz", "_bytes": "_gb"}
"""Ending of a field -> the same in the unit people are shown, as it is written in a path."""
_NAMELESS = ("", "radio", "training")
"""Sections whose fields say by themselves what they are of."""
_PLURALS = {"devices": "device", "compression": "compression"}
"""What an entry of a list is called."""


def _ending(name: str) -> str:
    """The longest ending of :data:`UNITS` that ``name`` has, or nothing."""
    return max((end for end in UNITS if name.endswith(end)), key=len, default="")


def words_of(name: str) -> str:
    """Return what an axis or field is called without its unit: ``server compute``.

    The section stands in front, but for radio and training; the first path speaks for those that
    are joined to it.
    """
    if name == DEVICES:
        return "number of devices"
    path = name.removeprefix(SCALE).split("+")[0]
    holder, _, field = path.rpartition(".")
    section, bracket, rest = holder.partition("[")
    key = rest.partition("]")[0]
    owner = key if bracket and key not in ("", "*") and not key.isdigit() else section
    owner = _PLURALS.get(owner, owner).replace(".", " ").replace("_", " ")
    said = field.removesuffix(_ending(field)).replace("_", " ")
    said = re.sub(r"^transmit ", "", said)
    whole = said if owner in _NAMELESS else f"{owner} {said}"
    more = " and others" if "+" in name else ""
    factor = ", times the cell's" if name.startswith(SCALE) else ""
    return whole + more + factor


def unit_of(name: str) -> tuple[float, str]:
    """Return how many of an axis's unit make one of the unit people are shown, and that unit."""
    if name.startswith(SCALE):
        return 1.0, ""
    return UNITS.get(_ending(name.split("+")[0]), (1.0, ""))


def label_of(name: str, numbers: bool = True) -> str:
    """Return words and unit of an axis as a figure has them: ``server compute in TFLOP/s``."""
    unit = unit_of(name)[1] if numbers else ""
    return f"{words_of(name)} in {unit}" if unit else words_of(name)


def head_of(name: str, numbers: bool = True) -> str:
    """Return the same as a table's head has them: ``Server compute (TFLOP/s)``."""
    unit = unit_of(name)[1] if numbers else ""
    words = words_of(name)
    words = words[:1].upper() + words[1:]
    return f"{words} ({unit})" if unit else words


def short_number(value: float) -> str:
    """Return a number in few digits: two where that is within 2 %, three digits else.

    A number of at most three digits stands as it is.
    """
    three = f"{value:.3g}"
    if float(three) == value:
        return f"{float(three):g}"
    two = float(f"{value:.2g}")
    return f"{two:g}" if abs(two - value) <= 0.02 * abs(value) else f"{float(three):g}"


def value_of(name: str, value: Any) -> str:
    """Return a value of an axis with its unit: ``8.4 TFLOP/s``."""
    if not is_number(value):
        return "none" if value is None else str(value)
    unit, word = unit_of(name)
    return f"{float(f'{value / unit:.6g}'):g} {word}".strip()


def range_of(name: str, values: Sequence[float]) -> str:
    """Return the range of a field's values with its unit: ``4 to 32 TFLOP/s``."""
    unit, word = unit_of(name)
    return f"{min(values) / unit:.4g} to {max(values) / unit:.4g} {word}".strip()


def written_as(field: str) -> str:
    """Return a field's path as people write it in their unit: ``server.compute_tflops``."""
    for ending, written in _WRITTEN.items():
        if field.endswith(ending):
            return field.removesuffix(ending) + written
    return field
