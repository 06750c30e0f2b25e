"""A forked child process that cannot outlive its parent, nor leave processes of its own behind.

The child leads a process group, so that whatever an engine starts ends with it. Both hold the ends
of a pipe, the child's lifeline: however the parent ends, also by SIGKILL, the pipe closes, and the
kernel kills the group. Made by hand, since :mod:`multiprocessing` lets none of its daemonic workers
have children.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable

from sftopt.core.lifeline import killed_when_closed

_POLL_S = 0.005
"""How often a wait of limited length looks whether the child has ended, in seconds."""
FORK_VARIABLE = "SFTOPT_FORK"
"""Environment variable that, as 0, has nothing forked, as on a platform where that is not safe."""


def can_fork() -> bool:
    """Say whether a child can be forked safely enough: Linux and other Unixes, not macOS.

    ``SFTOPT_FORK=0`` in the environment says no.
    """
    if os.environ.get(FORK_VARIABLE, "") == "0":
        return False
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


class Child:
    """A fork of this process that runs ``body`` and leaves without touching our buffers."""

    def __init__(self, body: Callable[[], None]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        lifeline, self._ours = os.pipe()
        self.exitcode: int | None = None
        """Set once it has ended: its exit status, or minus the signal that killed it."""
        with warnings.catch_warnings():
            # Python warns of forks in threaded processes; the child only computes and leaves.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._ours)
                _prepare(lifeline)
                body()
            finally:
                os._exit(0)
        os.close(lifeline)
        with contextlib.suppress(OSError):  # it did the same, or has ended
            os.setpgid(self.pid, self.pid)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, which a solver's child notes and heeds where it can."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def join(self, seconds: float) -> None:
        """Wait up to ``seconds`` for its end."""
        until = time.monotonic() + seconds
        while not self._ended() and time.monotonic() < until:
            time.sleep(_POLL_S)

    def end(self) -> None:
        """End it and all that it started; return when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._ours)

    def _ended(self) -> bool:
        """Whether it has; it is not laid to rest yet, so that its group keeps its number."""
        if self.exitcode is None:
            try:
                found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # the caller ignores SIGCHLD, or waits for all children
                self.exitcode = 0
            else:
                if found is not None:
                    left = found.si_code == os.CLD_EXITED
                    self.exitcode = found.si_status if left else -found.si_status
        return self.exitcode is not None


def _prepare(lifeline: int) -> None:
    """Lead a process group that ends when ``lifeline`` closes; read nothing of our input."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
    group = os.getpid()
    if killed_when_closed(lifeline, -group):
        return

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(group, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
