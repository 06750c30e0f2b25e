"""The runner, its agents stubs: kills, damaged files, second writers, shards, busy machines."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InputError
from sftopt.core.folder_lock import FolderLock
from sftopt.studies.race import slot
from sftopt.studies.race.folder import merge, read_folder
from sftopt.studies.race.machine import refuse_busy
from sftopt.studies.race.plan import Wanted
from sftopt.studies.race.processes import descendants
from sftopt.studies.race.row import latest
from sftopt.studies.race.runner import RaceSettings, race
from sftopt.studies.race.suite import Suite, parse_suite

STUB = Path(__file__).with_name("stub_agent.py")
QUIET = RaceSettings(allow_busy=True)


@pytest.fixture(autouse=True)
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "COMMAND", (sys.executable, "-S", str(STUB)))


def small_suite(name: str = "stubs", **changes: Any) -> Suite:
    data: dict[str, Any] = {
        "name": name,
        "limit_s": 1.0,
        "instances": [{"family": ["jetson-vit-b", "weichen"], "devices": [2, 3, 4]}],
        "entries": [{"solver": "certify"}, {"solver": "greedy"}, {"solver": "constructive"}],
        **changes,
    }
    return parse_suite(data, name)


def keys_of(out: Path) -> Counter[str]:
    return Counter(row.key for row in read_folder(out).rows)


def killed_after(seconds: float, action: Callable[[], Any]) -> None:
    """Run ``action`` in a fork and kill it with SIGKILL after so many seconds."""
    child = multiprocessing.get_context("fork").Process(target=action)
    child.start()
    child.join(seconds)
    if child.pid is not None and child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
    child.join()


def test_kills_at_fifty_random_times_lose_and_double_nothing(tmp_path: Path) -> None:
    """SIGKILL, by turns of the runner and of whatever agent is there; what is left is taken up."""
    out, draw = tmp_path / "out", random.Random(13)
    suite = small_suite()
    for moment in range(50):
        wait_s = draw.uniform(0.02, 0.4)
        if moment % 2:
            killed_after(wait_s, lambda: race(suite, Wanted(), out, QUIET))
        else:
            agents_killed_after(wait_s, lambda: race(suite, Wanted(), out, QUIET))
        if moment % 5 == 4:  # begin anew where all rows are there by now
            assert set(keys_of(out).values()) <= {1}
            shutil.rmtree(out)
    summary = race(suite, Wanted(), out, QUIET)
    assert summary["missing"] == []
    assert set(keys_of(out).values()) == {1}
    assert len(keys_of(out)) == 18
    assert not (out / "rows.damaged").exists()


def agents_killed_after(seconds: float, action: Callable[[], Any]) -> None:
    """Run ``action`` in a fork, kill its agents with SIGKILL after so many seconds, then wait."""
    child = multiprocessing.get_context("fork").Process(target=action)
    child.start()
    child.join(seconds)
    assert child.pid is not None
    for agent in descendants(child.pid):
        try:
            os.kill(agent, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.join(30.0)
    assert child.exitcode == 0, "an agent that was killed is replaced"


def test_a_file_cut_at_any_byte_is_completed(tmp_path: Path) -> None:
    out, draw = tmp_path / "out", random.Random(7)
    suite = small_suite(instances=[{"family": "weichen", "devices": [2, 3]}])
    race(suite, Wanted(), out, QUIET)
    path = out / "rows.jsonl"
    whole = path.stat().st_size
    for _ in range(20):
        os.truncate(path, draw.randrange(whole))
        race(suite, Wanted(), out, QUIET)
        assert len(keys_of(out)) == 6
        assert set(keys_of(out).values()) == {1}


def test_a_torn_line_in_the_middle_is_set_aside_and_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    suite = small_suite()
    race(suite, Wanted(), out, QUIET)
    lines = (out / "rows.jsonl").read_bytes().split(b"\n")
    torn = lines[4][: len(lines[4]) // 2]
    (out / "rows.jsonl").write_bytes(b"\n".join([*lines[:4], torn, *lines[5:]]))
    assert race(suite, Wanted(), out, QUIET)["missing"] == []
    assert (out / "rows.damaged").read_bytes().strip() == torn
    assert set(keys_of(out).values()) == {1}


def test_an_agent_that_dies_after_every_run_costs_no_row(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "instances").mkdir(parents=True)
    (out / "instances" / "die").touch()
    suite = small_suite(instances=[{"family": "weichen", "devices": 2}], start="own")
    assert race(suite, Wanted(), out, QUIET)["rows"] == 3


def test_two_runners_in_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with FolderLock(out), pytest.raises(InputError, match="being written by another run"):
        race(small_suite(), Wanted(), out, QUIET)


@pytest.mark.parametrize("where", ["/proc/race", "FILE/out"])
def test_a_folder_that_cannot_be_written_is_said(where: str, tmp_path: Path) -> None:
    """Not even by root, who runs some machines' tests: a file system of the kernel's, a file."""
    (tmp_path / "FILE").touch()
    out = Path(where.replace("FILE", str(tmp_path / "FILE")))
    with pytest.raises(InputError, match=str(out)):
        race(small_suite(), Wanted(), out, QUIET)


def test_rows_of_another_suite_are_not_mixed_in(tmp_path: Path) -> None:
    race(small_suite(), Wanted(sizes=(2,)), tmp_path, QUIET)
    with pytest.raises(InputError, match="other settings"):
        race(small_suite("another"), Wanted(sizes=(2,)), tmp_path, QUIET)


def test_a_full_disk_is_said_and_what_is_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    suite = small_suite()
    race(suite, Wanted(sizes=(2,)), out, QUIET)
    from sftopt.core.rows import RowFile

    def full(self: RowFile, row: Any) -> None:
        from sftopt.core.errors import DiskError

        raise DiskError(self.path, OSError(28, "No space left on device"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowFile, "append", full)
        with pytest.raises(InputError, match="No space left on device"):
            race(suite, Wanted(), out, QUIET)
    assert len(keys_of(out)) == 6
    assert race(suite, Wanted(), out, QUIET)["rows"] == 18


def test_several_jobs_give_the_same_rows(tmp_path: Path) -> None:
    suite = small_suite()
    race(suite, Wanted(), tmp_path / "one", QUIET)
    race(suite, Wanted(), tmp_path / "three", RaceSettings(jobs=3, allow_busy=True))
    assert keys_of(tmp_path / "one") == keys_of(tmp_path / "three")


def test_shards_are_a_partition_and_merge_into_the_whole(tmp_path: Path) -> None:
    suite = small_suite()
    shards = [tmp_path / f"shard{part}" for part in (1, 2, 3, 4)]
    for part, out in enumerate(shards, 1):
        race(suite, Wanted(shard=(part, 4)), out, QUIET)
    found = merge(shards, tmp_path / "all")
    race(suite, Wanted(), tmp_path / "whole", QUIET)
    assert keys_of(tmp_path / "all") == keys_of(tmp_path / "whole")
    assert found.missing == []
    again = merge([tmp_path / "all", shards[0]], tmp_path / "twice")
    assert len(again.rows) == 18, "a row that comes by two ways is one row"


def test_merging_into_one_of_the_folders_is_refused(tmp_path: Path) -> None:
    race(small_suite(), Wanted(sizes=(2,)), tmp_path / "a", QUIET)
    with pytest.raises(InputError, match="one of the folders"):
        merge([tmp_path / "a"], tmp_path / "a")


def test_a_rerun_adds_an_attempt_that_counts(tmp_path: Path) -> None:
    suite = small_suite()
    race(suite, Wanted(sizes=(2,)), tmp_path, QUIET)
    key = read_folder(tmp_path).rows[0].key
    race(suite, Wanted(sizes=(2,)), tmp_path, RaceSettings(allow_busy=True, rerun=key))
    rows = [row for row in read_folder(tmp_path).rows if row.key == key]
    assert [row.attempt for row in rows] == [0, 1]
    (counts,) = latest(rows)
    assert counts.attempt == 1
    with pytest.raises(InputError, match="none of failed, starved"):
        race(suite, Wanted(), tmp_path, RaceSettings(allow_busy=True, rerun="nonsense"))


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    with pytest.raises(InputError, match=r"busy: its load of the last minute is 99\.00"):
        race(small_suite(), Wanted(), tmp_path / "out", RaceSettings())
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    refuse_busy()


def test_a_runner_that_is_killed_leaves_no_agent(tmp_path: Path) -> None:
    agents = Path("/proc")
    before = _stub_processes(agents)
    killed_after(0.5, lambda: race(small_suite(), Wanted(), tmp_path / "out", QUIET))
    until = time.monotonic() + 10.0
    while _stub_processes(agents) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert _stub_processes(agents) - before == set()


def _stub_processes(proc: Path) -> set[str]:
    found = set()
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            if STUB.name.encode() in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found


def test_a_runner_that_is_killed_while_an_agent_loads_leaves_none(tmp_path: Path) -> None:
    """Loading may take minutes; here it takes a real agent's time."""
    words = [sys.executable, "-m", "sftopt.studies.race.agent", "constructive"]
    code = f"import subprocess, time; subprocess.Popen({words!r}, stdin=-1); time.sleep(600)"
    runner = subprocess.Popen([sys.executable, "-S", "-c", code])
    until = time.monotonic() + 60.0
    while not (agents := descendants(runner.pid)) and time.monotonic() < until:
        time.sleep(0.02)
    runner.kill()
    runner.wait()
    assert agents
    while any(map(_is_alive, agents)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_is_alive, agents))


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
