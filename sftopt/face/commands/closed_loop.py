"""``sftopt closed-loop``: calibrate, plan, fine-tune, compare; one command for a whole task."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.face.arguments import JsonOption
from sftopt.face.default_model import default_model
from sftopt.face.lists import maybe_numbers
from sftopt.face.menu import DEFAULT, MenuOption, menu_of
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, failure, tell
from sftopt.face.training_options import (
    ColumnsOption,
    TokensOption,
    TrainingGiven,
    takes_training_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.studies.closed_loop import LoopNews

_INTERVAL_S = 10.0
"""Least time between two lines of news of one stage."""


@takes_training_options()
def closed_loop(
    data: Annotated[
        str, typer.Option("--data", metavar="SPEC", help="digit-scenes, stdlib-bytes, KIND:PATH.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Everything goes here.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR",
            help="Folder of a pre-trained model.",
            show_default="the task's own, pre-trained now or earlier",
        ),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", help="Of the cell.")] = 2,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", help="Pairs of runs per traffic arm; 0: no arms.", show_default="10"
        ),
    ] = None,
    plan_seeds: Annotated[
        int | None, typer.Option("--plan-seeds", help="Runs of a plan.", show_default="3")
    ] = None,
    calibration_seeds: Annotated[
        int | None,
        typer.Option(
            "--calibration-seeds", help="Runs per cell of grid and menu.", show_default="3"
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            help="Keep fractions of the calibration's grid.",
            show_default="0.25,0.36,0.5,0.62,0.75,0.9",
        ),
    ] = None,
    bits: Annotated[
        str | None, typer.Option("--bits", help="Bits of the grid.", show_default="2,4,8")
    ] = None,
    menu: MenuOption = "",
    band: Annotated[
        float | None,
        typer.Option("--band", help="Share of the cell's bandwidth there is.", show_default="1"),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="FILE|NAME",
            help="Made by the same fine-tunings; else one is made.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Three minutes: short runs, a menu, no traffic arms."),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Of every fine-tuning.", show_default="the task's"),
    ] = None,
    evaluation_limit: Annotated[
        int | None,
        typer.Option("--evaluation-limit", min=1, help="Held-out samples.", show_default="2000"),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes of one thread.")] = 2,
    result: Annotated[
        Path | None,
        typer.Option(
            "--result", metavar="FILE", help="Also write the result here.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run ended; finished parts are reused.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the cell.")] = 0,
    columns: ColumnsOption = None,
    tokens: TokensOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
    *,
    training: TrainingGiven,
) -> Answer:
    """Calibrate a task, plan a small cell by it, run the plan, and compare.

    Each prediction stands beside its measurement, and each goal beside what was reached. Traffic
    arms show what is lost at a given cut of the uplink, paired by seed with the uncompressed run;
    the published chain has the bits, scales and keep fraction that lose least on validation data.
    With a menu the plan of Top-K alone stands beside one that chooses among the codecs, at the same
    limit. About an hour for a bundled task on two cores.
    """
    from sftopt.core.calibration import load_calibration
    from sftopt.core.errors import ExitCode, InputError
    from sftopt.core.files import write_json
    from sftopt.face.quiet import quiet_libraries
    from sftopt.studies.closed_loop import closed_loop as run
    from sftopt.studies.loop_settings import QUICK, LoopSettings
    from sftopt.training.data import load_task
    from sftopt.training.data.columns import parse_columns

    if (out / "calibration").exists() and not resume:
        raise InputError(
            f"'{out}' holds parts of an earlier run; go on with --resume, or name another folder"
        )
    for path in (out / "closed_loop.json", result):
        if path is not None:
            ensure_writable(path)
    asked = {
        "seeds": seeds, "plan_seeds": plan_seeds, "calibration_seeds": calibration_seeds,
        "keeps": maybe_numbers("--keep", keep, float), "bits": maybe_numbers("--bits", bits, int),
        "menu": tuple(menu_of(menu) or ()) if menu and menu != DEFAULT else None, "band": band,
        "steps": steps, "evaluation_limit": evaluation_limit,
    }  # fmt: skip
    chosen = {
        **(QUICK if quick else {}),
        **{name: value for name, value in asked.items() if value is not None},
        **({"menu": None} if menu == DEFAULT else {}),
    }
    settings = LoopSettings(
        devices=devices, workers=workers, cell_seed=seed, tokens=tokens,
        columns=tuple(sorted(parse_columns(columns).items())), training=training.options(),
        **chosen,
    )  # fmt: skip
    given = None if calibration is None else load_calibration(calibration)
    with engines_on_stderr(), quiet_libraries():
        base = default_model(data, quiet) if model is None else model
        try:
            found = run(
                load_task(data, tokens=tokens, model=base, columns=dict(settings.columns)),
                base, out, settings, given=given,
                command=as_first_given(), news=_Teller(enabled=not quiet),
            )  # fmt: skip
        except KeyboardInterrupt:
            return failure(
                f"interrupted; what is finished is kept in '{out}', --resume goes on",
                ExitCode.INTERRUPTED,
            )
    if result is not None:
        write_json(result, found)
    return Answer({**found, "out": str(out)}, lambda console: _show(console, found))


def as_first_given() -> str:
    """Return the command without what goes on: the calibration holds it, and its hash must stay."""
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--quiet")]
    return shlex.join(["sftopt", *words])


class _Teller:
    """Lines of news: at every new stage, and now and then within one."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._stage = ""
        self._told_s = self._began_s = time.monotonic()

    def __call__(self, news: LoopNews) -> None:
        now = time.monotonic()
        due = news.stage != self._stage or now - self._told_s >= _INTERVAL_S
        if self._enabled and due:
            self._told_s, self._stage = now, news.stage
            tell(f"[{now - self._began_s:5.0f} s] {news.stage}: {news.text}")


def _show(console: Console, found: dict[str, Any]) -> None:
    from sftopt.face.tables import table

    made = table("goal", "limit", "reached", "", title=f"closed loop on {found['task']}")
    for goal in found["goals"]:
        made.add_row(
            goal["goal"], _figure(goal["limit"]), _figure(goal["value"]),
            "" if goal["met"] else "missed",
        )  # fmt: skip
    console.print(made)
    if not found["traffic"]:
        return
    console.print()
    image = found["metric"] == "accuracy"
    unit = "points" if image else "perplexity_percent"
    heading = "points" if image else "perplexity %"
    arms = table("arm", "up cut %", "down cut %", "total cut %", heading, "95 %", title="traffic")

    for arm in found["traffic"]:
        cut = arm["cut_of_fp32"]
        arms.add_row(
            arm["arm"], *(f"{100.0 * cut[link]:.2f}" for link in ("uplink", "downlink", "total")),
            f"{arm[unit]:+.2f}", f"{arm[unit + '_low']:+.2f} to {arm[unit + '_high']:+.2f}",
        )  # fmt: skip
    console.print(arms)


def _figure(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}"
