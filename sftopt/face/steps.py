"""Progress of work in known steps, on standard error: a bar on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sftopt.face.escaped import visible
from sftopt.face.output import tell

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_S = 10.0
"""Least time between two lines of progress where the terminal shows no bar."""


class Steps:
    """A context manager: ``at(done, text)`` after each step. Shows the time left."""

    def __init__(self, name: str, total: int, *, enabled: bool = True) -> None:
        self._name, self._total, self._enabled = name, total, enabled
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._first: int | None = None
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        if self._enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as Remaining

            self._bar = Progress(
                TextColumn("{task.fields[name]}"), BarColumn(), MofNCompleteColumn(), Remaining(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self._total, name=self._name)
            self._bar.start()
        return self

    def of(self, done: int, total: int, text: str = "") -> None:
        """Show that ``done`` of ``total`` steps are done; the total was not known before."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)
        self.at(done, text)

    def at(self, done: int, text: str = "") -> None:
        """Show that ``done`` steps are done; ``text`` is news about the last one."""
        if not self._enabled:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, description=visible(text))
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._started = done, now
        if now - self._printed >= PLAIN_INTERVAL_S or done == self._total:
            self._printed = now
            left = ""
            if done > self._first:
                each = (now - self._started) / (done - self._first)
                left = f", {each * (self._total - done):.0f} s left"
            tell(f"{self._name} {done}/{self._total}{left}: {text}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
