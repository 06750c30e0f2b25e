"""``sftopt plan --many DIR``: a table of plans for a folder of cells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.output import Answer, ensure_writable

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.race.many import Asked
    from sftopt.studies.race.row import RaceRow

_TOLD = 3
"""Number of cells without a plan that the message names."""
_LONGEST = 200
"""Number of letters of a reason that are told; the table has all."""


def asked_of(
    solver: str | None, formulation: str | None, time_limit: float, rel_gap: float, threads: int,
    seed: int, options: dict[str, Any],
) -> Asked:  # fmt: skip
    """Return how every cell is planned, from the options of the command.

    Raises InputError for values that make no sense, before anything is started.
    """
    from sftopt.solvers.options import Options
    from sftopt.studies.race.many import Asked
    from sftopt.studies.race.suite import PATIENCE_S

    Options(time_limit, rel_gap, threads=threads, seed=seed)  # says what is wrong with them
    usual = Asked()
    return Asked(
        solver or usual.solver, formulation or usual.formulation, min(time_limit, PATIENCE_S),
        rel_gap, threads, seed, options,
    )  # fmt: skip


def plan_many(
    folder: Path, out: Path | None, asked: Asked, jobs: int, cluster: str, quiet: bool
) -> Answer:
    """Plan every cell of a folder and write the table; the same command goes on where one ended.

    Raises InputError without ``--out``, or where nothing is there to plan.
    """
    from sftopt.face.steps import Steps
    from sftopt.studies.race.many import plan_many as run
    from sftopt.studies.race.many import rows_folder
    from sftopt.studies.race.runner import RaceSettings

    if out is None:
        raise InputError("--many: give --out FILE.parquet for the table")
    if out.suffix != ".parquet":
        better = out.with_suffix(".parquet")
        raise InputError(f"--out '{out}': the table is Parquet; name it '{better}'")
    ensure_writable(out)
    settings = RaceSettings(jobs=jobs, allow_busy=True, cluster=cluster)
    with Steps("cells", 0, enabled=not quiet) as steps:

        def on_row(done: int, total: int, row: RaceRow) -> None:
            steps.of(done, total, f"{row.instance.name}: {row.outcome.verdict}")

        rows = run(folder, out, asked, settings, on_row)
    without = [row for row in rows if row["plan"] is None]
    verdicts = dict(sorted(Counter(row["verdict"] for row in rows).items()))
    data: dict[str, Any] = {
        "cells": len(rows),
        "plans": len(rows) - len(without),
        "verdicts": verdicts,
        "without_plan": [
            {"file": row["file"], "verdict": row["verdict"], "why": _why(row)} for row in without
        ],
        "table": str(out),
        "rows_folder": str(rows_folder(out)),
    }
    code, problem = ExitCode.OK, ""
    if without:
        named = "; ".join(f"{row['file']}: {_why(row)}" for row in without[:_TOLD])
        more = f" and {len(without) - _TOLD} more" if len(without) > _TOLD else ""
        problem = f"{len(without)} of {len(rows)} cells have no plan: {named}{more}"
        code = ExitCode.NO_POINT
    return Answer(data, lambda console: _show(console, data), code, problem)


def _why(row: dict[str, Any]) -> str:
    """Why a cell has no plan, on one line."""
    text = " ".join(str(row["fault"] or row["message"] or row["verdict"]).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _show(console: Console, data: dict[str, Any]) -> None:
    from sftopt.face.tables import facts

    counts = ", ".join(f"{count} {name}" for name, count in data["verdicts"].items())
    console.print(facts([
        ("cells", str(data["cells"])),
        ("plans", str(data["plans"])),
        ("verdicts", counts),
        ("table", data["table"]),
        ("rows", data["rows_folder"]),
    ]))  # fmt: skip


__all__ = ["asked_of", "plan_many"]
