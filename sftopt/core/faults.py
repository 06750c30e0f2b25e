"""One fault of an input: which field, which device, what it holds, what it may hold."""

from __future__ import annotations

from enum import StrEnum

from sftopt.core.fields import Frozen


class Severity(StrEnum):
    """How bad a fault is."""

    ERROR = "error"
    """The instance cannot be used, or has no feasible plan, until this is changed."""
    WARNING = "warning"
    """Legal, but looks like a slip (a unit off by 1e3 or 1e6); the run goes on."""


class Fault(Frozen):
    """A single finding of :func:`sftopt.core.check.check`.

    ``needed_change`` is what to add to ``value`` (in ``unit``) so that this fault goes away;
    ``None`` where no single number mends it.
    """

    field: str
    device: str | None = None
    value: float | int | str | None = None
    limit: float | int | str | None = None
    unit: str = ""
    needed_change: float | None = None
    severity: Severity = Severity.ERROR
    message: str

    def __str__(self) -> str:
        return self.message
