"""Rows of the study of the large problem: one for each instance, with every run on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sftopt.core.files import read_json


@dataclass(frozen=True)
class Limits:
    """What every run may use."""

    time_limit_s: float = 10.0
    bound_limit_s: float = 30.0
    rel_gap: float = 1e-6
    scip_devices: int = 4
    """SCIP is asked for a bound on instances up to this size."""


@dataclass(frozen=True)
class Run:
    """One solver's word on one instance, as verified. ``gap`` is to the best proven bound."""

    solver: str
    formulation: str
    termination: str
    point: str
    objective_s: float | None
    bound_s: float | None
    bound_source: str | None
    wall_s: float
    cpu_s: float
    message: str
    gap: float | None = None
    stretch: float = 1.0
    """What the time limit was multiplied with."""
    point_from: str | None = None
    """Whether the plan is the solver's answer or was made of it; None in older rows."""
    answered_s: float | None = None
    """Verified delay in seconds of the answer before its plan was polished, where that differs."""

    def starved(self, limit_s: float) -> bool:
        """Return whether other work on the machine, not the limit, ended the run."""
        return self.wall_s >= 0.95 * limit_s and self.cpu_s < 0.5 * limit_s

    @property
    def key(self) -> tuple[str, str]:
        """Return solver and formulation."""
        return self.solver, self.formulation


@dataclass(frozen=True)
class Row:
    """One instance: who set the bound, and what everybody reached."""

    index: int
    family: str
    devices: int
    seed: int
    instance_hash: str
    bound_s: float | None = None
    bound_source: str | None = None
    references: tuple[Run, ...] = ()
    runs: tuple[Run, ...] = ()
    errors: tuple[str, ...] = ()
    """A verified value below a proven bound is one; empty is what is to be."""
    missing: tuple[str, ...] = field(default=())


def read_rows(path: Path, limits: Limits | None) -> list[Row]:
    """Read the rows of an earlier run with the same limits (None: any); none without a file.

    Raises InputError for a file that cannot be read; exits where its limits are others.
    """
    if not path.exists():
        return []
    data = read_json(path, "study")
    if limits is not None and data.get("limits") != asdict(limits):
        raise SystemExit(f"{path} holds rows of other limits {data.get('limits')}; move it away")
    return [_row(item) for item in data["rows"]]


def _row(data: dict[str, Any]) -> Row:
    lists = {name: tuple(Run(**run) for run in data[name]) for name in ("references", "runs")}
    texts = {name: tuple(data[name]) for name in ("errors", "missing")}
    return Row(**{**data, **lists, **texts})
