"""One row made again, as it was asked."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from sftopt.core.errors import InputError
from sftopt.studies.race.cases import case_of
from sftopt.studies.race.folder import read_folder
from sftopt.studies.race.jobs import Jobs
from sftopt.studies.race.plan import PlannedRun, rate_laws_of
from sftopt.studies.race.row import RaceRow, latest
from sftopt.studies.race.runner import GRACE_S
from sftopt.studies.race.slot import Slot
from sftopt.studies.race.suite import Entry


def replayed(path: Path, key: str) -> tuple[RaceRow, RaceRow]:
    """Return a row of a folder and what the same run gives now; the folder stays as it is.

    Raises InputError where no row, or more than one, has a key that begins so, and where the
    instance that is made again is not the row's.
    """
    folder = read_folder(path)
    found = [row for row in latest(folder.rows) if row.key.startswith(key)]
    if len(found) != 1 or not key:
        raise InputError(f"'{path}' has {len(found)} rows whose key begins with '{key}', not one")
    row = found[0]
    run = PlannedRun(
        suite=row.suite,
        case=case_of(row.instance, folder.path),
        entry=Entry.model_validate(
            row.entry.model_dump(include={"solver", "formulation", "options"})
        ),
        seed=row.seed,
        limit=row.limit_s,
        rel_gap=row.rel_gap,
        memory_mb=row.memory_mb,
        threads=row.threads,
        start=row.start,
        key=row.key,
    )
    slot = Slot([row.entry.solver], row.threads, rate_laws_of([run]))
    with tempfile.TemporaryDirectory(prefix="sftopt-replay-") as scratch:
        jobs = Jobs(folder.suite, Path(scratch), False, GRACE_S, [])
        try:
            now = jobs.row_of(run, slot, threading.Event())
        finally:
            slot.stop()
    assert now is not None  # nobody stops it
    return row, now


__all__ = ["replayed"]
