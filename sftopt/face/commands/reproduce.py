"""``sftopt reproduce``: claims of the papers on a fixed grid of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import InputError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr, tell

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.reproduce import Reproduction


def reproduce(
    claim: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLAIM]...", help="Claims by name.", show_default="all"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Rows, summary, claims.md, heat maps.", show_default=False
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the claims and end.")] = False,
    cells: Annotated[
        int | None,
        typer.Option("--cells", help="Only the first so many cells.", show_default="all 75"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the cells.")] = 0,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Wall seconds of the planner a cell.")
    ] = 120.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run ended.")] = False,
    plots: Annotated[bool, typer.Option(help="Draw a heat map for each claim.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Try the claims of the papers on a fixed grid of cells.

    Says for each claim in how many cells it is reached, against which baseline, under what
    condition, and what had to be assumed; never just "reproduced". The grid is part of the package
    and was fixed before the first run. Published tables that follow from their settings alone are
    set beside ours.
    """
    from sftopt.face.steps import Steps
    from sftopt.studies.reproduce import CLAIMS
    from sftopt.studies.reproduce import reproduce as run
    from sftopt.studies.reproduce.run import EXACT

    if listed:
        known = [{"name": c.name, "text": c.text, "source": c.source} for c in CLAIMS]
        known += [{"name": name, "text": "published table", "source": ""} for name in EXACT]
        return Answer({"claims": known}, "\n".join(f"{k['name']:20}{k['text']}" for k in known))
    if out is None:
        raise InputError("--out DIR is needed: the rows of all cells go there")
    with engines_on_stderr(), Steps("cells", 0, enabled=not quiet) as steps:
        made = run(claim or None, seed=seed, most_cells=cells, time_limit=time_limit, out=out,
                   resume=resume,
                   on_cell=lambda done, total, name: steps.of(done, total, name))  # fmt: skip
    drawn = _drawn(made, out) if plots else []
    for path in drawn:
        tell(f"wrote {path}")
    data = {**made.to_dict(), "out": str(out), "plots": [str(path) for path in drawn]}
    return Answer(data, lambda console: _show(console, made))


def _drawn(made: Reproduction, out: Path) -> list[Path]:
    from sftopt.core.pictures.saving import save
    from sftopt.studies.reproduce.figure import figure_of

    paths = []
    for one in made.findings:
        if any(trial.by_cell for trial in one.trials):
            paths.append(out / f"{one.claim}.png")
            save(figure_of(one), paths[-1])
    return paths


def _show(console: Console, made: Reproduction) -> None:
    from rich.text import Text

    from sftopt.face.tables import table

    for one in made.findings:
        per_cent = one.unit != "times"
        rows = table("against", "figure", "reached", "least", "median", "most",
                     title=f"{one.claim}: {one.text}")  # fmt: skip
        for trial in one.trials:
            values = [
                "-" if v is None else f"{100 * v:.1f} %" if per_cent else f"{v:.2f}"
                for v in (trial.least, trial.median, trial.most)
            ]
            reached = f"{trial.reached} of {trial.cells}"
            rows.add_row(trial.against, trial.figure, reached, *values)
        console.print(rows)
        console.print(Text(f"Assumed: {one.assumed}."))
        console.print()
    if made.exact:
        agree = sum(bool(entry["agrees"]) for entry in made.exact)
        console.print(Text(f"Published tables: {agree} of {len(made.exact)} numbers agree."))
