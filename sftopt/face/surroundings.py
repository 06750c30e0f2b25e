"""Settings of the environment under which libraries fail or print tracebacks: one line instead."""

from __future__ import annotations

import os
import re
import sys
import warnings

from sftopt.core.errors import InputError

_NO_DOCSTRINGS = 2
"""From this level of optimisation on Python strips docstrings, which Pyomo reads at import."""
_ANY_TEXT = frozenset({"NUMBA_CACHE_DIR", "NUMBA_THREADING_LAYER", "NUMBA_CPU_NAME"})
"""Numba's variables that take any text at import; of a folder ``kernel_cache`` says so."""
_THREADS = "NUMBA_NUM_THREADS"
"""Numba's variable that takes any number from 1 on."""
_UNREAD = re.compile(r"variable '(NUMBA_\w+)' .*could not be parsed", re.DOTALL)
"""What Numba warns of, with a traceback, where it cannot read a variable of its own."""


def refuse_surroundings() -> None:
    """Raise InputError where a variable of the environment keeps a library from working."""
    if sys.flags.optimize >= _NO_DOCSTRINGS:
        raise InputError(
            "Python runs without docstrings (-OO, or PYTHONOPTIMIZE of 2 and more), and Pyomo "
            "cannot be imported so; unset PYTHONOPTIMIZE or set it to 1"
        )
    names = [name for name in os.environ if name.startswith("NUMBA_") and not _harmless(name)]
    if not names:
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            import numba  # noqa: F401  reads its variables
        except ValueError as error:
            text = str(error).rstrip(".")
            raise InputError(f"Numba refuses {_listed(names)}: {text}; unset it") from error
    for warning in said:
        unread = _UNREAD.search(str(warning.message))
        if unread is not None:
            raise InputError(f"Numba cannot read {_listed([unread.group(1)])}; unset it")


def _harmless(name: str) -> bool:
    """Whether Numba surely takes a variable: to import it for that would cost 0.15 s."""
    value = os.environ[name]
    number = re.fullmatch(r"[1-9][0-9]{0,8}", value) is not None
    return name in _ANY_TEXT or value == "1" or (name == _THREADS and number)


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name}={os.environ[name]!r}" for name in names)
