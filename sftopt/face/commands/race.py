"""``sftopt race``: solvers against each other on a suite of instances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import (
    ClusterOption,
    JsonOption,
    TitleOption,
    WidthOption,
    look_asked,
)
from sftopt.face.inputs import keeps_inputs
from sftopt.face.lists import names, numbers
from sftopt.face.output import Answer, tell

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.race.row import RaceRow

group = typer.Typer(help="Race solvers on a suite of instances.", rich_markup_mode=None)

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A race's folder.", show_default=False)
]
"""The folder of a race."""


@group.callback(invoke_without_command=True)
def race(
    context: typer.Context,
    suite: Annotated[
        str,
        typer.Option("--suite", metavar="S", help="A bundled suite by name, or a TOML file."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Rows go here.", show_default="race-S"),
    ] = None,
    solvers: Annotated[str, typer.Option("--solvers", help="Only these, a,b.")] = "",
    formulations: Annotated[str, typer.Option("--formulations", help="Only these.")] = "",
    families: Annotated[str, typer.Option("--families", help="Only these.")] = "",
    sizes: Annotated[str, typer.Option("--sizes", help="Only these numbers of devices.")] = "",
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="S", help="In place of the suite's.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", metavar="MB", help="In place of the suite's.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at a time; tables: 1.")] = 1,
    keep_plans: Annotated[bool, typer.Option("--keep-plans", help="Keep every plan.")] = False,
    allow_busy: Annotated[
        bool, typer.Option("--allow-busy", help="Also where others use the machine.")
    ] = False,
    shard: Annotated[str, typer.Option("--shard", metavar="I/N", help="Only part I of N.")] = "",
    rerun: Annotated[
        str, typer.Option("--rerun", metavar="WHAT", help="failed | starved | KEY, once more.")
    ] = "",
    cluster: ClusterOption = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer | None:
    """Run solvers against each other: every pair of instance and entry of a suite is a row.

    The same command goes on where one ended. Every plan is verified by the judge, and claims are
    held against everybody's plans. Exit code 0: all rows are there; 5: a row is wrong; 4: rows are
    missing. 'sftopt race suites' lists the bundled suites.
    """
    if context.invoked_subcommand is not None:
        return None
    from sftopt.face.steps import Steps
    from sftopt.studies.race.plan import Wanted
    from sftopt.studies.race.runner import RaceSettings
    from sftopt.studies.race.runner import race as run
    from sftopt.studies.race.suite import load_suite

    if not suite:
        raise InputError("race: give --suite; 'sftopt race suites' lists the bundled ones")
    given = load_suite(suite)
    wanted = Wanted(
        names(solvers), names(formulations), names(families),
        numbers("--sizes", sizes, int, of="devices") if sizes else (), time_limit, memory,
        _shard(shard),
    )  # fmt: skip
    folder = out or Path(f"race-{given.name}")
    settings = RaceSettings(jobs, keep_plans, allow_busy or bool(cluster), rerun, cluster=cluster)
    with Steps("runs", 0, enabled=not quiet) as steps:

        def on_row(done: int, total: int, row: RaceRow) -> None:
            steps.of(done, total, _news(row))

        summary = run(given, wanted, folder, settings, on_row)
    return _answer(summary)


@group.command("suites")
def suites(json: JsonOption = False) -> Answer:
    """List the bundled suites."""
    from sftopt.studies.race.suite import load_suite, suite_names

    found = [load_suite(name) for name in suite_names()]
    data = {
        "suites": [
            {"name": one.name, "problem": one.problem, "description": one.description}
            for one in found
        ]
    }

    def show(console: Console) -> None:
        from sftopt.face.tables import facts

        console.print(facts([(one.name, one.description) for one in found]))

    return Answer(data, show)


@group.command("merge")
def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Races' folders.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="All rows go here.")],
    json: JsonOption = False,
) -> Answer:
    """Put the rows of several folders (shards, machines, commits) into one, each once."""
    from sftopt.studies.race.folder import merge as run
    from sftopt.studies.race.runner import summary_of

    run(folders, out)
    return _answer(summary_of(out))


@group.command("report")
def report(
    folder: FolderArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Files go here.", show_default="DIR/report"),
    ] = None,
    page: Annotated[bool, typer.Option(help="The page report.html.")] = True,
    width: WidthOption = None,
    title: TitleOption = None,
    json: JsonOption = False,
) -> Answer:
    """Write the report: page, Markdown, tables (CSV, Parquet) and pictures (PNG, PDF).

    The page is one file that works without a network. Exit codes are those of the race.
    """
    from sftopt.core.files import write_text
    from sftopt.face.plots.race import draw
    from sftopt.face.plots.race_page import page as render
    from sftopt.studies.race.checks import find_wrong
    from sftopt.studies.race.folder import read_folder
    from sftopt.studies.race.report import write_tables
    from sftopt.studies.race.runner import summary_of

    look = look_asked(width, title)
    found = read_folder(folder)
    there = out or folder / "report"
    make_folder(there)
    wrong = find_wrong(found.counting, found.suite.checks)
    command = f"sftopt race report {folder}"
    drawn = draw(found.counting, wrong, f"race {found.suite.name}", there, look)
    pictures = [path.name for path in drawn if path.suffix == ".png"]
    written = [*write_tables(found, there, command, pictures), *drawn]
    if page:
        path = there / "report.html"
        write_text(path, render(found, wrong, command))
        written.insert(0, path)
    answer = _answer({**summary_of(folder), "files": [str(path) for path in written]})
    for path in written:
        tell(f"wrote {path}")
    return answer


def make_folder(path: Path) -> None:
    """Make a folder with those above it. Raises InputError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write folder '{path}': {error.strerror or error}") from None


@group.command("replay")
def replay(
    folder: FolderArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The row's key, or its beginning.")],
    json: JsonOption = False,
) -> Answer:
    """Run one row again, as it was asked, and put both side by side."""
    from sftopt.studies.race.replay import replayed

    before, now = replayed(folder, key)
    data = {
        "before": before.model_dump(mode="json"),
        "now": now.model_dump(mode="json"),
        "same_verdict": before.outcome.verdict == now.outcome.verdict,
    }
    return Answer(data, lambda console: _show_replay(console, before, now))


def _shard(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--shard is '{text}'; give I/N with 1 <= I <= N, such as 2/8")
    return int(part), int(parts)


def _news(row: RaceRow) -> str:
    value = row.outcome.objective_s
    told = "" if value is None else f", {value:.6g} s"
    return f"{row.entry.name} on {row.instance.name}: {row.outcome.verdict}{told}"


def _answer(summary: dict[str, Any]) -> Answer:
    missing, wrong = len(summary["missing"]), summary["wrong"]
    code, problem = ExitCode.OK, ""
    if wrong:
        code = ExitCode.REFUTED
        first = wrong[0]
        problem = (
            f"{len(wrong)} rows are wrong, the first: {first['entry']} on {first['instance']}: "
            f"{first['reason']}"
        )
    elif missing:
        code = ExitCode.NO_POINT
        problem = f"{missing} of {summary['planned']} rows are missing; the same command goes on"
    return Answer(summary, lambda console: _show(console, summary), code, problem)


def _show(console: Console, summary: dict[str, Any]) -> None:
    from sftopt.face.tables import facts

    counts = ", ".join(f"{count} {name}" for name, count in summary["verdicts"].items())
    console.print(facts([
        ("suite", summary["suite"]),
        ("rows", f"{summary['rows']} of {summary['planned']}"),
        ("verdicts", counts),
        ("wrong", str(len(summary["wrong"]))),
        ("folder", summary["out"]),
    ]))  # fmt: skip
    for one in summary["wrong"]:
        console.print(f"wrong: {one['entry']} on {one['instance']}: {one['reason']}")
        console.print(f"       again: {one['replay']}")


def _show_replay(console: Console, before: RaceRow, now: RaceRow) -> None:
    from sftopt.face.tables import facts

    for name, row in (("before", before), ("now", now)):
        value = row.outcome.objective_s
        console.print(facts([
            (name, f"{row.entry.name} on {row.instance.name}"),
            ("verdict", f"{row.outcome.verdict} ({row.outcome.termination})"),
            ("value", "-" if value is None else f"{value:.9g} s"),
            ("build + engine", f"{row.solve_s:.3f} s"),
            ("message", row.outcome.message),
        ]))  # fmt: skip
        console.print()


for command in group.registered_commands:  # no command writes over what it reads
    assert command.callback is not None
    command.callback = keeps_inputs(command.callback)

__all__ = ["group"]
