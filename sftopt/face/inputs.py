"""No command writes over a file that it reads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError

if TYPE_CHECKING:
    from sftopt.face.output import Answer

_OUTPUTS = ("out", "write_trace", "plot", "csv", "latex", "report", "table")
"""Parameters of commands that name what is written."""


def keeps_inputs(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Refuse, in a command, to write to a file or folder that it was given to read.

    Whatever it is called by: a link to it and another way to spell its path are the same file.
    """

    @functools.wraps(command)
    def kept(*given: Any, **named: Any) -> Answer:
        for name in _OUTPUTS:
            if isinstance(named.get(name), Path):
                _refuse_input(f"--{name.replace('_', '-')}", named[name], named)
        return command(*given, **named)

    return kept


def _refuse_input(flag: str, out: Path, named: dict[str, Any]) -> None:
    """Raises InputError where ``out`` is what another parameter names."""
    for name, value in named.items():
        if name in _OUTPUTS:
            continue
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str | Path) and _same(out, path):
                raise InputError(
                    f"{flag} '{out}' is the same file as the input '{path}', which would be lost. "
                    "Nothing was started; choose another place."
                )


def _same(out: Path, path: str | Path) -> bool:
    try:
        return os.path.samefile(out, path)
    except (OSError, ValueError):  # one of them is not there, or no path at all
        return False
