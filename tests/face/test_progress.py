"""Progress lines: seldom without a terminal, live on one, never on standard output."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass

import pytest

from sftopt.face.progress import PLAIN_INTERVAL_S, Progress
from sftopt.solvers.news import COMPILING


@dataclass(frozen=True)
class Report:
    incumbent_s: float | None = None
    bound_s: float | None = None
    gap_rel: float | None = None
    elapsed_s: float = 0.0
    compiling: bool = False


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(60.0, clock=clock) as progress:
        for _ in range(100):
            clock.now += PLAIN_INTERVAL_S / 20.0
            progress(Report(12.5, 10.0, 0.2))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "5 of 60 s: incumbent 12.5 s, bound 10 s, gap 20 %"


def test_a_line_says_what_is_not_there_yet() -> None:
    clock = Clock()
    progress = Progress(None, enabled=False, clock=clock)
    assert progress.text() == "0 s: solving"
    progress(Report())
    clock.now += 61.4
    assert progress.text() == "61 s: no plan yet, no bound yet"


def test_compiling_is_told_at_once_and_its_time_is_not_shown_as_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Progress(60.0, clock=clock) as progress:
        clock.now += 1.0
        progress(Report(compiling=True))
        clock.now += 120.0
        assert progress.text() == f"1 of 60 s: {COMPILING}"
        progress(Report())
        clock.now += PLAIN_INTERVAL_S
        progress(Report(12.5))
    assert capsys.readouterr().err.splitlines() == [
        f"1 of 60 s: {COMPILING}",
        "1 of 60 s: no plan yet, no bound yet",
        "6 of 60 s: incumbent 12.5 s, no bound yet",
    ]


def test_a_terminal_shows_compiling_before_a_line_may_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver may still fork then, and a fork does not mix with the thread of a line."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    before = threading.active_count()
    with Progress(60.0) as progress:
        progress(Report(compiling=True))
        assert "compiling functions on first use" in terminal.getvalue()
        assert threading.active_count() == before
        progress(Report())
        assert threading.active_count() == before + 1


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(60.0, enabled=False, clock=clock) as progress:
        clock.now += 100.0
        progress(Report(1.0, 1.0, 0.0))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_one_line_that_is_redrawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(60.0) as progress:
        progress(Report(12.5, 10.0, 0.2))
    assert "solving" in terminal.getvalue()
    assert "incumbent 12.5 s, bound 10 s, gap 20 %" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_an_engine_log_is_not_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(60.0, live=False) as progress:
        progress(Report(12.5, 10.0, 0.2))
    assert terminal.getvalue() == ""
