"""Faults of a table's rows, each with its line; what several lines share is told once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.faults import Fault

_LINES_NAMED = 10
"""Lines that a fault which they share names."""


@dataclass(frozen=True)
class LineFault:
    """What is wrong in one line of a table."""

    line: int
    field: str
    said: str
    value: float | str | None = None


def told_once(faults: Sequence[LineFault]) -> list[Fault]:
    """Return the faults in words, those that several lines share as one that names the lines."""
    alike: dict[tuple[str, str], list[LineFault]] = {}
    for fault in faults:
        alike.setdefault((fault.field, fault.said), []).append(fault)
    return [_in_words(group) for group in alike.values()]


def lines_text(lines: Sequence[int]) -> str:
    """Return ``line 3``, or ``lines 3, 4, 5 and 7 more``."""
    if len(lines) == 1:
        return f"line {lines[0]}"
    left_out = len(lines) - _LINES_NAMED
    more = f" and {left_out} more" if left_out > 0 else ""
    return f"lines {', '.join(map(str, lines[:_LINES_NAMED]))}{more}"


def _in_words(group: Sequence[LineFault]) -> Fault:
    first = group[0]
    where = lines_text([fault.line for fault in group])
    return Fault(field=first.field, value=first.value, message=f"{where}: {first.said}")
