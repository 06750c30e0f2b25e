"""``sftopt calibrate``: measured figures of a model on a task, as a file the planner reads."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import JsonOption, TitleOption, WidthOption, look_asked
from sftopt.face.commands.calibrate_rounds import Orders, check_targets, law_facts, rounds_measured
from sftopt.face.default_model import default_model
from sftopt.face.lists import maybe_numbers
from sftopt.face.menu import MenuOption, items_of, with_menu
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, failure, tell
from sftopt.face.training_options import (
    ColumnsOption,
    TokensOption,
    TrainingGiven,
    takes_training_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.calibration import Calibration
    from sftopt.core.pictures.paper import Look
    from sftopt.face.steps import Steps
    from sftopt.training.calibrate import CalibrationNews, CalibrationSettings
    from sftopt.training.data import Task


@takes_training_options()
def calibrate(
    data: Annotated[
        str,
        typer.Option("--data", metavar="SPEC", help="digit-scenes, stdlib-bytes, or KIND:PATH."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the calibration here.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR|ID|CONFIG",
            help="Folder, hub id, or config.json for random weights.",
            show_default="the task's own, pre-trained now or earlier",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", metavar="DIR", help="Finished parts are kept here.", show_default="FILE.work"
        ),
    ] = None,
    cuts: Annotated[
        str | None,
        typer.Option("--cuts", help="Blocks on the devices of a run.", show_default="the task's"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="Of each run.", show_default="the task's")
    ] = None,
    local_steps: Annotated[
        int | None, typer.Option("--local-steps", help="Of a round.", show_default="10")
    ] = None,
    evaluation_limit: Annotated[
        int | None,
        typer.Option("--evaluation-limit", min=1, help="Held-out samples.", show_default="2000"),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Fractions.", show_default="0.05,0.1,0.16,0.25,0.36,0.5"),
    ] = None,
    bits: Annotated[str | None, typer.Option("--bits", show_default="2,4,8")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each cell.")] = 3,
    ecsq: Annotated[
        str | None,
        typer.Option(
            "--ecsq",
            metavar="BITS",
            help="Also the dead-zone quantiser at these bits per element, as modes 'dense'.",
            show_default="none",
        ),
    ] = None,
    codec_option: Annotated[
        list[str] | None,
        typer.Option(
            "--codec-option",
            metavar="K=V",
            help="Of Top-K: rate, group, centre, per_sample; repeatable.",
            show_default=False,
        ),
    ] = None,
    menu: MenuOption = "",
    time_to_target: Annotated[
        bool,
        typer.Option(
            "--time-to-target",
            help="Also laws of how many rounds a target takes: every run is evaluated after every "
            "round, at a constant learning rate.",
        ),
    ] = False,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            help="With --time-to-target: levels of the metric.",
            show_default="some that the runs reach",
        ),
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(
            "--ranks",
            help="With --time-to-target: other ranks of the adapters, uncompressed.",
            show_default="half the task's",
        ),
    ] = None,
    orders: Orders = None,
    fine_tunings: Annotated[
        bool, typer.Option(help="Off: only seconds, bytes and the codec; no accuracy curve.")
    ] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 2,
    device: Annotated[
        str, typer.Option("--device", help="Where blocks and codec are measured: cpu, cuda.")
    ] = "cpu",
    local_files_only: Annotated[
        bool, typer.Option("--local-files-only", help="Never ask a model hub.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first of the seeds.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on; there must be something to go on from.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use nothing finished before.")] = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw the fit here.", show_default=False),
    ] = None,
    width: WidthOption = None,
    title: TitleOption = None,
    columns: ColumnsOption = None,
    tokens: TokensOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
    *,
    training: TrainingGiven,
) -> Answer:
    """Measure a model on a task for 'sftopt plan --calibration'.

    Seconds, FLOP and memory of the blocks, bytes and seconds of the codec, and short fine-tunings
    over a grid of keep fractions, bits and seeds with a fit of the accuracy curve; with
    --time-to-target also how many rounds a target takes at what loss. Every finished
    run is kept at once and used again by a later call of the same content: Ctrl-C loses nothing.
    """
    import torch

    from sftopt.face.quiet import quiet_libraries
    from sftopt.training.calibrate import Sources
    from sftopt.training.calibrate import calibrate as run
    from sftopt.training.calibrate.start import check_start
    from sftopt.training.data.columns import parse_columns

    if resume and fresh:
        raise InputError("--resume and --fresh contradict each other; give one")
    folder = work or out.with_name(out.name + ".work")
    if resume and not folder.is_dir():
        raise InputError(f"--resume: '{folder}' does not exist; there is nothing to go on from")
    for path in (out, folder / "measured.json", *([] if plots is None else [plots / "fit.png"])):
        ensure_writable(path)
    _check_device(device)
    look = look_asked(width, title, "give --plots DIR" if plots is None else "")
    check_targets(time_to_target, targets, ranks, orders, fine_tunings)
    items = items_of(menu)
    torch.set_num_threads(1)
    asked = training.options().asked()
    chosen = tuple(sorted(parse_columns(columns).items()))
    task = Sources(model, data, tokens=tokens, columns=chosen).load_task()
    settings = _settings(
        task, keep, bits, ecsq, cuts, seeds, seed, codec_option or [],
        {**asked, "rounds": rounds, "local_steps": local_steps,
         "evaluation_limit": evaluation_limit},
        {} if not time_to_target else rounds_measured(
            task, maybe_numbers("--targets", targets, float),
            maybe_numbers("--ranks", ranks, int), orders,
        ),
    )  # fmt: skip
    with engines_on_stderr(), quiet_libraries(), _Shown(enabled=not quiet) as shown:
        source = model if model is not None else default_model(data, quiet)
        try:
            sources = Sources(source, data, local_files_only, tokens, chosen)
            if items != ():
                check_start(sources, settings, items, fine_tunings=fine_tunings)
            made = run(
                sources, settings, work=folder, workers=workers, fine_tunings=fine_tunings,
                device=device, fresh=fresh, command=shlex.join(["sftopt", *sys.argv[1:]]),
                news=shown,
            )  # fmt: skip
            made = with_menu(made, sources, settings, items, folder, workers)
        except KeyboardInterrupt:
            return failure(
                f"interrupted; what is finished is kept in '{folder}', --resume goes on",
                ExitCode.INTERRUPTED,
            )
    made.save(out)
    tell(f"wrote {out}")
    drawn = _drawn(made, plots, look)
    return Answer(_summary(made, out, drawn), lambda console: _show(console, made))


def _check_device(name: str) -> None:
    """Raises InputError for a device that torch does not have here."""
    import torch

    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise InputError(f"--device '{name}' is none; give cpu, cuda or cuda:NUMBER")
    # torch wraps large numbers round to negative ones
    if kind == "cuda" and not 0 <= (torch.device(name).index or 0) < torch.cuda.device_count():
        raise InputError(
            f"--device {name}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices here; give --device cpu, or install a build of torch for the GPU"
        )


def _settings(
    task: Task,
    keep: str | None,
    bits: str | None,
    ecsq: str | None,
    cuts: str | None,
    seeds: int,
    seed: int,
    codec_options: list[str],
    single: dict[str, Any],
    of_rounds: dict[str, Any],
) -> CalibrationSettings:
    """The settings typed. Raises InputError for text that is no list of numbers."""
    from sftopt.face.commands.plan import native_options
    from sftopt.training.calibrate.defaults import settings_for
    from sftopt.training.codec import TopKConfig

    options = native_options(codec_options, "--codec-option")
    for name in ("keep", "bits"):
        if name in options:
            raise InputError(f"--codec-option {name}: the grid sets it; give --{name}")
    return settings_for(
        task,
        keeps=maybe_numbers("--keep", keep, float),
        bits=maybe_numbers("--bits", bits, int),
        ecsq=maybe_numbers("--ecsq", ecsq, float),
        cuts=maybe_numbers("--cuts", cuts, int),
        seeds=tuple(range(seed, seed + seeds)),
        codec=TopKConfig.from_dict(options),
        **single,
        **of_rounds,
    )


class _Shown:
    """Progress: lines for what comes before the runs, then the runs as steps."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._steps: Steps | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, news: CalibrationNews) -> None:
        from sftopt.face.steps import Steps

        if not self._enabled:
            return
        if not news.total:
            self._end()
            tell(f"{news.stage}: {news.text}")
            return
        if self._steps is None:
            self._steps = Steps("fine-tunings", news.total)
            self._steps.__enter__()
        self._steps.at(news.done, news.text)

    def _end(self) -> None:
        if self._steps is not None:
            self._steps.__exit__(None, None, None)
            self._steps = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


def _drawn(made: Calibration, folder: Path | None, look: Look) -> list[Path]:
    if folder is None:
        return []
    if made.accuracy is None:
        tell("note: without fine-tunings there is no fit to draw")
        return []
    from sftopt.face.plots.calibration import draw

    drawn = draw(made.accuracy, made.name, folder, look)
    for path in drawn:
        tell(f"wrote {path}")
    return drawn


def _summary(made: Calibration, out: Path, drawn: list[Path]) -> dict[str, Any]:
    """The answer for machines: the file, its hash and the main figures."""
    fit = made.accuracy
    return {
        "file": str(out),
        "calibration_hash": made.hash,
        "name": made.name,
        "workload": made.workload.model_dump(mode="json"),
        "speed_flops_per_s": made.profile.speed_flops_per_s,
        "codec_s_per_element": made.codec.seconds_per_element,
        "held_out_error_rel": _worst_errors(made),
        "accuracy": None
        if fit is None
        else {
            "metric": fit.metric,
            "fit": fit.fit.model_dump(mode="json"),
            "lower": fit.lower.model_dump(mode="json"),
            "half_width": fit.half_width,
            "runs": (len(fit.cells) + len(fit.ecsq) + 1) * len(fit.seeds),
        },
        "time_to_target": None
        if made.time_to_target is None
        else made.time_to_target.model_dump(mode="json"),
        "plots": [str(path) for path in drawn],
    }


def _worst_errors(made: Calibration) -> dict[str, float]:
    """Largest error of equations (1) and (2) on tensors that were not calibrated on."""
    return {
        way: max(
            abs(getattr(row, f"{way}_bits_predicted") / getattr(row, f"{way}_bits_held_out") - 1.0)
            for row in made.codec.rows
        )
        for way in ("uplink", "downlink")
    }


def _show(console: Console, made: Calibration) -> None:
    from sftopt.face.commands.workload import workload_facts
    from sftopt.face.tables import facts, table

    profile, fit = made.profile, made.accuracy
    worst = _worst_errors(made)
    rows = [
        ("calibration", f"{made.name} ({made.hash[:12]})"),
        ("machine", f"{made.source.machine}, {made.source.threads} thread(s)"),
        ("speed", f"{profile.speed_flops_per_s / 1e9:.4g} GFLOP/s on a block, forward and "
                  f"backward, at batch {profile.reference_batch} ({profile.clock} seconds)"),
        ("codec", f"{made.codec.seconds_per_element * 1e9:.4g} ns per element and direction"),
        ("held-out bytes", f"off by at most {100 * worst['uplink']:.2g} % up, "
                           f"{100 * worst['downlink']:.2g} % down"),
        *workload_facts(made.workload),
    ]  # fmt: skip
    if fit is not None:
        curve = fit.fit
        noise = "keep 4^-bits" if curve.quantisation_scales_with_keep else "4^-bits"
        rows += [
            (fit.metric, f"{curve.uncompressed:.6g} - {curve.keep_loss:.4g} "
                         f"exp(-{curve.keep_decay:.4g} keep) - {curve.quantisation_loss:.4g} "
                         f"{noise}"),
            ("band", f"{fit.confidence:.0%}, half width at most {fit.half_width:.3g}; "
                     f"calibrated for keep {fit.keep_from:g} to {fit.keep_to:g}, "
                     f"{fit.bits_from} to {fit.bits_to} bits"),
        ]  # fmt: skip
    console.print(facts([*rows, *law_facts(made.time_to_target)]))
    if fit is None:
        return
    console.print()
    made_table = table("keep", "bits", "loss", "fitted", "band", "off by")
    for cell in fit.cells:
        mean = sum(cell.loss) / len(cell.loss)
        made_table.add_row(
            f"{cell.keep:g}", str(cell.bits), f"{mean:.4g}", f"{cell.fitted_loss:.4g}",
            f"{cell.half_width:.2g}", f"{cell.fitted_loss - mean:+.2g}",
        )  # fmt: skip
    console.print(made_table)
    if fit.ecsq:
        console.print()
        dense = table("dead zone, bits per element", "loss", "band")
        for level in fit.ecsq:
            bits = level.value_bits + level.side_bits_per_element
            dense.add_row(f"{bits:.4g}", f"{level.mean_loss:.4g}", f"{level.half_width:.2g}")
        console.print(dense)
