"""The limit is kept, judging included, and what was feasible by then is not lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import njit

from sftopt.core.families import generate
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations.registry import get_formulation
from sftopt.solvers import deadline as clocks
from sftopt.solvers import start
from sftopt.solvers.base import Deadline, Outcome, Task
from sftopt.solvers.judge import JUDGED_S_PER_DEVICE, POLISHED_S_PER_DEVICE
from sftopt.solvers.run import solve
from tests.solvers.fakes import Fake, FakeHere, answer, install, news, start_of, tiny

LIMIT_S = 1.0


class Watch:
    """A clock that only its owner moves."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        patch.setattr(time, "monotonic", lambda: self.now_s)

    def after(self, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, which takes so long by this clock."""

        def slow(*given: Any, **named: Any) -> Any:
            self.now_s += seconds
            return function(*given, **named)

        return slow


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def no_point(termination: Termination) -> Callable[[Task], Outcome]:
    return lambda task: Outcome(termination)


@pytest.mark.parametrize("kind", [Fake, FakeHere])
@pytest.mark.parametrize("end", [Termination.TIME_LIMIT, Termination.ITERATION_LIMIT])
def test_a_solver_without_a_point_at_its_limit_leaves_the_start(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake], end: Termination
) -> None:
    install(monkeypatch, kind(no_point(end)))
    instance = tiny()
    result = solve(instance, solver="fake")
    assert result.termination is end
    assert (result.point, result.point_from) == (Point.FEASIBLE, "start")
    assert "the start is kept" in result.message
    assert result.plan is not None
    assert verify_plan(instance, result.plan).feasible
    assert result.raise_for_status() is result


@pytest.mark.parametrize("end", [Termination.NUMERICAL_ERROR, Termination.INFEASIBLE_LOCAL])
def test_a_solver_that_failed_is_given_no_point(
    monkeypatch: pytest.MonkeyPatch, end: Termination
) -> None:
    install(monkeypatch, Fake(no_point(end)))
    assert solve(tiny(), solver="fake").point is Point.NONE


@pytest.mark.parametrize("name", ["run.quick_start", "start.first_point", "start.improve"])
def test_a_limit_that_passes_during_the_start_leaves_what_there_is(
    monkeypatch: pytest.MonkeyPatch, watch: Watch, name: str
) -> None:
    """Engines that need no start of their own included: none of them is begun."""
    place, _, function = name.partition(".")
    module = start if place == "start" else __import__("sftopt.solvers.run", fromlist=["run"])
    monkeypatch.setattr(module, function, watch.after(10.0, getattr(module, function)))
    install(monkeypatch, Fake(lambda task: pytest.fail("it was begun after its limit")))
    result = solve(tiny(), solver="fake", time_limit=LIMIT_S)
    assert result.termination is Termination.TIME_LIMIT
    assert (result.point, result.point_from) == (Point.FEASIBLE, "start")


def test_no_time_for_a_start_is_no_point(monkeypatch: pytest.MonkeyPatch, watch: Watch) -> None:
    from sftopt.solvers import run

    monkeypatch.setattr(run, "errors_of", watch.after(10.0, run.errors_of))
    install(monkeypatch, Fake(answer))
    for limit_s in (LIMIT_S, 0.0):
        result = solve(tiny(), solver="fake", time_limit=limit_s)
        assert result.termination is Termination.TIME_LIMIT
        assert result.point is Point.NONE


def test_a_start_is_tried_no_further_once_its_share_of_the_limit_is_over(
    monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    from sftopt.solvers.heuristics import constructive

    tries = []

    def repair(*given: Any, **named: Any) -> Any:
        tries.append(watch.now_s)
        watch.now_s += 0.1
        return repaired(*given, **named)

    repaired = constructive.repair
    monkeypatch.setattr(constructive, "repair", repair)
    install(monkeypatch, Fake(answer))
    assert solve(generate("jetson-vit-b", 60, 0), solver="fake", time_limit=LIMIT_S).ok
    assert 1 < len(tries) <= 2 + start.START_SHARE * LIMIT_S / 0.1


@pytest.fixture
def overdue(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set it, and the limit passed long ago."""
    event = threading.Event()
    monkeypatch.setattr(Deadline, "overdue", lambda self: event.is_set())
    return event


def test_our_own_code_that_does_not_heed_its_limit_is_ended(
    monkeypatch: pytest.MonkeyPatch, overdue: threading.Event
) -> None:
    ended: list[str] = []

    def run(task: Task) -> Outcome:
        overdue.set()
        try:
            while True:  # for ever, whatever the deadline says
                pass
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    install(monkeypatch, FakeHere(run))
    result = solve(tiny(), solver="fake", time_limit=60.0)
    assert ended == ["TimeUp"]
    assert result.termination is Termination.TIME_LIMIT
    assert (result.point, result.point_from) == (Point.FEASIBLE, "start")
    assert "did not stop at its time limit and was ended" in result.message


@pytest.mark.parametrize("thread", [False, True])
def test_an_incumbent_told_before_the_end_is_kept(
    monkeypatch: pytest.MonkeyPatch, overdue: threading.Event, thread: bool
) -> None:
    def run(task: Task) -> Outcome:
        task.report(news(task, bound_s=1.0, bound_source="fake"))
        overdue.set()
        while True:
            pass

    install(monkeypatch, FakeHere(run))
    found = []

    def solved() -> None:
        found.append(solve(tiny(), solver="fake", time_limit=60.0))

    if thread:
        runs = threading.Thread(target=solved)
        runs.start()
        runs.join()
    else:
        solved()
    (result,) = found
    assert (result.point, result.point_from) == (Point.FEASIBLE, "solver")
    assert result.bound_s == pytest.approx(1.0, rel=2e-9)


def test_a_run_that_ends_in_time_is_left_alone() -> None:
    for _ in range(200):
        made = Deadline(1e-9)  # overdue as soon as it is looked at
        assert clocks.run_until(made, lambda: 7) in (7, None)
    total = 0
    for number in range(200_000):  # nothing is raised here any more
        total += number
    assert total > 0


def test_an_exception_that_foreign_code_swallows_is_raised_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clocks, "_AGAIN_S", 0.02)
    times = []

    def stubborn() -> int:
        while True:
            try:
                while True:
                    pass
            except clocks.TimeUp:
                times.append(1)
                if len(times) == 3:
                    raise

    assert clocks.run_until(Deadline(0.0), stubborn) is None
    assert len(times) == 3


def test_a_model_that_is_not_built_in_time_leaves_the_start(
    monkeypatch: pytest.MonkeyPatch, overdue: threading.Event
) -> None:
    """Our own formulations, too, are built where they can be ended."""

    def slow(self: Any, derived: Any, given: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(type(get_formulation("joint-product")), "build", slow)
    for kind in (Fake, FakeHere):
        install(monkeypatch, kind(answer))
        overdue.clear()
        result = solve(
            tiny(), solver="fake", formulation="joint-product", on_progress=lambda _: overdue.set()
        )
        assert result.termination is Termination.TIME_LIMIT
        assert (result.point, result.point_from) == (Point.FEASIBLE, "start")
        assert "the time limit passed while the model was built" in result.message


def test_loading_is_not_held_against_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def run(task: Task) -> Outcome:
        left.append(task.deadline.left())
        return answer(task)

    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def slow_to_load() -> None:
        nonlocal now
        now += 1000.0

    monkeypatch.setattr("sftopt.solvers.run.load_start", slow_to_load)
    install(monkeypatch, FakeHere(run))
    result = solve(tiny(), solver="fake", time_limit=1.0)
    assert left == [pytest.approx(1.0 - 2 * JUDGED_S_PER_DEVICE)]
    assert (result.times_s.load, result.times_s.total) == (1000.0, 1000.0)


def test_the_start_finds_its_compiled_functions_loaded() -> None:
    """In a fresh process, where nothing was imported or compiled by an earlier test."""
    code = """
import sys
from tests.solvers.fakes import tiny
from sftopt.solvers import start
from sftopt.solvers.run import solve

def spy(derived, enough):
    compiled = sys.modules["sftopt.core.least_time_compiled"]
    ready = compiled.linear_round.signatures and compiled.concave_round.signatures
    print("ready" if ready else "not ready")

start.first_point = spy
solve(tiny(), solver="bonmin", time_limit=1.0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ready", done.stderr


def test_compiling_is_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch, watch: Watch) -> None:
    left: list[float] = []

    def run(task: Task) -> Outcome:
        before = task.deadline.left()
        with_numba = njit(lambda x: x + 1)
        compiler = with_numba._compiler
        monkeypatch.setattr(compiler, "compile", watch.after(100.0, compiler.compile))
        assert with_numba(1) == 2
        left.append(before - task.deadline.left())
        return answer(task)

    install(monkeypatch, FakeHere(run))
    result = solve(tiny(), solver="fake", time_limit=LIMIT_S)
    assert result.termination is Termination.CONVERGED_LOCAL
    assert left == [0.0]
    assert result.times_s.load == pytest.approx(100.0)
    assert result.times_s.solve == pytest.approx(0.0)


@pytest.mark.parametrize("devices", [2, 200])
def test_the_judge_has_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch, watch: Watch, devices: int
) -> None:
    left: list[float] = []

    def run(task: Task) -> Outcome:
        left.append(task.deadline.left())
        return answer(task)

    install(monkeypatch, FakeHere(run))
    solve(generate("jetson-vit-b", devices, 0), solver="fake", time_limit=10.0)
    solve(generate("jetson-vit-b", devices, 0), solver="fake", time_limit=1e-4)
    assert left[0] == pytest.approx(10.0 - devices * JUDGED_S_PER_DEVICE)
    assert 0.0 < left[1] == pytest.approx(0.4e-4)


@pytest.mark.parametrize("over", [False, True])
def test_an_answer_at_the_limit_is_polished_where_that_is_quick(
    monkeypatch: pytest.MonkeyPatch, watch: Watch, over: bool
) -> None:
    from sftopt.solvers import judge

    def run(task: Task) -> Outcome:
        watch.now_s += LIMIT_S
        return answer(task, termination=Termination.TIME_LIMIT)

    polished: list[int] = []

    def keep(*given: Any, **named: Any) -> Any:
        polished.append(1)
        return kept(*given, **named)

    kept = judge.keep_as_is
    monkeypatch.setattr(judge, "keep_as_is", keep)
    devices = 2
    if over:
        monkeypatch.setattr(judge, "POLISHED_LATE_S", 0.5 * devices * POLISHED_S_PER_DEVICE)
    install(monkeypatch, FakeHere(run))
    result = solve(generate("jetson-vit-b", devices, 0), solver="fake", time_limit=LIMIT_S)
    assert result.ok
    assert bool(polished) is not over


def test_a_rounded_point_that_is_worse_than_the_start_gives_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a limit only: a method that has ended answers for its own point."""

    def run(task: Task) -> Outcome:
        given = start_of(task)
        low = replace(given, cuts=np.zeros_like(given.cuts))
        return Outcome(end, low)

    found = {}
    instance = generate("weak-server", 4, 0)
    for end in (Termination.TIME_LIMIT, Termination.CONVERGED_LOCAL):
        install(monkeypatch, Fake(run))
        found[end] = solve(instance, solver="fake", formulation="joint-relaxed")
    kept, own = found[Termination.TIME_LIMIT], found[Termination.CONVERGED_LOCAL]
    assert (kept.point_from, own.point_from) == ("start", "polish")
    assert kept.objective_s is not None
    assert own.objective_s is not None
    assert kept.objective_s < own.objective_s
