"""News from a running solver on standard error: a live line on a terminal, else lines now and then.

Standard output is never touched.
"""

from __future__ import annotations

import math
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

    @property
    def compiling(self) -> bool:
        """Return whether functions are being compiled, which is outside the time limit."""


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
        self._told_compiling = False
        self._ticking = False
        self._stands_since: float | None = None
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
        now = self._clock()
        self._heed_compiling(news.compiling, now)
        self._news = news
        if not self._enabled:
            return
        if self._live is not None:
            if news.compiling and not self._ticking:
                self._live.refresh()
            elif not self._ticking:  # only now: solvers fork before their first report, and
                self._ticking = True  # threads and forks do not mix
                self._live.stop()
                self._live = self._display(ticking=True)
            return
        if news.compiling and not self._told_compiling:
            self._told_compiling = True
            tell(self.text())
            return
        if now - self._printed >= PLAIN_INTERVAL_S:
            self._printed = now
            tell(self.text())

    def _heed_compiling(self, compiling: bool, now: float) -> None:
        """Stop the time shown while functions are compiled, as the limit's clock stands then."""
        if self._stands_since is not None:
            self._started += now - self._stands_since
        self._stands_since = now if compiling else None

    def text(self) -> str:
        """Write the present state on one line."""
        now = self._clock() if self._stands_since is None else self._stands_since
        elapsed = now - self._started
        limit = "" if self._limit_s is None else f" of {self._limit_s:g}"
        parts = [f"{elapsed:.0f}{limit} s"]
        news = self._news
        if news is None:
            return f"{parts[0]}: solving"
        if news.compiling:
            from sftopt.solvers.news import COMPILING  # of a run that goes on: it is loaded

            return f"{parts[0]}: {COMPILING}"
        parts.append(
            "no plan yet" if news.incumbent_s is None else f"incumbent {news.incumbent_s:.6g} s"
        )
        parts.append("no bound yet" if news.bound_s is None else f"bound {news.bound_s:.6g} s")
        if news.gap_rel is not None and math.isfinite(news.gap_rel):
            parts.append(f"gap {100.0 * news.gap_rel:.3g} %")
        return f"{parts[0]}: " + ", ".join(parts[1:])

    def _line(self) -> Text:
        from rich.text import Text

        return Text(self.text(), no_wrap=True, overflow="ellipsis")
