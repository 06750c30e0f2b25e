"""Many cells planned by one solver: a table with a row for every file, on the agents of races.

The rows lie beside the table, in ``TABLE.rows``, as those of any race do, so that a run that was
killed goes on and a cell that was added is the only one planned anew.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sftopt.core.errors import InputError, SftoptError
from sftopt.core.files import canonical_json, read_json, write_bytes
from sftopt.core.instance import Instance
from sftopt.core.library import load
from sftopt.solvers.registry import default_formulation, get_solver
from sftopt.studies.race.folder import read_folder
from sftopt.studies.race.measures import own_gap
from sftopt.studies.race.plan import ALL
from sftopt.studies.race.row import RaceRow, latest
from sftopt.studies.race.runner import OnRow, RaceSettings, race
from sftopt.studies.race.suite import Entry, Instances, Suite

Flat = dict[str, Any]

COLUMNS = {
    "file": "string",
    "instance": "string",
    "hash": "string",
    "devices": "int64",
    "fault": "string",
    "verdict": "string",
    "termination": "string",
    "objective_s": "float64",
    "bound_s": "float64",
    "gap": "float64",
    "wall_s": "float64",
    "cpu_s": "float64",
    "solver": "string",
    "formulation": "string",
    "message": "string",
    "plan": "string",
}
"""Columns of the table, with their Arrow types; ``plan`` is the plan's file as JSON text."""


@dataclass(frozen=True)
class Asked:
    """How every cell is planned."""

    solver: str = "certify"
    formulation: str = ""
    limit_s: float = 60.0
    rel_gap: float = 1e-4
    threads: int = 1
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One file of the folder: its instance, or why it has none."""

    path: Path
    instance: Instance | None
    fault: str = ""


def plan_many(
    folder: Path,
    table: Path,
    asked: Asked,
    settings: RaceSettings,
    on_row: OnRow = lambda done, total, row: None,
) -> list[Flat]:
    """Plan every ``*.json`` of ``folder`` and write ``table`` (Parquet); return its rows.

    A file that is no cell is a row with its fault. Raises InputError where there is no file, or
    nothing can be written; InterruptedRunError after Ctrl-C, with every finished row kept.
    """
    cells = cells_of(folder)
    rows: list[RaceRow] = []
    kept = rows_folder(table)
    if any(cell.instance is not None for cell in cells):
        race(suite_of(cells, asked), ALL, kept, replace(settings, keep_plans=True), on_row)
        rows = latest(read_folder(kept).counting)
    by_hash = {row.instance.hash: row for row in rows}
    made = [_flat(cell, by_hash, kept) for cell in cells]
    write_table(made, table)
    return made


def rows_folder(table: Path) -> Path:
    """Return where the rows behind a table lie."""
    return table.with_name(f"{table.name}.rows")


def cells_of(folder: Path) -> list[Cell]:
    """Read the cells of a folder in the order of their names. Raises InputError without any."""
    if not folder.is_dir():
        raise InputError(f"--many '{folder}': no such folder")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(f"--many '{folder}': there is no *.json in it")
    return [_cell(path) for path in paths]


def _cell(path: Path) -> Cell:
    try:
        return Cell(path, load(str(path)))
    except SftoptError as error:
        return Cell(path, None, str(error))


def suite_of(cells: Sequence[Cell], asked: Asked) -> Suite:
    """Make the race of one entry that plans these cells."""
    solver = get_solver(asked.solver)
    paths = tuple(str(cell.path) for cell in cells if cell.instance is not None)
    return Suite(
        name="plans",
        limit_s=asked.limit_s,
        rel_gap=asked.rel_gap,
        threads=asked.threads,
        seeds=(asked.seed,),
        start="own",
        instances=tuple(Instances(path=path) for path in paths),
        entries=(
            Entry(
                solver=asked.solver,
                formulation=asked.formulation or default_formulation(solver),
                options=dict(asked.options),
            ),
        ),
    )


def _flat(cell: Cell, rows: Mapping[str, RaceRow], kept: Path) -> Flat:
    """The table's row of a file; two files of the same cell share a run."""
    found: Flat = dict.fromkeys(COLUMNS)
    found |= {"file": cell.path.name, "fault": cell.fault}
    if cell.instance is None:
        return {**found, "verdict": "bad_cell"}
    found |= {
        "instance": cell.instance.name,
        "hash": cell.instance.hash,
        "devices": len(cell.instance.devices),
    }
    row = rows.get(cell.instance.hash)
    if row is None:
        return {**found, "verdict": "missing"}
    outcome = row.outcome
    path = kept / "plans" / f"{row.key}.json"
    has_plan = outcome.objective_s is not None and path.is_file()
    return {
        **found,
        "verdict": outcome.verdict,
        "termination": outcome.termination,
        "objective_s": outcome.objective_s,
        "bound_s": outcome.bound_s,
        "gap": own_gap(row),
        "wall_s": row.cost.times_s.total,
        "cpu_s": row.cost.cpu_s,
        "solver": row.entry.solver,
        "formulation": row.entry.formulation,
        "message": outcome.message,
        "plan": canonical_json(read_json(path, "plan")) if has_plan else None,
    }


def write_table(rows: Sequence[Flat], path: Path) -> None:
    """Write the table as Parquet. Raises InputError where it cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in COLUMNS.items()])
    made = pa.table({name: [row[name] for row in rows] for name in COLUMNS}, schema=schema)
    buffer = io.BytesIO()
    pa.parquet.write_table(made, buffer)
    write_bytes(path, buffer.getvalue())


__all__ = ["COLUMNS", "Asked", "cells_of", "plan_many", "rows_folder", "write_table"]
