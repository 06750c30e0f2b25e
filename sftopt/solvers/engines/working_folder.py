"""Keeps engines from reading option files that happen to lie in the working folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory


@contextmanager
def in_an_empty_folder() -> Iterator[None]:
    """Move to an empty folder for a while: for engines that cannot be told to read no file.

    The working folder is the whole process's, so this is for engines in a process of their own and
    for their short probes.
    """
    try:
        before = os.open(".", os.O_RDONLY)
    except OSError:  # the working folder is gone or closed to us: nothing in it can be read
        before = None
    try:
        with TemporaryDirectory(prefix="sftopt-") as folder:
            os.chdir(folder)
            try:
                yield
            finally:
                os.chdir("/" if before is None else before)
    finally:
        if before is not None:
            os.close(before)
