"""What a solver is: a name, what it claims, whether it is really there, and one ``run``."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.status import Termination
from sftopt.formulations.base import Formulation, Start
from sftopt.solvers.options import Options


@dataclass(frozen=True)
class Availability:
    """Whether a solver really runs here; truthy if so. ``fix`` is the one line that mends it."""

    available: bool
    reason: str = ""
    fix: str = ""
    version: str = ""
    engine_version: str = ""
    linked_library: str = ""

    def __bool__(self) -> bool:
        return self.available


class Deadline:
    """One wall-clock limit for everything; sub-solves get what is left."""

    def __init__(self, seconds: float | None) -> None:
        self.started = time.monotonic()
        self.seconds = seconds

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def left(self) -> float:
        """Seconds left, 0 at least; infinite without a limit."""
        if self.seconds is None:
            return float("inf")
        return max(self.seconds - self.elapsed(), 0.0)

    def passed(self) -> bool:
        """True once nothing is left."""
        return self.left() <= 0.0


@dataclass(frozen=True)
class Progress:
    """News from a running solver. A candidate sent here survives a crash, a kill or Ctrl-C."""

    incumbent_s: float | None = None
    bound_s: float | None = None
    candidate: Candidate | None = None
    bound_source: str | None = None


@dataclass(frozen=True)
class Task:
    """All a solver is given. ``model`` is what the formulation built (None for native ones)."""

    derived: Derived
    formulation: Formulation
    model: Any
    start: Start | None
    options: Options
    deadline: Deadline
    report: Callable[[Progress], None] = lambda progress: None
    stop_requested: Callable[[], bool] = lambda: False
    """True after Ctrl-C: end soon, keep the incumbent."""


@dataclass(frozen=True)
class Outcome:
    """What a solver says. Nothing here is believed before the judge has seen it.

    ``bound_s`` is set only where it is proven for the formulation that was solved.
    """

    termination: Termination
    candidate: Candidate | None = None
    claimed_s: float | None = None
    bound_s: float | None = None
    bound_source: str | None = None
    iterations: int | None = None
    nodes: int | None = None
    duals: dict[str, float] = field(default_factory=dict)
    start_used: str = ""
    message: str = ""


class Solver(ABC):
    """One engine or algorithm."""

    name: ClassVar[str]
    kind: ClassVar[str]
    """``global``, ``local`` or ``heuristic``: the strongest thing it can claim."""
    formulations: ClassVar[tuple[str, ...]]
    """Names of the formulations it takes; the first is its default."""
    honours: ClassVar[frozenset[str]]
    """Which of the common options it heeds; the others are reported as ignored."""
    native_options: ClassVar[bool] = True
    """Whether it passes ``--option K=V`` to its engine."""
    wants_start: ClassVar[bool] = True
    """False for solvers that build their own start; they are given one only as x0."""
    in_process: ClassVar[bool] = False
    """True for our own code, which heeds the deadline; others run in a child that can be killed."""
    summary: ClassVar[str]

    @abstractmethod
    def available(self) -> Availability:
        """Solve a two-variable probe. Never raises."""

    def refusal(self, task_derived: Derived) -> str | None:
        """Why this instance is not taken (size, option); None where it is."""
        return None

    @abstractmethod
    def run(self, task: Task) -> Outcome:
        """Solve. May raise; the caller turns that into a result with termination ``error``."""
