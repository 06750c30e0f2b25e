"""Running the grid: one row a cell, resumable; then every claim against its baselines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.fields import Reported
from sftopt.core.files import write_json, write_text
from sftopt.core.rows import BY_CELL, RowFile
from sftopt.studies.compare import Settings, compare_cell
from sftopt.studies.compare.comparison import flat_scheme_rows
from sftopt.studies.reproduce.claims import CLAIMS, Claim
from sftopt.studies.reproduce.exact import ExactEntry, exact_entries
from sftopt.studies.reproduce.findings import Finding, finding_of
from sftopt.studies.reproduce.grid import Cell, cells
from sftopt.studies.reproduce.page import page_of

EXACT = ("splitlite-table", "st-sflora-payload")
"""Claims that need no cell: published tables that follow from their settings."""


class GridRow(Reported):
    """One cell of the grid with the flat rows of all schemes that the claims need."""

    cell: str
    family: str
    devices: int
    band_mhz: float
    server_tflops: float
    seed: int
    reference_bits: int
    instance_hash: str
    schemes: tuple[dict[str, Any], ...]


class Reproduction(Reported):
    """Claims on the grid, and published tables beside ours."""

    seed: int
    cells: int
    findings: tuple[Finding, ...]
    exact: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return self.model_dump(mode="json")

    def finding(self, claim: str) -> Finding:
        """Return what came of one claim. Raises UnknownNameError."""
        for one in self.findings:
            if one.claim == claim:
                return one
        raise UnknownNameError("claim", claim, [one.claim for one in self.findings])


def claim_names() -> list[str]:
    """List the names of all claims: those tried on cells, then those of published tables."""
    return [*(claim.name for claim in CLAIMS), *EXACT]


def reproduce(
    claims: Sequence[str] | None = None,
    *,
    seed: int = 0,
    most_cells: int | None = None,
    time_limit: float | None = 120.0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_cell: Callable[[int, int, str], None] | None = None,
) -> Reproduction:
    """Try claims of the papers on the committed grid and return where each is reached.

    ``claims``: names; None: all. ``most_cells`` takes only the grid's first so many, for a try.
    ``time_limit`` in seconds is the planner's on each cell. With ``out``, rows go to ``rows.jsonl``
    there as they come, ``resume`` goes on with them, and ``claims.md`` and ``summary.json`` are
    written at the end. ``on_cell`` hears of each cell: number done, of how many, its name.

    Raises UnknownNameError for a claim that there is not, InputError for numbers that cannot be and
    for a folder of another run.
    """
    wanted = _wanted(claims)
    planning = Settings(time_limit, 1e-4, seed)
    every = cells(seed)
    if most_cells is not None and not 1 <= most_cells <= len(every):
        raise InputError(f"cells is {most_cells}; the grid has 1 to {len(every)} to take")
    names = set(claim_names() if claims is None else claims)
    exact = [entry for entry in exact_entries() if _key(entry) in names]
    grid = every[:most_cells] if wanted else []
    schemes = list(dict.fromkeys(name for claim in wanted for name in claim.schemes()))
    settings = {"claims": sorted(names), "seed": seed, "cells": [c.key for c in grid],
                "time_limit_s": time_limit}  # fmt: skip
    file, folder = None, None if out is None else Path(out)
    if folder is not None:
        file = RowFile(folder, settings, resume=resume, model=GridRow, identity=BY_CELL)
    found: dict[str, dict[str, Any]] = {}
    with file if file is not None else nullcontext():
        for known in file.rows if file is not None else []:
            found[known["cell"]] = known
        for number, cell in enumerate(grid, 1):
            if cell.key not in found:
                row = _row(cell, schemes, planning).model_dump(mode="json")
                found[cell.key] = row
                if file is not None:
                    file.append(row)
            if on_cell is not None:
                on_cell(number, len(grid), cell.key)
    rows = [found[cell.key] for cell in grid]
    made = Reproduction(
        seed=seed,
        cells=len(rows),
        findings=tuple(finding_of(claim, rows) for claim in wanted),
        exact=tuple(vars(entry) | {"agrees": entry.agrees} for entry in exact),
    )
    if folder is not None:
        write_json(folder / "summary.json", made.to_dict())
        write_text(folder / "claims.md", page_of(made.findings, made.exact, len(rows), seed))
    return made


def _wanted(names: Sequence[str] | None) -> list[Claim]:
    if names is None:
        return list(CLAIMS)
    for name in names:
        if name not in claim_names():
            raise UnknownNameError("claim", name, claim_names())
    return [claim for claim in CLAIMS if claim.name in names]


def _key(entry: ExactEntry) -> str:
    return EXACT[0] if entry.table.startswith("SplitLite") else EXACT[1]


def _row(cell: Cell, schemes: Sequence[str], settings: Settings) -> GridRow:
    instance = cell.instance()
    decoder = bool(instance.workload.is_decoder)
    asked = [name for name in schemes if not (decoder and name.startswith("tsflora"))]
    return GridRow(
        cell=cell.key,
        family=cell.family,
        devices=cell.devices,
        band_mhz=cell.band_mhz,
        server_tflops=cell.server_tflops,
        seed=cell.seed,
        reference_bits=instance.workload.reference_bits,
        instance_hash=instance.hash,
        schemes=tuple(flat_scheme_rows(compare_cell(instance, asked, settings))),
    )
