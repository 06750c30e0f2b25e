"""Ctrl-C at any moment of a run is a result with the best plan so far."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations.registry import get_formulation
from sftopt.solvers import isolate
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.child import can_fork
from sftopt.solvers.judge import judge
from sftopt.solvers.run import ProgressView, solve
from tests.solvers.fakes import (
    Fake,
    FakeHere,
    after_news,
    answer,
    hang,
    install,
    news,
    tiny,
)


class CtrlC:
    """What a terminal does once the first incumbent shows: SIGINT from outside the run.

    Give :meth:`watch` as ``on_progress``.
    """

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.shown = threading.Event()
        self.over = False
        self.thread = threading.Thread(target=self._press)

    def _press(self) -> None:
        if not self.shown.wait(60.0) or self.over:
            return
        for _ in range(self.times):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    def watch(self, view: ProgressView) -> None:
        if view.incumbent_s is not None:
            self.shown.set()

    def __enter__(self) -> CtrlC:
        self.thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self.over = not self.shown.is_set()  # no incumbent came: press nothing, just end
        self.shown.set()
        self.thread.join()


@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_ctrl_c_keeps_the_incumbent(monkeypatch: pytest.MonkeyPatch, kind: type[Fake]) -> None:
    def run(task: Task) -> Outcome:
        task.report(news(task))
        while not task.stop_requested():
            time.sleep(0.01)
        return Outcome(Termination.INTERRUPTED)

    install(monkeypatch, kind(run))
    before = signal.getsignal(signal.SIGINT)
    with CtrlC() as keys:
        result = solve(tiny(), solver="fake", time_limit=20.0, on_progress=keys.watch)
    assert signal.getsignal(signal.SIGINT) is before
    assert result.termination is Termination.INTERRUPTED
    assert result.point is Point.FEASIBLE
    assert result.plan is not None
    assert result.times_s.total < 10.0


@pytest.mark.forks
def test_ctrl_c_ends_a_child_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "GRACE_S", 0.3)
    install(monkeypatch, Fake(after_news(hang)))
    with CtrlC() as keys:
        result = solve(tiny(), solver="fake", time_limit=30.0, on_progress=keys.watch)
    assert result.termination is Termination.INTERRUPTED
    assert result.point is Point.FEASIBLE
    assert result.times_s.total < 10.0


def test_a_second_ctrl_c_ends_a_run_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        task.report(news(task))
        time.sleep(20.0)
        return answer(task)

    install(monkeypatch, FakeHere(run))
    with CtrlC(times=2) as keys:
        result = solve(tiny(), solver="fake", time_limit=30.0, on_progress=keys.watch)
    assert result.termination is Termination.INTERRUPTED
    assert result.point is Point.FEASIBLE
    assert result.times_s.total < 10.0


def pressing(function: Callable[..., Any], pid: int | None = None) -> Callable[..., Any]:
    """``function`` with a Ctrl-C on its way in, for the process ``pid`` (None: its own)."""

    def pressed(*given: Any, **named: Any) -> Any:
        os.kill(os.getpid() if pid is None else pid, signal.SIGINT)
        return function(*given, **named)

    return pressed


EARLY = ("run.derived_once", "run.choose", "run.load_start", "run.quick_start")
"""Moments of a run at which there is no plan yet."""
LATE = (
    "start.first_point",
    "start.improve",
    "run.run_isolated",
    "run.run_here",
    "run.judge",
    "judge.verify_plan",
)
"""Moments at which there is one."""


@pytest.mark.parametrize("moment", [*EARLY, *LATE])
@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_ctrl_c_at_any_moment_is_a_result(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake], moment: str
) -> None:
    away = kind is Fake and can_fork()
    if moment == ("run.run_here" if away else "run.run_isolated"):
        moment = "run.judge"
    module, _, name = moment.partition(".")
    spied = import_module(f"sftopt.solvers.{module}")
    monkeypatch.setattr(spied, name, pressing(getattr(spied, name)))
    install(monkeypatch, kind(answer))
    if moment == "run.choose":
        monkeypatch.setattr("sftopt.solvers.choose.solvers_for", lambda formulation: ["fake"])
    before = signal.getsignal(signal.SIGINT)
    instance = tiny()
    result = solve(
        instance, solver=None if moment == "run.choose" else "fake", formulation="joint-product"
    )
    assert signal.getsignal(signal.SIGINT) is before
    assert result.termination is Termination.INTERRUPTED
    assert (result.point is Point.FEASIBLE) == (moment in LATE), result.message
    assert (result.plan is not None) == (moment in LATE)
    if result.plan is not None:
        assert verify_plan(instance, result.plan).feasible
    result.to_json()


def test_ctrl_c_while_the_model_is_built_keeps_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    form = type(get_formulation("joint-product"))
    monkeypatch.setattr(form, "build", pressing(form.build, os.getpid()))
    install(monkeypatch, Fake(lambda task: Outcome(Termination.INTERRUPTED)))
    result = solve(tiny(), solver="fake", formulation="joint-product")
    assert result.termination is Termination.INTERRUPTED
    assert result.point is Point.FEASIBLE
    assert "the start is kept" in result.message


def test_ctrl_c_that_is_switched_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a process in the background of a shell."""
    monkeypatch.setattr("sftopt.solvers.run.judge", pressing(judge))
    install(monkeypatch, Fake(answer))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = solve(tiny(), solver="fake")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.termination is Termination.CONVERGED_LOCAL


def test_a_run_outside_the_main_thread_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals can only be handled in the main thread; the run must not try elsewhere."""
    found: list[Point] = []
    for kind in (Fake, FakeHere):
        install(monkeypatch, kind(answer))
        thread = threading.Thread(target=lambda: found.append(solve(tiny(), solver="fake").point))
        thread.start()
        thread.join()
    assert found == [Point.FEASIBLE, Point.FEASIBLE]
