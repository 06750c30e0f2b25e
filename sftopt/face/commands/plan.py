"""``sftopt plan``: from an instance to a verified plan."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import (
    ClusterOption,
    InstanceArgument,
    JsonOption,
    ReportOption,
    TableOption,
)
from sftopt.face.calibrated import (
    CalibrationOption,
    CurveOption,
    ExtrapolateOption,
    MinimumOption,
    SpeedsOption,
    load_given,
)
from sftopt.face.commands.target import (
    ROUND_DELAY,
    CellOutOption,
    FreeOption,
    LawOption,
    ObjectiveOption,
    RanksOption,
    TargetOption,
    check_objective,
    laws_of,
    plan_to_target,
    ranks_of,
)
from sftopt.face.kept_plans import exit_of, kept_once_reported, save_plan
from sftopt.face.many_devices import shortened
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from sftopt.core.faults import Fault
    from sftopt.core.instance import Instance
    from sftopt.core.plan import Plan
    from sftopt.core.result import Result


_REASONS_SHOWN = 3
"""Reasons of infeasibility that are printed; ``check`` lists the others."""
_POINT_FROM = {
    "solver": "",
    "start": ", the start as it was",
    "polish": ", made of the solver's answer",
}
"""What is said of a point by where it is from."""
_PROVEN = {
    "problem": "a bound on every plan",
    "formulation": "for the formulation alone, not for the plan",
    "none": "nothing",
}
"""What is said of ``Result.proven_for``."""


def plan(
    instance: InstanceArgument = "",
    formulation: Annotated[
        str | None,
        typer.Option(
            "--formulation",
            help="How the problem is written ('sftopt solvers').",
            show_default="a sound one is picked and named",
        ),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            "--solver",
            help="Who solves it ('sftopt solvers').",
            show_default="a sound one is picked and named",
        ),
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option("--time-limit", metavar="S", help="Wall seconds for everything, or inf."),
    ] = 60.0,
    rel_gap: Annotated[
        float | None,
        typer.Option(
            "--rel-gap",
            help="Stop at (objective - bound) / objective.",
            show_default="0.0001; 0.001 for time-to-target",
        ),
    ] = None,
    abs_gap: Annotated[
        float, typer.Option("--abs-gap", metavar="S", help="Stop at objective - bound.")
    ] = 0.0,
    threads: Annotated[int, typer.Option("--threads", help="Threads of the solver.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the solver.")] = 0,
    feas_tol: Annotated[
        float,
        typer.Option(
            "--feas-tol", help="By what a limit may be missed, at most 1e-6; also the judge's."
        ),
    ] = 1e-9,
    x0: Annotated[
        Path | None,
        typer.Option("--x0", metavar="PLAN", help="Start from this plan.", show_default=False),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="K=V",
            help="Native option of the solver; repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the plan here.", show_default=False),
    ] = None,
    report: ReportOption = None,
    table: TableOption = None,
    calibration: CalibrationOption = None,
    accuracy_curve: CurveOption = None,
    speeds: SpeedsOption = None,
    accuracy_minimum: MinimumOption = None,
    extrapolate: ExtrapolateOption = False,
    many: Annotated[
        Path | None,
        typer.Option(
            "--many",
            metavar="DIR",
            help="Plan every *.json of DIR; --out is then a Parquet table.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="With --many: cells at a time.")] = 1,
    cluster: ClusterOption = "",
    objective: ObjectiveOption = ROUND_DELAY,
    target: TargetOption = None,
    law: LawOption = None,
    ranks: RanksOption = None,
    free_accuracy: FreeOption = False,
    instance_out: CellOutOption = None,
    tee: Annotated[bool, typer.Option("--tee", help="Show the solver's log.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Find a plan of least round delay, or of least time to a target, and verify it.

    Ctrl-C keeps the best plan so far. Exit code 3: proven infeasible, or the target is out of
    reach; 4: no plan within the limit; 5: the point found is refuted; 6: solver missing or
    refused; 130: interrupted.
    """
    from sftopt.core.plan import Plan
    from sftopt.core.table_files import check_ending, write_table
    from sftopt.face.progress import Progress
    from sftopt.solvers.run import solve

    wants_target = check_objective(objective, target, law, ranks, free_accuracy, instance_out)
    native = native_options(option or [])
    if many is not None:
        _refuse_with_many(
            instance=instance, x0=x0, tee=tee, calibration=calibration, speeds=speeds,
            report=report, accuracy_curve=accuracy_curve, accuracy_minimum=accuracy_minimum,
            target=target, table=table,
        )  # fmt: skip
        from sftopt.face.commands.plan_many import asked_of, plan_many
        from sftopt.solvers.options import Options

        gap = Options.rel_gap if rel_gap is None else rel_gap
        of_each = asked_of(solver, formulation, time_limit, gap, threads, seed, native)
        return plan_many(many, out, of_each, jobs, cluster, quiet)
    if not instance:
        raise InputError("give INSTANCE, or --many DIR; 'sftopt instance list' names bundled ones")
    given = load_given(instance, calibration, accuracy_curve, speeds, accuracy_minimum, extrapolate)
    start = None if x0 is None else Plan.load(x0)
    if table is not None:
        check_ending(table, "--table")
    for path in filter(None, (out, report, table, instance_out)):
        ensure_writable(path)
    tell_warnings(given)
    limit = None if time_limit == math.inf else time_limit
    asked: dict[str, Any] = {
        "formulation": formulation, "solver": solver, "time_limit": limit, "abs_gap": abs_gap,
        "threads": threads, "seed": seed, "feas_tol": feas_tol, "x0": start, "options": native,
    }  # fmt: skip
    if rel_gap is not None:
        asked["rel_gap"] = rel_gap
    progress = Progress(limit, enabled=not quiet, live=not tee)
    if wants_target and target is not None:
        laws, name = laws_of(law, calibration, target, given.accuracy.metric)
        asked |= {"law": name, "ranks": ranks_of(ranks), "free_accuracy": free_accuracy}
        if report is not None or table is not None:
            raise InputError(
                "--report and --table are of --objective round-delay; 'sftopt instance "
                "show INSTANCE --report FILE' draws the cell of a time to target"
            )
        return plan_to_target(given, target, laws, asked, progress, out, instance_out)
    with engines_on_stderr(), progress, kept_once_reported(progress) as heard:
        result = solve(given, tee=tee, on_progress=heard, **asked)
        saved, trouble = None, ""
        if result.ok and result.plan is not None and out is not None:
            saved, trouble = save_plan(result.plan, out)
    if report is not None and result.plan is not None:
        _write_report(given, result, report)
    if table is not None and result.plan is not None:
        write_table(result.device_rows(), table, f"sftopt plan {given.name}")
        tell(f"rows written to {table}")
    tell_delay(result.objective_s)
    _tell_adoption(given, start, result)
    code, problem = exit_of(result)
    faults: Sequence[Fault] = ()
    if code is ExitCode.INFEASIBLE:
        faults = _reasons(given)
        problem = _infeasible_text(given, instance, faults)
    if trouble:
        code, problem = ExitCode.BAD_INPUT, "\n  ".join(filter(None, [problem, trouble]))
    elif out is not None and saved is None and out.is_file():
        problem += f"; '{out}' is left as it was"
    answer = result.to_dict()
    if not trouble:  # else standard output is where the plan is kept
        answer = shortened(answer)
        if json and "truncated" in answer and out is None:
            tell("note: --json prints the devices that bind most; --out FILE has the whole plan")
    return Answer(
        {
            **answer,
            "plan_file": None if saved is None else str(saved),
            "report_file": None if report is None or result.plan is None else str(report),
            "warnings": as_data(warnings_of(given, result.objective_s)),
        },
        lambda console: _show(console, given, result, saved),
        code, problem, faults,
    )  # fmt: skip


def _refuse_with_many(**given: Any) -> None:
    """Raises InputError where what is of one cell is given for many."""
    for name, value in given.items():
        if value:
            flag = "INSTANCE" if name == "instance" else f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} '{value}' is of one cell; --many plans those of a folder")


def _write_report(given: Instance, result: Result, path: Path) -> None:
    """Write the page of a plan; the plan itself is saved by then."""
    from sftopt.face.report.cells import plan_page
    from sftopt.face.report.page import write_page

    assert result.plan is not None
    page = plan_page(given, result.plan, f"sftopt plan {given.name}", _status_facts(result))
    write_page(page, path)
    tell(f"page written to {path}")


def _tell_adoption(given: Instance, start: Plan | None, result: Result) -> None:
    """Say on standard error that the start was another cell's plan, if it was used."""
    from sftopt.solvers.start import adoption_note, foreign_cell

    note = "" if start is None else adoption_note(foreign_cell(given, start))
    if note and note in result.message:
        tell(note)


def native_options(pairs: Sequence[str], flag: str = "--option") -> dict[str, Any]:
    """Parse ``K=V`` texts of ``flag`` to a dict of int, float, bool or text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{flag} '{pair}': give it as NAME=VALUE")
        if name.strip() in found:
            raise InputError(f"{flag} '{name.strip()}' is given twice")
        found[name.strip()] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _reasons(instance: Instance) -> Sequence[Fault]:
    """The errors that ``sftopt check`` finds."""
    from sftopt.core.check import check
    from sftopt.core.faults import Severity

    return [fault for fault in check(instance).faults if fault.severity is Severity.ERROR]


def _infeasible_text(instance: Instance, typed: str, faults: Sequence[Fault]) -> str:
    lines = [f"{instance.name}: no plan exists, and that is proven"]
    lines += [f"  - {fault}" for fault in faults[:_REASONS_SHOWN]]
    more = len(faults) - _REASONS_SHOWN
    tail = f" and lists {more} more" if more > 0 else ""
    return "\n".join([*lines, f"  'sftopt check {typed}' says what would have to give{tail}"])


def _show(console: Console, instance: Instance, result: Result, saved: Path | None) -> None:
    from sftopt.face.tables import delay_table, facts, options_text, show_devices, violation_table

    head = [
        ("instance", f"{instance.name}: {len(instance.devices)} devices, "
                     f"{instance.workload.blocks} blocks"),
        ("options", options_text(instance)),
    ]  # fmt: skip
    console.print(facts([*head, *_status_facts(result)]))
    if result.violations:
        console.print()
        console.print(violation_table(result.violations))
    if result.breakdown is not None:
        console.print()
        console.print(delay_table(instance, result.breakdown))
    if result.plan is not None:
        console.print()
        show_devices(console, result.plan, result.breakdown)
    if saved is not None:
        tell(f"plan written to {saved}")


def _status_facts(result: Result) -> list[tuple[str, str]]:
    from sftopt.core.status import Point, Termination
    from sftopt.face.tables import seconds_text

    judged = "" if result.point is Point.NONE else " (verified)" if result.ok else " (refuted)"
    if result.point_from is not None:
        judged += _POINT_FROM[result.point_from]
    source = f" (by {result.bound_source})" if result.bound_source else ""
    bound = "none" if result.bound_s is None else seconds_text(result.bound_s) + source
    gap = "none" if result.gap_rel is None else f"{100.0 * result.gap_rel:.4g} %"
    solver, answered = result.solver, result.objective_answered_s
    engine = f" ({solver.engine_version})" if solver.engine_version else ""
    times = result.times_s
    return [
        ("point", result.point.value + judged),
        ("stopped", result.termination.value),
        ("proven", _PROVEN[result.proven_for]),
        ("round", seconds_text(result.objective_s)),
        ("as answered", "" if answered is None else seconds_text(answered)),
        ("bound", bound),
        ("gap", gap),
        ("solver", f"{solver.name}{engine} on {result.formulation} ({result.promise.value})"),
        ("note", "" if result.termination is Termination.INFEASIBLE_PROVEN else result.message),
        ("ignored", ", ".join(result.options_ignored)),
        ("time", f"{times.total:.3g} s: build {times.build:.3g}, solve {times.solve:.3g}, "
                 f"verify {times.verify:.3g}"),
    ]  # fmt: skip
