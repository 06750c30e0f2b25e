"""The folder of a run: one row per round, in step with the checkpoint after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from sftopt.core.errors import InputError
from sftopt.core.row_schema import FinetuneRow
from sftopt.core.rows import RowFile
from sftopt.training.loop import RoundRow
from sftopt.training.run.clock import ClockDelays, DeviceDelays, RoundDelays
from sftopt.training.split.checkpoint import extra_of_checkpoint, has_checkpoint

CHECKPOINT_NAME = "checkpoint"
"""Folder of the state from which an interrupted run resumes."""
_ROWS = "written_rows"
"""Field of a checkpoint that holds the rows."""

_KINDS = (
    "uplink_boundary",
    "downlink_gradient",
    "uplink_adapters",
    "downlink_adapters",
    "uplink_side",
    "uplink_head",
    "downlink_head",
)
"""Kinds of bytes that a row counts."""


class RunFolder:
    """``rows.jsonl`` and ``settings.json`` of a run.

    A row is written before its round's checkpoint, which has the rows too: resumed, the rows are
    the checkpoint's. What a kill left beyond them is dropped and run again.
    """

    def __init__(self, path: Path, asked: dict[str, Any], *, resume: bool) -> None:
        """Raises InputError where the folder holds another run, or cannot be written."""
        self.path = path
        if not resume and has_checkpoint(path / CHECKPOINT_NAME):
            raise InputError(
                f"'{path}' holds an earlier run; go on with --resume, or name another folder."
            )
        self._file = RowFile(path, asked, resume=resume, kept=self._kept)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Read all rows so far."""
        return self._file.rows

    @property
    def speed(self) -> float | None:
        """Return f_ref of the rounds so far, in FLOP/s: one run has one clock. None without any."""
        return float(self.rows[0]["reference_flops_per_s"]) if self.rows else None

    def extra(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this folder."""
        return {_ROWS: self.rows}

    def append(
        self, row: RoundRow, delays: RoundDelays, speed: float, conduct: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the row of a round; returns it. ``conduct``: how rounds are conducted."""
        last = self.rows[-1] if self.rows else {"time_s": 0.0, "time_unscaled_s": 0.0}
        written = {
            **row.to_dict(),
            "loss": row.loss,
            "bytes": {kind: row.bytes_of(kind) for kind in _KINDS},
            "delay": delays.to_dict(),
            "time_s": last["time_s"] + delays.planned.round_s,
            "time_unscaled_s": last["time_unscaled_s"] + delays.unscaled.round_s,
            "reference_flops_per_s": speed,
            **conduct,
        }
        self._file.append(written)
        return written

    def delays(self) -> list[RoundDelays]:
        """Read the delays of all rows."""
        return [_delays_of(row["delay"]) for row in self.rows]

    def _kept(self) -> list[dict[str, Any]]:
        """The rows that the checkpoint has; none without one. Raises InputError."""
        place = self.path / CHECKPOINT_NAME
        extra = extra_of_checkpoint(place)
        if extra is None:
            return []
        rows: list[dict[str, Any]] = extra.get("caller", {}).get(_ROWS)
        try:
            numbers = [FinetuneRow.model_validate(row).round for row in rows]
        except (TypeError, ValidationError):
            raise InputError(f"checkpoint '{place}' is of no such run: it has no rows.") from None
        if numbers != list(range(1, len(numbers) + 1)):
            raise InputError(
                f"checkpoint '{place}' has the rounds {numbers}; 1 to {len(numbers)} are needed. "
                "Name another folder."
            )
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)


def _delays_of(data: dict[str, Any]) -> RoundDelays:
    clocks = {}
    for name in ("planned", "unscaled"):
        devices = {key: DeviceDelays(**part) for key, part in data[name]["devices"].items()}
        clocks[name] = ClockDelays(**{**data[name], "devices": devices})
    return RoundDelays(**{**data, **clocks})
