"""The convergence trace of the augmented Lagrangian: one row per outer iteration, as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sftopt.core.files import write_text


@dataclass(frozen=True)
class TraceRow:
    """Where one run stands after one outer iteration of (15)."""

    start: int
    """Which start, from 0."""
    outer: int
    """Outer iteration, from 1."""
    objective_s: float
    """The relaxed objective, seconds."""
    violations: dict[str, float]
    """Largest violation by family of constraints, scaled as the method sees them."""
    penalty: float
    """r of this iteration."""
    multipliers_norm: float
    """Euclidean norm of the multipliers after their renewal."""
    stationarity: float
    """Largest component of the Lagrangian's projected gradient step."""
    inner_iterations: int
    elapsed_s: float
    """Since the solve began."""

    def flat(self) -> dict[str, Any]:
        """Return the row one level deep, for a table: ``violation_<family>``."""
        data = asdict(self)
        families = data.pop("violations")
        return {**data, **{f"violation_{name}": value for name, value in families.items()}}


def write_trace(path: str, rows: Sequence[TraceRow]) -> None:
    """Write the rows as CSV where the name ends in ``.csv``, else as JSON Lines.

    Raises InputError where the file cannot be written.
    """
    if path.lower().endswith(".csv"):
        text = io.StringIO()
        names = list(rows[0].flat()) if rows else ["start", "outer"]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.flat() for row in rows)
        write_text(path, text.getvalue())
        return
    write_text(path, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
