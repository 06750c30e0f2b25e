"""A race on a Dask cluster: an instance with all its runs is one task, so they share a machine.

A worker forks nothing itself: it starts an agent, as the runner does here, and keeps it for the
next task. Rows come back as they are and are written by the one who asks; a worker that dies costs
its task, which another worker makes again. What crosses is JSON text.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sftopt import __version__
from sftopt.core.channel import RoundChannel
from sftopt.core.errors import InputError, RefusedError, SftoptError
from sftopt.core.files import json_digest, write_json
from sftopt.core.instance import parse_instance
from sftopt.studies.race.cases import Case
from sftopt.studies.race.jobs import Jobs
from sftopt.studies.race.plan import PlannedRun
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.slot import Slot
from sftopt.studies.race.suite import Entry, Suite

CONNECT_S = 10.0
"""A scheduler that does not answer within so many seconds is not there."""

_IDLE: dict[str, list[Slot]] = {}
"""On a worker: agents that wait for the next task, by what they have loaded."""
_LOCK = threading.Lock()
"""Workers may have several threads."""


class ClusterPool:
    """Gives tasks to a Dask scheduler and yields rows as they come back."""

    def __init__(
        self, address: str, jobs: Jobs, groups: Sequence[list[PlannedRun]], first: Slot
    ) -> None:
        """Connect; workers' agents load what ``first`` does. Raises RefusedError without
        Dask, InputError without a cluster to work on.
        """
        self.jobs = jobs
        self.tasks = {}
        for group in groups:
            text = json.dumps(_task(jobs, group, first))
            self.tasks[f"sftopt-race-{json_digest(text)[:24]}"] = (group, text)
        self.client = _connected(address)

    def rows(self) -> Iterator[RaceRow]:
        """Yield rows; those of a task that killed its workers say so."""
        import distributed

        dask: Any = distributed  # it tells no types
        futures = {
            # results are no function of the arguments: never taken from another client's run
            self.client.submit(run_task, text, key=key, pure=False): group
            for key, (group, text) in self.tasks.items()
        }
        for future in dask.as_completed(futures, loop=self.client.loop):
            group = futures.pop(future)
            try:
                made = json.loads(future.result())
            except distributed.KilledWorker as error:
                reason = f"worker lost: {error.allowed_failures + 1} died with it"
                yield from (self.jobs.lost_row(run, reason) for run in group)
                continue
            except SftoptError:
                raise
            except Exception as error:  # noqa: BLE001  a scheduler that is gone, a full disk there
                text = f"the cluster failed: {type(error).__name__}: {error}"
                raise RefusedError(f"{text}; the same command goes on") from None
            if "refused" in made:
                raise RefusedError(made["refused"])
            for one in made["rows"]:
                yield self._row(one)

    def stop(self) -> None:
        """Give up what has not come back."""
        self.client.close()

    def _row(self, made: dict[str, Any]) -> RaceRow:
        """A worker's row as one of this folder; its plan is kept here."""
        row = RaceRow.model_validate(made["row"])
        if made["plan"] is not None:
            write_json(self.jobs.plan_path(row.key), made["plan"])
        context = row.context.model_copy(update={"replay": self.jobs.replay_command(row.key)})
        return row.model_copy(update={"context": context})


def check_cluster(address: str) -> None:
    """Refuse an address where no scheduler answers, or whose workers are of another version.

    Raises InputError.
    """
    _connected(address).close()


def _connected(address: str) -> Any:
    """A client of the scheduler at ``address``, all of whose workers are of this version."""
    try:
        import distributed
    except ImportError:
        raise RefusedError("--cluster needs Dask: pip install 'sftopt[cluster]'") from None
    dask: Any = distributed
    try:
        client = dask.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"--cluster {address}: no Dask scheduler answers there ({error})"
        ) from None
    try:
        found = client.run(worker_version)
    except Exception as error:  # noqa: BLE001  whatever a foreign worker raises
        client.close()
        raise RefusedError(
            f"--cluster {address}: its workers have no sftopt {__version__} ({error})"
        ) from None
    others = {worker: version for worker, version in found.items() if version != __version__}
    if not found or others:
        client.close()
        if not found:
            raise InputError(f"--cluster {address}: the scheduler has no workers yet")
        worker, version = next(iter(others.items()))
        raise RefusedError(
            f"--cluster {address}: worker {worker} has sftopt {version}, this is {__version__}"
        )
    return client


def worker_version() -> str:
    """Return the version of sftopt that this process runs."""
    return __version__


def _task(jobs: Jobs, group: Sequence[PlannedRun], first: Slot) -> dict[str, Any]:
    """The runs of one instance as plain data."""
    case = group[0].case
    jobs.keep_case(case)
    gains = None
    if case.channel is not None:
        gains = [case.channel.uplink_gain.tolist(), case.channel.downlink_gain.tolist()]
    cell = (case.instance.hash, case.round_hash)
    return {
        "version": __version__,
        "suite": jobs.suite.model_dump(mode="json"),
        "loads": [first.solvers, first.threads, first.laws],
        "keep_plans": jobs.keep_plans,
        "grace_s": jobs.grace_s,
        "case": {"name": case.name, "generator": case.generator, "gains": gains,
                 "instance": case.instance.to_dict()},
        "known_s": [[*place[2:], seconds] for place, seconds in jobs.times.items()
                    if place[:2] == cell],
        "runs": [
            {
                "suite": run.suite, "entry": run.entry.model_dump(mode="json"), "seed": run.seed,
                "limit": run.limit, "rel_gap": run.rel_gap, "memory_mb": run.memory_mb,
                "threads": run.threads, "start": run.start, "key": run.key,
                "attempt": jobs.attempts.get(run.key, 0),
            }
            for run in group
        ],
    }  # fmt: skip


def run_task(text: str) -> str:
    """Make the runs of a task on a worker; return their rows as JSON text."""
    task = json.loads(text)
    if task["version"] != __version__:
        return json.dumps({
            "refused": f"a worker has sftopt {__version__}, asked for is {task['version']}"
        })  # fmt: skip
    given = task["case"]
    channel = None if given["gains"] is None else RoundChannel(*map(np.array, given["gains"]))
    instance = parse_instance(given["instance"], given["name"])
    case = Case(instance, given["name"], given["generator"], channel)
    cell = (case.instance.hash, case.round_hash)
    made = []
    with tempfile.TemporaryDirectory(prefix="sftopt-race-") as scratch:
        suite = Suite.model_validate(task["suite"])
        jobs = Jobs(suite, Path(scratch), task["keep_plans"], task["grace_s"], [])
        jobs.times = {(*cell, name, seed): seconds for name, seed, seconds in task["known_s"]}
        with _slot(task["loads"]) as slot:
            for data in task["runs"]:
                jobs.attempts[data["key"]] = data.pop("attempt")
                run = PlannedRun(case=case, **{**data, "entry": Entry(**data["entry"])})
                row = jobs.row_of(run, slot, threading.Event())
                assert row is not None  # nobody stops it
                made.append({"row": row.model_dump(mode="json"), "plan": jobs.kept_plan(row.key)})
    return json.dumps({"rows": made})


@contextmanager
def _slot(loads: Any) -> Iterator[Slot]:
    """An agent of this worker that nobody else uses meanwhile."""
    loaded = json_digest(loads)
    with _LOCK:
        idle = _IDLE.setdefault(loaded, [])
        slot = idle.pop() if idle else Slot(*loads)
    try:
        yield slot
    finally:
        with _LOCK:
            idle.append(slot)


__all__ = ["ClusterPool", "run_task", "worker_version"]
