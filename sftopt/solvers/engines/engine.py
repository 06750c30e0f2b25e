"""What every foreign engine does alike: probed once per process, and outcomes in our words."""

from __future__ import annotations

import time
from abc import abstractmethod
from functools import cache
from typing import ClassVar

from sftopt.core.candidate import Candidate
from sftopt.core.status import Promise, Termination
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Task

PROVES_BOUNDS = (Promise.EXACT, Promise.RELAXATION)
"""Formulations whose lower bound, or infeasibility, carries over to problem (13)."""


class Engine(Solver):
    """A solver made by others. A subclass says how it is probed and how it runs."""

    fix: ClassVar[str]
    """The one line that installs it."""

    def available(self) -> Availability:
        """Solve a two-variable probe, once per process. Never raises."""
        return probed(self)

    @abstractmethod
    def probe(self) -> Availability:
        """Solve the probe and name the versions. May raise: that is then the reason."""


@cache
def probed(engine: Engine) -> Availability:
    """Probe ``engine`` and return its answer, or why there is none. Never raises."""
    try:
        return engine.probe()
    except ImportError as error:
        return Availability(False, reason=f"cannot be imported: {error}", fix=engine.fix)
    except Exception as error:  # noqa: BLE001  whatever goes wrong is the answer
        return Availability(False, reason=f"its probe solve failed: {error}", fix=engine.fix)


class Pulse:
    """A sign of life from a solver without incumbents, now and then."""

    EVERY_S: ClassVar[float] = 0.25
    """Seconds from one sign to the next."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sent = time.monotonic()

    def stop(self) -> bool:
        """Send the sign if it is due, and say whether the run is to end."""
        now = time.monotonic()
        if now - self._sent >= self.EVERY_S:
            self._sent = now
            self._task.report(Progress())
        return self._task.stop_requested()


def read_candidate(task: Task) -> Candidate:
    """Read the candidate at the model's present values."""
    return task.formulation.read(task.derived, task.model)


def infeasible(task: Task, message: str) -> Outcome:
    """Say that the model was proven infeasible: so is problem (13) if the formulation bounds it."""
    proven = task.formulation.promise in PROVES_BOUNDS
    return Outcome(
        Termination.INFEASIBLE_PROVEN if proven else Termination.INFEASIBLE_LOCAL, message=message
    )


def out_of_time(what: str) -> Outcome:
    """Say that nothing was left of the time limit when ``what`` was done."""
    return Outcome(Termination.TIME_LIMIT, message=f"the time limit was over after {what}")
