"""What a command answers and how it leaves the process: one JSON object, or tables for people."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import ExitCode, InputError
from sftopt.core.version import SCHEMA_VERSION
from sftopt.face.escaped import visible_lines, visible_message

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.faults import Fault


_PLAIN_COLUMNS = 80
"""Characters of a line where nobody says how many there are."""
_LEAST_COLUMNS = 20
"""Fewer characters than this leave no room for a table."""


@dataclass(frozen=True)
class Answer:
    """What a command found: data for machines, tables (or one text) for people, an exit code.

    ``problem`` is why the code is not 0, in the user's words; it goes to standard error and, as
    ``error.message``, into the JSON object.
    """

    data: dict[str, Any]
    show: Callable[[Console], None] | str
    code: ExitCode = ExitCode.OK
    problem: str = ""
    faults: Sequence[Fault] = ()


def failure(message: str, code: ExitCode, faults: Sequence[Fault] = ()) -> Answer:
    """Make an answer that holds nothing but the error."""
    return Answer({}, "", code, message, faults)


def deliver(answer: Answer, command: str, as_json: bool) -> int:
    """Print ``answer`` and return the exit code.

    A reader that has gone away (``sftopt ... | head``) changes nothing; a full disk behind
    standard output is told on standard error and makes the code 2.
    """
    if answer.problem:
        tell(f"error: {answer.problem}")
    text = _json_text(answer, command) if as_json else _human_text(answer.show)
    if text and not _write_stdout(text):
        return int(ExitCode.BAD_INPUT)
    return int(answer.code)


def _json_text(answer: Answer, command: str) -> str:
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "command": command, **answer.data}
    if answer.problem:
        data["error"] = {
            "message": answer.problem,
            "exit_code": int(answer.code),
            "faults": [fault.model_dump(mode="json") for fault in answer.faults],
        }
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


class _Page(io.StringIO):
    """Rendered tables on their way to standard output, whose encoding decides on the rules."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding or "utf-8"


def _human_text(show: Callable[[Console], None] | str) -> str:
    """The text as it is, or the tables rendered: only one place writes to standard output.

    Colours only on a terminal (NO_COLOR and FORCE_COLOR are heeded by rich), and 80 columns where
    there is none.
    """
    if isinstance(show, str):
        return f"{visible_lines(show)}\n" if show else ""
    from rich.console import Console

    from sftopt.face.escaping_hook import EscapingHook

    terminal = sys.stdout.isatty()
    page = _Page()
    console = Console(
        file=page,
        force_terminal=True if terminal else None,
        width=columns(terminal),
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.push_render_hook(EscapingHook())
    show(console)
    return "\n".join(line.rstrip() for line in page.getvalue().split("\n"))


def columns(terminal: bool) -> int | None:
    """Return how many characters a line has: ``COLUMNS``, where it leaves room for anything, else
    80; None where the terminal knows better.
    """
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) >= _LEAST_COLUMNS:
        return int(asked)
    return None if terminal and not asked else _PLAIN_COLUMNS


def _write_stdout(text: str) -> bool:
    """False where standard output cannot take the text (a full disk, a closed descriptor)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        tell(f"error: cannot write to standard output: {reason}")
        drop_stdout()
        return False
    return True


def drop_stdout() -> None:
    """Send what is still buffered to nowhere: the flush at exit must not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(message: str) -> None:
    """Print a message for the person at the terminal, on standard error.

    Names in it cannot act on the terminal nor look like messages of their own.
    """
    tell_lines(visible_message(message))


def tell_lines(text: str) -> None:
    """Print text of several lines on standard error, such as what a library printed."""
    with contextlib.suppress(OSError, ValueError):
        print(visible_lines(text), file=sys.stderr, flush=True)


class _Warnings(logging.Handler):
    """What parts below the command line have to say, as messages of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one warning."""
        tell(f"{record.levelname.lower()}: {record.getMessage()}")


def prepare_streams() -> None:
    """Open the null device in place of closed streams, and escape what a terminal cannot show.

    Without the first, the next file opened would take the descriptor of standard output. Pictures
    are drawn into files, whatever window system the environment names.
    """
    os.environ["MPLBACKEND"] = "agg"
    logger = logging.getLogger("sftopt")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - for the process's life
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def engines_on_stderr() -> Iterator[None]:
    """Send whatever a solver's engine prints to standard error; standard output stays ours.

    Engines print banners and logs from C, past ``sys.stdout``, so the descriptor itself is moved.
    """
    _flush_all()
    try:
        saved = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # a closed descriptor: there is nothing to keep clean
        yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush_all()
        os.dup2(saved, 1)
        os.close(saved)


def _flush_all() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # C buffers its own output when it is not a terminal


def ensure_writable(path: Path) -> None:
    """Fail before the long work where ``path`` cannot be written. Raises InputError.

    Leaves nothing behind. A disk that fills up later is still possible.
    """
    try:
        if path.is_dir():
            raise InputError(f"cannot write '{path}': it is a folder. Name a file in it.")
        if path.exists() and not path.is_file():
            with path.open("a"):  # a device or a pipe
                return
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        descriptor, probe = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot write '{path}': {reason}. Nothing was started; choose another place."
        ) from None
