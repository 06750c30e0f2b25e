"""Rows of long work in a folder: appended one by one, resumable, never half-read.

``rows.jsonl`` holds one JSON object per finished round (or whatever else rows are told apart by);
``settings.json`` what the run was asked to do. A run that is killed loses at most the row it was
writing. Lines that cannot be read later are moved to ``rows.damaged``, and the other rows stay. One
run writes into a folder at a time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ValidationError

from sftopt.core.errors import DiskError, InputError, RefusedError
from sftopt.core.files import canonical_json, read_json, write_bytes, write_json, write_text
from sftopt.core.folder_lock import FolderLock

LOGGER = logging.getLogger(__name__)
"""Tells what was found damaged and what is done about it; on standard error by default."""

ROWS_NAME = "rows.jsonl"
"""The rows of a run's folder."""
SETTINGS_NAME = "settings.json"
"""What the run of a folder was asked to do."""
DAMAGED_SUFFIX = ".damaged"
"""Of the file that takes lines that could not be read, as they were found."""
_NAMED = 5
"""Settings or lines that a message names at most."""
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What the system answers where a disk takes no more."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """What tells one row of a file from the others."""

    name: str
    """What messages call it."""
    of: Callable[[Row], Any]
    """Returns it, hashable; None for data that are no row."""
    sorts: bool
    """Whether rows stand in its order; else in that in which they were written."""


def _round_of(row: Row) -> int | None:
    number = row.get("round")
    return number if type(number) is int and number >= 0 else None


BY_ROUND = Identity("round", _round_of, True)
"""Rows of rounds that are counted."""
BY_CELL = Identity("cell", lambda row: row.get("cell"), False)
"""Rows of cells that have a name."""


class RowFile:
    """The rows of one run, with those of an interrupted run before it, locked for other writers.

    ``settings`` is plain JSON data that says what is asked; rows of other settings are never
    mixed in. ``model`` says what a row looks like; a line that does not is treated as damaged.
    ``kept`` returns the rows as another file keeps them (a checkpoint, say): they are then taken in
    place of those found. ``identity`` is what no two rows share. Raises InputError where the folder
    holds rows and ``resume`` is false, or rows of other settings, or a row twice, or another run is
    writing, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        resume: bool,
        model: type[BaseModel] | None = None,
        kept: Callable[[], Sequence[Row]] | None = None,
        identity: Identity = BY_ROUND,
    ) -> None:
        self.folder = folder
        self._identity = identity
        self.path = folder / ROWS_NAME
        self.rows: list[Row] = []
        self._descriptor = -1
        self._lock = FolderLock(folder)
        try:
            self._take_over(json.loads(canonical_json(settings)), resume, model, kept)
            self._open()
        except BaseException as error:
            self._leave_nothing(error)
            self._lock.release()
            raise

    @property
    def rounds(self) -> set[int]:
        """Return the numbers of the rounds that have a row."""
        return {row["round"] for row in self.rows}

    def append(self, row: Row) -> None:
        """Write a row so that it outlives a crash. Raises InputError on a full disk."""
        line = (canonical_json(row) + "\n").encode()
        before = None
        try:
            before = os.fstat(self._descriptor).st_size
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            if before is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)  # no half line before the next one
            raise DiskError(self.path, error) from None
        self.rows.append(row)

    def put_in_order(self) -> None:
        """Sort the rows by round: one that was run again stands last in the file until then."""
        ordered = sorted(self.rows, key=self._identity.of)
        if ordered != self.rows:
            self._replace(ordered)

    def close(self) -> None:
        """Close the file and let other writers in; the rows stay readable in :attr:`rows`."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if descriptor >= 0:
                os.close(descriptor)
        except OSError as error:
            raise DiskError(self.path, error) from None
        finally:
            self._lock.release()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; a disk that takes no more becomes an InputError that names the way on."""
        self._leave_nothing(error)
        try:
            self.close()
        except DiskError as failed:
            error = error or failed
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            error = DiskError(Path(error.filename or self.folder), error)
        if isinstance(error, DiskError):
            raise InputError(
                f"cannot write '{error.path}': {error.reason}. What is finished is kept in "
                f"'{self.folder}': make room there and go on with --resume"
            ) from None

    def _leave_nothing(self, error: BaseException | None) -> None:
        """Remove the files of a run that was refused before its first row, in a folder it made."""
        if (
            isinstance(error, InputError | RefusedError)
            and not self.rows
            and self._lock.made_folder
        ):
            for name in (ROWS_NAME, SETTINGS_NAME):
                (self.folder / name).unlink(missing_ok=True)

    def _take_over(
        self,
        settings: dict[str, Any],
        resume: bool,
        model: type[BaseModel] | None,
        kept: Callable[[], Sequence[Row]] | None,
    ) -> None:
        """Check the folder and load what an earlier run left in it."""
        content = self._content()
        if content and not resume:
            raise InputError(
                f"'{self.folder}' holds the rows of an earlier run; go on with --resume, or name "
                "another folder"
            )
        if content:
            self._check_settings(settings)
        found = _parsed(content, model, self._identity)
        self._check_rounds(found)
        taken = None if kept is None or not resume else list(kept())
        if taken and not content:
            self._check_settings(settings)
        self._set_aside(found, again=taken is None)
        if taken is not None:
            self._tell_differences(found, taken)
            lines = [canonical_json(row).encode() for row in taken]
        else:
            ordered = found.rows
            if self._identity.sorts:
                ordered = sorted(found.rows, key=lambda one: self._identity.of(one[0]))
            taken, lines = [row for row, _, _ in ordered], [line for _, line, _ in ordered]
        self._write_back(content, b"".join(line + b"\n" for line in lines))
        self.rows = taken
        settings_path = self.folder / SETTINGS_NAME
        if not (content and settings_path.exists()):
            write_json(settings_path, settings)

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise InputError(f"cannot read '{self.path}': {error.strerror}") from None

    def _check_settings(self, settings: dict[str, Any]) -> None:
        changed = _changed(read_json(self.folder / SETTINGS_NAME, "settings"), settings)
        if changed:
            named = ", ".join(changed[:_NAMED]) + (" ..." if len(changed) > _NAMED else "")
            raise InputError(
                f"'{self.folder}' holds rows of a run with other settings ({named}); "
                "name another folder, or resume with the settings in its settings.json"
            )

    def _check_rounds(self, found: _Found) -> None:
        name, of = self._identity.name, self._identity.of
        counts = Counter(of(row) for row, _, _ in found.rows)
        doubled = sorted(number for number, count in counts.items() if count > 1)
        if doubled:
            lines = [place for row, _, place in found.rows if of(row) == doubled[0]]
            raise InputError(
                f"'{self.path}' has {name} {doubled[0]} {len(lines)} times, in lines "
                f"{_joined(lines)} ({len(doubled)} {name}s are there more than once): two runs "
                "wrote into it. Remove the lines that do not belong, or name another folder"
            )

    def _set_aside(self, found: _Found, again: bool) -> None:
        """Move damaged lines to a file of their own and say so."""
        if not found.damaged:
            return
        where = set_lines_aside(self.path, [line for line, _ in found.damaged])
        LOGGER.warning(
            "'%s': line %s cannot be read as a row and is now in '%s'; %s",
            self.path,
            _joined([place for _, place in found.damaged]),
            where.name,
            "what it held is run again" if again else "the checkpoint has the row",
        )

    def _tell_differences(self, found: _Found, taken: Sequence[Row]) -> None:
        of = self._identity.of
        there = {of(row): row for row, _, _ in found.rows}
        odd = [of(row) for row in taken if there.get(of(row)) != row]
        if odd:
            LOGGER.warning(
                "'%s': %s %s was missing or not as in the checkpoint, and is put back",
                self.path,
                self._identity.name,
                _joined(odd),
            )

    def _write_back(self, before: bytes, now: bytes) -> None:
        """Make the file hold ``now``; where only its end goes, that takes no room on the disk."""
        if before == now:
            return
        if not before.startswith(now):
            write_bytes(self.path, now)
            return
        try:
            os.truncate(self.path, len(now))
        except OSError as error:
            raise DiskError(self.path, error) from None

    def _replace(self, rows: list[Row]) -> None:
        write_text(self.path, "".join(canonical_json(row) + "\n" for row in rows))
        self.rows = rows
        os.close(self._descriptor)
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise DiskError(self.path, error) from None


def set_lines_aside(path: Path, lines: Sequence[bytes]) -> Path:
    """Append damaged lines of the file ``path`` to the one beside it, whose path is returned.

    Raises InputError where that fails.
    """
    where = path.with_suffix(DAMAGED_SUFFIX)
    try:
        with where.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiskError(where, error) from None
    return where


@dataclass(frozen=True)
class _Found:
    """What a file of rows held."""

    rows: list[tuple[Row, bytes, int]]
    """Row, its line without the end, and the line's number from 1."""
    damaged: list[tuple[bytes, int]]
    """Line and number; the torn last line of a killed run is not among them."""


def _parsed(content: bytes, model: type[BaseModel] | None, identity: Identity) -> _Found:
    *lines, torn = content.split(b"\n")
    del torn  # empty, or what a killed run was writing
    found = _Found([], [])
    for place, line in enumerate(lines, 1):
        row = _row(line, model, identity)
        if row is not None:
            found.rows.append((row, line, place))
        elif line.strip():
            found.damaged.append((line, place))
    return found


def _row(line: bytes, model: type[BaseModel] | None, identity: Identity) -> Row | None:
    """The row of a line; None where it is none."""
    try:
        row = json.loads(line, parse_constant=_no_constant)
        if not isinstance(row, dict) or identity.of(row) is None:
            return None
        if model is not None:
            model.model_validate(row)
    except (ValueError, RecursionError, ValidationError):
        return None
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of a row")


def _joined(numbers: Iterable[Any]) -> str:
    known = list(numbers)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(map(str, known[:_NAMED])) + more


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


__all__ = [
    "BY_ROUND",
    "DAMAGED_SUFFIX",
    "ROWS_NAME",
    "SETTINGS_NAME",
    "Identity",
    "Row",
    "RowFile",
    "set_lines_aside",
]
