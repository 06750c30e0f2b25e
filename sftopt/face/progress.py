"""News from a running solver on standard error: a live line on a terminal, else lines now and then.

Standard output is never touched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from sftopt.face.output import tell

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

PLAIN_INTERVAL_S = 5.0
"""Least time between two plain lines."""


class News(Protocol):
    """What a solver's progress report holds; None where there is nothing yet."""

    @property
    def incumbent_s(self) -> float | None:
        """Return the delay of the best plan so far in seconds, if there is one."""

    @property
    def bound_s(self) -> float | None:
        """Return the proven lower bound so far in seconds, if there is one."""

    @property
    def gap_rel(self) -> float | None:
        """Return the relative gap (incumbent - bound) / incumbent, if both are there."""

    @property
    def elapsed_s(self) -> float:
        """Return the wall-clock seconds since the run began."""


class Progress:
    """A context manager around one run; call it with each report.

    ``enabled`` false (``--quiet``) prints nothing; ``live`` false (``--tee``: the engine's log
    scrolls by) never draws over the terminal. ``clock`` is for tests.
    """

    def __init__(
        self,
        time_limit_s: float | None,
        *,
        enabled: bool = True,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s = time_limit_s
        self._enabled = enabled
        self._wants_live = live
        self._clock = clock
        self._started = clock()
        self._printed = self._started
        self._news: News | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._enabled and self._wants_live and sys.stderr.isatty():
            self._live = self._display(ticking=False)
        return self

    def _display(self, ticking: bool) -> Live:
        """A line on the terminal; a ``ticking`` one is redrawn by a thread of its own."""
        from rich.console import Console
        from rich.live import Live

        live = Live(
            console=Console(stderr=True, highlight=False),
            get_renderable=self._line,
            auto_refresh=ticking,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start(refresh=True)
        return live

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, news: News) -> None:
        """Take a report; on a terminal the next refresh shows it."""
        first, self._news = self._news is None, news
        if not self._enabled:
            return
        if self._live is not None:
            if first:  # only now: solvers fork before their first report, and threads and forks
                self._live.stop()  # do not mix
                self._live = self._display(ticking=True)
            return
        now = self._clock()
        if now - self._printed >= PLAIN_INTERVAL_S:
            self._printed = now
            tell(self.text())

    def text(self) -> str:
        """Write the present state on one line."""
        elapsed = self._clock() - self._started
        limit = "" if self._limit_s is None else f" of {self._limit_s:g}"
        parts = [f"{elapsed:.0f}{limit} s"]
        news = self._news
        if news is None:
            return f"{parts[0]}: solving"
        parts.append(
            "no plan yet" if news.incumbent_s is None else f"incumbent {news.incumbent_s:.6g} s"
        )
        parts.append("no bound yet" if news.bound_s is None else f"bound {news.bound_s:.6g} s")
        if news.gap_rel is not None:
            parts.append(f"gap {100.0 * news.gap_rel:.3g} %")
        return f"{parts[0]}: " + ", ".join(parts[1:])

    def _line(self) -> Text:
        from rich.text import Text

        return Text(self.text(), no_wrap=True, overflow="ellipsis")
