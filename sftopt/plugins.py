"""The stable interface for solvers, formulations and schemes of third parties.

A plug-in is a distribution of its own with an entry point in the group ``sftopt.solvers`` or
``sftopt.formulations`` that leads to a subclass of :class:`Solver` or :class:`Formulation`, or in
``sftopt.schemes`` to a :class:`Scheme`, named like the entry point. ``examples/plugin-template`` is
one to copy. Names listed in ``__all__`` here stay; everything else in the package may move.

What a plug-in may rely on: it runs in a process of its own that is ended at the time limit and a
grace; what it reports through ``task.report`` before that is kept; every number a user sees of its
plan is recomputed by the judge. Its bound is shown as its own and proves nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived, Option
from sftopt.core.errors import InfeasibleError, InputError, RefusedError, SftoptError
from sftopt.core.instance import Instance
from sftopt.core.limits import feasible_point
from sftopt.core.plan import Aggregation, Order
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.schemes.base import (
    CompressionRule,
    CutRule,
    RankRule,
    Scheme,
    SchemeOption,
    ShareRule,
    SpeedRule,
)
from sftopt.core.status import Promise, Termination
from sftopt.formulations.base import Formulation, Problem, ProblemClass, Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Availability, Deadline, Outcome, Progress, Solver, Takes, Task
from sftopt.solvers.heuristics.repair import repair
from sftopt.solvers.options import Options

__all__ = [
    "Aggregation",
    "Availability",
    "Candidate",
    "CompressionRule",
    "CutRule",
    "Deadline",
    "Derived",
    "Formulation",
    "InfeasibleError",
    "InputError",
    "Instance",
    "Option",
    "Options",
    "Order",
    "Outcome",
    "Problem",
    "ProblemClass",
    "Progress",
    "Promise",
    "RankRule",
    "RefusedError",
    "Scheme",
    "SchemeOption",
    "SftoptError",
    "ShareRule",
    "Shares",
    "Solver",
    "SpeedRule",
    "Start",
    "Takes",
    "Task",
    "Termination",
    "delay_s",
    "feasible_candidate",
    "get_formulation",
    "make_candidate",
    "repaired_candidate",
]


def make_candidate(
    derived: Derived, cuts: ArrayLike, options: ArrayLike, keep: ArrayLike
) -> Candidate:
    """Make a candidate of decisions per device, each of shape (N,).

    ``cuts`` are blocks on the device, ``options`` indices into ``derived.options``, ``keep`` the
    fractions kept, which count only where the option has a mask. Raises InputError for another
    shape or an index that is no option's.
    """
    count = derived.devices
    given = {"cuts": cuts, "options": options, "keep": keep}
    arrays = {name: np.asarray(values, dtype=float) for name, values in given.items()}
    for name, values in arrays.items():
        if values.shape != (count,):
            raise InputError(f"{name} has the shape {values.shape}, not ({count},)")
    chosen = arrays["options"].astype(np.int64)
    if np.any(chosen < 0) or np.any(chosen >= len(derived.options)):
        raise InputError(f"options must lie in 0..{len(derived.options) - 1}: {chosen.tolist()}")
    return Candidate.of(arrays["cuts"], chosen, arrays["keep"], len(derived.options))


def feasible_candidate(derived: Derived) -> Candidate | None:
    """Find a candidate that meets every limit; None where the instance has none."""
    return feasible_point(derived)


def repaired_candidate(derived: Derived, candidate: Candidate) -> Candidate | None:
    """Round ``candidate`` and move it to meet every limit; None where the instance has no plan.

    Cuts and options stay where they can; keep fractions become as good as a local method gets.
    """
    point = repair(derived, candidate)
    return None if point is None else point.candidate(derived)


def delay_s(derived: Derived, candidate: Candidate) -> float:
    """Return the round delay in seconds of an integral candidate at its best shares."""
    cuts = np.rint(candidate.cuts).astype(np.int64)
    return best_delay(derived, IntegralPoint(cuts, candidate.choices(), candidate.keep)).round_s
