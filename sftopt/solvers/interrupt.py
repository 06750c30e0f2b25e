"""Ctrl-C during one ``solve``: noted whenever it comes, raised only where nothing can be lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals by which others than a person at the terminal ask a program to end."""


class Endings:
    """How a whole program is asked to end: as by Ctrl-C, but for while it has to finish something.

    There is one, since signals are the process's.
    """

    def __init__(self) -> None:
        self.raised = False
        """Whether KeyboardInterrupt was raised: what fails then, may fail for that reason."""
        self._holding = False

    def hold(self) -> None:
        """Drop signals from here on, until :meth:`let_go`."""
        self._holding = True

    def let_go(self) -> None:
        """Raise KeyboardInterrupt at signals again."""
        self._holding = False

    def begin(self) -> None:
        """Forget what was before."""
        self.raised = self._holding = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, unless something is being finished."""
        if not self._holding:
            self.raised = True
            raise KeyboardInterrupt


ENDINGS = Endings()
"""Of this process."""
_AS_CTRL_C = ENDINGS.handle
"""The handler by which it is known."""


@contextmanager
def endings_as_ctrl_c() -> Iterator[Endings]:
    """Take SIGTERM and SIGHUP as Ctrl-C, so that what was found is kept; for whole programs.

    Only where nobody decided about them before: under ``nohup``, SIGHUP stays ignored.
    """
    taken: list[tuple[int, Handler]] = []
    usual = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(ENDING, signal.SIG_DFL)}
    ENDINGS.begin()
    if threading.current_thread() is threading.main_thread():
        for number, handler in usual.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, _AS_CTRL_C)
                taken.append((number, handler))
    usual_hook = sys.unraisablehook
    sys.unraisablehook = partial(_once_more, usual_hook)
    try:
        yield ENDINGS
    finally:
        sys.unraisablehook = usual_hook
        for number, handler in taken:
            signal.signal(number, handler)


_AGAIN_S = 0.02
"""After so many seconds a Ctrl-C that was swallowed comes again."""


def _once_more(usual: Callable[[Any], Any], lost: Any) -> None:
    """Send a Ctrl-C once more that came where Python raises nothing, as in freeing an object."""
    if lost.exc_type is None or not issubclass(lost.exc_type, KeyboardInterrupt):
        usual(lost)
        return
    again = threading.Timer(_AGAIN_S, _interrupt)
    again.daemon = True
    again.start()


def _interrupt() -> None:
    """Send this process a SIGINT, if it still takes it as Ctrl-C and not as its end."""
    if not callable(signal.getsignal(signal.SIGINT)):
        return
    to_thread = getattr(signal, "pthread_kill", None)
    main = threading.main_thread().ident
    if to_thread is not None and main is not None:
        to_thread(main, signal.SIGINT)  # wakes it, wherever it waits
    else:
        signal.raise_signal(signal.SIGINT)


class Interrupts:
    """Handle SIGINT from the start of one ``solve`` to its end.

    Every Ctrl-C sets :attr:`asked`. The ``raises_at``-th one also raises KeyboardInterrupt: the
    first while nothing is known yet, the second while a solver runs in this process, none while
    its answer is judged. SIGTERM and SIGHUP count where the program takes them as Ctrl-C; a program
    that leaves them alone is ended by them. Outside the main thread, and where Ctrl-C was switched
    off before, nothing is installed. Around several ``solve``s, one hears what any of them hears.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.raises_at: int | None = 1
        self._count = 0
        self._before: dict[int, Handler] = {}
        self._around: Interrupts | None = None

    def __enter__(self) -> Interrupts:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDING):
                before = signal.getsignal(number)
                around = getattr(before, "__self__", None)
                if isinstance(around, Interrupts):
                    self._around = around
                if number == signal.SIGINT:
                    # None: a handler that is not Python's
                    takes = before not in (None, signal.SIG_IGN)
                else:
                    takes = before in (signal.default_int_handler, _AS_CTRL_C)
                    takes = takes or isinstance(around, Interrupts)
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
        if self._around is not None:
            self._around.asked.set()
        if self.raises_at is not None and self._count >= self.raises_at:
            self.raises_at = None  # once is enough: whoever catches it is not interrupted
            ENDINGS.raised = True
            raise KeyboardInterrupt
