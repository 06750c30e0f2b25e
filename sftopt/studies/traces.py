"""Measured channels as tables: CSV or Parquet with the columns round, device, gain_db.

Optional columns: ``link`` (uplink or downlink; without it both links have the gain) and ``block``
(coherence blocks of a round, 0, 1, ...). ``gain_db`` is the power gain incl. antennas in decibel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.channel import RoundChannel
from sftopt.core.channel_models import ChannelSource, Sample
from sftopt.core.errors import InputError
from sftopt.core.files import refuse_lfs_pointer, write_bytes
from sftopt.core.instance import Instance

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]

GAIN_LIMITS_DB = (-250.0, 30.0)
"""Gains outside are refused: they are in another unit, or wrong."""
NUMBER_LIMIT = 2**53
"""Rounds and blocks beyond are refused: tables keep them as doubles, which are not exact there."""
_SPARSE = 1000
"""Rounds that may lack rows altogether before their numbers are taken for times."""
_LINEAR_BELOW_DB = 1e-3
"""Typical values between 0 and this are linear gains: that near to 1 no radio channel is."""
_FAR_OFF_DB = 40.0
"""A typical gain of 1 or more is no decibel value where the cell's mean is so far below."""
_COLUMNS = ("round", "device", "link", "block", "gain_db")
"""All columns that are read."""
_INDEX_COLUMN = "__index_level_"
"""How pandas names an index that it writes along."""
_SHOWN = 5
"""Most names listed in a message."""


@dataclass(frozen=True)
class MeasuredChannel:
    """Gains of a table: linear, shape (rounds, devices, blocks); devices as in ``ids``."""

    name: str
    ids: tuple[str, ...]
    uplink_gain: Array
    downlink_gain: Array
    typical_db: tuple[float, ...] = ()
    """Median of each device's ``gain_db``, as in the table."""

    def samples(self, instance: Instance, rounds: int, frame_rounds: int) -> Iterator[Sample]:
        """Yield the rounds of the table in order; a frame's mean gains are those of its rounds."""
        order = self._order(instance)
        if rounds > len(self.uplink_gain):
            raise InputError(
                f"trace '{self.name}' holds {len(self.uplink_gain)} rounds; {rounds} are asked "
                f"for. Give --rounds {len(self.uplink_gain)} or a longer trace."
            )
        up, down = self.uplink_gain[:rounds, order], self.downlink_gain[:rounds, order]
        for number in range(rounds):
            frame = number // frame_rounds
            part = slice(frame * frame_rounds, (frame + 1) * frame_rounds)
            channel = RoundChannel(up[number], down[number])
            yield Sample(
                frame, number, up[part].mean(axis=(0, 2)), down[part].mean(axis=(0, 2)), channel
            )

    def _order(self, instance: Instance) -> list[int]:
        place = {name: index for index, name in enumerate(self.ids)}
        missing = [d.id for d in instance.devices if d.id not in place]
        if missing:
            raise InputError(
                f"trace '{self.name}' has no gains for {listed(missing)} of instance "
                f"'{instance.name}'; its devices are {listed(list(self.ids))}"
            )
        unknown = sorted(set(place) - {device.id for device in instance.devices})
        if unknown:
            raise InputError(
                f"trace '{self.name}' has gains for {listed(unknown)}, which instance "
                f"'{instance.name}' does not have; give a trace of its devices alone, or an "
                "instance with all of them"
            )
        self._check_decibel(instance, place)
        return [place[device.id] for device in instance.devices]

    def _check_decibel(self, instance: Instance, place: dict[str, int]) -> None:
        """Refuse linear gains by the cell's own: they are all above 0, and gains in decibel not."""
        for device in instance.devices if self.typical_db else ():
            typical = self.typical_db[place[device.id]]
            mean_db = 10.0 * math.log10(max(device.uplink_gain, device.gain_down, 1e-25))
            if typical >= 0.0 and typical - mean_db > _FAR_OFF_DB:
                raise InputError(
                    f"trace '{self.name}': gain_db of device '{device.id}' is typically "
                    f"{typical:.3g}, a gain of 1 or more, and the instance's is {mean_db:.3g} dB: "
                    "these look like linear gains, or losses; give 10 log10 of the gains"
                )


def read_trace(path: Path) -> MeasuredChannel:
    """Read a channel from a CSV or Parquet file. Raises InputError naming what and where."""
    table = _read_table(path)
    columns = _columns(path, table)
    rounds = _whole_numbers(path, "round", columns["round"])
    blocks = _whole_numbers(path, "block", columns.get("block") or [0] * len(rounds))
    decibel = _decibel(path, columns["gain_db"])
    links = [str(link) for link in columns.get("link") or ["both"] * len(rounds)]
    odd = sorted(set(links) - {"both", "uplink", "downlink"})
    if odd:
        raise InputError(
            f"trace '{path}': link {listed(odd)}; it is uplink or downlink, or the column is "
            "left out"
        )
    devices = _ids(path, columns["device"])
    ids = tuple(dict.fromkeys(devices))
    place = {name: index for index, name in enumerate(ids)}
    at = _Places(
        path,
        first=min(rounds),
        shape=(max(rounds) - min(rounds) + 1, len(ids), max(blocks) + 1),
        ids=ids,
        rounds=rounds,
        devices=np.array([place[device] for device in devices]),
        blocks=blocks,
    )
    of_link = np.array(links)
    filled = [
        at.filled(10.0 ** (decibel / 10.0), (of_link == "both") | (of_link == link))
        for link in ("uplink", "downlink")
    ]
    typical = _typical(path, decibel, at.devices, ids)
    return MeasuredChannel(path.name, ids, filled[0], filled[1], typical)


def read_columns(path: Path, names: list[str]) -> dict[str, list[Any]]:
    """Read the columns of these names from a CSV or Parquet file. Raises InputError."""
    table = _read_table(path)
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InputError(
            f"table '{path}' has no column {listed(missing)}; it has {listed(table.column_names)}"
        )
    if table.num_rows == 0:
        raise InputError(f"table '{path}' holds no rows")
    return {name: table.column(name).to_pylist() for name in names}


def _columns(path: Path, table: pa.Table) -> dict[str, list[Any]]:
    """Values by column. Raises InputError for columns that are missing, unknown or there twice."""
    names = [name for name in table.column_names if not name.startswith(_INDEX_COLUMN)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"trace '{path}' has the column {listed(doubled)} more than once")
    for name in ("round", "device", "gain_db"):
        if name not in names:
            raise InputError(
                f"trace '{path}' has no column '{name}'; it has {listed(names)}. "
                "Needed: round, device, gain_db; optional: link, block."
            )
    unknown = sorted(set(names) - set(_COLUMNS))
    if unknown:
        raise InputError(
            f"trace '{path}' has columns nobody reads: {listed(unknown)}. Allowed: round, "
            "device, gain_db, link, block."
        )
    if table.num_rows == 0:
        raise InputError(f"trace '{path}' holds no rows")
    return {name: table.column(name).to_pylist() for name in names}


def write_trace(
    path: Path, instance: Instance, source: ChannelSource, rounds: int, frame_rounds: int
) -> None:
    """Write a channel as such a table (CSV, or Parquet by the name's ending), both links.

    Raises InputError for another ending, before anything is drawn.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"cannot write trace '{path}': end the name in .csv or .parquet")
    ids = [device.id for device in instance.devices]
    columns: dict[str, list[Any]] = {k: [] for k in ("round", "device", "link", "block", "gain_db")}
    for sample in source.samples(instance, rounds, frame_rounds):
        links = (("uplink", sample.channel.uplink_gain), ("downlink", sample.channel.downlink_gain))
        for link, gain in links:
            for device, row in zip(ids, gain, strict=True):
                for block, value in enumerate(row):
                    columns["round"].append(sample.round)
                    columns["device"].append(device)
                    columns["link"].append(link)
                    columns["block"].append(block)
                    columns["gain_db"].append(10.0 * float(np.log10(max(value, 1e-25))))
    sink = pa.BufferOutputStream()
    try:
        table = pa.table(columns)
        if path.suffix.lower() == ".parquet":
            pa.parquet.write_table(table, sink)
        else:
            pa.csv.write_csv(table, sink)
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise InputError(f"cannot write trace '{path}': a device id is no text: {error}") from None
    write_bytes(path, sink.getvalue().to_pybytes())


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        what = "is not a plain file" if path.exists() else "does not exist"
        raise InputError(f"trace '{path}' {what}; give a CSV or Parquet file")
    refuse_lfs_pointer(path, "trace")
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path)
        _check_separator(path)
        # ids and links are text whatever they look like: numbers, times, "null"
        return pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={"device": pa.string(), "link": pa.string()}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "CSV"
        text = str(error).splitlines()[0]
        raise InputError(f"trace '{path}' cannot be read as {kind}: {text}") from None


def _check_separator(path: Path) -> None:
    """Refuse the tables of programs that do not write commas between columns."""
    with path.open("rb") as file:
        head = file.readline(10_000)
    for mark, name in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "bars")):
        if mark in head and b"," not in head:
            raise InputError(
                f"trace '{path}' has {name} as the separator of its columns; write it with commas, "
                "and decimals with points"
            )


def number_of(value: Any) -> float | int | None:
    """Return the number in a cell, in the unit of its column; None where there is none."""
    if isinstance(value, str):  # one cell that is no number makes a column of text
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return None


def _header_again(name: str, value: Any) -> str:
    return " (the header line once more?)" if value == name else ""


def _whole_numbers(path: Path, name: str, values: list[Any]) -> list[int]:
    found = []
    for row, value in enumerate(values):
        number = number_of(value)
        whole = number is not None and math.isfinite(number) and int(number) == number
        if number is None or not whole or not 0 <= number < NUMBER_LIMIT:
            raise InputError(
                f"trace '{path}', row {row + 1}: {name} is {value!r}{_header_again(name, value)}; "
                f"a whole number of at least 0 and less than {NUMBER_LIMIT} is needed"
            )
        found.append(int(number))
    _check_dense(path, name, found)
    return found


def _check_dense(path: Path, name: str, numbers: list[int]) -> None:
    """Refuse numbers that are far apart, such as times, before room is made for all between."""
    low = min(numbers) if name == "round" else 0
    count = max(numbers) - low + 1
    if count > len(set(numbers)) + _SPARSE:
        raise InputError(
            f"trace '{path}': {name} runs from {low} to {max(numbers)}, and only "
            f"{len(set(numbers))} of these {count} numbers are there; number every {name} "
            "(0, 1, 2, ...): times are no such numbers"
        )


def _decibel(path: Path, values: list[Any]) -> Array:
    low, high = GAIN_LIMITS_DB
    found = []
    for row, value in enumerate(values):
        number = number_of(value)
        if number is None or not low <= number <= high:
            raise InputError(
                f"trace '{path}', row {row + 1}: gain_db is {value!r}"
                f"{_header_again('gain_db', value)}; a power gain in decibel between {low:g} and "
                f"{high:g} is needed (for a linear gain g: 10 log10 g)"
            )
        found.append(float(number))
    return np.array(found)


def _ids(path: Path, values: list[Any]) -> list[str]:
    for row, value in enumerate(values):
        if value is None or isinstance(value, bytes):
            raise InputError(f"trace '{path}', row {row + 1}: device is {value!r}; text is needed")
    return [str(value) for value in values]


def _typical(
    path: Path, decibel: Array, devices: NDArray[np.intp], ids: tuple[str, ...]
) -> tuple[float, ...]:
    """Median gain in decibel by device. Raises InputError where it looks like a linear gain."""
    order = np.argsort(devices, kind="stable")
    parts = np.split(decibel[order], np.cumsum(np.bincount(devices, minlength=len(ids)))[:-1])
    medians = tuple(float(np.median(part)) for part in parts)
    for name, median in zip(ids, medians, strict=True):
        if 0.0 < median < _LINEAR_BELOW_DB:
            raise InputError(
                f"trace '{path}': gain_db of device '{name}' is typically {median:.3g}, between 0 "
                f"and {_LINEAR_BELOW_DB:g}: these look like linear gains; give 10 log10 of them"
            )
    return medians


@dataclass(frozen=True)
class _Places:
    """Where each row of the table goes in an array of shape (rounds, devices, blocks)."""

    path: Path
    first: int
    shape: tuple[int, int, int]
    ids: tuple[str, ...]
    rounds: list[int]
    devices: NDArray[np.intp]
    blocks: list[int]

    def filled(self, gains: Array, used: NDArray[np.bool_]) -> Array:
        """Put the gains of one link in their places; every place is filled exactly once.

        Room is made only when the rows are known to fill it. Raises InputError.
        """
        _, devices, blocks = self.shape
        index = [
            ((self.rounds[row] - self.first) * devices + int(self.devices[row])) * blocks
            + self.blocks[row]
            for row in np.flatnonzero(used)
        ]
        places = math.prod(self.shape)
        ordered = sorted(set(index))
        if len(ordered) < places:
            gap = next((n for n, at in enumerate(ordered) if n != at), len(ordered))
            raise self._fault("no gain", gap, places - len(ordered))
        if len(index) > places:
            counts = Counter(index)
            doubled = [at for at in ordered if counts[at] > 1]
            raise self._fault("more than one gain", doubled[0], len(doubled))
        found = np.zeros(places)
        found[index] = gains[used]
        return found.reshape(self.shape)

    def _fault(self, what: str, place: int, count: int) -> InputError:
        rest, block = divmod(place, self.shape[2])
        number, device = divmod(rest, self.shape[1])
        return InputError(
            f"trace '{self.path}' has {what} for round {number + self.first}, device "
            f"'{self.ids[device]}', block {block} ({count} such places); every round needs every "
            "device and block exactly once"
        )


def listed(names: list[str]) -> str:
    """Return names in quotes, the first few of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
