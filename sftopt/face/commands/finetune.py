"""``sftopt finetune``: a plan in real split fine-tuning, against what it promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import JsonOption, TitleOption, WidthOption, look_asked
from sftopt.face.calibrated import (
    CalibrationOption,
    CurveOption,
    ExtrapolateOption,
    MinimumOption,
    SpeedsOption,
    load_given,
)
from sftopt.face.default_model import default_model
from sftopt.face.finetuned import show
from sftopt.face.learning import learning, plan_run
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, failure, tell
from sftopt.face.planned import check_scheme, instance_of, plan_and_instance, planned
from sftopt.face.quiet import quiet_libraries
from sftopt.face.training_options import (
    ColumnsOption,
    TokensOption,
    TrainingGiven,
    takes_training_options,
)
from sftopt.face.warned import as_data, tell_warnings, warnings_of

if TYPE_CHECKING:
    from sftopt.core.calibration import Calibration
    from sftopt.core.channel import RoundChannel
    from sftopt.core.instance import Instance
    from sftopt.core.pictures.paper import Look
    from sftopt.core.plan import Plan
    from sftopt.training.run import RunSummary


DEFAULT_ROUNDS = 10
"""Rounds to train where nothing else is asked for."""


@takes_training_options()
def finetune(
    data: Annotated[
        str,
        typer.Option("--data", metavar="SPEC", help="digit-scenes, stdlib-bytes, or KIND:PATH."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Rows, summary, adapters, plots go here.")
    ],
    plan: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN|INSTANCE",
            help="A plan file; with --scheme the instance.",
            show_default=False,
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance",
            metavar="INSTANCE",
            help="The instance the plan is for.",
            show_default=False,
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            metavar="NAME[:K=V..]",
            help="Run this scheme's plan ('sftopt schemes'), such as card:w=0.5.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            min=1,
            help="Rounds to train.",
            show_default=f"{DEFAULT_ROUNDS}, or what --epochs takes",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=1,
            help="A fixed set on each device, which returns: codecs with memory need it.",
            show_default="fresh ones in every step",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="Visits of each sample of --samples, in place of --rounds.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR|ID|CONFIG",
            help="Folder, hub id, or config.json for random weights.",
            show_default="the task's own, pre-trained now or earlier",
        ),
    ] = None,
    calibration: CalibrationOption = None,
    accuracy_curve: CurveOption = None,
    speeds: SpeedsOption = None,
    accuracy_minimum: MinimumOption = None,
    extrapolate: ExtrapolateOption = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Gains of each round: CSV or Parquet with round, device, gain_db.",
            show_default="the instance's mean rates",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="NAME[:K=V,...]",
            help="For all devices in place of the planned modes: none, topk, ecsq:bits=2.4 ...",
            show_default="the plan's",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            metavar="DEVICE@ROUND",
            help="This device misses that round; repeatable.",
            show_default=False,
        ),
    ] = None,
    local_steps: Annotated[
        int | None,
        typer.Option("--local-steps", min=1, help="K.", show_default="the instance's"),
    ] = None,
    evaluate_every: Annotated[
        int, typer.Option("--evaluate-every", min=0, help="Rounds; 0: only after the last.")
    ] = 1,
    evaluation_limit: Annotated[
        int | None,
        typer.Option("--evaluation-limit", min=1, help="Held-out samples.", show_default="all"),
    ] = None,
    logs: Annotated[
        str | None,
        typer.Option("--logs", metavar="NAME,...", help="csv, tensorboard.", show_default="none"),
    ] = None,
    columns: ColumnsOption = None,
    tokens: TokensOption = None,
    local_files_only: Annotated[
        bool, typer.Option("--local-files-only", help="Never ask a model hub.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Adapters, data order, codec.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run ended.")] = False,
    plots: Annotated[bool, typer.Option(help="Draw curves, bytes and finetune.html.")] = True,
    width: WidthOption = None,
    title: TitleOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
    *,
    training: TrainingGiven,
) -> Answer:
    """Fine-tune as a plan says, and compare with it.

    Cuts, modes, bits, keep fractions and shares are the plan's. Bytes are counted on the links;
    a virtual clock adds measured compute, scaled to the planned speeds, and link times. DIR holds
    rows.jsonl, summary.json, adapters (PEFT folders) and plots; Ctrl-C loses no finished round,
    --resume goes on.

    The order (parallel, one device after another, every device alone with the whole model) and how
    adapters are put together are the plan's too. With --scheme the plan is made by the rules of a
    published system or baseline on INSTANCE, and need not be in a file.

    Exit code 2: plan, model or data do not fit together; 4: the loss diverged or memory did not
    suffice; 5: the judge refutes the plan, or it is of another instance; 130: interrupted.
    """
    from sftopt.core.plan import Plan
    from sftopt.training.data import load_task
    from sftopt.training.data.columns import parse_columns
    from sftopt.training.data.epochs import revisited, rounds_of
    from sftopt.training.data.specs import takes_tokens
    from sftopt.training.run import judged, logs_of, run_plan

    look = look_asked(width, title, "" if plots else "leave --no-plots out")
    options = (calibration, accuracy_curve, speeds, accuracy_minimum, extrapolate)
    measured = _calibration(calibration)
    if tokens is None and measured is not None and takes_tokens(data):
        tokens = measured.workload.tokens  # what was calibrated, so that bytes come out
    chosen = parse_columns(columns)
    # what may be wrong in options, before a scheme is planned or a model pre-trained
    coding, dropped, told = _coding(codec), _drops(drop or []), logs_of(logs, out)
    asked = training.options()
    ensure_writable(out / "summary.json")
    if scheme is None:
        path, name = plan_and_instance(plan, instance)
        made = Plan.load(path)
        given = _instance(made, name, *options)
        judged(given, made)  # before anything that takes long
        task = load_task(data, tokens=tokens, model=model, columns=chosen)
    else:
        check_scheme(scheme)
        name = instance_of(plan, instance)
        task = load_task(data, tokens=tokens, model=model, columns=chosen)
        model = model or default_model(data, quiet)
        given, made = planned(scheme, name, *options, model=model, labels=task.labels, quiet=quiet)
    tell_warnings(given)
    task = task if samples is None else revisited(task, samples)
    rounds = rounds_of(given, rounds, samples, epochs, local_steps) or DEFAULT_ROUNDS
    with engines_on_stderr(), quiet_libraries():
        run = plan_run(
            made, given, task, measured, rounds=rounds, seed=seed, local_steps=local_steps,
            model=model or default_model(data, quiet), evaluate_every=evaluate_every,
            evaluation_limit=evaluation_limit, local_files_only=local_files_only,
            drops=dropped, **learning(given, task, measured, asked), **coding,
            **_channel(given, trace, rounds),
        )  # fmt: skip
        try:
            with _Progress(rounds, enabled=not quiet) as progress:
                summary = run_plan(run, out, resume=resume, on_round=progress, callbacks=told)
        except KeyboardInterrupt:
            return failure(
                f"interrupted; finished rounds are kept in '{out}', --resume goes on",
                ExitCode.INTERRUPTED,
            )
    drawn = _drawn(summary, given, out, look) if plots else []
    for path in drawn:
        tell(f"wrote {path}")
    return Answer(
        {
            **summary.data,
            "out": str(out),
            "plots": [str(path) for path in drawn],
            "warnings": as_data(warnings_of(given)),
        },
        lambda console: show(console, given, summary),
    )


def _instance(made: Plan, instance: str, calibration: Path | None, *options: Any) -> Instance:
    """The plan's instance: as it is where it is the plan's already, else calibrated as asked."""
    from sftopt.core.library import load

    given = load(instance)
    if calibration is not None and given.answers_to(made.instance_hash):
        return given
    return load_given(instance, calibration, *options)


def _calibration(path: Path | None) -> Calibration | None:
    from sftopt.core.calibration import load_calibration

    return None if path is None else load_calibration(path)


def _coding(text: str | None) -> dict[str, Any]:
    from sftopt.training.run import CodecOverride

    return {"codec": None if text is None else CodecOverride.parse(text)}


def _channel(given: Instance, trace: Path | None, rounds: int) -> dict[str, Any]:
    """The gains of each round, and a name that tells this trace from others."""
    if trace is None:
        return {"channels": None, "channel_name": "nominal"}
    import hashlib

    from sftopt.studies.traces import read_trace

    samples = read_trace(trace).samples(given, rounds, given.training.rounds_per_frame)
    channels: tuple[RoundChannel, ...] = tuple(sample.channel for sample in samples)
    digest = hashlib.sha256(trace.read_bytes()).hexdigest()
    return {"channels": channels, "channel_name": f"{trace.name} {digest[:16]}"}


def _drops(texts: list[str]) -> dict[int, tuple[str, ...]]:
    """``DEVICE@ROUND`` texts by round. Raises InputError."""
    found: dict[int, tuple[str, ...]] = {}
    for text in texts:
        device, at, number = text.rpartition("@")
        if not at or not device or not number.isdecimal():
            raise InputError(f"--drop '{text}': give it as DEVICE@ROUND, rounds counted from 1")
        found[int(number)] = (*found.get(int(number), ()), device)
    return found


class _Progress:
    """A line of news per round: loss, metric, bytes, delay."""

    def __init__(self, rounds: int, *, enabled: bool) -> None:
        from sftopt.face.steps import Steps

        self._steps = Steps("rounds", rounds, enabled=enabled)

    def __enter__(self) -> _Progress:
        self._steps.__enter__()
        return self

    def __call__(self, row: dict[str, Any]) -> None:
        from sftopt.face.tables import bytes_text

        metric = "" if row["metric"] is None else f", metric {row['metric']:.4g}"
        sent = bytes_text(sum(row["bytes"].values()))
        delay = row["delay"]["planned"]["round_s"]
        text = f"loss {row['loss']:.4g}{metric}, {sent}, {delay:.4g} s"
        missing = set(row["byte_counts"]) - set(row["participants"])
        if missing:
            text += f", without {', '.join(sorted(missing))}"
        self._steps.at(row["round"], text)

    def __exit__(self, *error: Any) -> None:
        self._steps.__exit__(*error)


def _drawn(summary: RunSummary, given: Instance, out: Path, look: Look) -> list[Path]:
    from sftopt.face.plots.finetune import draw

    title = f"{given.name}: {summary.data['task']}, {len(given.devices)} devices"
    same = given.accuracy.metric == summary.data["metric"]
    planned = summary.planned_metric if same else None
    return draw(summary.rows, summary.data["metric"], planned, title, out, look)
