"""Holes in files: room given back while others write to the end."""

from __future__ import annotations

import ctypes
import sys

_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
"""Flags of Linux's ``fallocate``."""


def punch_hole(descriptor: int, size_bytes: int) -> bool:
    """Give back the room of a file's first bytes, which read as zeros then; True if it was.

    The file keeps its length. False where the system or the file's disk makes no holes.
    """
    if sys.platform != "linux":
        return False
    try:
        fallocate = ctypes.CDLL(None).fallocate
    except AttributeError:  # a C library without it
        return False
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    return bool(fallocate(descriptor, _KEEP_SIZE_PUNCH_HOLE, 0, size_bytes) == 0)
