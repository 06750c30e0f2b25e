"""The agent of a slot: a process that has everything loaded and forks a child for each run.

It takes jobs as JSON lines on standard input and answers on what was its standard output. It
watches the child's tree of processes (memory, time), ends all of it, and reads the answer from a
file, never from a pipe that a grandchild may hold. When its input closes, it ends and leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from sftopt.solvers.child import Child, can_fork
from sftopt.studies.race.file_hole import punch_hole
from sftopt.studies.race.processes import (
    adopt_orphans,
    command_of,
    data_bytes,
    descendants,
    kill_below,
    private_bytes,
    processor_seconds,
)
from sftopt.studies.race.worker import Job, work

WATCH_S = 0.02
"""Between two looks at a run's processes, in seconds."""
TERM_S = 1.0
"""What is asked to end gets so many seconds before it is killed."""
MOST_LOG_BYTES = 1 << 20
"""A log file is cut when it holds more bytes."""
TAIL_BYTES = 4096
"""Bytes of a log that are kept."""
LAWS_FOLLOW = "--"
"""Ends the solvers on an agent's command line; the rate laws of its instances follow."""


@dataclass
class Seen:
    """What the watch saw of a run."""

    peak_bytes: int = 0
    cpu_s: float = 0.0
    ended: str = ""
    """Why the agent ended it: ``memory`` or ``time``; empty where it ended by itself."""


class Log:
    """What a run prints: a file that never grows large, of which the end is kept."""

    def __init__(self) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115  closed below
        self._hole = 0
        """Bytes at its beginning that take no room any more."""

    def cut(self) -> None:
        """Drop all but the end of a file that has grown; writers go on at its end.

        Its beginning becomes a hole, so that what is printed meanwhile is not lost. Where the
        system makes no holes the file is written anew, and that may be.
        """
        size = os.fstat(self.file.fileno()).st_size
        if size - self._hole <= MOST_LOG_BYTES:
            return
        if punch_hole(self.file.fileno(), size - TAIL_BYTES):
            self._hole = size - TAIL_BYTES
            return
        kept = self._end()
        os.ftruncate(self.file.fileno(), 0)
        os.write(self.file.fileno(), kept)

    def tail(self) -> str:
        """Close the file and return the end of it."""
        kept = self._end()
        self.file.close()
        return kept.decode(errors="replace")

    def _end(self) -> bytes:
        size = os.fstat(self.file.fileno()).st_size
        return os.pread(self.file.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))


def reference_s() -> float:
    """Return the seconds of a fixed computation: what the clock of this moment is worth."""
    import numpy as np

    matrix = np.linspace(0.0, 1.0, 128 * 128).reshape(128, 128)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        value = matrix
        for _ in range(4):
            value = np.tanh(value @ matrix * 1e-2)
        total = 0
        for number in range(40_000):
            total += number & 7
        best = min(best, time.perf_counter() - began)
    return best


class Agent:
    """Runs jobs one at a time."""

    def __init__(self, requests: int, answers: int) -> None:
        self.requests = requests
        self.answers = answers
        self.spawns = not can_fork()

    def answer(self, data: dict[str, Any]) -> None:
        """Send one line."""
        rest = memoryview((json.dumps(data) + "\n").encode())
        while rest:
            rest = rest[os.write(self.answers, rest) :]

    def serve(self) -> None:
        """Answer requests until their pipe closes."""
        rest = b""
        while True:
            while b"\n" not in rest:
                more = os.read(self.requests, 1 << 16)
                if not more:
                    return
                rest += more
            line, _, rest = rest.partition(b"\n")
            self.answer(self.done(json.loads(line)))

    def done(self, job: Job) -> dict[str, Any]:
        """Run one job in a process of its own and return all that is known of it."""
        load, yardstick = os.getloadavg()[0], reference_s()
        base, data = private_bytes(os.getpid()) or 0, data_bytes(os.getpid())
        limit_bytes = int(job["memory_mb"] * 2**20)
        if data is not None:
            job["data_limit_bytes"] = data + 2 * limit_bytes
        log = Log()
        began = time.monotonic()
        with tempfile.NamedTemporaryFile(prefix="sftopt-race-") as answer_file:
            pid, release = self._started(job, answer_file.name, log)
            seen = self._watch(pid, job, base, limit_bytes, log)
            status, cpu_s = _ended(pid)
            release()
            kill_below(os.getpid())
            wall_s = time.monotonic() - began
            answer_file.seek(0)
            content = answer_file.read()
        return {
            "answer": _parsed(content),
            "ended": seen.ended,
            "exit": status,
            "cpu_s": max(cpu_s, seen.cpu_s),
            "peak_bytes": seen.peak_bytes if sys.platform == "linux" else None,
            "base_bytes": base if not self.spawns else 0,
            "process_s": wall_s,
            "load": load,
            "reference_s": yardstick,
            "log_tail": log.tail(),
            "started_by": "spawn" if self.spawns else "fork",
        }

    def _started(self, job: Job, answer: str, log: Log) -> tuple[int, Callable[[], None]]:
        """(the process of a job, what is to be done once it has been laid to rest)."""
        if self.spawns:
            process = subprocess.Popen(
                [sys.executable, "-m", "sftopt.studies.race.worker"],
                stdin=subprocess.PIPE, stdout=log.file, stderr=log.file, start_new_session=True,
            )  # fmt: skip
            lifeline = process.stdin
            assert lifeline is not None
            with contextlib.suppress(BrokenPipeError):
                lifeline.write((json.dumps({**job, "answer": answer}) + "\n").encode())
                lifeline.flush()

            def forget() -> None:
                process.returncode = 0  # laid to rest by hand
                with contextlib.suppress(BrokenPipeError):
                    lifeline.close()

            return process.pid, forget

        def body() -> None:
            for descriptor in (1, 2):
                os.dup2(log.file.fileno(), descriptor)
            os.close(self.requests)
            os.close(self.answers)
            work(job, os.open(answer, os.O_WRONLY))

        child = Child(body)
        return child.pid, child.end

    def _watch(self, pid: int, job: Job, base: int, limit_bytes: int, log: Log) -> Seen:
        """Look at a run's processes until the first has ended, or has to be ended."""
        seen, forks = Seen(), {}
        own = command_of(os.getpid())
        until = time.monotonic() + job["limit_s"] + job["grace_s"]
        asked_at: float | None = None
        while not _has_ended(pid):
            held, cpu_s = 0, 0.0
            for process in (pid, *descendants(pid)):
                if process not in forks:
                    forks[process] = not self.spawns and command_of(process) == own
                held += max(0, (private_bytes(process) or 0) - (base if forks[process] else 0))
                cpu_s += processor_seconds(process)
            seen.peak_bytes, seen.cpu_s = max(seen.peak_bytes, held), max(seen.cpu_s, cpu_s)
            log.cut()
            now = time.monotonic()
            if held > limit_bytes:
                seen.ended = "memory"
            elif now > until and asked_at is None:
                asked_at, seen.ended = now, "time"
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            if seen.ended == "memory" or (asked_at is not None and now > asked_at + TERM_S):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                kill_below(pid)
                return seen
            self._end_if_alone()
        return seen

    def _end_if_alone(self) -> None:
        """Wait for the next look; end everything where the runner has gone."""
        readable, _, _ = select.select([self.requests], [], [], WATCH_S)
        if readable and not os.read(self.requests, 1):
            kill_below(os.getpid())
            os._exit(1)


def _has_ended(pid: int) -> bool:
    """Whether a child has; it is not laid to rest yet."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _ended(pid: int) -> tuple[int | None, float]:
    """(exit status or minus the signal, processor seconds) of a child, laid to rest."""
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        return None, 0.0
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _parsed(content: bytes) -> dict[str, Any]:
    """The answer that a run wrote; empty where it did not come to that."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _ending_with(requests: int) -> Iterator[None]:
    """End this process once nobody holds the other end of ``requests``: loading may take minutes.

    The thread that looks has ended before anything is forked for a run.
    """
    loaded = threading.Event()

    def look() -> None:
        hung_up = select.poll()
        hung_up.register(requests, 0)
        while not loaded.wait(0.2):
            if hung_up.poll(0):
                kill_below(os.getpid())
                os._exit(1)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loaded.set()
        thread.join()


def main() -> None:
    """Load what the named solvers need, for the rate laws after ``--``; say so, and serve."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    adopt_orphans()
    agent = Agent(requests, answers)
    began = time.monotonic()
    with _ending_with(requests):
        from sftopt.studies.race.preload import preload

        words = sys.argv[1:]
        end = words.index(LAWS_FOLLOW) if LAWS_FOLLOW in words else len(words)
        versions = preload(words[:end], words[end + 1 :])
    agent.answer({"hello": versions, "preload_s": time.monotonic() - began})
    agent.serve()


if __name__ == "__main__":
    main()
