"""``sftopt plan --objective time-to-target``: laws as typed, and what the answer shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError, UnknownNameError
from sftopt.face.kept_plans import exit_of, kept_once_reported, save_plan
from sftopt.face.lists import numbers
from sftopt.face.output import Answer, engines_on_stderr, tell
from sftopt.face.warned import as_data, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.core.target_laws import LinearLaw, SaturatingLaw, TargetLaws
    from sftopt.face.progress import Progress
    from sftopt.studies.time_to_target import TimeToTarget

ROUND_DELAY = "round-delay"
"""The usual objective: seconds of one round."""
TIME_TO_TARGET = "time-to-target"
"""Seconds until the metric reaches a target."""
_FIELDS = {"linear": ("rounds", "slope"), "saturating": ("scale", "start")}
"""Numbers of a law that is typed: R_0 and k_g, T_g and m_start."""
_LEVELS_SHOWN = 12
"""Losses that are listed; of more, those around the best."""

ObjectiveOption = Annotated[
    str,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="round-delay, or time-to-target: seconds until the metric reaches --target.",
    ),
]
TargetOption = Annotated[
    float | None,
    typer.Option("--target", help="Level of the metric to reach.", show_default=False),
]
LawOption = Annotated[
    str | None,
    typer.Option(
        "--law",
        metavar="LAW",
        help="Rounds to the target: linear or saturating of the --calibration; a calibration file "
        "to take laws from; or declared, linear:rounds=R0:slope=KG or saturating:scale=TG:start=M.",
        show_default="the calibration's",
    ),
]
RanksOption = Annotated[
    str | None,
    typer.Option(
        "--ranks",
        metavar="R,R",
        help="Ranks of the adapters to try, for time-to-target.",
        show_default="the workload's",
    ),
]
FreeOption = Annotated[
    bool,
    typer.Option(
        "--free-accuracy",
        help="For time-to-target: the target alone limits the loss, not accuracy.minimum.",
    ),
]
CellOutOption = Annotated[
    Path | None,
    typer.Option(
        "--instance-out",
        metavar="FILE",
        help="With --free-accuracy: write the instance whose plan it is.",
        show_default=False,
    ),
]


def check_objective(
    objective: str,
    target: float | None,
    law: str | None,
    ranks: str | None,
    free: bool,
    cell_out: Path | None,
) -> bool:
    """Return whether a target is asked for. Raises InputError for options that do not go together.

    Unknown objectives too.
    """
    if objective not in (ROUND_DELAY, TIME_TO_TARGET):
        raise UnknownNameError("objective", objective, (ROUND_DELAY, TIME_TO_TARGET))
    if objective == TIME_TO_TARGET:
        if target is None:
            raise InputError("--objective time-to-target needs --target LEVEL")
        if cell_out is not None and not free:
            raise InputError("--instance-out goes with --free-accuracy: else the plan is of the "
                             "instance as it is")  # fmt: skip
        return True
    given = {"--target": target, "--law": law, "--ranks": ranks, "--free-accuracy": free or None,
             "--instance-out": cell_out}  # fmt: skip
    needless = [name for name, value in given.items() if value is not None]
    if needless:
        raise InputError(f"{needless[0]} needs --objective time-to-target")
    return False


def laws_of(
    text: str | None, calibration: Path | None, target: float, metric: str
) -> tuple[TargetLaws, str | None]:
    """Return the laws to go by, and the name of the one asked for, if any.

    Raises InputError where there is none, or the text is no law.
    """
    from sftopt.core.calibration import BUNDLED, load_calibration
    from sftopt.core.target_laws import TargetLaws

    name = None if text is None else text.partition(":")[0]
    if text is not None and ":" in text and name in _FIELDS:
        return TargetLaws.of(_declared(text, target), metric), None
    source, chosen = calibration, text
    if text is not None and text not in _FIELDS:
        if not Path(text).is_file() and not (BUNDLED / f"{text}.json").is_file():
            raise InputError(
                f"--law '{text}' is neither a law nor a file; give linear, saturating, a "
                "calibration file, linear:rounds=R0:slope=KG or saturating:scale=TG:start=M"
            )
        source, chosen = Path(text), None
    if source is None:
        raise InputError(
            "time-to-target needs a law of how many rounds a loss takes: give --calibration FILE "
            "('sftopt calibrate --time-to-target' measures one), or declare it: "
            "--law linear:rounds=R0:slope=KG, or --law saturating:scale=TG:start=M"
        )
    laws = load_calibration(source).time_to_target
    if laws is None:
        raise InputError(
            f"calibration '{source}' holds no law of rounds; measure one with 'sftopt calibrate "
            "--time-to-target', or declare it with --law"
        )
    return laws, chosen


def _declared(text: str, target: float) -> LinearLaw | SaturatingLaw:
    """The law typed as ``NAME:FIELD=VALUE:FIELD=VALUE``."""
    from sftopt.core.target_laws import LinearLaw, LinearLevel, SaturatingLaw

    name, *pairs = text.split(":")
    fields = _FIELDS[name]
    given: dict[str, float] = {}
    for pair in pairs:
        field, _, value = pair.partition("=")
        if field not in fields:
            raise UnknownNameError(f"number of law {name}", field, fields)
        if field in given:
            raise InputError(f"--law {name}:{field} is given twice; give it once")
        given[field] = _law_number(f"--law {name}:{field}", value, field != "start")
    missing = [field for field in fields if field not in given]
    if missing:
        raise InputError(f"--law {name} lacks {' and '.join(missing)}: {name}:"
                         + ":".join(f"{field}=NUMBER" for field in fields))  # fmt: skip
    if name == "linear":
        level = LinearLevel(target=target, rounds=given["rounds"], slope=given["slope"])
        return LinearLaw(levels=(level,))
    return SaturatingLaw(scale_rounds=given["scale"], start=given["start"])


def _law_number(what: str, text: str, positive: bool) -> float:
    """A number of a law; rounds, slope and scale are not below 0, rounds and scale above it."""
    from sftopt.core.fields import LARGEST, SMALLEST

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    least = -LARGEST if not positive else 0.0 if what.endswith(":slope") else SMALLEST
    if not least <= value <= LARGEST:
        limit = {0.0: "of 0 or more ", SMALLEST: "above 0 "}.get(least, "")
        raise InputError(f"{what} is '{text}'; a finite number {limit}is needed")
    return value


def ranks_of(text: str | None) -> tuple[int, ...]:
    """Return the ranks typed, numbers of columns. Raises InputError for text that is no list."""
    return () if text is None else numbers("--ranks", text, int)


def plan_to_target(
    given: Instance,
    target: float,
    laws: TargetLaws,
    asked: dict[str, Any],
    progress: Progress,
    out: Path | None,
    instance_out: Path | None,
) -> Answer:
    """Plan for the least time to a target; plan and cell are on disk before anything is told."""
    from sftopt.core.files import write_json
    from sftopt.studies.time_to_target import time_to_target

    saved, trouble = None, ""
    with engines_on_stderr(), progress, kept_once_reported(progress) as heard:
        made = time_to_target(given, target, laws, on_progress=heard, **asked)
        if made.ok and made.plan is not None and out is not None:
            saved, trouble = save_plan(made.plan, out)
        if made.ok and instance_out is not None:
            write_json(instance_out, given.replace(**made.edits).to_dict())
    if instance_out is not None and made.ok:
        tell(f"instance written to {instance_out}")
    code, problem = exit_of(made)
    if trouble:
        code, problem = ExitCode.BAD_INPUT, "\n  ".join(filter(None, [problem, trouble]))

    def show(console: Console) -> None:
        show_target(console, given, made)
        if saved is not None:
            tell(f"plan written to {saved}")

    return Answer(
        {
            **made.to_dict(),
            "objective": TIME_TO_TARGET,
            "plan_file": None if saved is None else str(saved),
            "warnings": as_data(warnings_of(given, made.round_s)),
        },
        show, code, problem,
    )  # fmt: skip


def show_target(console: Console, instance: Instance, made: TimeToTarget) -> None:
    """Print the answer, the losses that were looked at, and the plan."""
    from sftopt.face.tables import delay_table, facts, options_text, show_devices

    head = [
        ("instance", f"{instance.name}: {len(instance.devices)} devices, "
                     f"{instance.workload.blocks} blocks"),
        ("options", options_text(instance)),
    ]  # fmt: skip
    console.print(facts([*head, *_facts(made)]))
    if made.levels:
        console.print()
        console.print(_levels(made))
    if made.breakdown is not None:
        console.print()
        console.print(delay_table(instance, made.breakdown))
    if made.plan is not None:
        console.print()
        show_devices(console, made.plan, made.breakdown)


def _facts(made: TimeToTarget) -> list[tuple[str, str]]:
    from sftopt.face.tables import seconds_text

    judged = " (verified)" if made.ok else ""
    bound = "none" if made.bound_s is None else f"{made.bound_s:.6g} s: by the law, no plan is "
    bound += "" if made.bound_s is None else f"sooner (by {made.bound_source})"
    rows = [
        ("target", f"{made.metric} {made.target:g}"),
        ("point", made.point.value + judged),
        ("stopped", made.termination.value),
    ]
    if made.rounds is not None and made.time_s is not None:
        rows += [
            ("time", f"{made.time_s:.6g} s; {made.time_whole_s:.6g} s in whole rounds"),
            ("rounds", f"{made.rounds:.4g}, rounded up {made.rounds_whole}"),
            ("round", seconds_text(made.round_s)),
            ("loss", f"{made.loss:.4g} below {_uncompressed(made)}"),
            ("rank", f"{made.rank}, mu {made.factor:.4g}"
                     + ("" if made.factor_measured else " (not measured)")),
        ]  # fmt: skip
    rows += [
        ("bound", bound),
        ("gap", "none" if made.gap_rel is None else f"{100.0 * made.gap_rel:.4g} %"),
        ("law", _law(made)),
        ("cell", ", ".join(f"{path} = {value:.9g}" for path, value in made.edits.items())),
        ("note", made.message),
        ("took", f"{made.total_s:.3g} s, {len(made.levels)} plannings"),
    ]
    return rows


def _uncompressed(made: TimeToTarget) -> str:
    accuracy = None if made.breakdown is None else made.breakdown.accuracy
    return "a_0" if accuracy is None else f"a_0; the plan's {made.metric} is {accuracy:.4g}"


def _law(made: TimeToTarget) -> str:
    law = made.law
    if law.kind == "linear":
        levels = [f"at {one.target:g}: {one.rounds:.4g} (1 + {one.slope:.4g} loss)"
                  for one in law.levels]  # fmt: skip
        return "linear, rounds " + "; ".join(levels)
    return (
        f"saturating, rounds {law.scale_rounds:.4g} ln((a_0 - loss - {law.start:.4g}) / "
        "(a_0 - loss - target))"
    )


def _levels(made: TimeToTarget) -> object:
    from sftopt.face.tables import table

    known = sorted(made.levels, key=lambda level: (level.rank, level.loss_limit))
    times = [math.inf if level.time_s is None else level.time_s for level in known]
    best = times.index(min(times))
    first = max(0, min(best - _LEVELS_SHOWN // 2, len(known) - _LEVELS_SHOWN))
    shown = known[first : first + _LEVELS_SHOWN]
    title = "losses looked at" + (
        "" if len(shown) == len(known) else f", {len(shown)} of {len(known)} around the best"
    )
    rows = table("rank", "loss at most", "loss", "rounds", "round s", "time s", title=title)
    for level in shown:
        rows.add_row(
            str(level.rank), f"{level.loss_limit:.5g}",
            *("-" if value is None else f"{value:.5g}"
              for value in (level.loss, level.rounds, level.round_s, level.time_s)),
        )  # fmt: skip
    return rows
