"""Ctrl-C during one ``solve``: noted whenever it comes, raised only where nothing can be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Handle SIGINT from the start of one ``solve`` to its end.

    Every Ctrl-C sets :attr:`asked`. The ``raises_at``-th one also raises KeyboardInterrupt: the
    first while nothing is known yet, the second while a solver runs in this process, none while
    its answer is judged. Outside the main thread, and where Ctrl-C was switched off before,
    nothing is installed.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.raises_at: int | None = 1
        self._count = 0
        self._before: Callable[[int, FrameType | None], Any] | int | None = None
        self._installed = False

    def __enter__(self) -> Interrupts:
        """Take the signal over."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if self._before not in (None, signal.SIG_IGN):  # None: a handler that is not Python's
                signal.signal(signal.SIGINT, self._handle)
                self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signal back."""
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self.asked.set()
        if self.raises_at is not None and self._count >= self.raises_at:
            self.raises_at = None  # once is enough: whoever catches it is not interrupted
            raise KeyboardInterrupt
