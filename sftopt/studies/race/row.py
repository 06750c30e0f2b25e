"""One row of a race: which run, what came of it, what it cost, and where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from sftopt.core.fields import Count, Finite, Name, NonNegative, Positive, Reported
from sftopt.core.plan import Breakdown
from sftopt.core.result import TracePoint
from sftopt.core.rows import Identity
from sftopt.core.verify import Violation
from sftopt.solvers.trace import MOST_POINTS

Verdict = Literal[
    "optimal",
    "feasible",
    "no_point",
    "infeasible_claimed",
    "refused",
    "out_of_memory",
    "hard_killed",
    "crashed",
    "error",
    "starved",
]
"""What a row says of its run, in one word. That it is wrong, only a comparison of rows can say."""

FAILED = ("out_of_memory", "hard_killed", "crashed", "error")
"""Verdicts of runs that ``--rerun failed`` makes again."""


class InstanceRef(Reported):
    """Which instance, and how to make it again."""

    name: str
    hash: Name
    round_hash: Name = ""
    devices: Count
    family: str = ""
    generator: dict[str, Any] = Field(default_factory=dict)


class EntryRef(Reported):
    """Which solver on which formulation, as the suite has it."""

    name: str
    solver: str
    formulation: str
    options: dict[str, Any] = Field(default_factory=dict)
    role: Literal["racer", "reference"] = "racer"


class Outcome(Reported):
    """What came of a run; every delay but ``claimed_s`` is the judge's."""

    verdict: Verdict
    termination: str = ""
    point: str = "none"
    point_from: str | None = None
    promise: str = ""
    proven_for: str = "none"
    objective_s: Finite | None = None
    claimed_s: float | None = None
    bound_s: Finite | None = Field(default=None, description="null where it is elementary")
    bound_source: str | None = None
    gap_rel: Finite | None = None
    refuted: bool = Field(default=False, description="the judge contradicts the solver's words")
    violations: tuple[Violation, ...] = ()
    breakdown: Breakdown | None = None
    start_s: Finite | None = Field(default=None, description="delay of the shared start's plan")
    message: str = ""


class RunTimes(Reported):
    """Wall seconds by phase; ``engine`` alone is the solver's, ``total`` is build to verify.

    ``start`` is the shared start's, made once an instance and in no run's total; ``load`` what a
    process does once (imports, compiling), in no total either.
    """

    queue: NonNegative = 0.0
    start: NonNegative = 0.0
    load: NonNegative = 0.0
    prepare: NonNegative = Field(default=0.0, description="deriving, checking, an own start")
    build: NonNegative = 0.0
    engine: NonNegative = 0.0
    verify: NonNegative = 0.0
    total: NonNegative = 0.0
    process: NonNegative = Field(default=0.0, description="of the whole process, as seen outside")


class Cost(Reported):
    """What a run took."""

    times_s: RunTimes = RunTimes()
    cpu_s: NonNegative | None = None
    peak_bytes: Count | None = Field(
        default=None, description="most at one time in the run's processes, above base_bytes each"
    )
    base_bytes: Count | None = Field(default=None, description="what a fork begins with")
    trace: tuple[TracePoint, ...] = Field(default=(), max_length=MOST_POINTS)


class Machine(Reported):
    """Where a run was made, and how busy that was."""

    host: str = ""
    processor: str = ""
    cores: Count = 0
    system: str = ""
    load: NonNegative | None = Field(default=None, description="mean of a minute, before the run")
    reference_s: Positive | None = Field(
        default=None, description="a fixed computation just before the run: the clock's yardstick"
    )


class Context(Reported):
    """What else one has to know of a run."""

    exit: int | None = Field(default=None, description="status, or minus the signal")
    log_tail: str = Field(default="", description="the end of what it printed")
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str = ""
    machine: Machine = Machine()
    began_at: str = ""
    started_by: Literal["fork", "spawn"] = "fork"
    message: str = ""
    replay: str = ""


class RaceRow(Reported):
    """One run of a race. Of two with the same key the later attempt counts."""

    key: Name = Field(description="of what was asked: the same on every machine and commit")
    attempt: Count = Field(default=0, description="from 0; later ones were asked for anew")
    suite: str
    instance: InstanceRef
    entry: EntryRef
    seed: Count
    limit_s: Positive
    rel_gap: NonNegative
    memory_mb: Positive
    threads: Count
    start: Literal["shared", "own"]
    outcome: Outcome
    cost: Cost = Cost()
    context: Context = Context()

    @property
    def cell(self) -> tuple[str, str]:
        """Return what rows must share to be compared: instance and round."""
        return self.instance.hash, self.instance.round_hash

    @property
    def solve_s(self) -> float:
        """Return build and engine seconds: what differs between solvers."""
        return self.cost.times_s.build + self.cost.times_s.engine

    @property
    def solved(self) -> bool:
        """Return whether it ended within the gap with a proof the driver believes."""
        return self.outcome.verdict == "optimal"


def _identity_of(row: Mapping[str, Any]) -> str | None:
    key, attempt, context = row.get("key"), row.get("attempt"), row.get("context")
    if not isinstance(key, str) or type(attempt) is not int or not isinstance(context, dict):
        return None
    machine = context.get("machine")
    host = machine.get("host") if isinstance(machine, dict) else ""
    return f"{key[:16]} attempt {attempt} ({host} {context.get('commit', '')[:8]})"


BY_KEY = Identity("run", _identity_of, False)
"""Rows of a race: key, attempt, machine and commit."""


def latest(rows: list[RaceRow]) -> list[RaceRow]:
    """Return the row that counts of every key: of its last attempt, begun last."""
    found: dict[str, RaceRow] = {}
    for row in rows:
        known = found.get(row.key)
        if known is None or _recency(row) >= _recency(known):
            found[row.key] = row
    return list(found.values())


def _recency(row: RaceRow) -> tuple[int, str]:
    return row.attempt, row.context.began_at


__all__ = ["BY_KEY", "FAILED", "RaceRow", "Verdict", "latest"]
