"""``sftopt solvers``: which solver takes which formulation, and which really run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr

if TYPE_CHECKING:
    from rich.console import Console


def solvers(json: JsonOption = False) -> Answer:
    """List formulations and solvers.

    Each solver is tried on a two-variable probe.
    """
    from sftopt.solvers.run import list_solvers

    with engines_on_stderr():
        listed: dict[str, Any] = list_solvers()
    return Answer(listed, lambda console: _show(console, listed))


def _show(console: Console, listed: dict[str, Any]) -> None:
    from rich.text import Text

    from sftopt.face.tables import table

    available = {item["name"]: item["available"] for item in listed["solvers"]}
    made = table(
        "formulation", "promise", "class", "solvers (x: not available here)",
        left=["promise", "class", "solvers (x: not available here)"],
    )  # fmt: skip
    for item in listed["formulations"]:
        takers = [
            solver["name"] + ("" if available[solver["name"]] else " x")
            for solver in listed["solvers"]
            if item["name"] in solver["formulations"]
        ]
        made.add_row(
            item["name"], item["promise"] or "-", item["problem_class"] or "-", ", ".join(takers)
        )
    console.print(made)
    console.print()
    made = table("solver", "runs", "wrapper", "engine", left=["runs", "wrapper", "engine"])
    for item in listed["solvers"]:
        made.add_row(
            item["name"],
            "yes" if item["available"] else "no",
            item["version"] or "-",
            item["engine_version"] or "-",
        )
    console.print(made)
    for item in listed["solvers"]:
        if not item["available"]:
            console.print(Text(f"{item['name']}: {item['reason']}"))
            if item["fix"]:
                console.print(Text(f"   to mend it: {item['fix']}"))
