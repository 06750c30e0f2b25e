"""The folder of a race: rows, the plan they answer, instances, starts; several made into one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sftopt.core.errors import InputError
from sftopt.core.files import canonical_json, read_json, write_json
from sftopt.core.rows import ROWS_NAME, SETTINGS_NAME, RowFile
from sftopt.studies.race.row import BY_KEY, RaceRow, latest
from sftopt.studies.race.suite import Suite

PLAN_NAME = "plan.json"
"""What a folder's rows answer: the suite, and every run with its key."""
_PARTS = ("instances", "rounds", "starts", "plans")
"""Folders of files that are named by hash or key: the same name, the same content."""


@dataclass(frozen=True)
class Folder:
    """A race as it stands in a folder."""

    path: Path
    suite: Suite
    planned: list[dict[str, Any]]
    rows: list[RaceRow]

    @property
    def counting(self) -> list[RaceRow]:
        """Return the row of each planned run that has one, in the plan's order."""
        by_key = {row.key: row for row in latest(self.rows)}
        return [by_key[run["key"]] for run in self.planned if run["key"] in by_key]

    @property
    def missing(self) -> list[dict[str, Any]]:
        """Return the planned runs without a row."""
        there = {row.key for row in self.rows}
        return [run for run in self.planned if run["key"] not in there]


def open_rows(out: Path, suite: str) -> RowFile:
    """Open the rows of a race to add to them. Raises InputError where another run writes them."""
    return RowFile(out, {"race": suite}, resume=True, model=RaceRow, identity=BY_KEY)


def write_plan(out: Path, suite: Suite, runs: list[dict[str, Any]]) -> None:
    """Write what a folder's rows are to answer."""
    write_json(out / PLAN_NAME, {"suite": suite.model_dump(mode="json"), "runs": runs})


def read_folder(path: Path) -> Folder:
    """Read a race's folder. Raises InputError where it is none."""
    if not (path / PLAN_NAME).is_file():
        raise InputError(f"'{path}' is no folder of a race: it has no {PLAN_NAME}")
    data = read_json(path / PLAN_NAME, "plan of a race")
    try:
        suite = Suite.model_validate(data["suite"])
        runs = [{**run, "key": str(run["key"])} for run in data["runs"]]
    except (ValidationError, KeyError, TypeError):
        raise InputError(f"'{path / PLAN_NAME}' is no plan of a race") from None
    return Folder(path, suite, runs, _rows(path))


def merge(folders: Sequence[Path], out: Path) -> Folder:
    """Put the rows of several folders (shards, machines) into a new one, each once.

    Raises InputError where they are of different suites, or ``out`` is one of them.
    """
    if any(folder.resolve() == out.resolve() for folder in folders):
        raise InputError(f"'{out}' is one of the folders to merge; name a new one")
    found = [read_folder(folder) for folder in folders]
    suites = {one.suite.name for one in found}
    if len(suites) > 1:
        raise InputError(f"folders of different suites are not merged: {', '.join(sorted(suites))}")
    runs = {run["key"]: run for one in found for run in one.planned}
    with open_rows(out, found[0].suite.name) as file:
        there = {canonical_json(row) for row in file.rows}
        for one in found:
            for row in one.rows:
                data = _numbered(row, file.rows).model_dump(mode="json")
                text = canonical_json(row.model_dump(mode="json"))
                if text not in there:
                    there |= {text, canonical_json(data)}
                    file.append(data)
        for folder in folders:
            _copy_parts(folder, out)
        if (out / PLAN_NAME).is_file():
            runs |= {run["key"]: run for run in read_folder(out).planned}
        write_plan(out, found[0].suite, list(runs.values()))
    return read_folder(out)


def _numbered(row: RaceRow, there: list[dict[str, Any]]) -> RaceRow:
    """The row with an attempt that its key does not have yet on its machine and commit."""
    taken = {BY_KEY.of(other) for other in there}
    while BY_KEY.of(row.model_dump(mode="json")) in taken:
        row = row.model_copy(update={"attempt": row.attempt + 1})
    return row


def _copy_parts(folder: Path, out: Path) -> None:
    for name in _PARTS:
        if not (folder / name).is_dir():
            continue
        (out / name).mkdir(exist_ok=True)
        for file in (folder / name).iterdir():
            if not (out / name / file.name).exists():
                shutil.copyfile(file, out / name / file.name)


def _rows(path: Path) -> list[RaceRow]:
    """The rows of a folder that can be read; a line that cannot be is for the next run to mend."""
    try:
        lines = (path / ROWS_NAME).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read '{path / ROWS_NAME}': {error.strerror}") from None
    found = []
    for line in lines:
        try:
            found.append(RaceRow.model_validate_json(line))
        except ValidationError:
            continue
    return found


__all__ = [
    "PLAN_NAME",
    "SETTINGS_NAME",
    "Folder",
    "merge",
    "open_rows",
    "read_folder",
    "write_plan",
]
