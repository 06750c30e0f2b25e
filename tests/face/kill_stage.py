"""Command lines that are forked off one warm process, and end themselves at a chosen moment.

As a program it reads requests as lines of JSON and answers each when its command has ended:
imports are paid once for all, and a moment is a call that the command makes, not a time.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PRELOADED = (
    "sftopt.face.cli", "sftopt.face.commands.plan", "sftopt.solvers.run", "sftopt.studies.simulate",
    "sftopt.training.run", "sftopt.training.calibrate", "numba", "torch", "transformers", "peft",
)  # fmt: skip
"""What the commands import."""


@dataclass(frozen=True)
class Moment:
    """A call during which a command is sent a signal."""

    call: str
    """``module:path.to.function``."""
    nth: int
    """The how-manieth call, from 1."""
    number: int
    """The signal (its index)."""
    after: bool = False
    """Once the call is done; else before it does anything."""
    to_all: bool = False
    """To the whole session, as a terminal does."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    pid: int
    code: int
    """Exit code; minus the signal's number where that ended it."""
    out: str
    err: str


class Stage:
    """The warm process, from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.face.kill_stage"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, words: Sequence[str | Path], folder: Path, moment: Moment | None = None) -> Ended:
        """Run one command line to its end; ``folder`` holds what it printed."""
        folder.mkdir(parents=True, exist_ok=True)
        asked = {
            "words": [str(word) for word in words],
            "folder": str(folder),
            "moment": None if moment is None else asdict(moment),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        texts = [(folder / name).read_text() for name in ("stdout", "stderr")]
        return Ended(told["pid"], told["code"], *texts)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def open_stage() -> Iterator[Stage]:
    """A stage that is closed afterwards."""
    stage = Stage()
    try:
        yield stage
    finally:
        stage.close()


def _serve() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _act(asked)
        status = os.waitpid(pid, 0)[1]
        print(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}), flush=True)


def _act(asked: dict[str, Any]) -> None:
    """The life of one command: as if it had been started with these words."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(asked["folder"]) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    sys.argv = ["sftopt", *asked["words"]]
    if asked["moment"] is not None:
        _prepare(Moment(**asked["moment"]))
    from sftopt.__main__ import run

    code = 1
    try:
        code = run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(moment: Moment) -> None:
    """Have the call of the moment send the signal."""
    module, _, path = moment.call.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    usual = getattr(owner, name)
    count = 0

    @functools.wraps(usual)
    def called(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        mine = count == moment.nth
        if mine and not moment.after:
            _send(moment)
        answer = usual(*given, **named)
        if mine and moment.after:
            _send(moment)
        return answer

    setattr(owner, name, called)


def _send(moment: Moment) -> None:
    if moment.to_all:
        os.killpg(0, moment.number)
    else:
        os.kill(os.getpid(), moment.number)


if __name__ == "__main__":
    _serve()
