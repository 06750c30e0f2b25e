"""What a run tells while it goes on: finite claims only, and when functions are compiled."""

from __future__ import annotations

import logging
import math

import pytest
from numba import njit

from sftopt.solvers import news
from sftopt.solvers.base import Progress
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.news import COMPILING, ProgressView, RunNews


def test_a_bound_of_minus_infinity_is_none_yet() -> None:
    """The progress line read "bound -inf s, gap inf %"."""
    seen: list[ProgressView] = []
    told = RunNews(seen.append, lambda: 1.0)
    told.listen(Progress(incumbent_s=8.0, bound_s=-math.inf))
    told.listen(Progress(incumbent_s=math.nan, bound_s=6.0))
    assert seen == [ProgressView(8.0, None, None, 1.0), ProgressView(8.0, 6.0, 0.25, 1.0)]


def test_compiling_stops_the_clock_and_is_told_once_for_nested_functions() -> None:
    @njit
    def inner(x: float) -> float:
        return x + 1.0

    @njit
    def outer(x: float) -> float:
        return inner(x) * 2.0

    deadline, told = Deadline(60.0), []
    with deadline.stopped_by_compiling(told.append):
        assert outer(1.0) == 4.0
        outer(2.0)
    assert told == [True, False]
    assert deadline.stopped_s > 0.0


def test_the_end_of_compiling_is_told_only_once_the_solver_runs() -> None:
    """Before, the report would start a line that ticks, and solvers still fork."""
    seen: list[bool] = []
    told = RunNews(lambda view: seen.append(view.compiling), lambda: 0.0)
    told.compiling(True)
    told.compiling(False)
    told.listen(Progress())
    told.compiling(True)
    told.compiling(False)
    assert seen == [True, False, True, False]


def test_who_listens_to_nothing_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    news._warn_of_compiling.cache_clear()
    with caplog.at_level(logging.WARNING, logger="sftopt.solvers.news"):
        for _ in range(2):
            RunNews(None, lambda: 0.0).compiling(True)
    assert caplog.messages == [COMPILING]
