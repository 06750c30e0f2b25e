"""Importing third parties' plug-ins: tried in a process apart first, with a limit.

An import runs whatever stands in a module. One that sleeps, exits or raises must not take along
the process that only wanted to know what there is.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from functools import cache
from importlib import import_module
from typing import Any

from sftopt.core.errors import RefusedError

IMPORT_S = 10.0
"""Seconds that a plug-in gets to be imported."""
_MOST_BYTES = 2000
"""Of what a failed import says."""


def load_plugin(kind: str, name: str, value: str, usual: str, needed: tuple[str, ...]) -> Any:
    """Return the object an entry point leads to; a class is called without arguments.

    ``kind`` is ``solver`` or ``formulation``, ``value`` the entry point's ``module:attribute``,
    ``usual`` the attribute where it names none, ``needed`` what the object must have. Raises
    RefusedError with the reason where it cannot be had.
    """
    module, _, attribute = value.partition(":")
    if module not in sys.modules:
        trouble = why_not_importable(module, attribute or usual)
        if trouble:
            raise RefusedError(f"{kind} '{name}' (a plug-in) cannot load: {trouble}")
    try:
        found = _loaded(module, attribute or usual)
    except (Exception, SystemExit) as error:  # noqa: BLE001  foreign code may fail
        text = f"{kind} '{name}' (a plug-in) cannot load: {type(error).__name__}: {error}"
        raise RefusedError(text) from None
    missing = [part for part in needed if not hasattr(found, part)]
    if missing:
        raise RefusedError(f"{kind} '{name}' (a plug-in) lacks {', '.join(missing)}")
    return found


def _loaded(module: str, attribute: str) -> Any:
    found = getattr(import_module(module), attribute)
    return found() if isinstance(found, type) else found


@cache
def why_not_importable(module: str, attribute: str) -> str:
    """Say why a module cannot be imported, found out in a forked process; empty where it can.

    Where the platform has no safe fork, nothing is tried.
    """
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return ""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _tried(module, attribute, sender)
    os.close(sender)
    try:
        answer = _read(receiver)
    finally:
        os.close(receiver)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # and what it started
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None:
        return f"its import did not end within {IMPORT_S:g} s"
    if not answer:
        return f"its import ended the process (exit status {os.waitstatus_to_exitcode(status)})"
    return answer[1:].decode(errors="replace")


def _tried(module: str, attribute: str, sender: int) -> None:
    """The child's whole life: import, say how it went, leave."""
    trouble = ""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.stdout = sys.stderr = os.fdopen(nowhere, "w")
        _loaded(module, attribute)
    except BaseException as error:  # noqa: BLE001  whatever it raises is the answer
        trouble = f"{type(error).__name__}: {error}"
    finally:
        os.write(sender, b"+" + trouble.encode(errors="replace")[:_MOST_BYTES])
        os._exit(0)


def _read(receiver: int) -> bytes | None:
    """What the child says; empty where it went without a word, None where it does not end."""
    end = time.monotonic() + IMPORT_S
    ready, _, _ = select.select([receiver], [], [], max(0.0, end - time.monotonic()))
    return os.read(receiver, _MOST_BYTES + 1) if ready else None
