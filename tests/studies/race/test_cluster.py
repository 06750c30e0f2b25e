"""Races on a Dask cluster: a real scheduler, two worker processes, one of them killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import pytest

from sftopt.core.errors import InputError, RefusedError
from sftopt.studies.race import cluster, slot
from sftopt.studies.race.cluster import ClusterPool
from sftopt.studies.race.folder import read_folder
from sftopt.studies.race.plan import Wanted
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.runner import RaceSettings, race
from sftopt.studies.race.suite import Suite, parse_suite

STUB = Path(__file__).with_name("stub_agent.py")
PRELOAD = Path(__file__).with_name("stub_worker.py")
ROOT = Path(__file__).parents[3]


def a_suite(**changes: Any) -> Suite:
    data: dict[str, Any] = {
        "name": "stubs",
        "limit_s": 1.0,
        "instances": [{"family": ["jetson-vit-b", "weichen"], "devices": [2, 3, 4]}],
        "entries": [{"solver": "certify"}, {"solver": "greedy"}, {"solver": "constructive"}],
        **changes,
    }
    return parse_suite(data, "stubs")


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    workers: list[subprocess.Popen[bytes]]


def started(*words: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("dask")
    contact = folder / "scheduler.json"
    with ExitStack() as stack:

        def kept(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        kept(started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                     "--no-dashboard", "--no-show", "--scheduler-file", str(contact)))  # fmt: skip
        words = (
            "distributed.cli.dask_worker", "--scheduler-file", str(contact), "--no-nanny",
            "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1",
            "--local-directory", str(folder), "--preload", str(PRELOAD),
        )  # fmt: skip
        stub = {"STUB_AGENT": str(STUB), "STUB_AGENT_S": "0.15"}
        workers = [kept(started(*words, **stub)) for _ in range(2)]
        with distributed.Client(scheduler_file=str(contact), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield Cluster(address, workers)


@pytest.fixture(autouse=True)
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "COMMAND", (sys.executable, "-S", str(STUB)))


def test_another_version_is_refused(
    two_workers: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "99.0")
    settings = RaceSettings(allow_busy=True, cluster=two_workers.address)
    with pytest.raises(RefusedError, match=r"has sftopt .*, this is 99\.0"):
        race(a_suite(), Wanted(), tmp_path / "out", settings)


def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    two_workers: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    settings = RaceSettings(allow_busy=True, cluster=two_workers.address)
    seen: list[str] = []

    def on_row(done: int, total: int, row: RaceRow) -> None:
        seen.append(row.key)
        if len(seen) == 4:
            two_workers.workers[0].kill()

    summary = race(a_suite(), Wanted(), out, settings, on_row)
    rows = read_folder(out).rows
    assert summary["missing"] == []
    assert set(Counter(row.key for row in rows).values()) == {1}
    assert len(rows) == len(seen) == 18
    assert {row.context.replay.split()[3] for row in rows} == {str(out)}
    assert len(list((out / "instances").iterdir())) == 6, "each can be replayed from here"
    race(a_suite(), Wanted(), out, settings, on_row)
    assert len(seen) == 18, "nothing is made twice"


def test_no_scheduler_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    settings = RaceSettings(allow_busy=True, cluster="tcp://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        race(a_suite(), Wanted(), tmp_path / "out", settings)
    assert time.monotonic() - began < 60.0


class Lost:
    """A future of Dask that comes to nothing."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> str:
        raise self.error


class Client:
    """A client of Dask whose futures come to nothing."""

    loop = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(self, *words: Any, **named: Any) -> Lost:
        return Lost(self.error)

    def close(self) -> None:
        pass


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every task of a cluster end with an error."""

    def fail(error: Exception) -> None:
        monkeypatch.setattr(cluster, "_connected", lambda address: Client(error))
        monkeypatch.setattr(distributed, "as_completed", lambda futures, loop: list(futures))

    return fail


ON_CLUSTER = RaceSettings(allow_busy=True, cluster="tcp://nowhere")


def test_a_task_that_kills_every_worker_is_a_row(
    tmp_path: Path, failing: Callable[[Exception], None]
) -> None:
    failing(distributed.KilledWorker("task", None, 3))
    summary = race(a_suite(), Wanted(sizes=(2,)), tmp_path / "out", ON_CLUSTER)
    assert summary["verdicts"] == {"crashed": 6}
    assert "4 died with it" in read_folder(tmp_path / "out").rows[0].outcome.message


def test_a_cluster_that_fails_is_said_in_words(
    tmp_path: Path, failing: Callable[[Exception], None]
) -> None:
    failing(OSError("the scheduler is gone"))
    with pytest.raises(RefusedError, match="OSError: the scheduler is gone; the same command"):
        race(a_suite(), Wanted(sizes=(2,)), tmp_path / "out", ON_CLUSTER)


def test_without_dask_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RefusedError, match=r"pip install 'sftopt\[cluster\]'"):
        ClusterPool("tcp://x", None, [], [])  # type: ignore[arg-type]  # it does not come to that
