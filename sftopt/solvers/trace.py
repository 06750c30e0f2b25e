"""How a run got where it ended: plan values and bounds as they came, thinned out to a few."""

from __future__ import annotations

import math

from sftopt.core.result import TracePoint

MOST_POINTS = 200
"""Number of points of a trace at most; a longer one is thinned out."""


class Trace:
    """The best value and bound known at each moment at which one of them changed."""

    def __init__(self) -> None:
        self.incumbent_s: float | None = None
        self.bound_s: float | None = None
        self._points: list[tuple[float, float | None, float | None]] = []
        self._least_gap_s = 0.0

    def hear(self, elapsed_s: float, incumbent_s: float | None, bound_s: float | None) -> None:
        """Take what a solver reports; what is no better, or no number at all, changes nothing."""
        if _says_more(incumbent_s, self.incumbent_s, -1.0):
            self.incumbent_s = incumbent_s
        if _says_more(bound_s, self.bound_s, 1.0):
            self.bound_s = bound_s
        point = (elapsed_s, self.incumbent_s, self.bound_s)
        if point[1:] == (None, None) or (self._points and self._points[-1][1:] == point[1:]):
            return
        if len(self._points) > 1 and elapsed_s - self._points[-1][0] < self._least_gap_s:
            self._points.pop()  # the newer of two that are close; the first of all stays
        self._points.append(point)
        if len(self._points) > MOST_POINTS:
            self._least_gap_s = max(2.0 * self._least_gap_s, elapsed_s / MOST_POINTS)
            self._points = [*self._points[:-1:2], self._points[-1]]

    def gap_rel(self) -> float | None:
        """Return the relative gap of what is known; None without both."""
        if self.incumbent_s is None or self.bound_s is None or self.incumbent_s <= 0.0:
            return None
        return (self.incumbent_s - self.bound_s) / self.incumbent_s

    def points(self) -> tuple[TracePoint, ...]:
        """Return the points in the order of time."""
        return tuple(
            TracePoint(elapsed_s=elapsed, incumbent_s=incumbent, bound_s=bound)
            for elapsed, incumbent, bound in self._points
        )


def _says_more(news: float | None, known: float | None, sign: float) -> bool:
    """Whether a figure is a number, and above (sign 1) or below (-1) what is known."""
    if news is None or not math.isfinite(news):
        return False
    return known is None or sign * news > sign * known


__all__ = ["MOST_POINTS", "Trace"]
