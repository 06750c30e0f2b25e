"""What a run tells while it goes on: the best claims so far, and that it compiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sftopt.solvers.base import Progress
from sftopt.solvers.trace import Trace

LOGGER = logging.getLogger(__name__)
"""Tells that functions are compiled where nobody listens to a run's progress."""

COMPILING = "compiling functions on first use, once, up to three minutes; outside the time limit"
"""What is said while Numba compiles."""


@dataclass(frozen=True)
class ProgressView:
    """What a progress line shows; values are the solver's claims until it ends."""

    incumbent_s: float | None
    bound_s: float | None
    gap_rel: float | None
    elapsed_s: float
    compiling: bool = False
    """Functions are being compiled, which a process does once; the clock stands."""


def finite(value: float | None) -> float | None:
    """Return a number (without unit) as it is; None where JSON and a line cannot hold it."""
    return None if value is None or not math.isfinite(value) else float(value)


class RunNews:
    """The news of one run for who listens to it; ``trace`` holds what was told."""

    def __init__(
        self, on_progress: Callable[[ProgressView], None] | None, elapsed_s: Callable[[], float]
    ) -> None:
        self._on_progress = on_progress
        self._elapsed_s = elapsed_s
        self.trace = Trace()
        self._begun = False

    def listen(self, news: Progress) -> None:
        """Take a solver's report, and tell the best values so far."""
        self.trace.hear(self._elapsed_s(), news.incumbent_s, news.bound_s)
        self._begun = True
        self._tell(compiling=False)

    def compiling(self, now: bool) -> None:
        """Take that compiling begins or ends: told to who listens, else once as a warning.

        What is not compiling is told only once the solver runs, as a line may tick from then on.
        """
        if self._on_progress is None and now:
            _warn_of_compiling()
        if now or self._begun:
            self._tell(compiling=now)

    def _tell(self, *, compiling: bool) -> None:
        if self._on_progress is None:
            return
        known = self.trace
        self._on_progress(
            ProgressView(
                known.incumbent_s, known.bound_s, known.gap_rel(), self._elapsed_s(), compiling
            )
        )


@cache
def _warn_of_compiling() -> None:
    """Warn once a process."""
    LOGGER.warning(COMPILING)
