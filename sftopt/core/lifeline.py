"""Processes that end with the one that started them, however that one ends."""

from __future__ import annotations

import contextlib
import os
import signal


def killed_when_closed(lifeline: int, process: int) -> bool:
    """Make the kernel kill ``process`` when the other end of the pipe ``lifeline`` closes.

    ``process`` is its number (index), or minus that of a group (index). The signal comes also where
    its code never lets Python run. ``lifeline`` is the end that is read; the process must hold it,
    and nobody else the other end but the one that it shall not outlive. False where the system
    cannot do that.
    """
    import fcntl

    choose_signal = getattr(fcntl, "F_SETSIG", None)  # Linux alone has it
    if choose_signal is None:
        return False
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, process)
    fcntl.fcntl(lifeline, choose_signal, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):  # nothing to read: the other end is open
        os.read(lifeline, 1)
        os.kill(process, signal.SIGKILL)  # it was closed before
    return True


__all__ = ["killed_when_closed"]
