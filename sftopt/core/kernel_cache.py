"""Compiled functions where their cache has no place to be: they are compiled without one.

Numba keeps compiled code beside its source, else in the user's cache folder, and refuses a function
that asks for a cache where it can write to neither. :func:`prepare_cache`, called before any such
function is made, has them compiled anew in every process there, and says so once.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from numba import config, njit
from numba.core.dispatcher import Dispatcher

LOGGER = logging.getLogger(__name__)
"""Tells that compiled functions cannot be kept."""

WAY_OUT = "set NUMBA_CACHE_DIR to a folder that you can write to"
"""What gives compiled functions a place."""


def _probe() -> float:
    return 0.0


def has_a_place() -> bool:
    """Say whether compiled functions can be kept for the next process; true where none are."""
    if getattr(config, "DISABLE_JIT", 0):  # set when Numba reads its environment
        return True
    probe: Any = njit(_probe)
    try:
        probe.enable_caching()
    except RuntimeError:  # "no locator available"
        return False
    return True


def _go_without(self: Any) -> None:
    """In place of the method that gives a function its cache."""


@cache
def prepare_cache() -> bool:
    """Say whether this process keeps what it compiles; have it compile without, where it cannot."""
    kept = has_a_place()
    if not kept:
        dispatcher: Any = Dispatcher
        dispatcher.enable_caching = _go_without
        LOGGER.warning(
            "compiled functions cannot be kept: neither the installation nor the user's cache "
            "folder can be written to. Each process compiles them anew, up to a minute; %s",
            WAY_OUT,
        )
    return kept
