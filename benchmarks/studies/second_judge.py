"""Do two judges, written apart from one page, agree? Random plans, every number to 1e-12.

The second judge (tests/second_judge.py) was written from the model's page without the code of the
first. Cells and plans are random: all families, variants, modes and orders, inside and outside
their limits. Each plan is drawn from its own seed, so that one can be looked at alone.

    python -m benchmarks.studies.second_judge --plans 10000 --out benchmarks/results/second_judge.md
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sftopt.core.files import write_text
from tests.second_judge_compare import RELATIVE, Comparison, compare
from tests.second_judge_draws import TODAY, Case, Draw

SHOWN = 20
"""Disagreements that the page shows in full."""


@dataclass
class Tally:
    """What came of all plans: counts by kind, and the largest relative difference by number."""

    plans: Counter[str] = field(default_factory=Counter)
    feasible: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    disagreeing: int = 0

    def add(self, seed: int, case: Case, found: Comparison) -> None:
        """Add one plan's comparison."""
        order = case.plan["order"]
        self.plans[order] += 1
        self.feasible[order] += found.feasible
        self.counted[order] += found.counted
        self.families.update(found.families)
        self.variants.update(variants(case))
        for name, value in found.largest.items():
            self.largest[name] = max(self.largest.get(name, 0.0), value)
        self.disagreeing += bool(found.lines)
        self.lines += [f"plan {seed} ({order}): {line}" for line in found.lines]


def variants(case: Case) -> set[str]:
    """Name the variants of the model that a case uses."""
    cell, rows = case.instance, case.plan["devices"]
    radio = cell["radio"]
    names = {
        f"power {radio['power']}",
        f"downlink {radio['downlink']}",
        f"adapters {radio['adapter_downlink']}",
        f"fading {radio['fading']}",
        f"server {cell['server_order']}",
        f"accuracy {cell['accuracy']['scope']}",
        *(f"mode {row['mode']}" for row in rows),
    }
    if any(row.get("rank") is not None for row in rows):
        names.add("ranks by device")
    if any(row.get("server_flops_per_s") is not None for row in rows):
        names.add("server speed by device")
    if case.plan.get("sequential_power") == "share":
        names.add("sequential at p_n / N")
    return names


def markdown(tally: Tally, command: str) -> str:
    """Write the study as a page: counts, largest differences, disagreements."""
    total = sum(tally.plans.values())
    worst = max(tally.largest.values(), default=0.0)
    lines = ["# Two judges, written apart from one page", "", f"Made by `{command}`.", ""]
    lines += [
        f"{total} plans, {tally.disagreeing} on which the judges differ: a number by more than "
        f"{RELATIVE:.0e} relative, a family of limits or the verdict. Largest difference seen: "
        f"{worst:.1e}.",
        "",
        "| order | plans | feasible | with numbers |",
        "|---|--:|--:|--:|",
    ]
    for order, count in sorted(tally.plans.items()):
        lines.append(f"| {order} | {count} | {tally.feasible[order]} | {tally.counted[order]} |")
    for title, counts in (("limit missed", tally.families), ("variant", tally.variants)):
        lines += ["", f"| {title} | plans |", "|---|--:|"]
        lines += [f"| {name} | {count} |" for name, count in sorted(counts.items())]
    lines += ["", "| number | largest relative difference |", "|---|--:|"]
    lines += [f"| {name} | {value:.1e} |" for name, value in sorted(tally.largest.items())]
    if tally.lines:
        lines += ["", "## Where they differ", "", *(f"- {line}" for line in tally.lines[:SHOWN])]
        lines += [f"- and {len(tally.lines) - SHOWN} more lines"] * (len(tally.lines) > SHOWN)
    return "\n".join(lines) + "\n"


def study(plans: int, seed: int) -> Tally:
    """Compare the judges on so many plans, drawn from ``seed`` on."""
    tally = Tally()
    for number in range(seed, seed + plans):
        case = Draw(number, TODAY).case()
        tally.add(number, case, compare(case))
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code: 0 where the judges agree on all, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--plans", type=int, default=1000, help="plans to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first, then one by one")
    parser.add_argument("--out", type=Path, help="write the page here as well")
    asked = parser.parse_args(argv)
    command = f"python -m benchmarks.studies.second_judge --plans {asked.plans}"
    if asked.seed:
        command += f" --seed {asked.seed}"
    tally = study(asked.plans, asked.seed)
    page = markdown(tally, command)
    if asked.out is not None:
        write_text(asked.out, page)
    sys.stdout.write(page)
    return 1 if tally.disagreeing else 0


if __name__ == "__main__":
    sys.exit(main())
