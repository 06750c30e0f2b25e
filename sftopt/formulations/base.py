"""What a formulation is: a name, a promise, and how to build, start and read its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.status import Promise


class ProblemClass(StrEnum):
    """The class of mathematical programme a formulation is."""

    MINLP = "MINLP"
    NLP = "NLP"
    MISOCP = "MISOCP"
    CONIC = "conic"
    MILP = "MILP"
    NATIVE = "native"
    """No algebraic model: the solver works on the derived arrays."""


@dataclass(frozen=True)
class Start:
    """A feasible point and its verified delay: where solvers start, and a bound for models."""

    candidate: Candidate
    objective_s: float
    shares: Shares | None = None
    """The shares of x0: a warm start of the small problem (14)."""


class Formulation(ABC):
    """One way to write problem (13) or a relative of it.

    ``build`` returns the modelling layer's own object, to edit, export or solve elsewhere. Its
    objective times ``objective_unit_s`` (an attribute of the model) is in seconds.
    """

    name: ClassVar[str]
    promise: ClassVar[Promise]
    problem_class: ClassVar[ProblemClass]
    layer: ClassVar[str]
    """``pyomo``, ``cvxpy`` or ``native``."""
    summary: ClassVar[str]
    """One line for tables."""
    keeps_start: ClassVar[bool] = False
    """True where keep fractions are the start's: a start that meets every limit is not touched."""

    evaluates_bound: ClassVar[bool] = False
    """True where a bound on problem (13) is evaluated from the solved model by the formulation."""

    def refusal(self, derived: Derived) -> str | None:
        """Why this instance cannot be written this way; None where it can."""
        return None

    @abstractmethod
    def build(self, derived: Derived, start: Start | None) -> Any:
        """The model; ``start`` gives bounds and initial values and may be None."""

    @abstractmethod
    def read(self, derived: Derived, model: Any) -> Candidate:
        """The candidate at the model's present variable values."""
