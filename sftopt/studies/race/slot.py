"""The runner's side of an agent: started with pinned threads, asked, replaced where it dies."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from sftopt.core.errors import RefusedError
from sftopt.studies.race.agent import LAWS_FOLLOW, TERM_S

PRELOAD_S = 900.0
"""An agent gets so many seconds to load everything; compiling may be a part of it."""
STARTS = 3
"""How often an agent is started that something kills while it loads."""
SLACK_S = 20.0
"""Seconds beyond a job's limit and grace after which an agent counts as lost."""
COMMAND = (sys.executable, "-m", "sftopt.studies.race.agent")
"""How an agent is started; the names of solvers to load and of rate laws follow."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""Environment variables that say how many threads a library may start."""


class AgentLost(Exception):
    """The agent's process ended, or never answered."""


class AgentSilent(AgentLost):
    """It lives and says nothing."""


class Slot:
    """One place where runs are made, one at a time."""

    def __init__(self, solvers: Sequence[str], threads: int, laws: Sequence[str]) -> None:
        """``laws`` are the rate laws of the instances that it will be given."""
        self.solvers = list(solvers)
        self.laws = list(laws)
        self.threads = threads
        self.process: subprocess.Popen[bytes] | None = None
        self.versions: dict[str, dict[str, str]] = {}
        self._rest = b""

    def start(self) -> None:
        """Start the agent and wait until it has loaded everything.

        One that is killed meanwhile is started again, a few times. Raises RefusedError.
        """
        reason = ""
        for _ in range(STARTS):
            reason, killed = self._start()
            if not reason:
                return
            if not killed:
                break
        raise RefusedError(f"a race's agent does not start: {reason}")

    def _start(self) -> tuple[str, bool]:
        """(why the agent did not start, empty if it did; whether a signal ended it)."""
        environment = dict(os.environ) | dict.fromkeys(_THREADS, str(self.threads))
        self._rest = b""
        with tempfile.TemporaryFile() as errors:
            self.process = process = subprocess.Popen(
                [*COMMAND, *self.solvers, LAWS_FOLLOW, *self.laws],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is the runner's
            )
            try:
                self.versions = self._line(PRELOAD_S)["hello"]
            except AgentLost as error:
                self.stop()
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                killed = process.returncode < 0 and not isinstance(error, AgentSilent)
                return " ".join(last) or str(error), killed
        return "", False

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Send a job and return the answer. Raises AgentLost; the next job starts anew."""
        if self.process is None:
            self.start()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write((json.dumps(job) + "\n").encode())
            process.stdin.flush()
            return self._line(job["limit_s"] + job["grace_s"] + TERM_S + SLACK_S)
        except (BrokenPipeError, AgentLost) as error:
            self.stop()
            raise AgentLost(str(error) or "its agent was killed") from None

    def stop(self) -> None:
        """End the agent and with it whatever runs."""
        process, self.process = self.process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2.0)  # it ends what it runs, then itself
        finally:  # also where a second Ctrl-C ends the wait
            process.kill()
            process.wait()

    def _line(self, seconds: float) -> dict[str, Any]:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0.0:
                raise AgentSilent("its agent did not answer")
            readable, _, _ = select.select([process.stdout], [], [], min(left, 1.0))
            if readable:
                more = os.read(process.stdout.fileno(), 1 << 16)
                if not more:
                    raise AgentLost("its agent was killed")
                self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


__all__ = ["AgentLost", "Slot"]
