"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import InputError

if TYPE_CHECKING:
    from sftopt.core.pictures.paper import Look

InstanceArgument = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="A bundled instance by name ('sftopt instance list') or the path of a JSON file.",
        show_default=False,
    ),
]

# Commands never read this flag: sftopt.face.cli does, because errors must be JSON as well,
# and those of the command line itself come before any command runs.
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")
]

HIDDEN_JSON = typer.Option("--json", hidden=True)
"""The option ``--json`` of a group of commands: accepted before the verb, too, and shown with the
verb."""

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the file here.", show_default=False),
]

ClusterOption = Annotated[
    str,
    typer.Option(
        "--cluster", metavar="tcp://HOST:PORT", help="Run on this Dask scheduler's workers."
    ),
]
"""Where runs are made if not here."""

TableOption = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="Also write a row for each device: .csv, .parquet or .tex.",
        show_default=False,
    ),
]

RowsOption = Annotated[
    Path | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="Also write the rows: .csv, .parquet or .tex.",
        show_default=False,
    ),
]

ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write a page with pictures: .html, opens without a network.",
        show_default=False,
    ),
]

WidthOption = Annotated[
    str | None,
    typer.Option(
        "--width",
        metavar="INCHES",
        help="Width of the figure: inches, column (3.5) or page (7.16), letters of 8 points.",
        show_default="for the screen",
    ),
]

TitleOption = Annotated[
    bool | None,
    typer.Option(
        "--title/--no-title",
        help="Title and notes in the figure.",
        show_default="on, off with --width",
    ),
]

BaselinesOption = Annotated[
    bool,
    typer.Option(help="one-for-all, int8-best and fp16-best beside the schemes that are named."),
]


def look_asked(width: str | None, title: bool | None, instead: str = "") -> Look:
    """Return the look of a command's figures, as --width and --title/--no-title say.

    ``instead``: where none is drawn, what would draw one. Raises InputError where the look is of
    nothing, or the width is none.
    """
    from sftopt.core.pictures.paper import look_of

    for name, value in (("--width", width), ("--title/--no-title", title)):
        if instead and value is not None:
            raise InputError(
                f"{name} is of a figure, and none is drawn: {instead}, or leave it out"
            )
    return look_of(width, title)
