"""``sftopt import-solution``: another solver's solution file as a verified plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import ExitCode
from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.commands.export import UpperBoundOption
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.solvers.solutions import ImportedPlan


def import_solution(
    instance: InstanceArgument,
    formulation: Annotated[
        str, typer.Option("--formulation", help="The formulation that was exported.")
    ],
    sol: Annotated[
        Path,
        typer.Option(
            "--sol", metavar="FILE", help="A solution file of HiGHS, SCIP or a solver of .nl files."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the plan here.", show_default=False),
    ] = None,
    upper_bound: UpperBoundOption = None,
    json: JsonOption = False,
) -> Answer:
    """Turn a solver's solution file into a verified plan.

    The file answers 'sftopt export' of the same instance and formulation (and upper bound). HiGHS
    and SCIP name variables; files of .nl solvers go by the order of the .nl's columns, and the .col
    beside the solution file is compared where there is one.

    Exit code 0: verified; 4: the file holds no point; 5: a limit is violated.
    """
    from sftopt.core.library import load
    from sftopt.solvers.solutions import import_solution as imported

    loaded = load(instance)
    if out is not None:
        ensure_writable(out)
    tell_warnings(loaded)
    with engines_on_stderr():
        found = imported(loaded, formulation, sol, upper_bound_s=upper_bound)
    verdict, plan = found.verdict, found.plan
    tell_delay(verdict.objective_s)
    saved = out if verdict.feasible else None
    if saved is not None:
        plan.save(saved)
        tell(f"wrote {saved}")
    problem = "" if verdict.feasible else f"{sol}: refuted: the plan of its point breaks a limit"
    return Answer(
        {
            "instance": loaded.name,
            "instance_hash": loaded.hash,
            "formulation": formulation,
            "solution_file": str(sol),
            "solution_writer": found.writer,
            "solution_status": found.status,
            "objective_claimed_s": found.objective_claimed_s,
            "feasible": verdict.feasible,
            "objective_s": verdict.objective_s,
            "violations": [item.model_dump(mode="json") for item in verdict.violations],
            "plan": plan.to_dict(),
            "plan_file": None if saved is None else str(saved),
            "message": found.how,
            "warnings": as_data(warnings_of(loaded, verdict.objective_s)),
        },
        lambda console: _show(console, loaded, found),
        code=ExitCode.OK if verdict.feasible else ExitCode.REFUTED,
        problem=problem,
    )


def _show(console: Console, instance: Instance, found: ImportedPlan) -> None:
    from sftopt.face.tables import facts, seconds_text, show_devices, violation_table

    verdict = found.verdict
    rows = [
        ("verdict", "feasible" if verdict.feasible else "refuted"),
        ("instance", instance.name),
        ("round", seconds_text(verdict.objective_s)),
        ("file says", f"{seconds_text(found.objective_claimed_s)} ({found.writer})"),
    ]
    if found.status:
        rows.append(("status in file", found.status))
    if found.how:
        rows.append(("note", found.how))
    console.print(facts(rows))
    if verdict.violations:
        console.print()
        console.print(violation_table(verdict.violations))
    console.print()
    show_devices(console, found.plan, verdict.breakdown)
