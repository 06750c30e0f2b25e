"""``sftopt export``: a formulation of an instance as a file for other solvers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_warnings, warnings_of

UpperBoundOption = Annotated[
    float | None,
    typer.Option(
        "--upper-bound",
        metavar="SECONDS",
        help="Bound times and shares by this delay: slower plans may be cut off. Without it the "
        "bounds hold whatever you add on cuts, modes and keep fractions.",
    ),
]


def export(
    instance: InstanceArgument,
    formulation: Annotated[
        str, typer.Option("--formulation", help="A formulation by name ('sftopt solvers').")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The ending names the format: .nl, or .mps/.lp for joint-grid-milp.",
        ),
    ],
    upper_bound: UpperBoundOption = None,
    json: JsonOption = False,
) -> Answer:
    """Write the model for other solvers.

    Names are the model's own; those of .nl are in .col and .row beside it. Take a solver's answer
    back with 'sftopt import-solution'.
    """
    from sftopt.core.library import load
    from sftopt.solvers.run import build

    loaded = load(instance)
    ensure_writable(out)
    tell_warnings(loaded)
    with engines_on_stderr():
        model = build(loaded, formulation, upper_bound_s=upper_bound)

        from sftopt.formulations.export import export_model

        files = export_model(model, out)
    unit = float(model.objective_unit_s)
    tell(f"wrote {', '.join(str(file) for file in files)}")
    tell(f"the objective times {unit!r} (objective_unit_s) is the round delay in seconds")
    return Answer(
        {"file": str(out), "files": [str(file) for file in files], "objective_unit_s": unit,
         "instance": loaded.name, "instance_hash": loaded.hash, "formulation": formulation,
         "warnings": as_data(warnings_of(loaded))},
        f"{loaded.name} as {formulation}: {out}",
    )  # fmt: skip
