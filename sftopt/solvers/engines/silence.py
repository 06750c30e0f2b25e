"""Silence: what foreign engines print is kept from our caller's output, or kept as text."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

STANDARD_OUTPUT = 1
"""Descriptor of the standard output."""
STANDARD_ERROR = 2
"""Descriptor of the standard error."""


@contextmanager
def redirected(source: int, target: int) -> Iterator[None]:
    """Send what is written to the descriptor ``source`` (1 or 2) to ``target`` for a while.

    C libraries write to descriptor 1 whatever ``sys.stdout`` is, so the descriptor itself is moved;
    CasADi writes through ``sys.stdout``, so that is moved too. Holds for the whole process.
    """
    move = {STANDARD_OUTPUT: redirect_stdout, STANDARD_ERROR: redirect_stderr}[source]
    _flush()
    saved = os.dup(source)
    os.dup2(target, source)
    try:
        with os.fdopen(os.dup(target), "w", buffering=1) as text, move(text):
            yield
    finally:
        _flush()  # else what C still holds would appear after the switch back
        os.dup2(saved, source)
        os.close(saved)


@contextmanager
def quiet(tee: bool = False) -> Iterator[None]:
    """Send standard output to standard error (``tee``) or nowhere: our caller's JSON is there."""
    if tee:
        with redirected(STANDARD_OUTPUT, STANDARD_ERROR):
            yield
    else:
        with open(os.devnull, "w") as nowhere, redirected(STANDARD_OUTPUT, nowhere.fileno()):
            yield


class Heard:
    """Holds what was written while one listened."""

    text: str = ""


@contextmanager
def listening(source: int = STANDARD_OUTPUT) -> Iterator[Heard]:
    """Keep what is written to ``source`` from its reader, and have it as text afterwards."""
    heard = Heard()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            with redirected(source, log.fileno()):
                yield heard
        finally:
            log.seek(0)
            heard.text = log.read()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
