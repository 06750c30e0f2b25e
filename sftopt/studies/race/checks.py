"""What is wrong: rows of one instance held against each other. Nothing here is stored in rows.

It changes as rows arrive: a false claim is found when somebody else's plan refutes it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.status import Promise, Termination
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.suite import Checks

_PROVEN = (Termination.CONVERGED_GLOBAL.value, Termination.GAP_LIMIT.value)
"""Terminations by which a solver claims a global optimum."""
_BOUNDING = (Promise.EXACT.value, Promise.RELAXATION.value)
"""Promises of formulations whose bound is one on the instance's plans."""
_USUAL = Checks()
"""Where a suite says nothing else."""
_ROUNDING = 1e-9
"""Relative; no claim is refuted by less."""


@dataclass(frozen=True)
class Finding:
    """One row that does not hold, and why."""

    key: str
    entry: str
    instance: str
    reason: str
    replay: str = ""

    def __str__(self) -> str:
        return f"{self.entry} on {self.instance}: {self.reason}"


def find_wrong(rows: Sequence[RaceRow], checks: Checks = _USUAL) -> list[Finding]:
    """List every row that the judge or another row refutes, in the order of the rows."""
    by_cell: dict[tuple[str, str], list[RaceRow]] = defaultdict(list)
    for row in rows:
        by_cell[row.cell].append(row)
    best = {cell: _best(there) for cell, there in by_cell.items()}
    found: list[Finding] = []
    for row in rows:
        reason = _why_wrong(row, best[row.cell], checks)
        if reason:
            found.append(_finding(row, reason))
    told = {one.key for one in found}
    for there in by_cell.values():
        found += [one for one in _apart(there, checks) if one.key not in told]
    return found


def _best(rows: Sequence[RaceRow]) -> RaceRow | None:
    """The row with the least verified delay of an instance."""
    there = [row for row in rows if row.outcome.objective_s is not None]
    return min(there, key=lambda row: row.outcome.objective_s or 0.0, default=None)


def _why_wrong(row: RaceRow, best: RaceRow | None, checks: Checks) -> str:
    outcome = row.outcome
    if outcome.refuted:
        return outcome.message
    if best is None or best.outcome.objective_s is None:
        return ""
    value, whose = best.outcome.objective_s, best.entry.name
    if outcome.verdict == "infeasible_claimed":
        return f"says that there is no plan; {whose} has one of {value:.9g} s"
    bound = outcome.bound_s
    if bound is not None and _bounds_the_instance(row) and bound > value * (1 + checks.overlap):
        return f"its bound {bound:.9g} s is above the verified {value:.9g} s of {whose}"
    if outcome.objective_s is None or not _claims_optimum(row):
        return ""
    excess = (outcome.objective_s - value) / outcome.objective_s
    if excess > row.rel_gap + _ROUNDING:
        return (
            f"claims an optimum of {outcome.objective_s:.9g} s within {row.rel_gap:g}; {whose} has "
            f"a verified plan of {value:.9g} s, {excess:.2e} less"
        )
    return ""


def _bounds_the_instance(row: RaceRow) -> bool:
    """Whether the row's bound is said to be one on all plans, also by a plug-in."""
    return row.outcome.promise in _BOUNDING and row.outcome.proven_for != "formulation"


def _claims_optimum(row: RaceRow) -> bool:
    exact = row.outcome.promise == Promise.EXACT.value and row.outcome.termination in _PROVEN
    return row.solved or exact


def _apart(rows: Sequence[RaceRow], checks: Checks) -> list[Finding]:
    """Proven values that differ, and relaxations that were to be the same and are not."""
    found: list[Finding] = []
    proven = [row for row in rows if row.solved and row.outcome.objective_s is not None]
    for one, other in itertools.combinations(proven, 2):
        apart = _difference(one.outcome.objective_s, other.outcome.objective_s)
        if apart is not None and apart > max(checks.value, one.rel_gap, other.rel_gap):
            low, high = sorted((one, other), key=lambda row: row.outcome.objective_s or 0.0)
            text = f"its proven value and that of {low.entry.name} are {apart:.2e} apart"
            found.append(_finding(high, text))
    by_entry = {row.entry.name: row for row in rows}
    for first, second in checks.relaxation:
        if first in by_entry and second in by_entry:
            one, other = by_entry[first], by_entry[second]
            apart = _difference(one.outcome.claimed_s, other.outcome.claimed_s)
            if apart is not None and apart > checks.relaxation_value:
                text = f"its relaxed value and that of {second} are {apart:.2e} apart"
                found.append(_finding(one, text))
    return found


def _difference(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    return abs(first - second) / min(abs(first), abs(second))


def _finding(row: RaceRow, reason: str) -> Finding:
    return Finding(row.key, row.entry.name, row.instance.name, reason, row.context.replay)


__all__ = ["Finding", "find_wrong"]
