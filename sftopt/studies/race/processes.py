"""Trees of processes on Linux: who is in them, what they hold and took, and how they are ended.

Elsewhere (no ``/proc``) trees are empty and nothing is known of their memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PROC = Path("/proc")
"""Where the kernel tells of processes."""
_REAPER_OPTION = 36
"""prctl's PR_SET_CHILD_SUBREAPER."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""Units of processor time a second."""
_LAST_ROUNDS = 50
"""How often a tree that still grows is killed anew."""


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind (Linux alone)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_REAPER_OPTION, 1, 0, 0, 0)


def descendants(process: int) -> list[int]:
    """List the processes below ``process`` by their number (index), parents before children."""
    found: list[int] = []
    ahead = [process]
    while ahead:
        children = _children(ahead.pop())
        found += children
        ahead += children
    return found


def private_bytes(process: int) -> int | None:
    """Return the bytes of anonymous memory a process holds; None where that is not known."""
    return _status_bytes(process, "RssAnon:")


def data_bytes(process: int) -> int | None:
    """Return the bytes of data address space a process has; None where that is not known."""
    return _status_bytes(process, "VmData:")


def processor_seconds(process: int) -> float:
    """Return the processor seconds of a process and its children that it has waited for."""
    try:
        stat = (_PROC / str(process) / "stat").read_bytes()
    except OSError:
        return 0.0
    fields = stat.rpartition(b")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS_PER_S


def command_of(process: int) -> bytes:
    """Return the command line of a process as the kernel keeps it; a fork has its parent's."""
    try:
        return (_PROC / str(process) / "cmdline").read_bytes()
    except OSError:
        return b""


def kill_below(process: int) -> None:
    """End every process below ``process`` and lay to rest those that are its own children."""
    for _ in range(_LAST_ROUNDS):
        below = descendants(process)
        for one in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        _reap()
        if not below:
            return
        time.sleep(0.002)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(_PROC / str(process) / "task")
    except OSError:
        return found
    for thread in threads:
        with contextlib.suppress(OSError):
            text = (_PROC / str(process) / "task" / thread / "children").read_text()
            found += [int(word) for word in text.split()]
    return found


def _status_bytes(process: int, name: str) -> int | None:
    try:
        with (_PROC / str(process) / "status").open() as lines:
            for line in lines:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


__all__ = [
    "adopt_orphans",
    "command_of",
    "data_bytes",
    "descendants",
    "kill_below",
    "private_bytes",
    "processor_seconds",
]
