"""``sftopt pareto``: round delay against energy over the speeds of the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import (
    InstanceArgument,
    JsonOption,
    TitleOption,
    WidthOption,
    look_asked,
)
from sftopt.face.lists import names
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import tell_warnings

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.pareto import Curve

_AXES = ("delay", "energy")
"""What can be traded so far."""


def pareto(
    instance: InstanceArgument,
    axes: Annotated[
        str, typer.Option("--axes", metavar="A,B", help="What is traded: delay,energy.")
    ] = "delay,energy",
    points: Annotated[int, typer.Option("--points", help="Server speeds.")] = 9,
    card: Annotated[bool, typer.Option(help="CARD's curve over its weight beside it.")] = True,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Wall seconds of each plan.")
    ] = 60.0,
    rel_gap: Annotated[float, typer.Option("--rel-gap", help="Gap of each plan.")] = 1e-4,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help=".png, .pdf, .svg.", show_default=False),
    ] = None,
    width: WidthOption = None,
    title: TitleOption = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Also write the points.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Plan at one server speed after another: round delay against energy.

    The server's speed goes from its slowest to its fastest in equal ratios; at each, problem (13)
    is solved with a bound: no plan at that speed is faster. The curve is not claimed to be
    Pareto-optimal. Energy needs the coefficients of server and devices.

    Exit code 4: at no speed was a plan found in time; 3: there is none (proven).
    """
    from sftopt.core.files import write_csv
    from sftopt.core.library import load
    from sftopt.core.pictures.saving import check_picture
    from sftopt.core.status import Termination
    from sftopt.face.steps import Steps
    from sftopt.studies.pareto import pareto as run

    asked = names(axes)
    if sorted(asked) != sorted(_AXES):
        raise InputError(f"--axes is '{axes}'; delay,energy can be traded so far")
    look_asked(width, title, "" if plot else "give --plot FILE")
    given = load(instance)
    if plot is not None:
        check_picture(plot)
    for path in (plot, csv):
        if path is not None:
            ensure_writable(path)
    tell_warnings(given)
    with engines_on_stderr(), Steps("speeds", points, enabled=not quiet) as steps:
        made = run(
            given, points=points, time_limit=time_limit, rel_gap=rel_gap, card=card,
            on_point=lambda done, total, point: steps.of(
                done, total, f"{point.server_flops_per_s / 1e12:.3g} TFLOP/s"
            ),
        )  # fmt: skip
    if plot is not None:
        made.plot(plot, width=width, title=title)
        tell(f"wrote {plot}")
    if csv is not None:
        write_csv([point.model_dump(mode="json", exclude={"plan"}) for point in made.points], csv)
        tell(f"wrote {csv}")
    code, problem = ExitCode.OK, ""
    if all(point.round_s is None for point in made.points):
        proven = all(p.termination is Termination.INFEASIBLE_PROVEN for p in made.points)
        code = ExitCode.INFEASIBLE if proven else ExitCode.NO_POINT
        problem = "there is no plan at any speed of the server" + ("" if proven else " in time")
    return Answer(made.to_dict(), lambda console: _show(console, made), code, problem)


def _show(console: Console, made: Curve) -> None:
    from rich.text import Text

    from sftopt.face.tables import facts, table

    console.print(facts([("instance", made.instance)]))
    console.print()
    rows = table("TFLOP/s", "round s", "bound s", "server J", "device J", "",
                 title="the best plan at each speed of the server")  # fmt: skip
    for point in made.points:
        values = (point.round_s, point.bound_s, point.server_j, point.device_j)
        rows.add_row(
            f"{point.server_flops_per_s / 1e12:.4g}",
            *("-" if value is None else f"{value:.5g}" for value in values),
            "dominated" if point.dominated else "",
        )
    console.print(rows)
    if made.card:
        console.print()
        beside = table("w", "round s", "server J", "", title="CARD over its weight of delay")
        for one in made.card:
            numbers = [
                "-" if value is None else f"{value:.5g}" for value in (one.round_s, one.server_j)
            ]
            beside.add_row(f"{one.w:g}", *numbers, "" if one.refused is None else "refused")
        console.print(beside)
    console.print()
    console.print(Text(made.note))
