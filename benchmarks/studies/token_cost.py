"""How much longer does certify take with three token modes on offer?

``python -m benchmarks.studies.token_cost --out benchmarks/results/token_cost.jsonl`` solves cells
of four families to a gap of 1e-4, without and with the modes, and appends one row for each cell:
medians of CPU seconds, both ways by turns. It goes on where it stopped; the page beside the rows is
made of them. The goal is a ratio of at most 1.5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import cell
from sftopt.core.derived import Derived, derive
from sftopt.core.files import write_text
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.options import Options
from tests.token_cells import with_token_modes

Row = dict[str, Any]

FAMILIES = ("jetson-vit-b", "straggler", "weichen", "weak-server")
"""Families whose tokens may be dropped."""
SIZES = (12, 30, 100, 300, 1000)
"""Numbers of devices."""
REL_GAP = 1e-4
"""The gap asked for."""
_LOADED = (12, 30, 320)
"""Numbers of devices that between them call all that is compiled."""
GOAL = 1.5
"""The ratio aimed at."""


def solved(derived: Derived, limit_s: float) -> tuple[float, Outcome]:
    """Solve a cell once; returns CPU seconds and the outcome."""
    options = Options(time_limit=limit_s, rel_gap=REL_GAP)
    task = Task(derived, get_formulation("native"), None, None, options, Deadline(limit_s))
    began = time.process_time()
    found = SOLVER.run(task)
    return time.process_time() - began, found


def row_of(family: str, devices: int, seed: int, repeats: int, limit_s: float) -> Row:
    """Return the row of one cell: median CPU seconds and gaps without and with the modes."""
    instance = cell(family, devices, seed)
    cells = {"plain": derive(instance), "tokens": derive(with_token_modes(instance))}
    row: Row = {"family": family, "devices": devices, "seed": seed}
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(repeats):
        for name, derived in cells.items():
            took, found = solved(derived, limit_s)
            assert found.claimed_s is not None
            seconds[name].append(took)
            row[f"{name}_gap"] = 1.0 - (found.bound_s or 0.0) / found.claimed_s
            row[f"{name}_nodes"] = found.nodes
    for name, taken in seconds.items():
        row[f"{name}_s"] = round(statistics.median(taken), 5)
    return row


def page_of(rows: Sequence[Row], command: str) -> str:
    """Return the page of the rows."""
    ratios = [ratio_of(row) for row in rows]
    opened = [row for row in rows if row["tokens_gap"] > REL_GAP]
    lines = [
        "# What three token modes cost certify",
        "",
        f"Made by `{command}`: CPU seconds to a gap of {REL_GAP:g}, median of runs by turns, of "
        f"{len(rows)} cells. Ratio: with the modes over without.",
        "",
        f"- median ratio {statistics.median(ratios):.2f}; at most {GOAL:g} in "
        f"{sum(ratio <= GOAL for ratio in ratios)} of {len(rows)} cells; largest "
        f"{max(ratios):.1f}",
        f"- open at the time limit: {len(opened)}"
        + "".join(
            f"; {row['family']}, {row['devices']} devices, seed {row['seed']}: gap "
            f"{row['tokens_gap']:.1e}"
            for row in opened
        ),
        "",
        "| family | devices | seeds | without, median s | with, median s | ratios, by seed |",
        "|---|---|---|---|---|---|",
    ]
    for family in dict.fromkeys(row["family"] for row in rows):
        for devices in sorted({row["devices"] for row in rows if row["family"] == family}):
            own = [row for row in rows if (row["family"], row["devices"]) == (family, devices)]
            plain, tokens = (
                statistics.median(row[f"{name}_s"] for row in own) for name in ("plain", "tokens")
            )
            each = ", ".join(f"{ratio_of(row):.2f}" for row in own)
            lines.append(
                f"| {family} | {devices} | {len(own)} | {plain:.3f} | {tokens:.3f} | {each} |"
            )
    return "\n".join(lines) + "\n"


def ratio_of(row: Row) -> float:
    """Return the ratio of a row: with the modes over without."""
    return float(row["tokens_s"] / row["plain_s"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Append the rows that are missing, write the page, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="cells of each family and size")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of devices")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for each run")
    parser.add_argument("--out", type=Path, required=True, help="rows; the page lies beside them")
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    if given.out.is_file():
        rows = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    done = {(row["family"], row["devices"], row["seed"]) for row in rows}
    for family in FAMILIES:  # what is compiled is loaded now
        for devices in _LOADED:
            row_of(family, devices, 1, 1, given.limit)
    for devices in map(int, given.sizes.split(",")):
        for family in FAMILIES:
            for seed in range(1, given.seeds + 1):
                if (family, devices, seed) in done:
                    continue
                rows.append(row_of(family, devices, seed, given.repeats, given.limit))
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    command = "python -m benchmarks.studies.token_cost --out benchmarks/results/token_cost.jsonl"
    write_text(given.out.with_suffix(".md"), page_of(rows, command))
    print(given.out.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
