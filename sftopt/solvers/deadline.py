"""The clock of a run: one limit for everything, stopped while code is compiled, and its last word.

What heeds the limit asks a :class:`Deadline`. What does not is ended by :func:`run_until`, where it
is Python that runs, or with its process; see :mod:`sftopt.solvers.isolate`.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

Answer = TypeVar("Answer")

OVERTIME_S = 0.2
"""What does not end by itself at its limit is ended so many seconds later, at least."""
OVERTIME_SHARE = 0.025
"""The same as a share of the limit; the greater of the two counts."""
_LOOK_S = 0.25
"""How often the watch of a run in this process looks at its clock, in seconds."""
_AGAIN_S = 1.0
"""The watch repeats itself after so many seconds: foreign callbacks may swallow an exception."""


class _Clock:
    """Seconds since it was made, without those for which it was stopped."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.stopped_s = 0.0
        self._stopped_at: float | None = None
        self._depth = 0

    def elapsed_s(self) -> float:
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return now - self.began - self.stopped_s

    def stop(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._stopped_at = time.monotonic()

    def go_on(self) -> None:
        self._depth -= 1
        if self._depth == 0 and self._stopped_at is not None:
            self.stopped_s += time.monotonic() - self._stopped_at
            self._stopped_at = None


class Deadline:
    """One limit for everything, in wall seconds; sub-solves get what is left."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._clock = _Clock()

    def elapsed(self) -> float:
        """Return the seconds since the start, without those for which the clock was stopped."""
        return self._clock.elapsed_s()

    def left(self) -> float:
        """Return the seconds left, 0 at least; infinite without a limit."""
        if self.seconds is None:
            return float("inf")
        return max(self.seconds - self.elapsed(), 0.0)

    def passed(self) -> bool:
        """Say whether nothing is left."""
        return self.left() <= 0.0

    def overdue(self) -> bool:
        """Say whether the limit passed so long ago that the run is ended from outside."""
        if self.seconds is None:
            return False
        overtime_s = max(OVERTIME_S, OVERTIME_SHARE * self.seconds)
        return self.elapsed() > self.seconds + overtime_s

    def earlier(self, seconds: float) -> Deadline:
        """Return a limit on the same clock, so many ``seconds`` before this one."""
        made = Deadline(None if self.seconds is None else max(self.seconds - seconds, 0.0))
        made._clock = self._clock
        return made

    @property
    def stopped_s(self) -> float:
        """Return for how many seconds the clock was stopped."""
        return self._clock.stopped_s

    def forgive(self, seconds: float) -> None:
        """Leave out ``seconds`` for which the clock of a run inside this one was stopped."""
        self._clock.stopped_s += seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock for what a process does once."""
        self._clock.stop()
        try:
            yield
        finally:
            self._clock.go_on()

    @contextmanager
    def stopped_by_compiling(self, tell: Callable[[bool], None]) -> Iterator[None]:
        """Stop the clock whenever Numba compiles a function for this thread, or loads one.

        ``tell`` hears when compiling begins (True) and ends (False); loading is short and silent.
        """
        from numba.core import event

        thread = threading.get_ident()
        listener = partial(_listener_class(), thread)
        told = _Outermost(tell)
        # Numba holds this lock while it compiles a function or reads it from its cache
        lock = listener(self._clock.stop, self._clock.go_on)
        compiling = listener(told.begin, told.end)
        with (
            event.install_listener("numba:compiler_lock", lock),
            event.install_listener("numba:compile", compiling),
        ):
            yield


@cache
def _listener_class() -> Any:
    """Make the class of what hears of Numba's events in one thread; Numba is imported for it."""
    from numba.core import event

    class Listener(event.Listener):
        def __init__(self, thread: int, start: Callable[[], None], end: Callable[[], None]) -> None:
            self.thread, self.start, self.end = thread, start, end

        def on_start(self, news: Any) -> None:
            if threading.get_ident() == self.thread:
                self.start()

        def on_end(self, news: Any) -> None:
            if threading.get_ident() == self.thread:
                self.end()

    return Listener


class _Outermost:
    """Tells of the first of several nested beginnings and of the last end."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell
        self._depth = 0

    def begin(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._tell(True)

    def end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._tell(False)


class TimeUp(BaseException):
    """Raised inside a run in this process that goes on after its limit."""


def run_until(deadline: Deadline, action: Callable[[], Answer]) -> Answer | None:
    """Return what ``action`` returns; None where it was ended, being overdue.

    It is ended by an exception in this thread, as the second Ctrl-C ends a run: between two steps
    of Python, so that a call into compiled code is waited for.
    """
    if deadline.seconds is None:
        return action()
    answer: Answer | None = None
    watch = _Watch(deadline)
    try:
        try:
            watch.start()
            answer = action()
        finally:
            watch.stop()
    except TimeUp:
        watch.stop()  # the exception may have come before the first call took effect
    return answer


class _Watch:
    """A thread that raises :class:`TimeUp` in the one that made it, once a deadline is overdue."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.watched = threading.get_ident()
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Raise nothing from now on, not even what is on its way."""
        with self.lock:
            self.done.set()
            _raise_in(self.watched, None)

    def _look(self) -> None:
        while not self.done.wait(min(self.deadline.left() + OVERTIME_S, _LOOK_S)):
            if self.deadline.overdue():
                with self.lock:
                    if not self.done.is_set():
                        _raise_in(self.watched, TimeUp)
                self.done.wait(_AGAIN_S)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Raise ``kind`` in a thread at its next step of Python; None takes back what is pending."""
    raised = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
