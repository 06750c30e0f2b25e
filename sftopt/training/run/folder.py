"""The folder of a run: one row per round, in step with the checkpoint after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sftopt.core.errors import InputError
from sftopt.core.rows import ROWS_NAME, RowFile
from sftopt.training.loop import RoundRow
from sftopt.training.run.clock import ClockDelays, DeviceDelays, RoundDelays
from sftopt.training.split.checkpoint import rounds_in_checkpoint

CHECKPOINT_NAME = "checkpoint"
"""Folder of the state from which an interrupted run resumes."""

_KINDS = (
    "uplink_boundary",
    "downlink_gradient",
    "uplink_adapters",
    "downlink_adapters",
    "uplink_side",
)
"""Kinds of bytes that a row counts."""


class RunFolder:
    """``rows.jsonl`` and ``settings.json`` of a run.

    A row is written before its round's checkpoint; what a kill left beyond the checkpoint is
    dropped and run again.
    """

    def __init__(self, path: Path, asked: dict[str, Any], *, resume: bool) -> None:
        """Raises InputError where the folder holds another run, or cannot be written."""
        self.path = path
        done = 0
        if resume:
            done = rounds_in_checkpoint(path / CHECKPOINT_NAME)
        elif (path / CHECKPOINT_NAME).exists():
            raise InputError(
                f"'{path}' holds an earlier run; go on with --resume, or name another folder."
            )
        self._file = RowFile(path, asked, resume=resume, at_most=done)
        if len(self._file.rows) != done:
            self._file.close()
            raise InputError(
                f"'{path}' has {len(self._file.rows)} rows but {done} rounds in its checkpoint; "
                "name another folder."
            )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Read all rows so far."""
        return self._file.rows

    def append(self, row: RoundRow, delays: RoundDelays, speed: float) -> dict[str, Any]:
        """Write the row of a round; returns it."""
        last = self.rows[-1] if self.rows else {"time_s": 0.0, "time_unscaled_s": 0.0}
        written = {
            **row.to_dict(),
            "loss": row.loss,
            "bytes": {kind: row.bytes_of(kind) for kind in _KINDS},
            "delay": delays.to_dict(),
            "time_s": last["time_s"] + delays.planned.round_s,
            "time_unscaled_s": last["time_unscaled_s"] + delays.unscaled.round_s,
            "reference_flops_per_s": speed,
        }
        self._file.append(written)
        return written

    def delays(self) -> list[RoundDelays]:
        """Read the delays of all rows."""
        return [_delays_of(row["delay"]) for row in self.rows]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def stored_speed(path: Path) -> float | None:
    """Return f_ref of a run's finished rounds, in FLOP/s: one run has one clock. None without
    rounds.
    """
    if not rounds_in_checkpoint(path / CHECKPOINT_NAME):
        return None
    try:
        with (path / ROWS_NAME).open(encoding="utf-8") as file:
            return float(json.loads(file.readline())["reference_flops_per_s"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"'{path / ROWS_NAME}' cannot be read: {error}.") from None


def _delays_of(data: dict[str, Any]) -> RoundDelays:
    clocks = {}
    for name in ("planned", "unscaled"):
        devices = {key: DeviceDelays(**part) for key, part in data[name]["devices"].items()}
        clocks[name] = ClockDelays(**{**data[name], "devices": devices})
    return RoundDelays(**{**data, **clocks})
