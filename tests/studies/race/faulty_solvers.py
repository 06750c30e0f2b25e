"""Plug-ins that misbehave in every way a race has to survive; installed by ``plugins`` below."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from sftopt.core.status import Termination
from sftopt.solvers import isolate
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Task

PATIENCE = "FAULTY_PROBE_S"
"""A variable of the environment: the seconds that a probe gets in an agent, for tests do not wait
longer than they have to."""
if PATIENCE in os.environ:
    isolate.PROBE_S = float(os.environ[PATIENCE])


class Faulty(Solver):
    """Claims to solve the exact native problem."""

    kind = "global"
    formulations = ("native",)
    honours = frozenset({"time_limit"})
    summary = "misbehaves"

    def available(self) -> Availability:
        return Availability(True, version="faulty 1")

    def run(self, task: Task) -> Outcome:
        assert task.start is not None
        said = Outcome(Termination.CONVERGED_LOCAL, task.start.candidate, task.start.objective_s)
        return self.answer(task, said)

    def answer(self, task: Task, said: Outcome) -> Outcome:
        return said


class Quick(Faulty):
    """Does nothing wrong."""

    name = "quick"


class Segfault(Faulty):
    name = "segfault"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        ctypes.string_at(0)
        return said


class Hang(Faulty):
    """Deaf to its limit and to signals."""

    name = "hang"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        while True:
            time.sleep(0.01)


class HangHere(Hang):
    """The same, and says that it may run in the caller's process: it is not believed."""

    name = "hang-here"
    in_process = True


class HangInProbe(Faulty):
    """Never says whether it is available."""

    name = "hang-in-probe"

    def available(self) -> Availability:
        time.sleep(3600)
        return super().available()


class Eater(Faulty):
    """Takes memory as fast as it can."""

    name = "eater"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        held = []
        while True:
            held.append(bytearray(4 << 20))
            time.sleep(0.005)


class Glutton(Faulty):
    """Takes more at once than the system allows."""

    name = "glutton"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        return replace(said, message=str(len(bytearray(4 << 30))))


class Chatter(Faulty):
    """Prints 100 MB."""

    name = "chatter"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        line = b"x" * 999 + b"\n"
        for _ in range(1_000):
            os.write(1, line * 100)
        os.write(1, b"the last words\n")
        return said


class NotANumber(Faulty):
    name = "not-a-number"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        return replace(said, claimed_s=float("nan"), bound_s=float("nan"))


class FalseValue(Faulty):
    """Claims half of what its plan takes."""

    name = "false-value"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        assert said.claimed_s is not None
        return replace(said, claimed_s=0.5 * said.claimed_s)


class FalseBound(Faulty):
    """Takes its own value for a bound, and says that it has the optimum."""

    name = "false-bound"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        task.report(Progress(said.claimed_s, said.claimed_s, said.candidate))
        return replace(said, termination=Termination.CONVERGED_GLOBAL, bound_s=said.claimed_s)


class FalseInfeasible(Faulty):
    name = "false-infeasible"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        return Outcome(Termination.INFEASIBLE_PROVEN)


class Grandchild(Faulty):
    """Leaves a process behind that holds every pipe and leads a session of its own."""

    name = "grandchild"

    def answer(self, task: Task, said: Outcome) -> Outcome:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        return said


SOLVERS = (
    Quick, Segfault, Hang, HangHere, HangInProbe, Eater, Glutton, Chatter, NotANumber, FalseValue,
    FalseBound, FalseInfeasible, Grandchild,
)  # fmt: skip
"""All of them."""


def __getattr__(name: str) -> Solver:
    """The instance that an entry point leads to: ``SOLVER_quick`` and so on."""
    for kind in SOLVERS:
        if name == "SOLVER_" + kind.name.replace("-", "_"):
            return kind()
    raise AttributeError(name)


def plugins(folder: Path) -> None:
    """Write a distribution whose entry points lead here, into a folder on the path."""
    metadata = folder / "faulty-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    lines = [
        f"{kind.name} = tests.studies.race.faulty_solvers:SOLVER_{kind.name.replace('-', '_')}"
        for kind in SOLVERS
    ]
    (metadata / "entry_points.txt").write_text("\n".join(["[sftopt.solvers]", *lines]) + "\n")
    assert str(Path(__file__).parents[3]) in sys.path
