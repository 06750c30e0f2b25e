"""However a program is ended: the incumbent is kept where it may be, and no process is left."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sftopt.core.files import write_json
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.face.cli import main
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.interrupt import ENDING, endings_as_ctrl_c
from sftopt.solvers.run import ProgressView, solve
from tests.solvers.fakes import Fake, FakeHere, answer, install, news, tiny


def until_asked(task: Task) -> Outcome:
    task.report(news(task))
    while not task.stop_requested():
        time.sleep(0.01)
    return Outcome(Termination.INTERRUPTED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_a_request_to_end_keeps_the_incumbent(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake], number: int
) -> None:
    def end(view: ProgressView) -> None:
        if view.incumbent_s is not None:
            os.kill(os.getpid(), number)

    install(monkeypatch, kind(until_asked))
    with endings_as_ctrl_c():
        result = solve(tiny(), solver="fake", on_progress=end)
    assert signal.getsignal(number) is signal.SIG_DFL
    assert result.termination is Termination.INTERRUPTED
    assert result.point is Point.FEASIBLE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_command_line_writes_the_incumbent_and_says_130(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    parent = os.getpid()

    def run(task: Task) -> Outcome:
        task.report(news(task))
        os.kill(parent, number)
        return until_asked(task)

    install(monkeypatch, Fake(run))
    cell, out = tmp_path / "cell.json", tmp_path / "plan.json"
    instance = tiny()
    cell.write_text(instance.model_dump_json())
    code = main(["plan", str(cell), "--solver", "fake", "--out", str(out), "--quiet", "--json"])
    assert code == 130
    assert verify_plan(Instance.model_validate_json(cell.read_text()), Plan.load(out)).feasible
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_fails_since_it_was_cut_short_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package may swallow a Ctrl-C while it is imported, and then lack half of itself."""

    def half_imported(*given: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60.0)
        raise AttributeError("module 'numba' has no attribute 'core'")

    monkeypatch.setattr("sftopt.solvers.run.quick_start", half_imported)
    write_json(tmp_path / "cell.json", tiny().to_dict())
    assert main(["plan", str(tmp_path / "cell.json"), "--solver", "constructive"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted"


def test_what_the_program_decided_about_endings_stays() -> None:
    """Under nohup; in a worker that its pool ends; in a program with a handler of its own."""
    for number in ENDING:
        for before in (signal.SIG_IGN, lambda *given: None):
            usual = signal.signal(number, before)
            try:
                with endings_as_ctrl_c():
                    assert signal.getsignal(number) is before
            finally:
                signal.signal(number, usual)


CHILD = """
import os, signal, subprocess, sys, time
import pytest
from sftopt.solvers.run import solve
from tests.solvers.fakes import Fake, install, tiny

def run(task):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"], pass_fds=[int(sys.argv[1])])
    os.write(int(sys.argv[1]), b"both\\n")
    while True:
        pass

install(pytest.MonkeyPatch(), Fake(run))
solve(tiny(), solver="fake", time_limit=None)
"""
"""A solver that listens to nobody, and starts a process of its own."""


@pytest.mark.forks
def test_a_killed_program_leaves_no_process() -> None:
    theirs, ours = os.pipe()
    program = subprocess.Popen([sys.executable, "-c", CHILD, str(ours)], pass_fds=[ours])
    os.close(ours)
    with os.fdopen(theirs, "rb") as told:
        assert told.readline() == b"both\n"
        program.kill()
        # the end of the pipe: nobody holds it any more, neither solver nor what it started
        assert told.read() == b""
    program.wait()


@pytest.mark.forks
def test_a_solver_that_is_ended_takes_along_what_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = os.pipe()

    def run(task: Task) -> Outcome:
        subprocess.Popen(["sleep", "1000"], pass_fds=[ours])
        return answer(task)

    install(monkeypatch, Fake(run))
    assert solve(tiny(), solver="fake").ok
    os.close(ours)
    with os.fdopen(theirs, "rb") as told:
        assert told.read() == b""


def planned(number: int) -> tuple[str, str]:
    result = solve(tiny(), solver="fake")
    return result.point.value, result.message


@pytest.mark.forks
def test_engines_run_apart_in_a_worker_of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose processes are daemons, which multiprocessing lets have no children."""
    pid = os.getpid()
    install(monkeypatch, Fake(lambda task: answer(task, message=f"apart {os.getppid() != pid}")))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(planned, [1]) == [("feasible", "apart True")]
