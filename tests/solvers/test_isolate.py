"""A solver that crashes or hangs costs its run, never its caller or its point."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from sftopt.core.candidate import Candidate
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.status import Point, Promise, Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations import registry as formulation_registry
from sftopt.formulations.base import Formulation, ProblemClass
from sftopt.solvers import isolate, registry
from sftopt.solvers.base import Availability, Deadline, Outcome, Progress, Task
from sftopt.solvers.deadline import OVERTIME_S
from sftopt.solvers.run import ProgressView, solve
from tests.solvers.fakes import (
    Fake,
    FakeHere,
    after_news,
    answer,
    hang,
    install,
    install_foreign,
    install_ours,
    news,
    tiny,
)


def kill_self(task: Task) -> Outcome:
    faulthandler.disable()  # pytest's; its report would only clutter the log
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("not reached")


def kill_self_here() -> None:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(task: Task) -> Outcome:
    os._exit(3)


@pytest.mark.forks
@pytest.mark.parametrize(
    ("action", "said"),
    [
        (kill_self, "crashed (killed by signal SIGSEGV)"),
        (leave, "crashed (ended with exit status 3)"),
    ],
)
def test_a_crash_is_an_error_and_the_caller_lives(
    monkeypatch: pytest.MonkeyPatch, action: Any, said: str
) -> None:
    install(monkeypatch, Fake(action))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.ERROR
    assert result.point is Point.NONE
    assert result.plan is None
    assert result.objective_s is None
    assert said in result.message
    assert result.bound_s is not None
    assert result.bound_source == "elementary"


LIMIT_S = 1.0
"""The limit of runs on a clock of their own."""


class Clock:
    """A run's own clock, which stands still until its solver runs; the wall's does not matter.

    Give :meth:`start` as ``on_progress``. It then shows ``early_s`` a few times, and ``late_s``
    from there on.
    """

    def __init__(self, early_s: float, late_s: float) -> None:
        self.early_s, self.late_s = early_s, late_s
        self.begun = False
        self.looks = 5

    def start(self, view: ProgressView) -> None:
        self.begun = True

    def elapsed(self) -> float:
        if not self.begun:
            return 0.0
        self.looks -= 1
        return self.early_s if self.looks >= 0 else self.late_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that passes limit and overtime a while after the solver begins."""
    over = LIMIT_S + OVERTIME_S
    made = Clock(over - 0.01, over + 0.01)
    monkeypatch.setattr(Deadline, "elapsed", lambda self: made.elapsed())
    return made


@pytest.mark.forks
@pytest.mark.parametrize("action", [kill_self, leave, hang])
def test_the_incumbent_sent_before_the_end_is_kept(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, action: Any
) -> None:
    install(monkeypatch, Fake(after_news(action)))
    instance = tiny()
    ticks = clock.start if action is hang else None
    result = solve(instance, solver="fake", time_limit=LIMIT_S, on_progress=ticks)
    expected = Termination.TIME_LIMIT if action is hang else Termination.ERROR
    assert result.termination is expected
    assert result.point is Point.FEASIBLE
    assert result.plan is not None
    assert verify_plan(instance, result.plan).feasible
    assert result.bound_s == pytest.approx(1.0, rel=2e-9)  # shares may add up to 1 + feas_tol
    assert result.bound_source == "plug-in 'fake', unchecked: the fake"


@pytest.mark.forks
@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_a_plug_in_that_hangs_is_ended_soon_after_the_limit_whatever_it_says_of_itself(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, kind: type[Fake]
) -> None:
    install_foreign(monkeypatch, kind(hang))
    result = solve(tiny(), solver="fake", time_limit=LIMIT_S, on_progress=clock.start)
    assert clock.looks < 0, "it was looked at several times before it was ended"
    assert result.termination is Termination.TIME_LIMIT
    assert (result.point, result.point_from) == (Point.FEASIBLE, "start")
    assert "did not stop at its time limit and was ended; the solver had no point" in result.message
    with pytest.raises(ChildProcessError):  # it is dead and buried
        os.waitpid(-1, os.WNOHANG)


class Formed(Formulation):
    """A plug-in's formulation, of which ``action`` is the build."""

    name = "formed"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.NATIVE
    layer = "formed"
    summary = "made for tests"

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action

    def build(self, derived: Any, start: Any) -> Any:
        return self.action()

    def read(self, derived: Any, model: Any) -> Candidate:
        raise AssertionError("never read")


class TakesFormed(Fake):
    """Ours, and takes a plug-in's formulation."""

    formulations = ("formed",)
    in_process = True


@pytest.mark.forks
@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: hang(None), "passed while the model was built"),  # type: ignore[arg-type]
        (kill_self_here, "SIGSEGV"),
        (lambda: 1 / 0, "building 'formed' failed: ZeroDivisionError"),
        (lambda: 7, "model 7"),
    ],
)
def test_a_plug_ins_formulation_is_built_where_it_can_be_killed(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, action: Callable[[], Any], said: str
) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, message=f"model {task.model}")

    points = {"formed": f"{__name__}:FORMED"}
    monkeypatch.setattr(formulation_registry, "_third_party", lambda: points)
    monkeypatch.setattr(sys.modules[__name__], "FORMED", Formed(action))
    install_ours(monkeypatch, TakesFormed(run))
    ticks = clock.start if "passed" in said else None
    result = solve(
        tiny(), solver="fake", formulation="formed", time_limit=LIMIT_S, on_progress=ticks
    )
    assert said in result.message
    assert result.ok == (said == "model 7" or ticks is not None)
    assert result.point_from == {"model 7": "solver"}.get(said, "start" if ticks else None)


FORMED: Any = None
"""What the made-up entry point of a formulation leads to."""


@pytest.mark.forks
def test_a_death_in_the_middle_of_a_message_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Connection.send_bytes

    def torn(self: Connection, data: bytes) -> None:
        if data.startswith(b'["outcome"'):
            # the pipe's own framing: a length, then fewer bytes than it announces
            os.write(self.fileno(), (1000).to_bytes(4, "big") + b"[")
            os._exit(0)
        whole(self, data)

    def run(task: Task) -> Outcome:
        task.report(news(task))
        return answer(task)

    monkeypatch.setattr(Connection, "send_bytes", torn)
    install(monkeypatch, Fake(run))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.ERROR
    assert result.point is Point.FEASIBLE
    assert "crashed" in result.message


@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_an_exception_is_an_error_with_its_text(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake]
) -> None:
    def run(task: Task) -> Outcome:
        raise ZeroDivisionError("the engine divided by nothing")

    install(monkeypatch, kind(run))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.ERROR
    assert result.point is Point.NONE
    assert "ZeroDivisionError: the engine divided by nothing" in result.message


@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_bad_input_found_by_a_solver_reaches_the_caller(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake]
) -> None:
    def run(task: Task) -> Outcome:
        raise InputError("option 'nonsense': the engine has none of that name")

    install(monkeypatch, kind(run))
    with pytest.raises(InputError, match="option 'nonsense'"):
        solve(tiny(), solver="fake", options={"nonsense": 1})


@pytest.mark.forks
def test_news_from_a_child_arrive_as_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        task.report(Progress(incumbent_s=30.0))
        task.report(Progress(bound_s=5.0))
        task.report(Progress(incumbent_s=25.0, bound_s=6.0))
        task.report(Progress(incumbent_s=28.0, bound_s=float("nan")))
        return answer(task, iterations=7, nodes=3, duals={"row": 2.0}, message="done")

    install(monkeypatch, Fake(run))
    seen = []
    result = solve(tiny(), solver="fake", on_progress=seen.append)
    told = [view for view in seen if view.incumbent_s is not None]
    assert [(view.incumbent_s, view.bound_s) for view in told] == [
        (30.0, None), (30.0, 5.0), (25.0, 6.0), (25.0, 6.0),
    ]  # fmt: skip
    assert told[2].gap_rel == pytest.approx((25.0 - 6.0) / 25.0)
    assert (result.iterations, result.nodes, result.duals) == (7, 3, {"row": 2.0})
    assert "done" in result.message


def test_isolated_and_in_process_runs_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Fake(answer))
    instance = tiny()
    away = solve(instance, solver="fake", isolate=True)
    here = solve(instance, solver="fake", isolate=False)
    assert away.plan == here.plan
    assert (away.objective_s, away.termination) == (here.objective_s, here.termination)


def test_an_incumbent_that_is_no_number_does_not_hide_a_later_one() -> None:
    candidate = Candidate.from_dict({"cuts": [1], "option_weights": [[1]], "keep": [0.5]})
    known = isolate.Incumbent()
    known.update(Progress(float("nan"), float("inf"), candidate))
    known.update(Progress(2.0, 1.0, candidate))
    assert (known.incumbent_s, known.bound_s) == (2.0, 1.0)


@pytest.mark.forks
@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crashed"),
        (lambda: os._exit(0), "crashed"),
        (lambda: sys.exit(7), "SystemExit"),
        (lambda: time.sleep(60), "did not end within"),
    ],
)
def test_a_probe_that_crashes_or_hangs_is_a_no(
    monkeypatch: pytest.MonkeyPatch, ending: Callable[[], None], words: str
) -> None:
    class Probing(Fake):
        def available(self) -> Availability:
            faulthandler.disable()
            ending()
            raise AssertionError("not reached")

    monkeypatch.setattr(isolate, "PROBE_S", 1.0)
    install(monkeypatch, Probing(answer))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.REFUSED
    assert words in result.message


@pytest.mark.forks
@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (lambda: time.sleep(60), "its refusal did not end within"),
        (lambda: os._exit(0), "its refusal crashed"),
        (lambda: 1 / 0, "its refusal failed: ZeroDivisionError"),
    ],
)
def test_a_plug_in_that_hangs_where_it_is_asked_about_an_instance_refuses_it(
    monkeypatch: pytest.MonkeyPatch, ending: Callable[[], None], words: str
) -> None:
    class Asked(Fake):
        def refusal(self, task_derived: Any) -> str | None:
            ending()
            return None

    monkeypatch.setattr(isolate, "PROBE_S", 1.0)
    install(monkeypatch, Asked(answer))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.REFUSED
    assert words in result.message


def test_a_plug_in_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could call itself like one of ours in results."""
    install(monkeypatch, Fake(answer))
    monkeypatch.setattr(
        registry, "_third_party", lambda: {"other": "tests.solvers.fakes:INSTALLED"}
    )
    with pytest.raises(RefusedError, match="calls itself 'fake'"):
        solve(tiny(), solver="other")
