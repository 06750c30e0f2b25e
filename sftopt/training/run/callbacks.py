"""What is told of a run while it goes: callbacks of the user's own, CSV files, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sftopt.core.errors import DiskError, InputError, UnknownNameError

ROUNDS_NAME = "rounds.csv"
"""One line for each round."""
STEPS_NAME = "steps.csv"
"""One line for each local step of each device."""
TENSORBOARD_NAME = "tensorboard"
"""Folder of TensorBoard's event files."""


class Callback:
    """Takes part in a run; a subclass overrides what it wants to hear of. All does nothing here.

    What is handed over is plain data as in the run's files. An exception ends the run, which goes
    on from its last checkpoint when it is started again.
    """

    def on_run_begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Receive what is asked for, and the rows of rounds that were finished before."""

    def on_step_end(self, round_number: int, losses: Mapping[str, float]) -> None:
        """Receive the loss in nats of each device in one local step."""

    def on_round_end(self, row: Mapping[str, Any]) -> None:
        """Receive a round's row as ``rows.jsonl`` has it."""

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        """Receive the content of ``summary.json``."""


class CsvLog(Callback):
    """``rounds.csv`` and ``steps.csv`` in a run's folder; made anew from its rows when resumed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_run_begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the heads and the rounds finished before. Raises InputError."""
        self._write(ROUNDS_NAME, [_ROUND_HEAD, *map(_round_line, rows)], "w")
        self._write(STEPS_NAME, [_STEP_HEAD, *(s for row in rows for s in _step_lines(row))], "w")

    def on_round_end(self, row: Mapping[str, Any]) -> None:
        """Add a round's lines. Raises InputError."""
        self._write(ROUNDS_NAME, [_round_line(row)], "a")
        self._write(STEPS_NAME, _step_lines(row), "a")

    def _write(self, name: str, lines: Sequence[Sequence[Any]], mode: str) -> None:
        path = self._folder / name
        try:
            with path.open(mode, encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
        except OSError as error:
            raise DiskError(path, error, "Rounds are kept: go on with --resume.") from None


_KINDS = ("uplink_boundary", "uplink_side", "downlink_gradient", "uplink_adapters",
          "downlink_adapters")  # fmt: skip
"""Kinds of bytes, in the order of their columns."""
_ROUND_HEAD = ("round", "loss", "metric", *(f"{kind}_bytes" for kind in _KINDS), "round_s",
               "time_s")  # fmt: skip
"""First line of rounds.csv."""
_STEP_HEAD = ("round", "step", "device", "loss")
"""First line of steps.csv."""


def _round_line(row: Mapping[str, Any]) -> list[Any]:
    metric = "" if row["metric"] is None else row["metric"]
    sent = [row["bytes"].get(kind, 0) for kind in _KINDS]
    return [row["round"], row["loss"], metric, *sent, row["delay"]["planned"]["round_s"],
            row["time_s"]]  # fmt: skip


def _step_lines(row: Mapping[str, Any]) -> list[list[Any]]:
    return [
        [row["round"], step, device, loss]
        for device, losses in row.get("step_losses", {}).items()
        for step, loss in enumerate(losses, 1)
    ]


def _steps_of(row: Mapping[str, Any]) -> int:
    """Local steps of a round; 0 where an earlier version wrote its row."""
    return max(map(len, row.get("step_losses", {}).values()), default=0)


class TensorBoardLog(Callback):
    """Losses, metric, bytes and delays as TensorBoard shows them, by round and by local step."""

    def __init__(self, folder: Path) -> None:
        """Raise InputError where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "--logs tensorboard needs TensorBoard: pip install 'sftopt[logs]'."
            ) from None
        self._folder = folder / TENSORBOARD_NAME
        self._kind: Any = SummaryWriter
        self._writer: Any = None
        self._steps = 0

    def on_run_begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Open the event file; what an earlier run wrote beyond the rows is dropped in the view."""
        self._steps = sum(map(_steps_of, rows))
        self._writer = self._kind(str(self._folder), purge_step=self._steps if rows else None)

    def on_round_end(self, row: Mapping[str, Any]) -> None:
        """Add a round; all is shown over the number of local steps so far."""
        for step, device, loss in (line[1:] for line in _step_lines(row)):
            self._writer.add_scalar(f"loss/{device}", loss, self._steps + step)
        self._steps += _steps_of(row)
        if row["metric"] is not None:
            self._writer.add_scalar("metric", row["metric"], self._steps)
        for kind, count in row["bytes"].items():
            self._writer.add_scalar(f"bytes/{kind}", count, self._steps)
        self._writer.add_scalar("delay/round_s", row["delay"]["planned"]["round_s"], self._steps)
        self._writer.flush()

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        """Close the event file."""
        self._writer.close()


_LOGS = {"csv": CsvLog, "tensorboard": TensorBoardLog}
"""Logs by the name that a user gives."""


def logs_of(names: str | None, folder: Path) -> list[Callback]:
    """Make the logs of ``csv,tensorboard``. Raises InputError for a name that is none."""
    found: list[Callback] = []
    for name in dict.fromkeys(part.strip() for part in (names or "").split(",") if part.strip()):
        if name not in _LOGS:
            raise UnknownNameError("log", name, _LOGS)
        found.append(_LOGS[name](folder))
    return found
