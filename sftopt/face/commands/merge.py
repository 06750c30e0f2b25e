"""``sftopt merge``: a fine-tuning as one model that transformers loads without us."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.training.merge import Merged


def merge(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Of a finished finetune.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    local_files_only: Annotated[
        bool, typer.Option("--local-files-only", help="Never ask a model hub.")
    ] = False,
    json: JsonOption = False,
) -> Answer:
    """Write the tuned model with its adapters in the weights.

    DIR then loads in plain transformers: weights, configuration with the classes' names, and the
    base model's tokenizer or image processor. It appears when all is written, or not at all.

    Exit code 2: FOLDER holds no finished fine-tuning, its base model has changed since, or DIR
    holds something; 4: memory did not suffice.
    """
    from sftopt.face.quiet import quiet_libraries
    from sftopt.training.merge import merge as run

    with engines_on_stderr(), quiet_libraries():
        made = run(folder, out, local_files_only=local_files_only)
    data = {
        "model": str(made.path),
        "base_model": made.base_model,
        "class": made.kind,
        "parameters": made.parameters,
        "files": list(made.files),
    }
    return Answer(data, lambda console: _show(console, made))


def _show(console: Console, made: Merged) -> None:
    from sftopt.face.tables import facts

    console.print(facts([
        ("model", str(made.path)),
        ("made of", made.base_model),
        ("loads as", f"transformers.{made.kind}"),
        ("parameters", f"{made.parameters:,}"),
        ("files", ", ".join(made.files)),
    ]))  # fmt: skip
