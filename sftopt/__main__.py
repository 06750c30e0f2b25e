"""``python -m sftopt`` is the command ``sftopt``.

Little is imported before signals are taken: who asks for the end while the rest is imported gets an
exit code, not a traceback.
"""

import atexit
import os
import signal
import sys

_INTERRUPTED = 130
"""``ExitCode.INTERRUPTED``, which is not imported yet."""


def program() -> None:
    """Run the process's command line and end the process with its exit code (a number).

    Where an import was interrupted, CPython may note a Ctrl-C that nobody took, although it was
    taken, and kill itself by SIGINT at its very end: no exit code. So an interrupted program ends
    itself, as the last of all that is done at the exit.
    """
    ended: list[int] = []
    atexit.register(_end_interrupted, ended)  # the first that is registered runs last
    ended.append(run())
    sys.exit(ended[0])


def run() -> int:
    """Run the process's command line and return its exit code (a number)."""
    taken = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if taken:
        signal.signal(signal.SIGINT, _leave)  # nothing is at stake yet
    from sftopt.solvers.interrupt import endings_as_ctrl_c

    if taken:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with endings_as_ctrl_c():
            from sftopt.face.cli import main

            code = main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = _INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the answer is out: no traceback behind it
    return code


def _leave(number: int, frame: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


def _end_interrupted(ended: list[int]) -> None:
    if ended != [_INTERRUPTED]:
        return
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed by the reader, or by us
            continue
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    program()
