"""How far from the optimum does each way to the large problem (13) end? 60 seeded instances.

All feasible families, 3 to 20 devices. Every contender's plan is verified and compared with the
best proven bound: that of ``certify`` at a relative gap of 1e-6, that of SCIP on ``joint-product``
on small instances, and those of the contenders that prove one. Engines start from the plan that
``solve`` constructs for all of them; our own heuristics make their own start.

    python -m benchmarks.studies.large_timescale --out benchmarks/results/large_timescale.json

Rows already in the file are kept, so the same command goes on after a stop and adds contenders
that were not there before. CPU seconds are those of this process and its children. Limits are meant
for a core of one's own: on a busy machine each is stretched by how much longer than its CPU time a
short loop takes; runs that still met their limit with less than half of it in CPU time are run
again when the command goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.studies.large_timescale_rows import Limits, Row, Run, read_rows
from sftopt.core.errors import SftoptError
from sftopt.core.families import FAMILIES, generate
from sftopt.core.files import write_json, write_text
from sftopt.core.instance import Instance
from sftopt.core.result import Result
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.solvers.registry import availability, get_solver, solver_names
from sftopt.solvers.run import solve

CONTENDERS = (
    ("augmented-lagrangian", "native"),
    ("alpaqa", "joint-relaxed"),
    ("alternating", "native"),
    ("greedy", "native"),
    ("constructive", "native"),
    ("bonmin", "joint-ratio"),
    ("mindtpy", "joint-ratio"),
    ("scip", "joint-grid-conic"),
    ("highs", "joint-grid-milp"),
    ("clarabel", "joint-grid-relaxed"),
)
"""Solver and formulation; the last three are the conic and MILP ways and a convex relaxation."""
REFERENCES = (("certify", "native"), ("scip", "joint-product"))
"""Solvers and formulations whose bounds the others are measured against."""
OVERLAP = 1e-6
"""Relative, by which a bound may exceed a verified value through rounding."""


def drawn(index: int) -> tuple[str, int]:
    """Draw the family and the number of devices of row ``index``; its seed is the index itself."""
    families = [family.name for family in FAMILIES.values() if family.feasible]
    return families[index % len(families)], 3 + 7 * index % 18


def present() -> list[tuple[str, str]]:
    """List the contenders that are registered and run here."""
    solvers, formulations = solver_names(), formulation_names()
    return [
        (solver, formulation)
        for solver, formulation in CONTENDERS
        if solver in solvers
        and formulation in formulations
        and get_solver(solver).accepts(get_formulation(formulation))
        and availability(get_solver(solver))
    ]


def study(row: Row, limits: Limits) -> Row:
    """Complete ``row`` with every run that it lacks, and the gaps of all."""
    instance = generate(row.family, row.devices, row.seed)
    references = [run for run in row.references if not run.starved(limits.bound_limit_s)]
    wanted = REFERENCES if row.devices <= limits.scip_devices else REFERENCES[:1]
    for solver, formulation in wanted:
        if (solver, formulation) not in [run.key for run in references]:
            bound = replace(limits, time_limit_s=limits.bound_limit_s)
            references.append(_run(instance, solver, formulation, bound))
    runs = {run.key: run for run in row.runs if not run.starved(limits.time_limit_s)}
    for key in present():
        if key not in runs:
            runs[key] = _run(instance, *key, limits)
    ordered = [runs[key] for key in CONTENDERS if key in runs]
    bound_s, source = best_bound([*references, *ordered])
    return replace(
        row,
        bound_s=bound_s,
        bound_source=source,
        references=tuple(references),
        runs=tuple(replace(run, gap=gap(run.objective_s, bound_s)) for run in ordered),
        errors=tuple(contradictions([*references, *ordered], bound_s, source)),
        missing=tuple("/".join(key) for key in CONTENDERS if key not in runs),
    )


def without(row: Row, solvers: Sequence[str]) -> Row:
    """Return ``row`` less the runs of some contenders, which are then run again."""
    return replace(row, runs=tuple(run for run in row.runs if run.solver not in solvers))


def best_bound(runs: Sequence[Run]) -> tuple[float | None, str | None]:
    """Return the highest proven bound in seconds and whose it is."""
    proven = [(run.bound_s, f"{run.solver} on {run.formulation}")
              for run in runs if run.bound_s is not None]  # fmt: skip
    return max(proven, default=(None, None))


def gap(objective_s: float | None, bound_s: float | None) -> float | None:
    """Return the relative gap (objective - bound) / objective, at least 0; None without both."""
    if objective_s is None or bound_s is None:
        return None
    return max(0.0, (objective_s - bound_s) / objective_s)


def contradictions(runs: Sequence[Run], bound_s: float | None, source: str | None) -> list[str]:
    """List verified values below the best proven bound, and runs that ended in an error."""
    found = [
        f"{run.solver} on {run.formulation} ended with 'error': {run.message}"
        for run in runs
        if run.termination == "error"
    ]
    for run in runs:
        if bound_s is None or run.objective_s is None:
            continue
        if run.objective_s < bound_s * (1.0 - OVERLAP):
            found.append(
                f"{run.solver} on {run.formulation} has the verified value {run.objective_s:.9g} s "
                f"below the bound {bound_s:.9g} s of {source}"
            )
    return found


def _cpu_s() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF,
                                                         resource.RUSAGE_CHILDREN))  # fmt: skip
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def slowness() -> float:
    """Measure the ratio, 1 to 20, of wall to CPU seconds of a short loop: the machine's load."""
    began, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.1:
        pass
    return min(max((time.monotonic() - began) / 0.1, 1.0), 20.0)


def _run(instance: Instance, solver: str, formulation: str, limits: Limits) -> Run:
    stretch = slowness()
    began, cpu = time.monotonic(), _cpu_s()
    try:
        result: Result | SftoptError = solve(
            instance,
            solver=solver,
            formulation=formulation,
            time_limit=limits.time_limit_s * stretch,
            rel_gap=limits.rel_gap,
        )
    except SftoptError as error:
        result = error
    wall_s, cpu_s = round(time.monotonic() - began, 3), round(_cpu_s() - cpu, 3)
    if isinstance(result, SftoptError):
        return Run(solver, formulation, "error", "none", None, None, None, wall_s, cpu_s,
                   f"{type(result).__name__}: {result}", stretch=stretch)  # fmt: skip
    return Run(
        solver=solver,
        formulation=formulation,
        termination=result.termination.value,
        point=result.point.value,
        objective_s=result.objective_s if result.point.value in ("feasible", "optimal") else None,
        bound_s=result.bound_s,
        bound_source=result.bound_source,
        wall_s=wall_s,
        cpu_s=cpu_s,
        message=result.message,
        stretch=round(stretch, 2),
        point_from=result.point_from,
        answered_s=result.objective_answered_s,
    )


def markdown(
    rows: Sequence[Row], command: str, limits: Limits, shorter_from: int | None = None
) -> str:
    """Write the study as tables: by contender, then by instance; errors below."""
    closed = sum(any(r.gap is not None and r.gap <= 2e-6 for r in _with_gap(row)) for row in rows)
    every = [run for row in rows for run in row.runs]
    stretched = max((run.stretch for run in every), default=1.0)
    starved = sum(run.starved(limits.time_limit_s) for run in every)
    lines = [
        "# The large problem: every way against the best proven bound",
        "",
        f"Made by `{command}`: {len(rows)} instances of {len({r.family for r in rows})} families, "
        f"{min(r.devices for r in rows)} to {max(r.devices for r in rows)} devices, "
        f"{limits.time_limit_s:g} s a run; bounds: certify at {limits.rel_gap:g} within "
        f"{limits.bound_limit_s:g} s, SCIP on joint-product up to {limits.scip_devices} devices, "
        "and whatever a contender proves.",
        "",
        f"On {closed} of {len(rows)} instances some plan, certify's included, is within 2e-6 of "
        "the bound; elsewhere a gap is in part the bound's. A gap is (objective - bound) / "
        "objective of the verified plan. Times are of the whole solve, start and verification "
        "included, as they passed on a machine with other work on it; CPU seconds are the steadier "
        f"figure. Limits were stretched by up to {stretched:.1f} for that; {starved} runs still "
        "got less than half of their limit in CPU time.",
        *_remark(shorter_from),
        "",
        "| solver | formulation | solved | failed | median gap | worst gap | within 1e-4 "
        "| median wall s | median CPU s |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for key in CONTENDERS:
        runs = [run for row in rows for run in row.runs if run.key == key]
        lines.append(_summary(key, runs))
    names = [key for key in CONTENDERS if any(key == run.key for row in rows for run in row.runs)]
    lines += ["", "Gap of every run; a word where there is no plan.", "",
              f"| # | family | N | bound s | from | certify | {' | '.join(k[0] for k in names)} |",
              "|--:|---|--:|--:|---|--:|" + "--:|" * len(names)]  # fmt: skip
    for row in rows:
        cells = {run.key: _cell(run) for run in row.runs}
        certified = _with_gap(row)[0]
        bound = "-" if row.bound_s is None else f"{row.bound_s:.6f}"
        lines.append(
            f"| {row.index} | {row.family} | {row.devices} | {bound} | {row.bound_source} "
            f"| {_cell(certified)} | {' | '.join(cells.get(name, '-') for name in names)} |"
        )
    lines += [""] + [f"- ERROR in row {row.index}: {text}" for row in rows for text in row.errors]
    return "\n".join(lines).rstrip() + "\n"


def _remark(shorter_from: int | None) -> list[str]:
    """Runs of the first rows had the default limits where a later part was given shorter ones."""
    if shorter_from is None:
        return []
    default = Limits()
    return [
        "",
        f"Most runs of rows below {shorter_from} had limits of {default.time_limit_s:g} s and "
        f"{default.bound_limit_s:g} s for bounds.",
    ]


def _with_gap(row: Row) -> list[Run]:
    runs = [*row.references, *row.runs]
    return [replace(run, gap=gap(run.objective_s, row.bound_s)) for run in runs]


def _summary(key: tuple[str, str], runs: Sequence[Run]) -> str:
    gaps = [run.gap for run in runs if run.gap is not None]
    if not runs:
        return f"| {key[0]} | {key[1]} | not here | - | - | - | - | - | - |"
    failed: dict[str, int] = {}
    for run in runs:
        if run.objective_s is None:
            failed[run.termination] = failed.get(run.termination, 0) + 1
    words = ", ".join(f"{number} {word}" for word, number in sorted(failed.items())) or "0"
    median = f"{statistics.median(gaps):.1e}" if gaps else "-"
    worst = f"{max(gaps):.1e}" if gaps else "-"
    near = sum(value <= 1e-4 for value in gaps)
    solved = f"{len(gaps)} of {len(runs)}"
    return (
        f"| {key[0]} | {key[1]} | {solved} | {words} | {median} | {worst} | {near} "
        f"| {statistics.median(run.wall_s for run in runs):.2f} "
        f"| {statistics.median(run.cpu_s for run in runs):.2f} |"
    )


def _cell(run: Run) -> str:
    return run.termination if run.gap is None else f"{run.gap:.1e}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study or go on with it; return the exit code: 1 for a contradiction, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="JSON; the table goes beside it")
    parser.add_argument("--instances", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="leave out the rows before this one")
    parser.add_argument("--redo", action="append", default=[], metavar="SOLVER",
                        help="run this contender again; repeatable")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=Limits.time_limit_s)
    parser.add_argument("--bound-limit", type=float, default=Limits.bound_limit_s)
    parser.add_argument("--shorter-from", type=int, metavar="ROW",
                        help="other limits from this row on; the page says so")  # fmt: skip
    chosen = parser.parse_args(arguments)
    limits = replace(Limits(), time_limit_s=chosen.time_limit, bound_limit_s=chosen.bound_limit)
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = " ".join(["python -m benchmarks.studies.large_timescale", *given])
    known = limits if chosen.shorter_from is None else None
    rows = {row.index: row for row in read_rows(chosen.out, known)}
    for solver, formulation in (*REFERENCES, *present()):
        # what is compiled or imported at first use is charged to no instance
        solve(generate("jetson-vit-b", 2, 0), solver=solver, formulation=formulation)
    rows = {index: without(row, chosen.redo) for index, row in rows.items()}
    for index in range(chosen.first, chosen.instances):
        family, devices = drawn(index)
        before = rows.get(index)
        if before is None:
            before = Row(index, family, devices, index, generate(family, devices, index).hash)
        row = rows[index] = study(before, limits)
        if row == before:
            continue
        print(f"{index}: {family} N={devices} bound {row.bound_s} ({row.bound_source}); "
              + ", ".join(f"{run.solver} {_cell(run)} {run.wall_s:.1f} s" for run in row.runs)
              + "".join(f"\n   ERROR {text}" for text in row.errors),
              file=sys.stderr, flush=True)  # fmt: skip
        _write(chosen.out, rows, command, limits, chosen.shorter_from)
    _write(chosen.out, rows, command, limits, chosen.shorter_from)
    print(chosen.out.with_suffix(".md").read_text())
    return 1 if any(row.errors for row in rows.values()) else 0


def _write(
    path: Path, rows: dict[int, Row], command: str, limits: Limits, shorter_from: int | None
) -> None:
    ordered = [rows[index] for index in sorted(rows)]
    data = {"command": command, "limits": asdict(limits), "rows": [asdict(r) for r in ordered]}
    write_json(path, json.loads(json.dumps(data)))
    write_text(path.with_suffix(".md"), markdown(ordered, command, limits, shorter_from))


if __name__ == "__main__":
    raise SystemExit(main())
