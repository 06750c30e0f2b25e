"""``python -m sftopt`` is the command ``sftopt``.

Little is imported before signals are taken: who asks for the end while the rest is imported gets an
exit code, not a traceback.
"""

import signal
import sys

from sftopt.solvers.interrupt import endings_as_ctrl_c

_INTERRUPTED = 130
"""``ExitCode.INTERRUPTED``, which is not imported yet."""


def run() -> int:
    """Run the process's command line and return its exit code (a number)."""
    try:
        with endings_as_ctrl_c():
            from sftopt.face.cli import main

            code = main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = _INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the answer is out: no traceback behind it
    return code


if __name__ == "__main__":
    sys.exit(run())
