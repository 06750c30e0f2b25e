"""Rows of races that never took place, for tests of what is said about rows."""

from __future__ import annotations

from typing import Any

from sftopt.studies.race.row import RaceRow

_ROW = frozenset(RaceRow.model_fields) | {"devices"}
"""Names of changes that are no part of the outcome."""


def row(entry: str, instance: str = "cell", **changes: Any) -> RaceRow:
    """A row of a sound exact run without a bound."""
    times = changes.pop("times_s", {})
    outcome = {
        "verdict": "feasible",
        "termination": "converged_local",
        "promise": "exact",
        "proven_for": "none",
        **{name: changes.pop(name) for name in list(changes) if name not in _ROW},
    }
    solver, _, formulation = entry.partition("/")
    return RaceRow.model_validate(
        {
            "key": f"{entry}@{instance}",
            "suite": "made-up",
            "instance": {"name": instance, "hash": instance, "devices": changes.pop("devices", 3)},
            "entry": {"name": entry, "solver": solver, "formulation": formulation},
            "seed": 0,
            "limit_s": 10.0,
            "rel_gap": 1e-4,
            "memory_mb": 1.0,
            "threads": 1,
            "start": "shared",
            "outcome": outcome,
            "cost": {"times_s": times},
            **changes,
        }
    )
