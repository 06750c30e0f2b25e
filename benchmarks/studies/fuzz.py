"""Does anything in the schema's whole space break solvers, judge or check, or refute a bound?

``python -m benchmarks.studies.fuzz --cells 5000 --seed 0`` draws cells of every variant in turn
(``fuzz_cells``), plans each with certify, the heuristics and, where it is small, exhaustive, and
pushes every plan to the edge of what the judge accepts (``fuzz_plans``). Rows go to ``--out`` and
are kept: a run that was stopped goes on. Exit status 0 only where no run ended in an error, nothing
warned, no bound (as proven, before it is capped by a plan) is above a plan that the judge accepts,
none of these plans is of a cell called infeasible, and exhaustive settled a fifth of the cells.

``--cell N`` runs one cell again and prints its row.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.studies.fuzz_cells import VARIANTS, FuzzCell, fuzz_cell
from benchmarks.studies.fuzz_plans import least_accepted_s, some_accepted
from sftopt.core.check import check
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance, ModeKind
from sftopt.core.result import Result
from sftopt.core.rows import RowFile
from sftopt.core.status import Termination
from sftopt.solvers import run
from sftopt.solvers.base import Outcome
from sftopt.solvers.exhaustive.space import combination_count

Row = dict[str, Any]

ROUNDING = 1e-12
"""Relative excess of a bound over an accepted plan that is rounding."""
MOST_COMBINATIONS = 1500
"""Up to so many combinations exhaustive is asked."""
SETTLED = 0.2
"""The part of the cells that exhaustive has to settle."""
HEURISTICS = ("constructive", "greedy", "alternating")
"""Asked by turns."""
HEURISTIC_EVERY = 3
"""One cell in so many asks a heuristic."""
SAME_PLAN = 1e-7
"""A plan this close, relative, to one that was pushed is the same and is not pushed again."""
_NO_PLAN = ("time_limit", "refused")
"""Ends of certify that need no plan."""
BROKEN = (Termination.ERROR, Termination.NUMERICAL_ERROR)
"""Ends that no cell may have."""


def solved(
    instance: Instance, solver: str, feas_tol: float, limit_s: float
) -> tuple[Result, float | None]:
    """Return what comes of a solver, and its bound in seconds before a plan caps it."""
    heard: list[Outcome] = []
    stated = run.with_bound

    def hearing(*given: Any) -> Outcome:
        heard.append(stated(*given))
        return heard[-1]

    with mock.patch.object(run, "with_bound", hearing):
        found = run.solve(
            instance, solver=solver, feas_tol=feas_tol, time_limit=limit_s, rel_gap=1e-4
        )
    return found, heard[-1].bound_s if heard else None


def row_of(number: int, seed: int, limit_s: float) -> Row:
    """Return one cell's row; whatever is wrong with it stands in ``faults``."""
    cell = fuzz_cell(seed, number)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        row = _fuzzed(cell, seed, limit_s)
    told = {f"warning: {w.category.__name__}: {w.message}" for w in warned}
    row["faults"] += sorted(told)
    return row | {"wall_s": round(time.perf_counter() - began, 3)}


def _fuzzed(cell: FuzzCell, seed: int, limit_s: float) -> Row:
    instance = cell.instance
    row: Row = {
        "round": cell.number, "variant": cell.variant, "feas_tol": cell.feas_tol,
        "devices": len(instance.devices), "blocks": instance.workload.blocks, "faults": [],
    }  # fmt: skip
    try:
        derived = derive(instance, feas_tol=cell.feas_tol)
        feasible = check(instance, cell.feas_tol).feasible
    except Exception as error:  # noqa: BLE001  what fuzz is for
        tokens = any(mode.kind is ModeKind.TOKENS for mode in instance.compression.modes)
        if tokens and isinstance(error, InputError):  # a block's figures that no S' explains
            return row | {"state": "refused"}
        row["faults"].append(f"error: {type(error).__name__}: {error}")
        return row | {"state": "failed"}
    runs: list[Row] = []
    for solver in _solvers(cell.number, derived):
        runs.append(_asked(cell, derived, solver, limit_s, row, runs))
    best_s = min((r["best_s"] for r in runs if r["best_s"] is not None), default=math.inf)
    if not feasible:
        plan = some_accepted(instance, cell.feas_tol, seed + cell.number)
        if plan is not None:
            row["faults"].append(f"infeasible with a plan: {plan.model_dump_json()[:300]}")
    if feasible and runs[0].get("point") == "none" and runs[0]["ended"] not in _NO_PLAN:
        row["faults"].append("error: certify: the cell has plans, and there is none")
    if not feasible and math.isfinite(best_s):
        row["faults"].append(f"infeasible with a plan: of {best_s!r} s")
    for one in runs:
        over = None if one["bound_s"] is None else one["bound_s"] / best_s - 1.0
        one["over"] = over
        if over is not None and over > ROUNDING:
            row["faults"].append(
                f"bound above: {one['solver']} {one['bound_s']!r} s, accepted {best_s!r} s"
            )
    return row | {"state": "feasible" if feasible else "infeasible", "runs": runs}


def _solvers(number: int, derived: Derived) -> list[str]:
    few = combination_count(derived) <= MOST_COMBINATIONS
    turn, rest = divmod(number, HEURISTIC_EVERY)
    heuristics = [HEURISTICS[turn % len(HEURISTICS)]] if rest == 0 else []
    return ["certify", *(["exhaustive"] if few else []), *heuristics]


def _asked(
    cell: FuzzCell, derived: Derived, solver: str, limit_s: float, row: Row, before: list[Row]
) -> Row:
    """One solver's run: how it ended, its plan and what the judge accepts beside it."""
    said: Row = {"solver": solver, "best_s": None, "bound_s": None}
    try:
        found, bound_s = solved(cell.instance, solver, cell.feas_tol, limit_s)
        said |= {"ended": found.termination.value, "point": found.point.value,
                 "objective_s": found.objective_s, "nodes": found.nodes}  # fmt: skip
        if found.termination in BROKEN:
            row["faults"].append(f"error: {solver}: {found.message[:300]}")
        if found.plan is not None and found.point.value in ("feasible", "optimal"):
            said["bound_s"] = bound_s
            known = [one.get("objective_s") for one in before]
            own_s = found.objective_s or 0.0
            if not any(k is not None and abs(k - own_s) <= SAME_PLAN * own_s for k in known):
                said["best_s"] = least_accepted_s(cell.instance, derived, found.plan)
    except Exception as error:  # noqa: BLE001  what fuzz is for
        row["faults"].append(f"error: {solver}: {type(error).__name__}: {error}"[:400])
    return said


# --- the run and its page -------------------------------------------------------------------------


def rows_for(numbers: list[int], seed: int, limit_s: float, jobs: int) -> Iterator[Row]:
    """Yield the rows of these cells as they are ready, in order."""
    one = partial(row_of, seed=seed, limit_s=limit_s)
    if jobs == 1:
        yield from map(one, numbers)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, numbers, chunksize=4)


def _ran(rows: list[Row], solver: str) -> list[Row]:
    return [one for row in rows for one in row.get("runs", []) if one["solver"] == solver]


def _closed(runs: list[Row]) -> int:
    return sum(one.get("ended") in ("gap_limit", "converged_global") for one in runs)


def _refused(runs: list[Row]) -> int:
    return sum(one.get("ended") == "refused" for one in runs)


def _settled(runs: list[Row]) -> int:
    """Runs of exhaustive that came to an end, whatever it was."""
    return sum(one.get("ended") not in ("time_limit", "refused", None) for one in runs)


def summary(rows: list[Row], seed: int) -> str:
    """Return the page: what was found over all, then cells and what closed by variant."""
    kinds = Counter(fault.partition(":")[0] for row in rows for fault in row["faults"])
    exhaustive = _ran(rows, "exhaustive")
    over = [one["over"] for row in rows for one in row.get("runs", []) if one.get("over")]
    lines = [
        f"# fuzz: {len(rows):,} cells of the schema's whole space",
        "",
        f"Made by `python -m benchmarks.studies.fuzz --cells {len(rows)} --seed {seed}`; what is",
        "drawn and what is held against the bounds: the studies `fuzz_cells`, `fuzz_plans`.",
        "Bounds are taken before a plan caps them; plans are pushed to the edge of the tolerance.",
        "",
        f"- errors: {kinds['error']}; warnings: {kinds['warning']}; bounds above a plan that the "
        f"judge accepts (by more than {ROUNDING:g}): {kinds['bound above']}; cells called "
        f"infeasible that have such a plan: {kinds['infeasible with a plan']}",
        f"- greatest bound against the best accepted plan: {max(over, default=-1.0):+.1e} relative",
        f"- exhaustive was asked {len(exhaustive):,} times and settled {_settled(exhaustive):,}",
        f"- certify refused {_refused(_ran(rows, 'certify')):,} cells and closed its gap in "
        f"{_closed(_ran(rows, 'certify')):,} of "
        f"{sum(row['state'] == 'feasible' for row in rows):,} feasible cells",
        "",
        "| variant | cells | refused | feasible | infeasible | certify refused | closed |"
        " not closed | exhaustive settled | faults |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        states = Counter(row["state"] for row in mine)
        certified = _ran([row for row in mine if row["state"] == "feasible"], "certify")
        lines.append(
            f"| {variant} | {len(mine)} | {states['refused']} | {states['feasible']} |"
            f" {states['infeasible']} |"
            f" {_refused(certified)} | {_closed(certified)} |"
            f" {len(certified) - _closed(certified) - _refused(certified)} |"
            f" {_settled(_ran(mine, 'exhaustive'))} | {sum(len(row['faults']) for row in mine)} |"
        )
    faulty = [f"- cell {row['round']} ({row['variant']}): {fault}"
              for row in rows for fault in row["faults"]]  # fmt: skip
    return "\n".join([*lines, *(["", *faulty] if faulty else [])]) + "\n"


def main() -> int:
    """Run a fuzz, or go on with it, and return the exit status without unit: 0 for no fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1.0, help="seconds for each solver and cell")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="folder of the rows; out/fuzz-SEED")
    parser.add_argument("--page", type=Path, help="file for the page")
    parser.add_argument("--cell", type=int, help="this cell only; nothing is kept")
    given = parser.parse_args()
    if given.cell is not None:
        row = row_of(given.cell, given.seed, given.limit)
        print(json.dumps(row, indent=1))
        return int(bool(row["faults"]))
    out = given.out or Path("out") / f"fuzz-{given.seed}"
    out.mkdir(parents=True, exist_ok=True)
    settings = {"seed": given.seed, "limit_s": given.limit, "variants": list(VARIANTS)}
    with RowFile(out, settings, resume=True) as file:
        missing = [number for number in range(given.cells) if number not in file.rounds]
        for row in rows_for(missing, given.seed, given.limit, given.jobs):
            file.append(row)
            for fault in row["faults"]:
                print(f"cell {row['round']} ({row['variant']}): {fault}", file=sys.stderr)
            if row["round"] % 100 == 99:
                print(f"{row['round'] + 1:,} cells", file=sys.stderr)
        rows = [row for row in file.rows if row["round"] < given.cells]
    page = summary(rows, given.seed)
    print(page)
    if given.page is not None:
        given.page.write_text(page)
    enough = _settled(_ran(rows, "exhaustive")) >= SETTLED * len(rows)
    return int(any(row["faults"] for row in rows) or not enough)


if __name__ == "__main__":
    sys.exit(main())
