"""What the backends of foreign engines share: silence, honest probes, names of loaded libraries."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, ClassVar

from sftopt.core.candidate import Candidate
from sftopt.core.status import Promise, Termination
from sftopt.solvers.base import Availability, Outcome, Progress, Task

PROVES_BOUNDS = (Promise.EXACT, Promise.RELAXATION)
"""Formulations whose lower bound, or infeasibility, carries over to problem (13)."""


STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


@contextmanager
def redirected(source: int, target: int) -> Iterator[None]:
    """Send what is written to the descriptor ``source`` (1 or 2) to ``target`` for a while.

    C libraries write to descriptor 1 whatever ``sys.stdout`` is, so the descriptor itself is moved;
    CasADi writes through ``sys.stdout``, so that is moved too. Holds for the whole process.
    """
    move = {STANDARD_OUTPUT: redirect_stdout, STANDARD_ERROR: redirect_stderr}[source]
    _flush()
    saved = os.dup(source)
    os.dup2(target, source)
    try:
        with os.fdopen(os.dup(target), "w", buffering=1) as text, move(text):
            yield
    finally:
        _flush()  # else what C still holds would appear after the switch back
        os.dup2(saved, source)
        os.close(saved)


@contextmanager
def quiet(tee: bool = False) -> Iterator[None]:
    """Standard output to standard error (``tee``) or nowhere: it belongs to our caller's JSON."""
    if tee:
        with redirected(STANDARD_OUTPUT, STANDARD_ERROR):
            yield
    else:
        with open(os.devnull, "w") as nowhere, redirected(STANDARD_OUTPUT, nowhere.fileno()):
            yield


def casadi_probe(plugin: str, options: dict[str, Any]) -> tuple[tuple[float, float], str]:
    """What a plugin of CasADi makes of min (x - 1)^2 + (y - 2)^2, x + y <= 2, and what it printed.

    The answer is :data:`PROBE_ANSWER`. Raises what CasADi raises.
    """
    import casadi

    x = casadi.SX.sym("x", 2)
    problem = {"x": x, "f": (x[0] - 1) ** 2 + (x[1] - 2) ** 2, "g": x[0] + x[1]}
    with listening() as heard:
        solver = casadi.nlpsol("probe", plugin, problem, {"print_time": False, **options})
        answer = solver(x0=0, ubg=2)["x"].full().ravel().tolist()
    return (answer[0], answer[1]), heard.text


PROBE_ANSWER = (0.5, 1.5)


class Heard:
    """What was written while one listened."""

    text: str = ""


@contextmanager
def listening(source: int = STANDARD_OUTPUT) -> Iterator[Heard]:
    """Keep what is written to ``source`` from its reader, and have it as text afterwards."""
    heard = Heard()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            with redirected(source, log.fileno()):
                yield heard
        finally:
            log.seek(0)
            heard.text = log.read()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def linked_library(stem: str, version: str = "") -> str:
    """File name of the loaded shared library ``stem``; '' if unknown.

    Of several, the one whose name holds ``version``. Known only where /proc is.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return ""
    names = {line.split()[-1].rpartition("/")[2] for line in maps.read_text().splitlines() if line}
    wanted = re.compile(rf"{re.escape(stem)}[-.].*(so|dylib)")
    found = sorted(name for name in names if wanted.match(name))
    exact = [name for name in found if version and version in name]
    return ", ".join(exact or found)


def probed(probe: Callable[[], Availability], fix: str) -> Availability:
    """The probe's answer, or why there is none. Never raises."""
    try:
        return probe()
    except ImportError as error:
        return Availability(False, reason=f"cannot be imported: {error}", fix=fix)
    except Exception as error:  # noqa: BLE001  whatever goes wrong is the answer
        return Availability(False, reason=f"its probe solve failed: {error}", fix=fix)


def probe_verdict(
    point: tuple[float, float], expected: tuple[float, float], distribution: str, **known: str
) -> Availability:
    """Available if the two-variable probe came out at ``expected`` to 1e-4."""
    if max(abs(a - b) for a, b in zip(point, expected, strict=True)) > 1e-4:
        return Availability(False, reason=f"its probe solve gave {point}, not {expected}", **known)
    version = f"{distribution} {distribution_version(distribution)}"
    return Availability(True, version=version, **known)


def as_number(value: Any) -> Any:
    """A native option given as text becomes the int or float it spells; else it is unchanged."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def complaint(text: str) -> str:
    """The first line an engine printed about an option, without its source file; '' if none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\[\S+\] ERROR: ", "", lines[0]) if lines else ""


def last_line(error: BaseException) -> str:
    """The last line of an engine's exception, the one that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^\S+\.[ch]pp:\d+: ", "", lines[-1]) if lines else type(error).__name__


class Pulse:
    """A sign of life from a solver without incumbents, now and then."""

    EVERY_S: ClassVar[float] = 0.25

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sent = time.monotonic()

    def stop(self) -> bool:
        """Called at every iteration; true where the run is to end."""
        now = time.monotonic()
        if now - self._sent >= self.EVERY_S:
            self._sent = now
            self._task.report(Progress())
        return self._task.stop_requested()


def read_candidate(task: Task) -> Candidate:
    """The candidate at the model's present values."""
    return task.formulation.read(task.derived, task.model)


def infeasible(task: Task, message: str) -> Outcome:
    """The model was proven infeasible: so is problem (13) if the formulation bounds it."""
    proven = task.formulation.promise in PROVES_BOUNDS
    return Outcome(
        Termination.INFEASIBLE_PROVEN if proven else Termination.INFEASIBLE_LOCAL, message=message
    )


def out_of_time(what: str) -> Outcome:
    """Nothing was left of the time limit when ``what`` was done."""
    return Outcome(Termination.TIME_LIMIT, message=f"the time limit was over after {what}")
