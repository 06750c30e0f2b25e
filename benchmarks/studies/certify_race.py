"""certify beside every other solver on 12-device cells: who proves what in 1,000 times its time.

``OMP_NUM_THREADS=1 python -m benchmarks.studies.certify_race`` runs certify and then every solver
that takes a formulation of the whole problem, on one cell of each family, each with a limit of
1,000 times certify's time (at least 2 s), in one run on one machine. Rows are appended to
``benchmarks/results/certify_race.jsonl``, one per solver, formulation and cell, also refused and
failed ones; a rerun skips what is there. A limit reached counts as a lower bound on the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.studies.cells import FEASIBLE
from sftopt.core.families import generate
from sftopt.formulations.base import Problem
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.solvers.registry import get_solver, solvers_for
from sftopt.solvers.run import solve

DEVICES = 12
"""Number of devices of every cell."""
FACTOR = 1000.0
"""A solver may take this many times certify's time."""
LEAST_LIMIT_S = 2.0
"""Least time limit of a solver."""
REL_GAP = 1e-4
"""Relative gap asked of everyone."""


def entries() -> list[tuple[str, str]]:
    """List pairs (solver, formulation) of the whole problem (13), certify first."""
    pairs = [
        (solver, formulation)
        for formulation in formulation_names()
        if get_formulation(formulation).problem is Problem.PLAN
        for solver in solvers_for(get_formulation(formulation))
    ]
    return sorted(pairs, key=lambda pair: pair[0] != "certify")


def row_of(family: str, solver: str, formulation: str, limit_s: float) -> dict[str, Any]:
    """Return one run as a row; ``bound_s`` is the proven one, whoever proved it."""
    instance = generate(family, DEVICES, 0)
    began = time.perf_counter()
    found = solve(
        instance, solver=solver, formulation=formulation, time_limit=limit_s, rel_gap=REL_GAP
    )
    return {
        "family": family,
        "solver": solver,
        "formulation": formulation,
        "promise": found.promise.value,
        "limit_s": limit_s,
        "wall_s": time.perf_counter() - began,
        "solve_s": found.times_s.solve,
        "termination": found.termination.value,
        "point": found.point.value,
        "objective_s": found.objective_s,
        "bound_s": None if found.bound_source == "elementary" else found.bound_s,
        "message": found.message[:200],
    }


def raced(out: Path, families: list[str]) -> list[dict[str, Any]]:
    """Run every race that is missing; return all rows, those of earlier runs included."""
    rows: list[dict[str, Any]] = []
    if out.exists():
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    solve(generate(families[0], DEVICES, 0), solver="certify")  # compiled before it is timed
    with out.open("a") as file:
        for family in families:
            limit_s = 60.0
            for solver, formulation in entries():
                row = next(
                    (
                        r
                        for r in rows
                        if (r["family"], r["solver"], r["formulation"])
                        == (family, solver, formulation)
                    ),
                    None,
                )
                if row is None:
                    row = row_of(family, solver, formulation, limit_s)
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(family, solver, formulation, row["termination"], f"{row['wall_s']:.2f} s")
                if solver == "certify":
                    limit_s = max(FACTOR * row["solve_s"], LEAST_LIMIT_S)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Write the Markdown table: each against certify on the cells where all have run."""
    sizes = {family: sum(r["family"] == family for r in rows) for family in FEASIBLE}
    rows = [r for r in rows if sizes[r["family"]] == max(sizes.values())]
    ours = {r["family"]: r for r in rows if r["solver"] == "certify"}
    times = [r["solve_s"] for r in ours.values()]
    lines = [
        "# certify beside the others, 12 devices",
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.studies.certify_race --families "
        f"{' '.join(ours)}`:",
        f"one cell of each (seed 0), each solver limited to {FACTOR:,.0f} times certify's time on",
        f"that cell (at least {LEAST_LIMIT_S:g} s).",
        f"certify: median {statistics.median(times):.3f} s, slowest {max(times):.3f} s to a gap of "
        f"{REL_GAP:g} on {sum(r['point'] == 'optimal' for r in ours.values())} of {len(ours)}.",
        "",
        "Gap left: (best verified delay of anybody - own proven bound) / best verified delay; only",
        "for solvers that prove a bound on the whole problem. Point above best: own verified delay",
        "over the best one. `reached the limit` counts as a lower bound on the time.",
        "",
        "| solver | formulation | promise | cells | refused | with a point | reached the limit |"
        " median s | point above best, median / worst | gap left, median / worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    best = {
        family: min(
            r["objective_s"] for r in rows if r["family"] == family and r["objective_s"] is not None
        )
        for family in ours
    }
    pairs = dict.fromkeys((r["solver"], r["formulation"]) for r in rows)
    for solver, formulation in pairs:
        mine = [r for r in rows if (r["solver"], r["formulation"]) == (solver, formulation)]
        ran = [r for r in mine if r["termination"] != "refused"]
        points = [r["objective_s"] / best[r["family"]] - 1 for r in ran if r["objective_s"]]
        gaps = [1 - r["bound_s"] / best[r["family"]] for r in ran if r["bound_s"] is not None]
        late = [r for r in ran if r["termination"] == "time_limit"]
        walls = [r["wall_s"] for r in ran]
        lines.append(
            f"| {solver} | {formulation} | {mine[0]['promise']} | {len(mine)} |"
            f" {len(mine) - len(ran)} | {len(points)} | {len(late)} |"
            f" {statistics.median(walls) if walls else float('nan'):.2f} |"
            f" {_spread(points)} | {_spread(gaps)} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{100 * statistics.median(values):.3g} % / {100 * max(values):.3g} %"


def main() -> None:
    """Run a race, or go on with it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--out", type=Path, default=results / "certify_race.jsonl")
    parser.add_argument("--families", nargs="*", default=list(FEASIBLE))
    given = parser.parse_args()
    rows = raced(given.out, given.families)
    for solver in {row["solver"] for row in rows}:
        get_solver(solver)  # an unknown name in an old file is said here
    given.out.with_suffix(".md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
