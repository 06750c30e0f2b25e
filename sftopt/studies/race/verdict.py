"""From what an agent saw of a run to the outcome in its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sftopt.core.plan import Breakdown
from sftopt.core.result import Result
from sftopt.core.status import Point, Termination
from sftopt.solvers.bound import ELEMENTARY
from sftopt.studies.race.row import Outcome, Verdict

STARVED_WALL = 0.95
"""A run that took this share of its limit in wall time ..."""
STARVED_CPU = 0.5
"""... and less than this share of it in processor time had no core of its own."""

MOST_BROKEN_DOWN = 100
"""Number of devices up to which a row holds the delay parts of each."""

_CONTRADICTED = ("the judge refutes", "the judge finds", "it is withdrawn", "the instance has a")
"""What the driver says where a solver's words do not hold."""
_KILLED = "did not stop at its time limit and was ended"
"""What it says of a solver that it had to kill."""
_CRASHED = "the solver's process crashed"
"""What it says of one that died."""
_NO_MEMORY = ("MemoryError", "not enough memory", "std::bad_alloc", "Unable to allocate")
"""How it looks when the system refused memory."""


def outcome_of(answer: Mapping[str, Any], seen: Mapping[str, Any], limit_s: float) -> Outcome:
    """Return what came of a run: its result where it wrote one, else how its process ended."""
    if seen.get("ended") == "memory":
        return Outcome(verdict="out_of_memory", message="more memory than the limit; ended")
    if "result" in answer:
        try:
            result = Result.model_validate(answer["result"])
        except ValidationError as error:  # a number that was none, say
            text = f"its result cannot be read: {error.errors()[0]['loc']}"
            return Outcome(verdict="error", message=text)
        return _of_result(result, seen, limit_s)
    if seen.get("ended") == "time":
        text = "it went on far beyond its time limit and was killed"
        return Outcome(verdict="hard_killed", message=text)
    if "refused" in answer:
        return Outcome(verdict="refused", termination="refused", message=answer["refused"])
    if "failed" in answer:
        return Outcome(verdict=_failure(answer["failed"]), message=answer["failed"])
    status = seen.get("exit")
    how = f"signal {-status}" if isinstance(status, int) and status < 0 else f"status {status}"
    return Outcome(verdict="crashed", message=f"its process ended without an answer, {how}")


def _failure(message: str) -> Verdict:
    return "out_of_memory" if any(word in message for word in _NO_MEMORY) else "error"


def _of_result(result: Result, seen: Mapping[str, Any], limit_s: float) -> Outcome:
    elementary = result.bound_source == ELEMENTARY
    message = result.message
    return Outcome(
        verdict=_verdict(result, seen, limit_s),
        termination=result.termination.value,
        point=result.point.value,
        point_from=result.point_from,
        promise=result.promise.value,
        proven_for=result.proven_for,
        objective_s=result.objective_s if result.ok else None,
        claimed_s=result.objective_claimed_s,
        bound_s=None if elementary else result.bound_s,
        bound_source=result.bound_source,
        gap_rel=None if elementary else result.gap_rel,
        refuted=result.termination is Termination.ERROR
        and any(words in message for words in _CONTRADICTED),
        violations=result.violations,
        breakdown=_short(result.breakdown) if result.ok else None,
        message=message[:2000],
    )


def _verdict(result: Result, seen: Mapping[str, Any], limit_s: float) -> Verdict:
    if result.termination is Termination.REFUSED:
        return "refused"
    if result.termination is Termination.INFEASIBLE_PROVEN:
        return "infeasible_claimed"
    if result.termination is Termination.ERROR:
        return "crashed" if _CRASHED in result.message else _failure(result.message)
    if _KILLED in result.message:
        return "hard_killed"
    if result.termination is Termination.TIME_LIMIT and _starved(result, seen, limit_s):
        return "starved"
    if result.point is Point.OPTIMAL:
        return "optimal"
    if result.point is Point.FEASIBLE and result.point_from != "start":
        return "feasible"
    return "no_point"


def _starved(result: Result, seen: Mapping[str, Any], limit_s: float) -> bool:
    """Whether other work on the machine, not the limit, ended the run."""
    wall_s = result.times_s.total - result.times_s.load
    cpu_s = seen.get("cpu_s")
    took_it = wall_s >= STARVED_WALL * limit_s
    return took_it and cpu_s is not None and cpu_s < STARVED_CPU * limit_s


def _short(breakdown: Breakdown | None) -> Breakdown | None:
    """The breakdown as rows keep it: of large cells without its devices."""
    if breakdown is None or len(breakdown.devices) <= MOST_BROKEN_DOWN:
        return breakdown
    return breakdown.model_copy(update={"devices": ()})


__all__ = ["outcome_of"]
