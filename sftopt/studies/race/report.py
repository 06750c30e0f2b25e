"""The report of a race as files: Markdown for readers, CSV and Parquet for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftopt.core.errors import DiskError
from sftopt.core.files import write_text
from sftopt.studies.race.checks import Finding, find_wrong
from sftopt.studies.race.folder import Folder
from sftopt.studies.race.history import history_of
from sftopt.studies.race.insights import insights
from sftopt.studies.race.measures import (
    OURS,
    Line,
    above_best,
    known_of,
    lines_of,
    own_gap,
    shift_of,
)
from sftopt.studies.race.row import RaceRow

Flat = dict[str, Any]

HEAD = (
    "entry", "runs", "proved", "with a plan", "best plan", "at the limit", "refused", "failed",
    "wrong", "mean s to a proof", "median s", "gap, median / worst", "above best, median / worst",
    "peak MB",
)  # fmt: skip
"""Heads of the entries' table."""


def write_tables(folder: Folder, out: Path, command: str, pictures: Sequence[str]) -> list[Path]:
    """Write ``report.md``, ``rows.csv`` and ``rows.parquet`` into ``out``; return their paths.

    ``pictures`` are names of picture files that the page shows. Raises InputError where a file
    cannot be written.
    """
    wrong = find_wrong(folder.counting, folder.suite.checks)
    flat = flat_rows(folder.counting, wrong)
    paths = [out / "report.md", out / "rows.csv", out / "rows.parquet"]
    write_text(paths[0], markdown(folder, wrong, command, pictures))
    write_text(paths[1], _csv(flat))
    _write_parquet(flat, paths[2])
    return paths


def flat_rows(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> list[Flat]:
    """Return rows as flat records of plain values, one column for each."""
    reasons = {one.key: one.reason for one in wrong}
    known = known_of(rows, wrong)
    return [_flat(row, reasons.get(row.key, ""), above_best(row, known)) for row in rows]


def _flat(row: RaceRow, reason: str, above: float | None) -> Flat:
    outcome, cost, context = row.outcome, row.cost, row.context
    return {
        "instance": row.instance.name,
        "family": row.instance.family,
        "devices": row.instance.devices,
        "entry": row.entry.name,
        "role": row.entry.role,
        "seed": row.seed,
        "verdict": "wrong" if reason else outcome.verdict,
        "termination": outcome.termination,
        "objective_s": outcome.objective_s,
        "bound_s": outcome.bound_s,
        "gap": own_gap(row),
        "above_best": above,
        "claimed_s": outcome.claimed_s,
        "bound_source": outcome.bound_source,
        "promise": outcome.promise,
        "limit_s": row.limit_s,
        "rel_gap": row.rel_gap,
        "build_s": cost.times_s.build,
        "engine_s": cost.times_s.engine,
        "prepare_s": cost.times_s.prepare,
        "verify_s": cost.times_s.verify,
        "load_s": cost.times_s.load,
        "start_s": cost.times_s.start,
        "total_s": cost.times_s.total,
        "cpu_s": cost.cpu_s,
        "peak_bytes": cost.peak_bytes,
        "reference_s": context.machine.reference_s,
        "load": context.machine.load,
        "host": context.machine.host,
        "processor": context.machine.processor,
        "commit": context.commit,
        "engine": context.versions.get("engine_version", ""),
        "wrapper": context.versions.get("wrapper_version", ""),
        "began_at": context.began_at,
        "attempt": row.attempt,
        "instance_hash": row.instance.hash,
        "round_hash": row.instance.round_hash,
        "key": row.key,
        "message": reason or outcome.message,
    }


def markdown(
    folder: Folder, wrong: Sequence[Finding], command: str, pictures: Sequence[str] = ()
) -> str:
    """Return the report as a Markdown page: words first, then tables."""
    rows, suite = folder.counting, folder.suite
    lines = [f"# Race: {suite.name}", "", suite.description, "", f"Made by `{command}`.", ""]
    lines += [f"- {sentence}" for sentence in insights(folder, wrong)]
    if rows:
        lines += ["", "## Entries", "", settings_sentence(folder), "", *_entry_table(rows, wrong)]
        lines += ["", "## Who is best where", "", *_winner_table(rows, wrong)]
        lines += _history_table(folder.rows)
    for name in pictures:
        lines += ["", f"![{name.rpartition('.')[0].replace('_', ' ')}]({name})"]
    if wrong:
        lines += ["", "## Wrong", "", *(f"- {one}; again: `{one.replay}`" for one in wrong)]
    if folder.missing:
        lines += ["", "## Missing", "", *(f"- {run['name']}" for run in folder.missing[:50])]
    return "\n".join([*lines, "", *_where(rows)]).rstrip() + "\n"


def settings_sentence(folder: Folder) -> str:
    """Return what held for every run, in words."""
    rows, suite = folder.counting, folder.suite
    limits = sorted({row.limit_s for row in rows})
    limit = f"{limits[0]:g} s" if len(limits) == 1 else f"{limits[0]:g} to {limits[-1]:g} s"
    start = {
        "shared": "every run begins with the same plan, made once an instance and timed apart",
        "own": "every run makes its own start within its time",
    }[suite.start]
    return (
        f"Limit {limit} of wall time, gap {suite.rel_gap:g}, {suite.memory_mb:g} MB, "
        f"{suite.threads} thread a run; {start}. Mean: shifted geometric mean of build and engine "
        f"seconds, shift {shift_of(rows):g} s; a run without a proof counts with its limit. "
        "Median: of what runs took, with or without a proof. Best plan: within 0.01 % of it. "
        "Gap: own verified plan against own proven bound. Above best: own verified plan above "
        f"the best of all. Written by the authors of this benchmark: {', '.join(OURS)}."
    )


def _entry_table(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> list[str]:
    table = ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * (len(HEAD) - 1)]
    return table + ["| " + " | ".join(cells_of(line)) + " |" for line in lines_of(rows, wrong)]


def cells_of(line: Line) -> list[str]:
    """Return an entry's line of the table as texts."""
    peak = "-" if line.peak_bytes is None else f"{line.peak_bytes / 2**20:.0f}"
    return [
        line.entry,
        *(str(count) for count in (line.runs, line.proved, line.planned, line.near_best)),
        *(str(count) for count in (line.late, line.refused, line.failed, line.wrong)),
        "-" if line.mean_s is None else f"{line.mean_s:.3g}",
        "-" if line.median_s is None else f"{line.median_s:.3g}",
        _spread(line.gap_median, line.gap_worst),
        _spread(line.above_median, line.above_worst),
        peak,
    ]


def _spread(middle: float | None, worst: float | None) -> str:
    if middle is None or worst is None:
        return "-"
    return f"{100 * middle:.2g} % / {100 * worst:.2g} %"


def _winner_table(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> list[str]:
    table = ["| instance | N | best plan s | by | best bound s | by | first to prove | in s |",
             "|---|--:|--:|---|--:|---|---|--:|"]  # fmt: skip
    for cell, one in known_of(rows, wrong).items():
        there = [row for row in rows if row.cell == cell and row.entry.role == "racer"]
        done = [row for row in there if row.solved]
        first = min(done, key=lambda row: row.solve_s, default=None)
        value = "-" if one.value_s is None else f"{one.value_s:.6g}"
        bound = "-" if one.bound_s is None else f"{one.bound_s:.6g}"
        by = "nobody" if first is None else first.entry.name
        seconds = "-" if first is None else f"{first.solve_s:.3g}"
        table.append(
            f"| {one.name} | {one.devices} | {value} | {one.value_by or '-'} | {bound} "
            f"| {one.bound_by or '-'} | {by} | {seconds} |"
        )
    return table


def _history_table(rows: Sequence[RaceRow]) -> list[str]:
    """Means from commit to commit; nothing where there is one commit only."""
    history = history_of(rows)
    if not history:
        return []
    words = "Mean s to a proof, over the instances that an entry has at each of its commits."
    table = ["", "## Over time", "", words, ""]
    table += ["| entry | commit | date | runs | proved | mean s |", "|---|---|---|--:|--:|--:|"]
    for entry, steps in history.items():
        table += [
            f"| {entry} | {one.commit or '-'} | {one.date} | {one.runs} | {one.proved} "
            f"| {one.mean_s:.3g} |"
            for one in steps
        ]
    return table


def _where(rows: Sequence[RaceRow]) -> list[str]:
    lines = machine_lines(rows)
    return ["## Where", "", *(f"- {line}" for line in lines)] if lines else []


def machine_lines(rows: Sequence[RaceRow]) -> list[str]:
    """Return a line for every machine and commit that rows were made on."""
    found = {
        (row.context.machine.processor, row.context.machine.cores, row.context.machine.system,
         row.context.commit): None
        for row in rows
    }  # fmt: skip
    days = sorted(row.context.began_at[:10] for row in rows if row.context.began_at)
    when = f", {days[0]} to {days[-1]}" if days else ""
    return [
        f"{processor or 'unknown processor'}, {cores} cores, {system}, commit {commit or '-'}{when}"
        for processor, cores, system, commit in found
    ]


def _csv(rows: Sequence[Flat]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _write_parquet(rows: Sequence[Flat], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    names = list(_flat_types())
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _flat_types().items()])
    columns = {name: [row[name] for row in rows] for name in names}
    try:
        pa.parquet.write_table(pa.table(columns, schema=schema), path)
    except OSError as error:
        raise DiskError(path, error) from None


def _flat_types() -> dict[str, str]:
    """Column -> Arrow type; the same whether a column has values or not."""
    whole = ("devices", "seed", "peak_bytes", "attempt")
    numbers = ("gap", "above_best", "load", "rel_gap")
    return {
        name: "int64"
        if name in whole
        else "float64"
        if name in numbers or name.endswith("_s")
        else "string"
        for name in _COLUMNS
    }


_COLUMNS = (
    "instance", "family", "devices", "entry", "role", "seed", "verdict", "termination",
    "objective_s", "bound_s", "gap", "above_best", "claimed_s", "bound_source", "promise",
    "limit_s", "rel_gap", "build_s", "engine_s", "prepare_s", "verify_s", "load_s", "start_s",
    "total_s", "cpu_s", "peak_bytes", "reference_s", "load", "host", "processor", "commit",
    "engine", "wrapper", "began_at", "attempt", "instance_hash", "round_hash", "key", "message",
)  # fmt: skip
"""Columns of the tables, in order."""


__all__ = [
    "cells_of",
    "flat_rows",
    "machine_lines",
    "markdown",
    "settings_sentence",
    "write_tables",
]
