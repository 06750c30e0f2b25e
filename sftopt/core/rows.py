"""Rows of long work in a folder: appended one by one, resumable, never half-read.

``rows.jsonl`` holds one JSON object per finished piece of work; ``settings.json`` what it was
asked to do. A run that is killed loses at most the row it was writing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.files import canonical_json, read_json, write_json

ROWS_NAME = "rows.jsonl"
SETTINGS_NAME = "settings.json"
_NAMED = 5
"""Settings that an error names at most."""


class RowFile:
    """The rows of one piece of work, with those of an interrupted run before it.

    ``settings`` is plain JSON data that says what is asked; rows of other settings are never
    mixed in. Raises InputError where the folder holds rows and ``resume`` is false, or rows of
    other settings, or cannot be written. ``at_most`` rows of the same settings are taken over, the
    rest is dropped; rows of other settings stay untouched.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], *, resume: bool, at_most: int | None = None
    ) -> None:
        self.folder = folder
        self.path = folder / ROWS_NAME
        self.rows: list[dict[str, Any]] = []
        settings = json.loads(canonical_json(settings))
        if self.path.exists() and self.path.stat().st_size > 0:
            self._take_over(settings, resume, at_most)
        write_json(folder / SETTINGS_NAME, settings)
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write '{self.path}': {error.strerror}") from None

    def _take_over(self, settings: dict[str, Any], resume: bool, at_most: int | None) -> None:
        if not resume:
            raise InputError(
                f"'{self.folder}' holds the rows of an earlier run; go on with --resume, or name "
                "another folder"
            )
        before = read_json(self.folder / SETTINGS_NAME, "settings")
        changed = _changed(before, settings)
        if changed:
            named = ", ".join(changed[:_NAMED]) + (" ..." if len(changed) > _NAMED else "")
            raise InputError(
                f"'{self.folder}' holds rows of a run with other settings ({named}); "
                "name another folder, or resume with the settings in its settings.json"
            )
        self.rows, good_bytes = _read(self.path, at_most)
        with self.path.open("r+b") as file:
            file.truncate(good_bytes)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row so that it outlives a crash. Raises InputError on a full disk."""
        try:
            self._file.write(canonical_json(row) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(
                f"cannot write '{self.path}': {error.strerror}; what is there is kept, go on "
                "with --resume"
            ) from None
        self.rows.append(row)

    def close(self) -> None:
        """Close the file; the rows stay readable in :attr:`rows`."""
        self._file.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what differs, with those of fields within, such as ``split.seed``."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name}.{inner}" for inner in _changed(old, new)]
        elif old != new:
            found.append(name)
    return found


def _read(path: Path, at_most: int | None) -> tuple[list[dict[str, Any]], int]:
    """All whole rows, and how many bytes they take: a last line cut short by a kill is dropped."""
    rows: list[dict[str, Any]] = []
    good = 0
    for line in path.read_bytes().splitlines(keepends=True)[:at_most]:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(row, dict):
            break
        rows.append(row)
        good += len(line)
    return rows, good
