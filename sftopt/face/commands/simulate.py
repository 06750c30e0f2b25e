"""``sftopt simulate``: a plan per frame, shares per round, against the alternatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import (
    InstanceArgument,
    JsonOption,
    RowsOption,
    TitleOption,
    WidthOption,
    look_asked,
)
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, failure, tell
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.core.pictures.paper import Look


def simulate(
    instance: InstanceArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Rows, plans, summary and plots go here.")
    ],
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds to simulate.")] = 200,
    frame_rounds: Annotated[
        int | None,
        typer.Option("--frame-rounds", help="Rounds of a frame.", show_default="the instance's"),
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            "--channel",
            help="instance: its gains, with fading; uma, umi: 3GPP TR 38.901 cells.",
        ),
    ] = "instance",
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Measured gains: CSV or Parquet with round, device, gain_db.",
            show_default=False,
        ),
    ] = None,
    channel_option: Annotated[
        list[str] | None,
        typer.Option(
            "--channel-option",
            metavar="K=V",
            help="A field of the channel model, such as speed_m_per_s=3; repeatable.",
            show_default=False,
        ),
    ] = None,
    write_trace: Annotated[
        Path | None,
        typer.Option(
            "--write-trace", metavar="FILE", help="Also write the gains.", show_default=False
        ),
    ] = None,
    scenarios: Annotated[
        int, typer.Option("--scenarios", help="Draws of a sample-average plan; 0: none.")
    ] = 0,
    planner: Annotated[
        str, typer.Option("--planner", help="Solver of the large problem.")
    ] = "certify",
    round_solver: Annotated[
        str, typer.Option("--round-solver", help="Solver of the small problem.")
    ] = "native-spectrum",
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Wall seconds of each plan.")
    ] = 60.0,
    clairvoyant: Annotated[
        bool, typer.Option(help="The certified bound of every round, its gains known.")
    ] = True,
    skip_outage: Annotated[
        bool,
        typer.Option("--skip-outage", help="Devices in outage sit the round out."),
    ] = False,
    table: RowsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the channel.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run ended.")] = False,
    plots: Annotated[bool, typer.Option(help="Draw delay.png/.pdf and simulation.html.")] = True,
    width: WidthOption = None,
    title: TitleOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Simulate rounds: plans by statistics, shares by each round's gains.

    Every delay is recomputed by the judge and stands beside equal shares, the plan's shares held,
    and a certified lower bound for a planner who knew the gains. DIR holds rows.jsonl,
    summary.json, the plans and the plots; Ctrl-C loses nothing, --resume goes on.
    """
    from sftopt.core.library import load
    from sftopt.core.table_files import check_ending, write_table
    from sftopt.face.commands.plan import native_options
    from sftopt.face.steps import Steps
    from sftopt.studies import traces
    from sftopt.studies.simulate import SimulationSettings
    from sftopt.studies.simulate import simulate as run
    from sftopt.studies.simulation import flat_rounds, sources_of

    look = look_asked(width, title, "" if plots else "leave --no-plots out")
    given = load(instance)
    if table is not None:
        check_ending(table, "--table")
        ensure_writable(table)
    settings = SimulationSettings(
        rounds=rounds, frame_rounds=frame_rounds, planner=planner, planner_time_limit_s=time_limit,
        round_solver=round_solver, clairvoyant=clairvoyant, scenarios=scenarios,
        skip_outage=skip_outage,
    )  # fmt: skip
    _check_round_solver(round_solver)
    _check_planner(planner)
    options = native_options(channel_option or [])
    sources = sources_of(settings, seed, channel, options, trace)
    ensure_writable(out / "rows.jsonl")
    if write_trace is not None:
        frame = frame_rounds or given.training.rounds_per_frame
        traces.write_trace(write_trace, given, sources.channel, rounds, frame)
    tell_warnings(given)
    with engines_on_stderr(), Steps("rounds", rounds, enabled=not quiet) as steps:
        try:
            summary = run(
                given, sources.channel, sources.scenarios, settings, out, resume=resume,
                identity=sources.identity,
                on_round=lambda news: steps.at(news.round + 1, _news(news.row)),
            )  # fmt: skip
        except KeyboardInterrupt:
            return failure(
                f"interrupted; finished rounds are kept in '{out}', --resume goes on",
                ExitCode.INTERRUPTED,
            )
    rows = _rows(out)
    drawn = _drawn(given, rows, out, look) if plots else []
    if table is not None:
        write_table(flat_rounds(rows), table, f"sftopt simulate {given.name}: rounds in s")
        drawn.append(table)
    for path in drawn:
        tell(f"wrote {path}")
    mean_s = summary["policies"].get("resolved_s", {}).get("mean_s")
    tell_delay(mean_s)
    data = {
        **summary,
        "out": str(out),
        "plots": [str(path) for path in drawn if path != table],
        "warnings": as_data(warnings_of(given, mean_s)),
    }
    return Answer(data, lambda console: _show(console, given, summary))


def _check_round_solver(name: str) -> None:
    from sftopt.formulations.base import Problem
    from sftopt.solvers.registry import formulations_for, get_solver

    if name == "native-spectrum":  # asking it would load every modelling layer
        return
    if not formulations_for(get_solver(name), Problem.ROUND):
        raise InputError(
            f"--round-solver '{name}' does not solve the small problem; see the spectrum-* columns "
            "of 'sftopt solvers'"
        )


def _check_planner(name: str) -> None:
    from sftopt.formulations.base import Problem
    from sftopt.solvers.registry import formulations_for, get_solver

    if name == "certify":  # as above
        return
    if not formulations_for(get_solver(name), Problem.PLAN):
        raise InputError(
            f"--planner '{name}' does not solve the large problem; see 'sftopt solvers'"
        )


def _news(row: dict[str, Any]) -> str:
    if row.get("resolved_s") is None:
        return f"round {row['round']}: {', '.join(row.get('outage', []))} in outage"
    return f"round {row['round']}: {row['resolved_s']:.4g} s (equal shares {row['equal_s']:.4g} s)"


def _rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a folder, a round each."""
    import json as json_module

    from sftopt.core.rows import ROWS_NAME

    lines = (out / ROWS_NAME).read_text(encoding="utf-8").splitlines()
    return [json_module.loads(line) for line in lines]


def _drawn(instance: Instance, rows: list[dict[str, Any]], out: Path, look: Look) -> list[Path]:
    from sftopt.face.plots.simulation import draw

    if not any(row.get("resolved_s") is not None for row in rows):
        return []
    return draw(rows, f"{instance.name}: {len(instance.devices)} devices", out, look)


def _show(console: Console, instance: Instance, summary: dict[str, Any]) -> None:
    from rich.table import Table

    from sftopt.face.tables import facts
    from sftopt.studies.summary import POLICIES

    infeasible = summary["rounds_infeasible"]
    console.print(facts([
        ("instance", f"{instance.name}: {len(instance.devices)} devices"),
        ("rounds", f"{summary['rounds']}, {infeasible} infeasible"),
    ]))  # fmt: skip
    table = Table(title="round delay in s", title_justify="left")
    for name in ("", "mean", "±95 %", "median", "p95", "max"):
        table.add_column(name, justify="left" if not name else "right")
    for name, label in POLICIES.items():
        spread = summary["policies"].get(name)
        if spread is not None:
            keys = ("mean_s", "mean_half_width_s", "median_s", "p95_s", "max_s")
            table.add_row(label, *(f"{spread[key]:.4g}" for key in keys))
    console.print()
    console.print(table)
    gains = summary.get("gains", {})
    told = {
        "over_equal_shares": "less mean delay than with equal shares",
        "over_held_shares": "less mean delay than with the plan's shares held",
        "above_clairvoyant_bound": "above the certified clairvoyant bound",
        "regret_of_nominal_plan": "above the sample-average plan (regret of the nominal one)",
        "mean_delay_over_nominal": "above the delay planned from mean rates",
    }
    for name, text in told.items():
        if name in gains:
            console.print(signed_share(gains[name], text))


def signed_share(share: float, text: str) -> str:
    """Tell a share in per cent without a minus: ``text`` begins with less or above, or turns."""
    word, _, rest = text.partition(" ")
    if share < 0.0:
        word = {"less": "more", "above": "below"}[word]
    return f"{100.0 * abs(share):7.2f} % {word} {rest}"
