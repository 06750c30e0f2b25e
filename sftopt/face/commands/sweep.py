"""``sftopt sweep``: schemes over a range of cells, as lines for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import InputError
from sftopt.face.arguments import (
    BaselinesOption,
    JsonOption,
    RowsOption,
    TitleOption,
    WidthOption,
    look_asked,
)
from sftopt.face.commands.instance_input import written_values
from sftopt.face.lists import names
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_warnings, warnings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.studies.sweep import Axis, Sweep

MOST_AXES = 2
"""Axes of several values that a figure shows."""
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
    seeds: Annotated[
        int, typer.Option("--seeds", help="Cells of the family drawn at every point.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The first of their seeds.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Hold a field in every cell, as in server.compute_tflops=20; repeatable.",
            show_default=False,
        ),
    ] = None,
    baselines: BaselinesOption = True,
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
    width: WidthOption = None,
    title: TitleOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Compare schemes over a range of fields and draw how their rounds change.

    Every cell is compared as by 'sftopt compare'. A seed draws the devices of a family's cell
    anew, so one cell of your own has none. The line is the median over the seeds, bars reach from
    the least to the most; hollow marks are points at which the scheme is refused in some cell.
    Axes of a single value are not counted for the figure. DIR holds rows.jsonl, summary.json,
    rows.csv, sweep.csv, sweep.tex and the figures; Ctrl-C loses nothing, --resume goes on.
    """
    from sftopt.core.files import write_csv
    from sftopt.core.library import load
    from sftopt.core.table_files import check_ending, write_table
    from sftopt.face.steps import Steps
    from sftopt.studies.compare.metrics import metric_of, unknown_on
    from sftopt.studies.sweep import axis_of
    from sftopt.studies.sweep import sweep as run
    from sftopt.studies.sweep.tables import write_latex

    metric_of(metric)
    look_asked(width, title, "" if plots else "leave --no-plots out")
    fixed = written_values(set_ or [])
    axes = [axis_of(text) for text in vary]
    values = {axis.name: axis.values for axis in axes}
    if len(values) < len(axes):
        raise InputError("--vary: a field is varied twice; give all its values at once")
    if table is not None:
        check_ending(table, "--table")
        ensure_writable(table)
    several = [axis for axis in axes if len(axis.values) > 1]
    if plots and len(several) > MOST_AXES:
        tell(f"{len(several)} axes are varied: no figure is drawn; rows.csv has everything")
        plots = False
    given = load(instance)
    tell_warnings(given)
    lacking = unknown_on(metric, given)
    if lacking is not None and not any("energy_coefficient" in name for name in (*values, *fixed)):
        tell(f"warning: --metric {metric} will not be known: {lacking}")
    _tell_moved(given, axes, fixed)
    asked = None if schemes is None else names(schemes)
    with engines_on_stderr(), Steps("cells", 0, enabled=not quiet) as steps:
        made = run(  # by its name: a family is drawn anew for every seed and number of devices
            instance, values, schemes=asked, seeds=seeds, seed=seed, fixed=fixed,
            baselines=baselines, time_limit=time_limit, rel_gap=rel_gap, out=out,
            resume=resume,
            on_cell=lambda done, total, row: steps.of(done, total, row.cell),
        )  # fmt: skip
    write_csv(made.flat_rows(), out / "rows.csv")
    write_csv(made.spread(metric), out / "sweep.csv")
    write_latex(made, out / "sweep.tex", metric)
    drawn = _drawn(made, metric, out, width, title) if plots else []
    if table is not None:
        write_table(made.flat_rows(), table, f"sftopt sweep {made.instance}")
    for path in filter(None, (*drawn, table)):
        tell(f"wrote {path}")
    data = {**made.to_dict(), "out": str(out), "plots": [str(path) for path in drawn],
            "warnings": as_data(warnings_of(given))}  # fmt: skip
    return Answer(data, lambda console: _show(console, made, metric))


def _tell_moved(given: Instance, axes: Sequence[Axis], fixed: Mapping[str, Any]) -> None:
    """Say what moves along with speeds that are set or varied."""
    from sftopt.core.carried import carried, carried_note, set_in_si

    edits = set_in_si(given, fixed)
    for axis in axes:
        if not axis.counts_devices:
            edits |= axis.edits(given, axis.values[0])
    note = carried_note(carried(given, edits))
    if note is not None:
        tell(f"note: {note}")


def _drawn(
    made: Sweep, metric: str, out: Path, width: str | None, title: bool | None
) -> list[Path]:
    from sftopt.core.pictures.saving import save_for_paper

    shown = made.shown(metric)
    if shown.unknown is not None:
        tell(f"no figure is drawn: {shown.unknown}")
        return []
    for one, other in shown.near.items():
        tell(f"note: {one} is within 2 % of {other} at every point; its line lies on the other's")
    return save_for_paper({"sweep": made.plot(None, metric, width=width, title=title)}, out)


def _show(console: Console, made: Sweep, metric: str) -> None:
    from rich.text import Text

    from sftopt.face.escaped import visible
    from sftopt.face.tables import facts, table
    from sftopt.studies.compare.notes import POWER, POWER_NOTE

    console.print(facts([
        ("sweep of", made.instance),
        ("axes", "; ".join(f"{axis.name}: {len(axis.values)} values" for axis in made.axes)),
        ("held", made.shown(metric).held),
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
    if any(POWER in scheme for scheme in made.schemes):
        console.print(Text(POWER_NOTE))
    problem = made.shown(metric).unknown
    if problem is not None:
        console.print(Text(visible(f"{problem}.")))
    if made.scales_with_devices:
        console.print(Text(visible(_scaled(made.scales_with_devices))))


def _scaled(fields: dict[str, list[Any]]) -> str:
    """What else changes with the number of devices, and how to hold it."""
    from sftopt.studies.sweep.words import range_of, words_of, written_as

    told = [
        f"{words_of(field)} {range_of(field, at)}"
        for field, at in list(fields.items())[:_SHOWN_FIELDS]
    ]
    more = len(fields) - _SHOWN_FIELDS
    if more > 0:
        told.append(f"and {more} more (summary.json)")
    first = next(iter(fields))
    return (
        f"With the number of devices the family also changes {', '.join(told)}. "
        f"Hold a field with --set, as in --set {written_as(first)}=VALUE."
    )


def _ends(rows: list[dict[str, Any]]) -> list[str]:
    """Least of the least, median of the medians, most of the most."""
    from statistics import median

    known = [row for row in rows if row["median"] is not None]
    if not known:
        return ["-", "-", "-"]
    least = min(row["least"] for row in known)
    most = max(row["most"] for row in known)
    return [f"{value:.4g}" for value in (least, median(row["median"] for row in known), most)]
