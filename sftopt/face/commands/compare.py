"""``sftopt compare``: the published systems and fair baselines on one cell, under one judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import ExitCode
from sftopt.face.arguments import (
    BaselinesOption,
    InstanceArgument,
    JsonOption,
    RowsOption,
    TitleOption,
    WidthOption,
    look_asked,
)
from sftopt.face.lists import names
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from sftopt.studies.compare import Comparison, SchemeRow

_LABEL_WIDTH = 22
"""Characters of a scheme with its options in a table."""


def compare(
    instance: InstanceArgument,
    schemes: Annotated[
        str | None,
        typer.Option(
            "--schemes",
            metavar="A,B",
            help="Schemes, each with its options: card,card:w=0.5,tsflora:kept_tokens=60.",
            show_default="all",
        ),
    ] = None,
    baselines: BaselinesOption = True,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Wall seconds of each planner.")
    ] = 60.0,
    rel_gap: Annotated[
        float, typer.Option("--rel-gap", help="Gap at which the planner of sft stops.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option("--seed", help="Seed of planners that draw.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw delay and traffic: .png, .pdf, .svg.",
            show_default=False,
        ),
    ] = None,
    width: WidthOption = None,
    title: TitleOption = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Also write the rows.", show_default=False),
    ] = None,
    latex: Annotated[
        Path | None,
        typer.Option("--latex", metavar="FILE", help="Also write a table.", show_default=False),
    ] = None,
    table: RowsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Compare published schemes and fair baselines with the best plan.

    Every plan is verified by the same judge on the same cell; sft, the plan of problem (13), is
    the first row, and the fair baselines stand in every table, but for --no-baselines. A scheme
    that breaks a limit by its own choice is refused with the amount; its numbers are still shown.
    One that its paper does not allow here (a decoder under tsflora) is an error where it was
    named. Where nobody names any, schemes in which devices take turns stand there at both powers.
    'sftopt schemes' lists them with their options.

    Exit code 3: the instance is infeasible (proven); 4: the planner of sft found nothing in time.
    """  # fmt: skip
    from sftopt.core.library import load
    from sftopt.core.pictures.saving import check_picture
    from sftopt.core.sense import sense_warnings
    from sftopt.core.status import Termination
    from sftopt.core.table_files import check_ending
    from sftopt.face.steps import Steps
    from sftopt.studies.compare import compare as run
    from sftopt.studies.compare.tables import (
        write_comparison_csv,
        write_comparison_table,
        write_latex,
    )

    look = look_asked(width, title, "" if plot else "give --plot FILE")
    given = load(instance)
    if table is not None:
        check_ending(table, "--table")
    if plot is not None:
        check_picture(plot)
    for path in (plot, csv, latex, table):
        if path is not None:
            ensure_writable(path)
    for warning in sense_warnings(given):
        tell(f"warning: {warning}")
    tell_warnings(given)
    asked = None if schemes is None else names(schemes)
    with engines_on_stderr(), Steps("schemes", 0, enabled=not quiet) as steps:
        found = run(
            given, asked, time_limit=time_limit, rel_gap=rel_gap, seed=seed, baselines=baselines,
            on_scheme=steps.of,
        )  # fmt: skip
    tell_delay(found.schemes[0].round_s)
    if plot is not None:
        found.plot(plot, width=width, title=title)
        tell(f"wrote {plot}")
        if not look.title:
            tell(f"for the caption: {' '.join(found.notes())}")
    files = ((csv, write_comparison_csv), (latex, write_latex), (table, write_comparison_table))
    for path, write in files:
        if path is not None:
            write(found, path)
            tell(f"wrote {path}")
    code, problem = ExitCode.OK, ""
    first = found.schemes[0]
    if first.plan is None:
        proven = first.termination is Termination.INFEASIBLE_PROVEN
        code = ExitCode.INFEASIBLE if proven else ExitCode.NO_POINT
        problem = f"sft has no plan, so there are no ratios: {first.refused}"
    data = {**found.to_dict(), "warnings": as_data(warnings_of(given, first.round_s))}
    return Answer(data, lambda console: _show(console, found), code, problem)


def _show(console: Console, found: Comparison) -> None:
    from rich.text import Text

    from sftopt.face.escaped import visible
    from sftopt.face.tables import counted, facts

    first = found.schemes[0]
    proven = "" if first.bound_s is None else f"no plan is faster than {first.bound_s:.6g} s"
    console.print(facts([
        ("instance", f"{found.instance}: {counted(found.devices, 'device')}"),
        ("b_ref", f"{found.reference_bits} bits: what a boundary element has uncompressed"),
        ("proven", proven),
    ]))  # fmt: skip
    for draw in (_delays, _traffic, _costs, _decisions):
        console.print()
        console.print(draw(found.schemes))
    console.print()
    for row in found.schemes:
        if row.changes:
            console.print(Text(visible(f"{row.scheme}: judged with {', '.join(row.changes)}.")))
    for note in found.notes():
        console.print(Text(visible(note)))
    console.print(
        Text("! refused. Energy without the server's radio, idle and codecs. - not known.")
    )


def _name(row: SchemeRow) -> str:
    from sftopt.face.tables import name_text

    mark = "!" if row.refused is not None else ""
    return mark + name_text(row.scheme, _LABEL_WIDTH - len(mark))


def _text(value: float | None, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:.4g}"


def _slack(value: float | None) -> str:
    """What is left of a limit; what a plan may miss it by is shown as nothing left."""
    from sftopt.core.tolerance import FEASIBILITY_TOLERANCE

    within = value is not None and abs(value) <= FEASIBILITY_TOLERANCE * (1.0 + 1e-6)
    return "0" if within else _text(value)


def _span(values: tuple[int, ...] | None) -> str:
    if values is None:
        return "-"
    return str(values[0]) if len(set(values)) == 1 else "-".join(map(str, values))


def _delays(rows: Sequence[SchemeRow]) -> Table:
    from sftopt.face.tables import table

    made = table("scheme", "round", "ratio", "device", "uplink", "server", "down", "adapt",
                 title="seconds of a round, and its ratio to sft")  # fmt: skip
    for row in rows:
        part = row.parts
        parts = (None,) * 5 if part is None else (
            part.device_s, part.uplink_s, part.server_s, part.downlink_s, part.adapters_s
        )  # fmt: skip
        made.add_row(_name(row), *map(_text, (row.round_s, row.ratio_to_sft, *parts)))
    return made


def _traffic(rows: Sequence[SchemeRow]) -> Table:
    from sftopt.face.tables import table

    made = table("scheme", "up", "down", "adapt", "head", "labels", "all",
                 title="MB of a round, all devices")  # fmt: skip
    for row in rows:
        sent = row.bytes
        kinds = (None,) * 5 if sent is None else (
            sent.up, sent.down, sent.adapters, sent.head, sent.side
        )  # fmt: skip
        known = [value for value in kinds if value is not None]
        cells = [_text(value, 1e6) for value in (*kinds, sum(known) if known else None)]
        made.add_row(_name(row), *cells)
    return made


def _costs(rows: Sequence[SchemeRow]) -> Table:
    from sftopt.face.tables import table

    made = table("scheme", "device GB", "over", "server GB", "server J", "device J", "W",
                 title="most memory (over: devices beyond theirs), energy, radiated W")  # fmt: skip
    for row in rows:
        spent = row.energy
        made.add_row(
            _name(row),
            _text(row.device_memory_max_bytes, 1e9),
            "-" if row.devices_over is None else str(row.devices_over),
            _text(row.server_memory_bytes, 1e9),
            _text(None if spent is None else spent.server_j),
            _text(None if spent is None else spent.device_j),
            _text(row.radiated_w_max),
        )
    return made


def _decisions(rows: Sequence[SchemeRow]) -> Table:
    from sftopt.face.tables import table

    made = table("scheme", "order", "cuts", "ranks", "tokens", "accuracy", "slack", left=["order"],
                 title="decisions (cuts: least-median-most) and accuracy")  # fmt: skip
    for row in rows:
        made.add_row(
            _name(row), row.order, _span(row.cuts), _span(row.ranks), _span(row.tokens),
            _text(row.accuracy), _slack(row.accuracy_slack),
        )  # fmt: skip
    return made
