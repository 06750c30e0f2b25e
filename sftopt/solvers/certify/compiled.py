"""How the hot loops of both sides are compiled: no function of theirs is shared, this is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from sftopt.solvers.certify import cache as _cache  # noqa: F401  before any compiled function

Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def uncounted(function: Compiled) -> Compiled:
    """Compile a loop over devices without reference counts.

    An attribute of a named tuple costs nothing in it; with counts the bounds of 1,000 devices take
    twice as long. It may not allocate: its caller makes all places.
    """
    compiled = njit(cache=True, nogil=True, _nrt=False)(function)  # type: ignore[call-overload]
    return cast(Compiled, compiled)


def uncounted_ieee(function: Compiled) -> Compiled:
    """Compile a loop as :func:`uncounted` does; a division by zero gives an infinity there."""
    compiled = njit(  # type: ignore[call-overload]
        cache=True, nogil=True, _nrt=False, error_model="numpy"
    )(function)  # fmt: skip
    return cast(Compiled, compiled)
