"""Devices from a CSV table with units in its headers: ``memory_gb``, ``power_dbm``, ``gain_db``.

One row is one device, or ``count`` of them. What a table leaves out has a default that is said in
words; a column that nobody reads is a fault, and so is a quantity given twice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sftopt.core.device_gains import (
    BOTH_LINKS,
    PLACES,
    Propagation,
    propagation_notes,
    with_gain,
)
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.fields import MOST_DEVICES
from sftopt.core.files import refuse_lfs_pointer
from sftopt.core.instance import Device
from sftopt.core.parse import input_error
from sftopt.core.table_faults import LineFault, told_once
from sftopt.core.unit_suffixes import Convert, from_decibel, in_si

DEFAULT_BATCH = 16
"""Samples per step of a device whose table has no column ``batch``."""
DEFAULT_POWER_W = 0.2
"""Transmit power in watts of a device whose table says nothing: 23 dBm, a phone's most."""

_SHORT = {
    "power": "transmit_power",
    "compute_speed": "compute",
    "device": "id",
    "name": "id",
    "min_blocks": "blocks_min",
    "max_blocks": "blocks_max",
}
"""Other words for a quantity -> its name."""
_TEXT = ("id", "kind")
"""Columns that are no numbers."""
_LOSS = "path_loss_db"
"""A loss, which is a gain with the other sign."""
_BAND = "bandwidth_hz"
"""A bandwidth that holds for uplink and downlink."""
_CELL = ("uplink_bandwidth_hz", "downlink_bandwidth_hz", _BAND)
"""Columns that describe the cell: one value for all rows."""
_OTHERS = ("samples", "count", *PLACES, BOTH_LINKS)
"""Columns that become a field in another way than by a factor."""
_NUMBERS = tuple(
    name for name in Device.model_fields if name not in (*_TEXT, "position_m")
)  # the order of the schema
"""Fields of a device that a column may hold."""
_WHOLE = ("batch", "blocks_min", "blocks_max", "lora_rank", "count")
"""Columns of whole numbers."""
_KNOWN = frozenset([*_TEXT, *_NUMBERS, *_OTHERS, *_CELL])
"""Every name that a header leads to."""


@dataclass(frozen=True)
class DeviceTable:
    """What a table holds: devices as data, edits of the cell, and what was taken by default."""

    devices: tuple[dict[str, Any], ...]
    cell: Mapping[str, float] = field(default_factory=dict)
    """Dotted path of the instance -> value, from columns that describe the cell."""
    notes: tuple[str, ...] = ()
    """What the table did not say, in sentences."""


def read_device_table(path: Path, propagation: Propagation | None = None) -> DeviceTable:
    """Read devices from a CSV file. Raises InputError that lists every fault of the table.

    ``propagation`` turns the columns ``x_m`` and ``y_m``, or ``distance_m``, into gains where the
    table has none.
    """
    header, rows = _read(path)
    columns = _columns(path, header)
    faults: list[LineFault] = []
    found: list[dict[str, Any]] = []
    for number, row in rows:
        found.append(_values(number, row, columns, faults))
    if faults:
        raise input_error(f"table '{path}'", told_once(faults))
    named = {name for _, name, _ in columns}
    notes: list[str] = []
    lines = [number for number, _ in rows]
    devices = _devices(path, lines, found, named, propagation, notes)
    return DeviceTable(tuple(devices), _cell(path, found), tuple(notes))


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of a CSV file with their lines, empty ones left out. Raises InputError."""
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise InputError(f"table '{path}' {what}; 'sftopt instance template' writes one to start")
    refuse_lfs_pointer(path, "table")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(at, line) for at, line in enumerate(file, 1) if not line.startswith("#")]
        reader = csv.reader((line for _, line in lines), strict=True)
        # line_num counts the lines that the reader saw; people count those of the file
        rows = [(lines[reader.line_num - 1][0], row) for row in reader if any(map(str.strip, row))]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"table '{path}' cannot be read as CSV in UTF-8: {error}") from None
    if len(rows) < 2:
        raise InputError(f"table '{path}' needs a header and at least one row")
    header = rows[0][1]
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(
            f"table '{path}' has no commas between columns; write it with commas, and decimals "
            "with points"
        )
    if len(rows) - 1 > MOST_DEVICES:
        raise InputError(f"table '{path}' has {len(rows) - 1:,} rows; {MOST_DEVICES:,} at most")
    return [name.strip() for name in header], rows[1:]


def _columns(path: Path, header: Sequence[str]) -> list[tuple[str, str, Convert | None]]:
    """Header, field and conversion of every column. Raises InputError naming all faults."""
    faults: list[Fault] = []
    found: list[tuple[str, str, Convert | None]] = []
    for name in header:
        meant = _meaning(name)
        if meant is None:
            close = get_close_matches(name.lower(), sorted(_KNOWN | set(_SHORT)), 1, 0.5)
            hint = f"; did you mean '{close[0]}' (in that unit)?" if close else ""
            faults.append(Fault(field=name, message=f"column '{name}' is not known{hint}"))
            continue
        found.append((name, *meant))
    named = [meant for _, meant, _ in found]
    for twice in sorted({meant for meant in named if named.count(meant) > 1}):
        headers = ", ".join(f"'{header}'" for header, meant, _ in found if meant == twice)
        faults.append(Fault(field=twice, message=f"columns {headers} give the same thing twice"))
    if BOTH_LINKS in named and {"uplink_gain", "downlink_gain"} & set(named):
        faults.append(
            Fault(field="gain", message="give a gain for both links, or uplink_gain_db and "
                                        "downlink_gain_db, not both")
        )  # fmt: skip
    if faults:
        raise input_error(f"header of table '{path}'", faults)
    return found


def _meaning(header: str) -> tuple[str, Convert | None] | None:
    """The field that a header names, and how a value gets to SI; None for no field."""
    name = header.strip().lower().replace(" ", "_").replace("-", "_")
    for short, full in _SHORT.items():
        if name == short or name.startswith(f"{short}_"):
            name = full + name.removeprefix(short)
            break
    if name in _TEXT:
        return name, None
    if name == _LOSS:
        return BOTH_LINKS, lambda value: from_decibel(-value)
    return in_si(name, _KNOWN)


def _values(
    number: int, row: Sequence[str], columns: Sequence[tuple[str, str, Convert | None]],
    faults: list[LineFault],
) -> dict[str, Any]:  # fmt: skip
    """One row as data; an empty cell is left out. Adds what is wrong to ``faults``."""
    if len(row) > len(columns):
        said = f"has {len(row)} cells, the header {len(columns)}; quote cells that hold commas"
        faults.append(LineFault(number, "cells", said))
        return {}
    found: dict[str, Any] = {}
    for text, (header, name, convert) in zip(row, columns, strict=False):
        text = text.strip()
        if not text:
            continue
        if convert is None:
            found[name] = text
            continue
        try:
            value = convert(float(text))
        except (ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            hint = "; decimals need a point" if "," in text else ""
            said = f"{header} is '{text[:60]}', no finite number{hint}"
            faults.append(LineFault(number, header, said, text[:60]))
        elif name in _WHOLE and value != int(value):
            said = f"{header} is {value:g}; a whole number is needed"
            faults.append(LineFault(number, header, said, value))
        else:
            found[name] = int(value) if name in _WHOLE else value
    return found


def _devices(
    path: Path, lines: Sequence[int], rows: Sequence[dict[str, Any]], named: set[str],
    propagation: Propagation | None, notes: list[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows as devices, ``count`` times each, with defaults. Raises InputError."""
    faults = [
        LineFault(number, name, f"{name} is missing; give a column {hint}")
        for number, row in zip(lines, rows, strict=True)
        for name, hint in (("compute_flops_per_s", "compute_tflops"), ("memory_bytes", "memory_gb"))
        if name not in row
    ]
    made = [
        with_gain(number, {k: v for k, v in row.items() if k not in _CELL}, propagation, faults)
        for number, row in zip(lines, rows, strict=True)
    ]
    if faults:
        raise input_error(f"table '{path}'", told_once(faults))
    devices: list[dict[str, Any]] = []
    shares: list[float | None] = []
    for row in made:
        copies = row.pop("count", 1)
        if not 0 <= copies <= MOST_DEVICES or len(devices) + copies > MOST_DEVICES:
            raise InputError(f"table '{path}': count {copies}; {MOST_DEVICES:,} devices at most")
        samples = row.pop("samples", None)
        for copy in range(1, copies + 1):
            numbered = {"id": f"{row['id']}-{copy}"} if "id" in row and copies > 1 else {}
            devices.append({**row, **numbered})
            shares.append(samples)
    if not devices:
        raise InputError(f"table '{path}' makes no device: every count is 0")
    _name(devices)
    _weigh(path, devices, shares, notes)
    if any("batch" not in device for device in devices):
        notes.append(f"batch {DEFAULT_BATCH} where the table has none")
    if any("transmit_power_w" not in device for device in devices):
        notes.append(f"transmit power {DEFAULT_POWER_W} W (23 dBm) where the table has none")
    if any("blocks_min" not in device for device in devices):
        notes.append(
            "blocks_min 0 where the table has none: a plan may leave every block to the server"
        )
    if propagation is not None and not {"uplink_gain", BOTH_LINKS} & named:
        notes += propagation_notes(lines, rows, propagation)
    return [
        {"batch": DEFAULT_BATCH, "transmit_power_w": DEFAULT_POWER_W, **device}
        for device in devices
    ]


def _name(devices: Sequence[dict[str, Any]]) -> None:
    """Give ids to those without one."""
    width = max(2, len(str(len(devices))))
    for index, device in enumerate(devices, start=1):
        device.setdefault("id", f"dev{index:0{width}d}")


def _weigh(
    path: Path, devices: Sequence[dict[str, Any]], samples: Sequence[float | None],
    notes: list[str],
) -> None:  # fmt: skip
    """Give data weights: as they stand, by numbers of samples, or equal ones."""
    weighted = ["weight" in device for device in devices]
    sampled = [count is not None for count in samples]
    if any(weighted):
        if any(sampled) or not all(weighted):
            raise InputError(
                f"table '{path}': give a weight for every device and no samples, or neither"
            )
        return
    if any(sampled):
        total = sum(count or 0.0 for count in samples)
        if not all(sampled) or total <= 0.0 or min(count or 0.0 for count in samples) < 0.0:
            raise InputError(f"table '{path}': samples must be 0 or more for every device")
        for device, count in zip(devices, samples, strict=True):
            device["weight"] = (count or 0.0) / total
        return
    notes.append("equal data weights, as the table has neither weight nor samples")
    for device in devices:
        device["weight"] = 1.0 / len(devices)


def _cell(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Edits of the cell that columns ask for. Raises InputError where rows differ."""
    edits: dict[str, float] = {}
    for name in _CELL:
        values = {row[name] for row in rows if name in row}
        if len(values) > 1:
            raise InputError(
                f"table '{path}': {name} differs between rows ({min(values):g} to "
                f"{max(values):g}); the band is shared by all devices, so it has one value"
            )
        for value in values:
            paths = _CELL[:2] if name == _BAND else (name,)
            edits |= {f"radio.{path_}": value for path_ in paths}
    return edits
