"""Measured channels as tables: CSV or Parquet with the columns round, device, gain_db.

Optional columns: ``link`` (uplink or downlink; without it both links have the gain) and ``block``
(coherence blocks of a round, 0, 1, ...). ``gain_db`` is the power gain incl. antennas in decibel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.channel import RoundChannel
from sftopt.core.channel_models import ChannelSource, Sample
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]

GAIN_LIMITS_DB = (-250.0, 30.0)
"""Gains outside are refused: they are in another unit, or wrong."""
_SHOWN = 5
"""Most names listed in a message."""


@dataclass(frozen=True)
class MeasuredChannel:
    """Gains of a table: linear, shape (rounds, devices, blocks); devices as in ``ids``."""

    name: str
    ids: tuple[str, ...]
    uplink_gain: Array
    downlink_gain: Array

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
                f"trace '{self.name}' has no gains for {_listed(missing)} of instance "
                f"'{instance.name}'; its devices are {_listed(list(self.ids))}"
            )
        return [place[device.id] for device in instance.devices]


def read_trace(path: Path) -> MeasuredChannel:
    """Read a channel from a CSV or Parquet file. Raises InputError naming what is wrong and
    where.
    """
    table = _read_table(path)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for name in ("round", "device", "gain_db"):
        if name not in columns:
            raise InputError(
                f"trace '{path}' has no column '{name}'; it has {_listed(table.column_names)}. "
                "Needed: round, device, gain_db; optional: link, block."
            )
    unknown = sorted(set(columns) - {"round", "device", "gain_db", "link", "block"})
    if unknown:
        raise InputError(
            f"trace '{path}' has columns nobody reads: {_listed(unknown)}. Allowed: round, "
            "device, gain_db, link, block."
        )
    if not columns["round"]:
        raise InputError(f"trace '{path}' holds no rows")
    rounds = _whole_numbers(path, "round", columns["round"])
    blocks = _whole_numbers(path, "block", columns.get("block") or [0] * len(rounds))
    gains = _gains(path, columns["gain_db"])
    links = [str(link) for link in columns.get("link") or ["both"] * len(rounds)]
    odd = sorted(set(links) - {"both", "uplink", "downlink"})
    if odd:
        raise InputError(
            f"trace '{path}': link {_listed(odd)}; it is uplink or downlink, or the column is "
            "left out"
        )
    devices = [str(device) for device in columns["device"]]
    ids = tuple(dict.fromkeys(devices))
    first = min(rounds)
    shape = (max(rounds) - first + 1, len(ids), max(blocks) + 1)
    place = {name: index for index, name in enumerate(ids)}
    index = (np.array(rounds) - first, np.array([place[d] for d in devices]), np.array(blocks))
    of_link = np.array(links)
    filled = [
        _filled(path, shape, index, gains, (of_link == "both") | (of_link == link), ids, first)
        for link in ("uplink", "downlink")
    ]
    return MeasuredChannel(path.name, ids, filled[0], filled[1])


def write_trace(
    path: Path, instance: Instance, source: ChannelSource, rounds: int, frame_rounds: int
) -> None:
    """Write a channel as such a table (CSV, or Parquet by the name's ending), both links."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

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
    table = pa.table(columns)
    try:
        if path.suffix.lower() == ".parquet":
            pa.parquet.write_table(table, path)
        else:
            pa.csv.write_csv(table, path)
    except OSError as error:
        raise InputError(f"cannot write trace '{path}': {error.strerror or error}") from None


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        what = "is not a plain file" if path.exists() else "does not exist"
        raise InputError(f"trace '{path}' {what}; give a CSV or Parquet file")
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path)
        return pa.csv.read_csv(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "CSV"
        text = str(error).splitlines()[0]
        raise InputError(f"trace '{path}' cannot be read as {kind}: {text}") from None


def _whole_numbers(path: Path, name: str, values: list[Any]) -> list[int]:
    for row, value in enumerate(values):
        whole = isinstance(value, int | float) and float(value).is_integer() and value >= 0
        if isinstance(value, bool) or not whole:
            raise InputError(
                f"trace '{path}', row {row + 1}: {name} is {value!r}; a whole number of at least 0 "
                "is needed"
            )
    return [int(value) for value in values]


def _gains(path: Path, values: list[Any]) -> Array:
    low, high = GAIN_LIMITS_DB
    for row, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise InputError(
                f"trace '{path}', row {row + 1}: gain_db is {value!r}; a power gain in decibel "
                f"between {low:g} and {high:g} is needed (for a linear gain g: 10 log10 g)"
            )
    decibel = np.array(values, dtype=float)
    if np.all((decibel >= 0.0) & (decibel < 1e-3)):
        raise InputError(
            f"trace '{path}': every gain_db lies between 0 and 0.001: these look like linear "
            "gains; give 10 log10 of them"
        )
    linear: Array = 10.0 ** (decibel / 10.0)
    return linear


def _filled(
    path: Path,
    shape: tuple[int, int, int],
    index: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    gains: Array,
    used: NDArray[np.bool_],
    ids: tuple[str, ...],
    first: int,
) -> Array:
    """The gains of one link in their places; every place is filled exactly once."""
    count = np.zeros(shape, dtype=int)
    at = tuple(part[used] for part in index)
    np.add.at(count, at, 1)
    for problem, what in ((count == 0, "no gain"), (count > 1, "more than one gain")):
        if problem.any():
            round_number, device, block = (int(v) for v in np.argwhere(problem)[0])
            raise InputError(
                f"trace '{path}' has {what} for round {round_number + first}, device "
                f"'{ids[device]}', block {block} ({int(problem.sum())} such places); every round "
                "needs every device and block exactly once"
            )
    filled = np.zeros(shape)
    filled[at] = gains[used]
    return filled


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
