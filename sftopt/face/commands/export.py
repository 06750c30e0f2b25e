"""``sftopt export``: a formulation of an instance as a file for other solvers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_warnings, warnings_of


def export(
    instance: InstanceArgument,
    formulation: Annotated[
        str, typer.Option("--formulation", help="A formulation by name ('sftopt solvers').")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="The ending names the format: .nl, or .mps/.lp if linear."
        ),
    ],
    json: JsonOption = False,
) -> Answer:
    """Write the model for other solvers."""
    from sftopt.core.library import load
    from sftopt.solvers.run import build

    loaded = load(instance)
    ensure_writable(out)
    tell_warnings(loaded)
    with engines_on_stderr():
        model = build(loaded, formulation)

        from sftopt.formulations.export import export_model

        export_model(model, out)
    tell(f"wrote {out}")
    return Answer(
        {"file": str(out), "instance": loaded.name, "instance_hash": loaded.hash,
         "formulation": formulation, "warnings": as_data(warnings_of(loaded))},
        f"{loaded.name} as {formulation}: {out}",
    )  # fmt: skip
