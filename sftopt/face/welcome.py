"""What ``sftopt`` says by itself: what people do first, and which engines there are."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

FIRST = """\
Plan split fine-tuning of large language models over a wireless cell.

What people do first:

  plan a bundled cell, and open the page of its plan
    sftopt plan jetson-vit-b --out plan.json --report plan.html

  see what it buys against published schemes and plain baselines
    sftopt compare jetson-vit-b --plot compare.png

  make a cell of their own devices
    sftopt instance template --out devices.csv
    sftopt instance from-csv devices.csv --out cell.json

  draw the figure of a paper
    sftopt sweep gpt2-e2e --vary devices=2,4,6 --seeds 3 --out sweep

All commands: sftopt --help. What runs on this machine: sftopt doctor."""
"""Shown where no command is given."""

ENGINES = (
    "numpy", "scipy", "numba", "pyomo", "cvxpy", "casadi", "cyipopt", "pyscipopt", "highspy",
    "clarabel", "scs", "maingopy", "gurobipy", "torch", "transformers", "peft",
)  # fmt: skip
"""Distributions whose versions matter to a report of a fault."""


def versions() -> dict[str, str | None]:
    """Return the version of Python and of every engine; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ENGINES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def version_text(own: str) -> str:
    """Return the version and, on the line below, those of the engines that are there."""
    there = [f"{name} {number}" for name, number in versions().items() if number is not None]
    lines, line = [], ""
    for part in there:
        if line and len(line) + 2 + len(part) > 78:
            lines.append(line + ",")
            line = ""
        line = f"{line}, {part}" if line else part
    return "\n".join([f"sftopt {own}", *lines, line])
