"""The two statuses of a result: why the run stopped, and what the point is."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Termination(StrEnum):
    """Why a run stopped."""

    CONVERGED_GLOBAL = "converged_global"
    """The solver proved its point optimal, within its tolerances, for the formulation solved."""
    GAP_LIMIT = "gap_limit"
    """The requested gap was reached."""
    CONVERGED_LOCAL = "converged_local"
    """A local optimum by the solver's own criteria."""
    ACCEPTABLE = "acceptable"
    """The solver stopped at its weaker, 'acceptable' criteria."""
    HEURISTIC_DONE = "heuristic_done"
    """A heuristic ran to its end; nothing is claimed."""
    TIME_LIMIT = "time_limit"
    """The wall-clock limit was reached."""
    ITERATION_LIMIT = "iteration_limit"
    """An iteration, node or evaluation limit was reached."""
    INFEASIBLE_PROVEN = "infeasible_proven"
    """No plan exists, and that is proven (of an edited model: it has no point)."""
    INFEASIBLE_LOCAL = "infeasible_local"
    """A local solver converged to a point of local infeasibility; nothing is proven."""
    NUMERICAL_ERROR = "numerical_error"
    """The solver gave up on numbers."""
    INTERRUPTED = "interrupted"
    """The user stopped the run."""
    REFUSED = "refused"
    """The solver is missing or cannot take this formulation, instance or option."""
    ERROR = "error"
    """The solver crashed, hung past its limit, or contradicted the judge."""


class Point(StrEnum):
    """What the point in hand is, by the judge's word."""

    NONE = "none"
    """There is no point."""
    INFEASIBLE = "infeasible"
    """There is a point and the judge finds violations."""
    FEASIBLE = "feasible"
    """The judge accepts the point."""
    OPTIMAL = "optimal"
    """The judge accepts the point, and a bound by a named prover meets it.

    Within the requested gap, and within 1e-3 whatever was requested.
    """


PointFrom = Literal["solver", "start", "polish"]
"""Whose point a plan is: the solver's own answer, the run's start, or ours made of the answer."""
ProvenFor = Literal["problem", "formulation", "none"]
"""What a run proved something about; see :class:`sftopt.core.result.Result`."""


class Promise(StrEnum):
    """What a formulation guarantees about its value."""

    EXACT = "exact"
    """Same optimum as problem (13)."""
    RELAXATION = "relaxation"
    """Its global optimum is a lower bound; its point is not a plan."""
    RESTRICTION = "restriction"
    """Every point is a plan; no bound."""
    APPROXIMATION = "approximation"
    """Off by a stated error."""
    HEURISTIC = "heuristic"
    """No guarantee."""
