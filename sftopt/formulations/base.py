"""What a formulation is: name, promise, kind, and how its model is built, started and read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.status import Promise


class ProblemClass(StrEnum):
    """The class of mathematical programme that a formulation's model belongs to."""

    MINLP = "MINLP"
    MISOCP = "MISOCP"
    MILP = "MILP"
    NLP = "NLP"
    CONIC = "conic"
    """Convex and continuous, exponential cones among others."""
    SOCP = "SOCP"
    LP = "LP"
    NATIVE = "native"
    """No algebraic model: the solver works on the derived arrays."""


class Problem(StrEnum):
    """The problem of the paper whose decisions are free in a formulation."""

    PLAN = "plan"
    """Problem (13), the large timescale: cuts, modes, keep fractions and shares."""
    ROUND = "round"
    """Problem (14), the small timescale: the shares of one round, all else as the start has it."""


CONTINUOUS = frozenset({ProblemClass.NLP, ProblemClass.CONIC, ProblemClass.SOCP, ProblemClass.LP})
"""Classes of algebraic models without integer variables."""
INTEGER = frozenset({ProblemClass.MINLP, ProblemClass.MISOCP, ProblemClass.MILP})
"""Classes of algebraic models with integer variables."""


@dataclass(frozen=True)
class Start:
    """A feasible point and its verified delay: where solvers begin, and a bound for models."""

    candidate: Candidate
    objective_s: float
    shares: Shares | None = None
    """The shares of x0: a warm start of the small problem (14)."""
    slowest_plan_s: float | None = None
    """Up to which delay in seconds plans must be within the bounds of a model's variables.

    None: up to ``objective_s``, which is enough to find the optimum. Models that are handed out
    hold more, as their users may add constraints that the start breaks. ``math.inf``: the bounds
    are those of the worst plan at equal shares, so they hold the best plan of every restriction of
    cuts, modes and keep fractions; models of (14) then do not limit shares and barriers at all.
    """


class Formulation(ABC):
    """One way to write problem (13) or a relative of it.

    ``build`` returns the modelling layer's own object, to edit, export or solve elsewhere. Its
    objective times ``objective_unit_s`` (an attribute of the model) is in seconds. Which solvers
    take it follows from ``layer``, ``problem_class`` and ``problem``, see
    :class:`sftopt.solvers.base.Takes`.
    """

    name: ClassVar[str]
    promise: ClassVar[Promise]
    problem_class: ClassVar[ProblemClass]
    layer: ClassVar[str]
    """What ``build`` returns, as solvers read it.

    ``pyomo``: a ``ConcreteModel``. ``cvxpy``: a ``Problem``. ``native``: None for problem (13)
    itself and a ``RoundProblem`` for (14), no other restriction or approximation of either. A model
    of another make has a word of its own here, which solvers made for it take.
    """
    problem: ClassVar[Problem] = Problem.PLAN
    """Whether plans (13) or the shares of one round (14) are decided."""
    summary: ClassVar[str]
    """One line for tables."""
    keeps_start: ClassVar[bool] = False
    """True where keep fractions are the start's: a start that meets every limit is not touched."""

    evaluates_bound: ClassVar[bool] = False
    """True where a bound on problem (13) is evaluated from the solved model by the formulation."""

    def refusal(self, derived: Derived) -> str | None:
        """Say why ``derived`` cannot be written this way; None where it can."""
        return None

    @abstractmethod
    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the model; ``start`` gives initial values and bounds and may be None.

        Bounds that cut plans off are limited by :attr:`Start.slowest_plan_s`.
        """

    @abstractmethod
    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present variable values."""
