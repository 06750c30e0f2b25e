"""``sftopt demo``: from a cell to a fine-tuned model in a minute, and one page of all of it."""

from __future__ import annotations

import importlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, failure, tell

if TYPE_CHECKING:
    from sftopt.core.instance import Instance
    from sftopt.core.plan import Plan
    from sftopt.core.result import Result
    from sftopt.face.report.page import Section
    from sftopt.studies.compare import Comparison
    from sftopt.training.run import RunSummary

CELL = "jetson-vit-b"
"""The cell that is planned: ten boards of four kinds."""
SCHEMES = ("sft", "one-for-all", "splitlora", "hsplitlora", "card", "int8-best", "no-compression")
"""Schemes that stand beside the plan."""
TASK = "digit-scenes"
"""The task that is fine-tuned: it needs no download."""
ROUNDS = 30
"""Rounds of the fine-tuning, of the cell's ten local steps each: 300 steps."""
_LAST_LINES = 12
"""Of a set-up that failed: what is shown."""


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Page, plans and the run go here.")
    ] = Path("out/demo"),
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds to fine-tune.")] = ROUNDS,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Plan and compare; train nothing.")
    ] = False,
    setup: Annotated[
        str | None,
        typer.Option(
            "--setup",
            metavar="COMMAND",
            help="Installs what fine-tuning needs; runs while planning.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Plan a cell, compare schemes, fine-tune by a plan, and write one page of it.

    The plan of a bundled cell is verified and printed first. Then published schemes stand beside
    it, and two devices fine-tune a small image model by a plan of their own, made of figures that
    were measured. DIR/demo.html shows all of it; it opens without a network.
    """
    from sftopt.core.library import load

    began = time.monotonic()
    page = out / "demo.html"
    ensure_writable(page)
    cell = load(CELL)
    meanwhile = _meanwhile(None if plan_only else setup, out / "setup.log", began)
    with meanwhile, engines_on_stderr():
        result = _planned(cell, out / "plan.json", began)
        comparison = _compared(cell, began, quiet)
    run = None
    if not plan_only and find_spec("torch") is not None:
        try:
            run = _trained(out, rounds, began, quiet)
        except KeyboardInterrupt:
            where = out / "run"
            return failure(f"interrupted; finished rounds are in '{where}'", ExitCode.INTERRUPTED)
    elif not plan_only:
        tell("note: fine-tuning is left out: it needs torch, transformers and peft; "
             "pip install 'sftopt[train]'")  # fmt: skip
    _write(page, cell, result, comparison, run)
    took_s = time.monotonic() - began
    summary = None if run is None else run[2].data
    data = {
        "page": str(page), "round_s": result.objective_s, "bound_s": result.bound_s,
        "schemes": {row.scheme: row.ratio_to_sft for row in comparison.schemes},
        "final_metric": None if summary is None else summary["final_metric"],
        "wall_s": took_s,
    }  # fmt: skip
    return Answer(data, f"all of it on one page: {page} ({took_s:.0f} s)")


@contextmanager
def _meanwhile(command: str | None, log: Path, began: float) -> Iterator[None]:
    """Within: a command runs beside, and is waited for at the end. Raises InputError."""
    if command is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as told:
        running = subprocess.Popen(
            command, shell=True, stdin=subprocess.DEVNULL, stdout=told, stderr=told
        )
    try:
        yield
        if running.poll() is None:
            _stage(began, f"waiting for the set-up of the fine-tuning (see {log})")
        code = running.wait()
    except BaseException:
        running.terminate()
        running.wait()
        raise
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise InputError(
            f"--setup: '{command}' ended with code {code}; its last words (all of them: {log}):\n"
            + "\n".join(lines[-_LAST_LINES:])
        )
    importlib.invalidate_caches()  # what was installed meanwhile


def _stage(began: float, text: str) -> None:
    tell(f"[{time.monotonic() - began:4.0f} s] {text}")


def _planned(cell: Instance, out: Path, began: float) -> Result:
    """Plan the cell and print what came of it, before anything else is loaded."""
    from sftopt.solvers.run import solve

    _stage(began, f"planning {cell.name}: {len(cell.devices)} devices, {cell.workload.name}")
    result = solve(cell, time_limit=60.0)
    result.raise_if_interrupted().raise_for_status()
    assert result.plan is not None
    assert result.objective_s is not None
    out.parent.mkdir(parents=True, exist_ok=True)
    result.plan.save(out)
    gap = "" if result.gap_rel is None else f", {100.0 * result.gap_rel:.2g} % above a proven bound"
    _stage(began, f"verified plan: {result.objective_s:.5g} s a round{gap}; saved as {out}")
    return result


def _compared(cell: Instance, began: float, quiet: bool) -> Comparison:
    from sftopt.studies.compare import compare

    _stage(began, "the same cell by other schemes")
    comparison = compare(cell, list(SCHEMES), time_limit=30.0)
    for row in comparison.schemes:
        if not quiet and row.ratio_to_sft is not None:
            refused = ", refused: " + row.refused.split(";")[0] if row.refused else ""
            _stage(
                began, f"  {row.scheme:16s} {row.round_s:9.4g} s, x {row.ratio_to_sft:.3g}{refused}"
            )
    return comparison


def _trained(
    out: Path, rounds: int, began: float, quiet: bool
) -> tuple[Instance, Plan, RunSummary]:
    """Plan two devices by measured figures and fine-tune as planned."""
    import shutil

    from sftopt.core.calibration import Speeds, apply, load_calibration
    from sftopt.core.families import generate
    from sftopt.face.default_model import default_model
    from sftopt.face.learning import learning, plan_run
    from sftopt.face.quiet import quiet_libraries
    from sftopt.solvers.run import solve
    from sftopt.training.data import load_task
    from sftopt.training.options import TrainingOptions
    from sftopt.training.run import run_plan

    measured = load_calibration(TASK)
    cell = apply(generate(CELL, 2, 0), measured, speeds=Speeds.MEASURED)
    with engines_on_stderr(), quiet_libraries():
        made = solve(cell, time_limit=30.0)
        made.raise_if_interrupted().raise_for_status()
        assert made.plan is not None
        made.plan.save(out / "measured-plan.json")
        folder = out / "run"
        if folder.exists():  # of an earlier demo
            shutil.rmtree(folder)
        task = load_task(TASK)
        steps = rounds * cell.training.local_steps
        _stage(began, f"fine-tuning two devices for {steps} steps as planned")
        run = plan_run(
            made.plan, cell, task, measured, rounds=rounds, seed=0, local_steps=None,
            model=default_model(TASK, quiet), evaluate_every=max(1, rounds // 6),
            evaluation_limit=1000, local_files_only=True, drops={}, codec=None, channels=None,
            channel_name="nominal", **learning(cell, task, measured, TrainingOptions()),
        )  # fmt: skip
        summary = run_plan(run, folder, on_round=lambda row: _tell_round(row, rounds, began, quiet))
    promised = summary.planned_metric
    beside = "" if promised is None else f", {100.0 * promised:.1f} % planned"
    _stage(began, f"accuracy {100.0 * summary.data['final_metric']:.1f} %{beside}")
    return cell, made.plan, summary


def _tell_round(row: dict[str, Any], rounds: int, began: float, quiet: bool) -> None:
    if not quiet and row["metric"] is not None:
        _stage(began, f"  round {row['round']} of {rounds}: loss {row['loss']:.3g}, "
                      f"accuracy {100.0 * row['metric']:.1f} %")  # fmt: skip


def _write(
    page: Path, cell: Instance, result: Result, comparison: Comparison,
    run: tuple[Instance, Plan, RunSummary] | None,
) -> None:  # fmt: skip
    from sftopt.face.report.cells import plan_sections
    from sftopt.face.report.page import Page, Section, picture, write_page

    assert result.plan is not None
    assert result.breakdown is not None
    sections: list[Section] = [
        Section(
            "The plan",
            "Blocks on each device, compression of activations, shares of the band.",
            facts=[
                ("cell", f"{cell.name}: {len(cell.devices)} devices, {cell.workload.name}"),
                ("round", f"{result.objective_s:.5g} s, recomputed by the judge"),
                (
                    "bound",
                    f"{result.bound_s:.5g} s: no plan of this cell is faster (by "
                    f"{result.bound_source})",
                ),
            ],
        ),
        *plan_sections(cell, result.plan, result.breakdown),
        picture(
            "Against other schemes",
            f"The same cell, the same judge, {comparison.reference_bits} bits as the reference. A "
            "refused scheme breaks a limit by its own rule; its numbers are shown all the same.",
            comparison.plot(),
        ),
    ]
    if run is not None:
        sections += _run_sections(*run)
    write_page(
        Page("sftopt: a demonstration", "Planned, compared, fine-tuned and measured.", sections,
             "sftopt demo"),
        page,
    )  # fmt: skip


def _run_sections(cell: Instance, plan: Plan, summary: RunSummary) -> list[Section]:
    """Make the sections of the fine-tuning: curves, and predicted beside measured."""
    from sftopt.face.plots.finetune import curves_figure
    from sftopt.face.report.page import Section, picture

    data = summary.data
    cuts = ", ".join(f"{one.id}: {one.blocks} blocks" for one in plan.devices)
    rows = [
        [f"{one.quantity}, {one.unit}" if one.unit else one.quantity, one.device,
         f"{one.predicted:.6g}", f"{one.measured:.6g}",
         "" if one.error_rel is None else f"{100.0 * one.error_rel:+.2f}"]
        for one in summary.compared if one.goal_rel is not None
    ]  # fmt: skip
    title = f"{data['task']}, {len(cell.devices)} devices"
    return [
        picture(
            "Fine-tuning by a plan",
            f"Real split fine-tuning of a small image model ({cuts}). Bytes are counted on the "
            "links; time is a virtual clock of measured compute and link times.",
            curves_figure(summary.rows, data["metric"], summary.planned_metric, title),
        ),
        Section(
            "Predicted against measured",
            "What the plan promised, and what the run did.",
            head=["quantity", "device", "predicted", "measured", "error %"],
            rows=rows,
        ),
    ]


__all__ = ["demo"]
