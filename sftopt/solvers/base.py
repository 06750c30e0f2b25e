"""What a solver is: a name, what it takes and claims, whether it runs here, and one ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.errors import RefusedError
from sftopt.core.status import Termination
from sftopt.formulations.base import Formulation, Problem, ProblemClass, Start
from sftopt.solvers.deadline import Deadline as Deadline
from sftopt.solvers.options import Options


@dataclass(frozen=True)
class Availability:
    """Says whether a solver really runs here; truthy if so. ``fix`` is the line that mends it."""

    available: bool
    reason: str = ""
    fix: str = ""
    version: str = ""
    engine_version: str = ""
    linked_library: str = ""

    def __bool__(self) -> bool:
        return self.available


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

    @property
    def unit_s(self) -> float:
        """Return the seconds that one unit of the model's objective stands for.

        Raises RefusedError where the formulation's model does not say.
        """
        unit_s = getattr(self.model, "objective_unit_s", None)
        if unit_s is None:
            raise RefusedError(
                f"formulation '{self.formulation.name}': its model has no attribute "
                "objective_unit_s; set it to the seconds that one unit of the objective stands for"
            )
        return float(unit_s)


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
    settled: bool = False
    """The candidate's keep fractions are as good as polishing makes them: it is left out."""


@dataclass(frozen=True)
class Takes:
    """A kind of formulation that a solver solves, whoever wrote it."""

    layer: str
    """The formulation's ``layer``: ``pyomo``, ``cvxpy``, ``native`` or another word."""
    classes: Set[ProblemClass]
    problem: Problem | None = None
    """The one problem it is for; None for both."""

    def __post_init__(self) -> None:
        """Keep the classes as they are now, whatever set was given."""
        object.__setattr__(self, "classes", frozenset(self.classes))

    def fits(self, formulation: Formulation) -> bool:
        """Say whether ``formulation`` is of this kind."""
        return (
            formulation.layer == self.layer
            and formulation.problem_class in self.classes
            and self.problem in (None, formulation.problem)
        )


class Solver(ABC):
    """One engine or algorithm."""

    name: ClassVar[str]
    kind: ClassVar[str]
    """``global``, ``local`` or ``heuristic``: the strongest thing it can claim."""
    takes: ClassVar[tuple[Takes, ...]] = ()
    """The kinds of formulations it solves, third parties' among them."""
    formulations: ClassVar[tuple[str, ...]] = ()
    """Names of formulations it solves beside ``takes``: exceptions, such as the one formulation
    whose structure it knows. Before ``takes`` was there, names were the only way."""
    default: ClassVar[str] = ""
    """Name of the formulation it solves where none is given; else the first of ``formulations``."""
    honours: ClassVar[frozenset[str]]
    """Which of the common options it heeds; the others are reported as ignored."""
    native_options: ClassVar[bool] = True
    """Whether it passes ``--option K=V`` to its engine."""
    wants_start: ClassVar[bool] = True
    """False for solvers that build their own start; they are given one only as x0."""
    settles_start: ClassVar[bool] = False
    """True where it finds a start's best keep fractions itself: x0 is handed over as it is."""
    in_process: ClassVar[bool] = False
    """True for our own code, which heeds the deadline; others run in a child that can be killed."""
    summary: ClassVar[str]

    def accepts(self, formulation: Formulation) -> bool:
        """Say whether ``formulation`` is one that this solver declares to take."""
        named = formulation.name in self.formulations
        return named or any(kind.fits(formulation) for kind in self.takes)

    @abstractmethod
    def available(self) -> Availability:
        """Solve a two-variable probe and say whether it came out. Never raises."""

    def refusal(self, task_derived: Derived) -> str | None:
        """Say why this instance is not taken (size, option); None where it is."""
        return None

    @abstractmethod
    def run(self, task: Task) -> Outcome:
        """Solve. May raise; the caller turns that into a result with termination ``error``."""
