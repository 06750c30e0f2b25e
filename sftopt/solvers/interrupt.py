"""Ctrl-C during one ``solve``: noted whenever it comes, raised only where nothing can be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals by which others than a person at the terminal ask a program to end."""


@contextmanager
def endings_as_ctrl_c() -> Iterator[None]:
    """Take SIGTERM and SIGHUP as Ctrl-C, so that what was found is kept; for whole programs.

    Only where nobody decided about them before: under ``nohup``, SIGHUP stays ignored.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


class Interrupts:
    """Handle SIGINT from the start of one ``solve`` to its end.

    Every Ctrl-C sets :attr:`asked`. The ``raises_at``-th one also raises KeyboardInterrupt: the
    first while nothing is known yet, the second while a solver runs in this process, none while
    its answer is judged. SIGTERM and SIGHUP count where the program takes them as Ctrl-C; a program
    that leaves them alone is ended by them. Outside the main thread, and where Ctrl-C was switched
    off before, nothing is installed.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.raises_at: int | None = 1
        self._count = 0
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Interrupts:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDING):
                before = signal.getsignal(number)
                if number == signal.SIGINT:
                    # None: a handler that is not Python's
                    takes = before not in (None, signal.SIG_IGN)
                else:
                    takes = before is signal.default_int_handler
                if takes:
                    signal.signal(number, self._handle)
                    self._before[number] = before
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self.asked.set()
        if self.raises_at is not None and self._count >= self.raises_at:
            self.raises_at = None  # once is enough: whoever catches it is not interrupted
            raise KeyboardInterrupt
