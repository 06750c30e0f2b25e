"""Is the certified plan ever worse than a scheme that its problem contains? Random cells.

``OMP_NUM_THREADS=1 python -m benchmarks.studies.schemes_contained`` compares, on the random cells
of seeds 0 to 299, sft with the schemes whose every decision problem (13) allows, and writes a row
for each cell and the page ``schemes_contained.md``; with ``--tokens`` encoders also offer the
tokens of tsflora, at a loss that is taken as measured, and tsflora is one of the schemes (rows and
page ``schemes_contained_tokens``). A ratio below 1 - 1.2e-4 (sft's gap is 1e-4) is
a fault of the planner, of the judge or of a scheme.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.studies.schemes_cells import random_cell
from sftopt.core.status import Termination
from sftopt.studies.compare import Settings, compare_cell

CONTAINED = (
    "one-for-all", "int8-best", "int8", "int8:shares=best", "no-compression", "splitlora", "greedy",
)  # fmt: skip
"""Schemes whose plans are plans of problem (13) where dense 8 and none are on offer."""
TOLERANCE = 1.2e-4
"""By how much, relative, a contained scheme may seem to be faster: the gap, and rounding."""
LIMIT_S = 10.0
"""Time limit of each planner; where the proof of sft is not closed by then, the page says so."""
OUT = Path("benchmarks/results/schemes_contained.jsonl")
"""Where rows are kept."""
OUT_TOKENS = OUT.with_name("schemes_contained_tokens.jsonl")
"""Where those of cells with tokens are."""


WITH_TOKENS = (*CONTAINED, "tsflora")
"""The same where tsflora's tokens are on offer with a known loss."""


def row_of(seed: int, *, tokens: bool = False) -> dict[str, Any]:
    """Compare on one cell; ``ratios`` are those of schemes that the judge does not refuse."""
    instance = random_cell(seed, tokens=tokens)
    offered = any(mode.tokens is not None for mode in instance.compression.modes)
    asked = WITH_TOKENS if offered else CONTAINED
    rows = compare_cell(instance, asked, Settings(time_limit=LIMIT_S))
    sft = rows[0]
    contained = {row.scheme: row for row in rows if row.scheme in asked}
    ratios = {
        name: float(f"{row.ratio_to_sft:.7g}")
        for name, row in contained.items()
        if row.refused is None and row.ratio_to_sft is not None
    }
    return {
        "seed": seed,
        "cell": instance.name,
        "sft_s": sft.round_s,
        "bound_s": sft.bound_s,
        "closed": sft.termination is not Termination.TIME_LIMIT,
        "asked": len(asked),
        "ratios": ratios,
        "refused": sorted(name for name, row in contained.items() if row.refused is not None),
    }


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """Name every contained scheme that is faster than sft, and every one that sft lacks a plan to
    be compared with.
    """
    found = []
    for row in rows:
        found += [
            f"seed {row['seed']}: {name} at {ratio:.7g} of sft"
            for name, ratio in row["ratios"].items()
            if ratio < 1.0 - TOLERANCE
        ]
        if row["sft_s"] is None and len(row["refused"]) < row.get("asked", len(CONTAINED)):
            found.append(f"seed {row['seed']}: a contained scheme has a plan, sft has none")
    return found


def _named(row: dict[str, Any]) -> set[str]:
    """The schemes that a row says something of."""
    return {*row["ratios"], *row["refused"]}


def page(rows: list[dict[str, Any]]) -> str:
    """Write the Markdown page of the rows."""
    tokens = any("tsflora" in _named(row) for row in rows)
    lines = [
        "# Schemes that problem (13) contains" + (", tokens among its modes" if tokens else ""),
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.studies.schemes_contained"
        f"{' --tokens' if tokens else ''}`: "
        f"{len(rows)} random cells of 2 to 6 devices, seeds {rows[0]['seed']} to "
        f"{rows[-1]['seed']}, every variant of the model. sft is certified to 1e-4; a contained "
        f"scheme below 1 - {TOLERANCE:g} of it would be a fault. Faults: {len(faults(rows))}. In "
        f"{sum(not row['closed'] for row in rows)} cells the proof was not closed within "
        f"{LIMIT_S:g} s; sft is then the better of certify's and greedy's plan; "
        f"{sum(row['sft_s'] is None for row in rows)} cells have no plan at all.",
        "",
        "| scheme | cells | refused | least ratio | median |",
        "|---|---|---|---|---|",
    ]
    for name in WITH_TOKENS if tokens else CONTAINED:
        values = sorted(row["ratios"][name] for row in rows if name in row["ratios"])
        refused = sum(name in row["refused"] for row in rows)
        middle = values[len(values) // 2] if values else float("nan")
        least = values[0] if values else float("nan")
        lines.append(f"| {name} | {len(values)} | {refused} | {least:.6f} | {middle:.4g} |")
    lines += ["", *(f"* {fault}" for fault in faults(rows))]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run the study from a command line; exit status 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--count", type=int, default=300)
    given = parser.parse_args()
    out: Path = given.out or (OUT_TOKENS if given.tokens else OUT)
    rows: list[dict[str, Any]] = []
    if out.exists():
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for seed in range(len(rows), given.count):
        rows.append(row_of(seed, tokens=given.tokens))
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    out.with_suffix(".md").write_text(page(rows), encoding="utf-8")
    raise SystemExit(1 if faults(rows) else 0)


if __name__ == "__main__":
    main()
