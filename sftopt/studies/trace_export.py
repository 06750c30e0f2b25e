"""Traces from what equipment and other programs write: wide or long tables, times for rounds.

Nothing is guessed: who reads the table declares what its numbers are, which columns are which
devices, and how times become rounds. What comes out is a table that ``traces`` reads.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sftopt.core.errors import InputError
from sftopt.studies.traces import GAIN_LIMITS_DB, listed, number_of, read_columns

Measured = tuple[float, float]
"""When, in seconds or as the number of a round, and the gain in decibel."""


class Values(StrEnum):
    """What the numbers of a table are."""

    GAIN_DB = "gain-db"
    """Power gains in decibel, antennas included."""
    LOSS_DB = "loss-db"
    """Losses in decibel: gains with the other sign."""
    LINEAR = "linear"
    """Power gains as plain factors."""


class TimeUnit(StrEnum):
    """What the times of a table are."""

    SECONDS = "s"
    """Numbers of seconds from any beginning."""
    MILLISECONDS = "ms"
    """Numbers of milliseconds from any beginning."""
    ISO = "iso"
    """Dates with times, as ISO 8601 has them."""


class Resample(StrEnum):
    """How measurements become the gain of a round."""

    HOLD = "hold"
    """The last one at or before the round's beginning."""
    MEAN = "mean"
    """The mean, of linear gains, of those within the round."""


@dataclass(frozen=True)
class Mapped:
    """How a table is to be read; a device's id in the instance -> its column, or its name."""

    values: Values
    devices: Mapping[str, str]
    device_column: str | None = None
    """Of a long table: the column with the devices' names; None: every device has a column."""
    value_column: str | None = None
    """Of a long table: the column with the numbers."""
    round_column: str | None = None
    """Column with numbers of rounds; None: there are times."""
    time_column: str | None = None
    time_unit: TimeUnit = TimeUnit.SECONDS
    round_s: float | None = None
    """Seconds from one round to the next, where there are times."""
    resample: Resample = Resample.HOLD


@dataclass(frozen=True)
class Trace:
    """Rows of a trace (round, device, gain in decibel) and what became of the measurements."""

    rows: tuple[dict[str, Any], ...]
    rounds: int
    measurements: int
    longest_held_s: float | None = None
    """Greatest age in seconds of a measurement that stands for a round, where they are held."""


def trace_of(path: Path, mapped: Mapped) -> Trace:
    """Return the trace that a table of measurements holds. Raises InputError naming the fault.

    Round 0 begins with the first measurement by which every device has one (``hold``), or with the
    first of all (``mean``); the last round is the last that begins within the measurements of all.
    """
    _check(mapped)
    at = mapped.round_column or mapped.time_column
    assert at is not None
    names = [at]
    if mapped.device_column is not None and mapped.value_column is not None:
        names += [mapped.device_column, mapped.value_column]
    else:
        names += list(mapped.devices.values())
    columns = read_columns(path, names)
    whens = [_when(path, row, at, value, mapped) for row, value in enumerate(columns[at])]
    measured = _measured(path, mapped, columns, whens)
    count = sum(map(len, measured.values()))
    if mapped.round_column is not None:
        return _numbered(path, measured, count)
    assert mapped.round_s is not None
    if mapped.resample is Resample.HOLD:
        return _held(path, measured, mapped.round_s, count)
    return _averaged(path, measured, mapped.round_s, count)


def _check(mapped: Mapped) -> None:
    """Refuse a mapping that leaves something open. Raises InputError."""
    if not mapped.devices:
        raise InputError("no device is mapped; give --device ID=COLUMN for each of the instance's")
    if (mapped.device_column is None) != (mapped.value_column is None):
        raise InputError(
            "a long table has both --device-column and --value-column, a wide one neither"
        )
    if (mapped.round_column is None) == (mapped.time_column is None):
        raise InputError("give --round-column, or --time-column with --round-s")
    timed = mapped.time_column is not None
    if timed and (mapped.round_s is None or not 0.0 < mapped.round_s < math.inf):
        raise InputError("--time-column needs --round-s: seconds from one round to the next")
    doubled = [name for name in mapped.devices.values()
               if list(mapped.devices.values()).count(name) > 1]  # fmt: skip
    if doubled:
        raise InputError(f"--device: {listed(doubled[:1])} is mapped to two devices")


def _measured(
    path: Path, mapped: Mapped, columns: Mapping[str, Sequence[Any]], whens: Sequence[float]
) -> dict[str, list[Measured]]:
    """The measurements of each device in the order of time; empty cells are none."""
    found: dict[str, list[Measured]] = {device: [] for device in mapped.devices}
    if mapped.device_column is None:
        for device, column in mapped.devices.items():
            for row, value in enumerate(columns[column]):
                if value not in (None, ""):
                    gain = _gain_db(path, row, column, value, mapped.values)
                    found[device].append((whens[row], gain))
    else:
        assert mapped.value_column is not None
        named = {name: device for device, name in mapped.devices.items()}
        for row, name in enumerate(columns[mapped.device_column]):
            value, whose = columns[mapped.value_column][row], named.get(str(name))
            if whose is not None and value not in (None, ""):
                gain = _gain_db(path, row, mapped.value_column, value, mapped.values)
                found[whose].append((whens[row], gain))
    empty = [device for device, those in found.items() if not those]
    if empty:
        raise InputError(f"table '{path}' has no measurement of device {listed(empty)}")
    return {device: sorted(those) for device, those in found.items()}


def _when(path: Path, row: int, column: str, value: Any, mapped: Mapped) -> float:
    """A time in seconds, or the number of a round."""
    if mapped.round_column is None and mapped.time_unit is TimeUnit.ISO:
        try:
            stamp = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise InputError(
                f"table '{path}', row {row + 1}: {column} is {value!r}, no time of ISO 8601 such "
                "as 2026-05-01T12:00:00"
            ) from None
        return stamp.timestamp()
    number = None if isinstance(value, datetime) else number_of(value)
    if number is None or not math.isfinite(number):
        hint = "; give --time-unit iso" if isinstance(value, datetime) else ""
        raise InputError(f"table '{path}', row {row + 1}: {column} is {value!r}, no number{hint}")
    milli = mapped.round_column is None and mapped.time_unit is TimeUnit.MILLISECONDS
    return number / 1e3 if milli else float(number)


def _gain_db(path: Path, row: int, column: str, value: Any, values: Values) -> float:
    low, high = GAIN_LIMITS_DB
    number = number_of(value)
    found = math.nan
    if number is not None and math.isfinite(number):
        if values is Values.LINEAR:
            found = 10.0 * math.log10(number) if number > 0.0 else math.nan
        else:
            found = float(number) if values is Values.GAIN_DB else -float(number)
    if not low <= found <= high:
        raise InputError(
            f"table '{path}', row {row + 1}: {column} is {value!r}; as {values.value} it is no "
            f"gain between {low:g} and {high:g} dB"
        )
    return found


def _numbered(path: Path, measured: Mapping[str, list[Measured]], count: int) -> Trace:
    """Rounds as they are numbered in the table; ``traces`` checks that none is missing."""
    rows: list[dict[str, Any]] = []
    for device, those in measured.items():
        for number, gain in those:
            if number != int(number):
                raise InputError(
                    f"table '{path}', device '{device}': round {number:g} is no whole number; "
                    "times are read by --time-column"
                )
            rows.append({"round": int(number), "device": device, "gain_db": gain})
    rows.sort(key=lambda row: int(row["round"]))
    return Trace(tuple(rows), len({row["round"] for row in rows}), count)


def _held(path: Path, measured: Mapping[str, list[Measured]], round_s: float, count: int) -> Trace:
    first = max(those[0][0] for those in measured.values())
    last = min(those[-1][0] for those in measured.values())
    times = {device: [when for when, _ in those] for device, those in measured.items()}
    rounds = _rounds(path, first, last, round_s)
    rows, longest = [], 0.0
    for number in range(rounds):
        begin = first + number * round_s
        for device, those in measured.items():
            when, gain = those[bisect_right(times[device], begin) - 1]
            longest = max(longest, begin - when)
            rows.append({"round": number, "device": device, "gain_db": gain})
    return Trace(tuple(rows), rounds, count, longest)


def _averaged(
    path: Path, measured: Mapping[str, list[Measured]], round_s: float, count: int
) -> Trace:
    first = min(those[0][0] for those in measured.values())
    last = min(those[-1][0] for those in measured.values())
    rounds = _rounds(path, first, last, round_s)
    gains: dict[tuple[int, str], list[float]] = {}
    for device, those in measured.items():
        for when, gain in those:
            gains.setdefault((int((when - first) // round_s), device), []).append(gain)
    rows = []
    for number in range(rounds):
        for device in measured:
            within = gains.get((number, device))
            if within is None:
                raise InputError(
                    f"table '{path}' has no measurement of device '{device}' within round {number} "
                    f"(from {number * round_s:g} s after the first); take longer rounds "
                    "(--round-s), or --resample hold"
                )
            mean = sum(10.0 ** (gain / 10.0) for gain in within) / len(within)
            rows.append({"round": number, "device": device, "gain_db": 10.0 * math.log10(mean)})
    return Trace(tuple(rows), rounds, count)


def _rounds(path: Path, first: float, last: float, round_s: float) -> int:
    if last < first:
        raise InputError(
            f"table '{path}': the devices were never measured at the same time, so no round has "
            "gains of all of them"
        )
    rounds = int((last - first) // round_s) + 1
    if rounds > _MOST_ROUNDS:
        raise InputError(
            f"table '{path}': {rounds:,} rounds of {round_s:g} s; {_MOST_ROUNDS:,} at most"
        )
    return rounds


_MOST_ROUNDS = 1_000_000
"""Rounds of one trace."""
