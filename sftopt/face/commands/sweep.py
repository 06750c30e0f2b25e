"""``sftopt sweep``: schemes over a range of cells, as lines for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import InputError
from sftopt.face.arguments import JsonOption, RowsOption
from sftopt.face.lists import names
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_warnings, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.sweep import Sweep

_SHOWN_FIELDS = 8
"""Fields that scale with the number of devices and are told one by one."""


def sweep(
    instance: Annotated[
        str, typer.Argument(metavar="INSTANCE", help="A family, drawn by seed, or one cell's file.")
    ],
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="PATH=VALUES",
            help="radio.bandwidth_mhz=5:100:8log, devices=4,10,30, "
            "scale:devices[*].memory_bytes=0.5,1,2; A+B=... sets both; repeatable.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Rows, summary, CSV, LaTeX and figures.")
    ],
    schemes: Annotated[
        str | None,
        typer.Option(
            "--schemes",
            metavar="A,B",
            help="As for compare: card:w=0.5,splitlora.",
            show_default="all",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Cells drawn at every point.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The first of their seeds.")] = 0,
    metric: Annotated[
        str,
        typer.Option("--metric", help="What is drawn: round_s, ratio_to_sft, bytes.up, ..."),
    ] = "round_s",
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Wall seconds of each planner.")
    ] = 60.0,
    rel_gap: Annotated[
        float, typer.Option("--rel-gap", help="Gap at which the planner of sft stops.")
    ] = 1e-4,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a sweep ended.")] = False,
    table: RowsOption = None,
    plots: Annotated[bool, typer.Option(help="Draw sweep.png and sweep.pdf.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Compare schemes over a range of fields and draw how their rounds change.

    Every cell is compared as by 'sftopt compare'. The line is the median over the seeds, the band
    reaches from the least to the most; hollow marks are points at which the scheme is refused in
    some cell. DIR holds rows.jsonl, summary.json, rows.csv, sweep.csv, sweep.tex and the figures;
    Ctrl-C loses nothing, --resume goes on.
    """
    from sftopt.core.files import write_csv
    from sftopt.core.library import load
    from sftopt.core.table_files import check_ending, write_table
    from sftopt.face.steps import Steps
    from sftopt.studies.compare.metrics import metric_of
    from sftopt.studies.sweep import axis_of
    from sftopt.studies.sweep import sweep as run
    from sftopt.studies.sweep.tables import write_latex

    metric_of(metric)
    axes = [axis_of(text) for text in vary]
    values = {axis.name: axis.values for axis in axes}
    if len(values) < len(axes):
        raise InputError("--vary: a field is varied twice; give all its values at once")
    if table is not None:
        check_ending(table, "--table")
        ensure_writable(table)
    given = load(instance)
    tell_warnings(given)
    asked = None if schemes is None else names(schemes)
    with engines_on_stderr(), Steps("cells", 0, enabled=not quiet) as steps:
        made = run(  # by its name: a family is drawn anew for every seed and number of devices
            instance, values, schemes=asked, seeds=seeds, seed=seed, time_limit=time_limit,
            rel_gap=rel_gap, out=out, resume=resume,
            on_cell=lambda done, total, row: steps.of(done, total, row.cell),
        )  # fmt: skip
    write_csv(made.flat_rows(), out / "rows.csv")
    write_csv(made.spread(metric), out / "sweep.csv")
    write_latex(made, out / "sweep.tex", metric)
    drawn = _drawn(made, metric, out) if plots else []
    if table is not None:
        write_table(made.flat_rows(), table, f"sftopt sweep {made.instance}")
    for path in filter(None, (*drawn, table)):
        tell(f"wrote {path}")
    data = {**made.to_dict(), "out": str(out), "plots": [str(path) for path in drawn],
            "warnings": as_data(warnings_of(given))}  # fmt: skip
    return Answer(data, lambda console: _show(console, made, metric))


def _drawn(made: Sweep, metric: str, out: Path) -> list[Path]:
    if len(made.axes) > 2:
        tell(f"{len(made.axes)} axes are varied: no figure is drawn; rows.csv has everything")
        return []
    paths = [out / "sweep.png", out / "sweep.pdf"]
    for path in paths:
        made.plot(path, metric)
    return paths


def _show(console: Console, made: Sweep, metric: str) -> None:
    from rich.text import Text

    from sftopt.face.escaped import visible
    from sftopt.face.tables import facts, table

    console.print(facts([
        ("sweep of", made.instance),
        ("axes", "; ".join(f"{axis.name}: {len(axis.values)} values" for axis in made.axes)),
        ("cells", f"{len(made.rows)} ({len(made.seeds)} at every point)"),
        ("b_ref", " or ".join(map(str, made.reference_bits)) + " bits"),
    ]))  # fmt: skip
    console.print()
    spread = made.spread("ratio_to_sft" if metric == "round_s" else metric)
    shown = "ratio to sft" if metric == "round_s" else metric
    rows = table("scheme", "least", "median", "most", "refused",
                 title=f"{shown}, over all cells")  # fmt: skip
    for scheme in made.schemes:
        own = [row for row in spread if row["scheme"] == scheme]
        rows.add_row(Text(visible(scheme)), *_ends(own),
                     f"{sum(row['refused'] for row in own)} of {len(made.rows)}")  # fmt: skip
    console.print(rows)
    scaled = list(made.scales_with_devices.items())
    for field, at in scaled[:_SHOWN_FIELDS]:
        console.print(Text(f"{field} changes with the number of devices: {_range(at)}"))
    if len(scaled) > _SHOWN_FIELDS:
        console.print(Text(f"and {len(scaled) - _SHOWN_FIELDS} more fields do (summary.json)"))


def _ends(rows: list[dict[str, Any]]) -> list[str]:
    """Least of the least, median of the medians, most of the most."""
    from statistics import median

    known = [row for row in rows if row["median"] is not None]
    if not known:
        return ["-", "-", "-"]
    least = min(row["least"] for row in known)
    most = max(row["most"] for row in known)
    return [f"{value:.4g}" for value in (least, median(row["median"] for row in known), most)]


def _range(values: list[Any]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}"
