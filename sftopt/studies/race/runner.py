"""The runner: every planned run becomes a row, whatever happens to it, and none becomes two."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sftopt.core.errors import InputError, InterruptedRunError
from sftopt.studies.race.checks import find_wrong
from sftopt.studies.race.cluster import ClusterPool, check_cluster
from sftopt.studies.race.folder import open_rows, read_folder, write_plan
from sftopt.studies.race.jobs import Jobs
from sftopt.studies.race.machine import refuse_busy
from sftopt.studies.race.plan import PlannedRun, Wanted, planned, rate_laws_of, solver_names_of
from sftopt.studies.race.row import FAILED, RaceRow, latest
from sftopt.studies.race.slot import Slot
from sftopt.studies.race.suite import Suite

GRACE_S = 30.0
"""A run that goes on so many seconds beyond its limit is killed; ``solve`` ends most before."""

LEAST_KEY = 6
"""Digits of a key that name a row, at least."""

OnRow = Callable[[int, int, RaceRow], None]
"""Told of each row: how many are done, of how many, and the row."""


@dataclass(frozen=True)
class RaceSettings:
    """How a race is run; nothing here is in a row's key."""

    jobs: int = 1
    keep_plans: bool = False
    allow_busy: bool = False
    rerun: str = ""
    """``failed``, ``starved`` or the beginning of a key; empty: only what is missing."""
    grace_s: float = GRACE_S
    cluster: str = ""
    """Address of a Dask scheduler whose workers make the runs; empty: this machine does."""


USUAL = RaceSettings()
"""One run at a time, on a quiet machine."""


def race(
    suite: Suite,
    wanted: Wanted,
    out: Path,
    settings: RaceSettings = USUAL,
    on_row: OnRow = lambda done, total, row: None,
) -> dict[str, Any]:
    """Run what of a suite has no row in ``out`` yet, and summarise the folder.

    Raises InputError for a busy machine, a folder that another run writes or rows of another suite;
    InterruptedRunError after Ctrl-C, with every finished row kept.
    """
    if settings.jobs < 1:
        raise InputError(f"--jobs is {settings.jobs}; it must be 1 or more")
    if not settings.allow_busy:
        refuse_busy()
    asked = planned(suite, wanted)
    if settings.cluster and not out.exists():  # else a folder would be left without a row
        check_cluster(settings.cluster)
    with open_rows(out, suite.name) as file:
        first = Slot(solver_names_of(asked), suite.threads, rate_laws_of(asked))
        try:
            first.start()
            runs = [run.keyed(first.versions) for run in asked]
            rows = [RaceRow.model_validate(row) for row in file.rows]
            todo = _todo(runs, rows, settings.rerun)
            write_plan(out, suite, [_planned_data(run) for run in runs])
            jobs = Jobs(suite, out, settings.keep_plans, settings.grace_s, rows)
            pool = _pool(first, jobs, todo, settings)
        except BaseException:
            first.stop()
            raise
        done = len(runs) - len(todo)
        try:
            for row in pool.rows():
                file.append(row.model_dump(mode="json"))
                done += 1
                on_row(done, len(runs), row)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted; {done} of {len(runs)} rows are in '{out}', the same command goes on"
            ) from None
        finally:
            pool.stop()
    return summary_of(out)


def _pool(
    first: Slot, jobs: Jobs, todo: Sequence[PlannedRun], settings: RaceSettings
) -> _Pool | ClusterPool:
    """Whoever makes the runs; an instance's are made one after the other in one place."""
    groups = [list(group) for _, group in groupby(todo, key=lambda run: id(run.case))]
    if settings.cluster and groups:
        pool = ClusterPool(settings.cluster, jobs, groups, first)
        first.stop()  # it told the versions
        return pool
    more = (Slot(first.solvers, first.threads, first.laws) for _ in range(settings.jobs - 1))
    return _Pool([first, *more], jobs, groups)


def summary_of(out: Path) -> dict[str, Any]:
    """Summarise a race's folder: counts of verdicts, what is missing, what is wrong."""
    folder = read_folder(out)
    rows = folder.counting
    verdicts = [row.outcome.verdict for row in rows]
    return {
        "suite": folder.suite.name,
        "out": str(out),
        "planned": len(folder.planned),
        "rows": len(rows),
        "missing": [run["name"] for run in folder.missing],
        "verdicts": {name: verdicts.count(name) for name in sorted(set(verdicts))},
        "wrong": [vars(one) for one in find_wrong(rows, folder.suite.checks)],
    }


def _planned_data(run: PlannedRun) -> dict[str, Any]:
    return {
        "key": run.key,
        "name": run.name,
        "instance": run.case.name,
        "entry": run.entry.name,
        "seed": run.seed,
    }


def _todo(runs: Sequence[PlannedRun], rows: list[RaceRow], rerun: str) -> list[PlannedRun]:
    """What has no row, had no core of its own, or is asked for anew."""
    known = {row.key: row for row in latest(rows)}
    words = ("", "failed", "starved")
    is_key = len(rerun) >= LEAST_KEY and any(run.key.startswith(rerun) for run in runs)
    if rerun not in words and not is_key:
        raise InputError(
            f"--rerun '{rerun}' is none of failed, starved and the key of a planned run (its "
            f"first {LEAST_KEY} digits or more); keys stand in rows.jsonl and in the report"
        )

    def is_wanted(run: PlannedRun) -> bool:
        row = known.get(run.key)
        if row is None or row.outcome.verdict == "starved":
            return True
        if rerun == "failed":
            return row.outcome.verdict in FAILED
        return bool(rerun) and run.key.startswith(rerun)

    return [run for run in runs if is_wanted(run)]


class _Pool:
    """Slots at work: each takes one instance after the other, with all its runs."""

    def __init__(self, slots: list[Slot], jobs: Jobs, groups: list[list[PlannedRun]]) -> None:
        self.slots, self.jobs = slots, jobs
        self.cases: queue.SimpleQueue[list[PlannedRun]] = queue.SimpleQueue()
        for group in groups:
            self.cases.put(group)
        self.done: queue.SimpleQueue[RaceRow | BaseException | None] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=[slot]) for slot in slots]

    def rows(self) -> Iterator[RaceRow]:
        """Yield rows as runs end."""
        for thread in self.threads:
            thread.start()
        working = len(self.threads)
        while working:
            try:
                news = self.done.get(timeout=0.2)  # a wait without end would not hear Ctrl-C
            except queue.Empty:
                continue
            if isinstance(news, BaseException):
                raise news
            if news is None:
                working -= 1
            else:
                yield news

    def stop(self) -> None:
        """End all agents, and with them what runs."""
        self.stopped.set()
        for slot in self.slots:
            slot.stop()
        for thread in self.threads:
            if thread.is_alive():
                thread.join()
        for slot in self.slots:
            slot.stop()

    def _work(self, slot: Slot) -> None:
        try:
            while not self.stopped.is_set():
                try:
                    runs = self.cases.get_nowait()
                except queue.Empty:
                    break
                for run in runs:
                    row = self.jobs.row_of(run, slot, self.stopped)
                    if row is None:
                        break
                    self.done.put(row)
        except Exception as error:  # noqa: BLE001  the main thread raises it
            self.done.put(error)
        self.done.put(None)


__all__ = ["RaceSettings", "race", "summary_of"]
