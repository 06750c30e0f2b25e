"""What does each scheme reach in real fine-tuning, for the same number of samples, and when?

``OMP_NUM_THREADS=1 python -m benchmarks.studies.schemes_training --work DIR`` trains the small
model of task digit-scenes by every scheme on one cell of four devices (the family jetson-vit-b with
the bundled calibration), as ``sftopt finetune --scheme NAME`` does, and writes a row for each
scheme, the page ``schemes_training.md`` and a figure: accuracy against virtual seconds. A run that
is stopped goes on in DIR. About 10 CPU minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.calibration import AccuracyCurve, Speeds, calibrated, load_calibration
from sftopt.core.errors import InputError, VerificationError
from sftopt.core.families.registry import generate
from sftopt.core.instance import Instance
from sftopt.core.workload import completed
from sftopt.face.default_model import cache_folder
from sftopt.studies.compare import Settings, scheme_plan
from sftopt.training.data import load_task
from sftopt.training.pretrain import pretrained
from sftopt.training.run import PlanRun, run_plan
from sftopt.training.schedule import Schedule
from sftopt.training.split import LoraSettings, OptimizerSettings

if TYPE_CHECKING:
    from sftopt.core.plan import Plan

SCHEMES = (
    "sft", "one-for-all", "greedy", "int8", "fp16", "no-compression", "splitlora",
    "splitlora:aggregation=corrected", "hsplitlora", "tsflora", "sl", "card", "fedlora",
)  # fmt: skip
"""Ours and the baselines, then the published systems by order."""
DEVICES = 4
"""Devices of the cell."""
ROUNDS = 6
"""Rounds of a run; with K = 10 steps of 16 samples on four devices, 3,840 samples."""
LOCAL_STEPS = 10
"""K."""
EVERY = 2
"""Rounds between two evaluations."""
EVALUATED = 500
"""Held-out scenes of an evaluation."""
RESULTS = Path("benchmarks/results")
"""Where rows, page and figure go."""
CALIBRATION = "digit-scenes"
"""The bundled measured figures of model and task."""
_COLOURS = {"parallel": "tab:blue", "sequential": "tab:orange", "federated": "tab:green"}
"""Of the lines, by order."""
_MARKERS = "osv^D<>PX*hdp"
"""Of the lines, by scheme."""


def cell() -> Instance:
    """Return the cell: the family's, with model and task as they were measured, 16 samples each."""
    drawn = generate("jetson-vit-b", DEVICES, 0)
    devices = [device.model_copy(update={"batch": 16}) for device in drawn.devices]
    training = drawn.training.model_copy(update={"local_steps": LOCAL_STEPS})
    given = drawn.model_copy(update={"devices": tuple(devices), "training": training})
    measured = load_calibration(CALIBRATION)
    made = calibrated(given, measured, curve=AccuracyCurve.LOWER, speeds=Speeds.MEASURED).instance
    config = json.loads((Path(_model()) / "config.json").read_text(encoding="utf-8"))
    work = completed(made.workload, config, labels=load_task("digit-scenes").labels)
    return made.model_copy(update={"workload": work})


def _model() -> str:
    """The folder of the task's own model; pre-trained now if it is not there."""
    return str(pretrained("digit-scenes", cache=cache_folder() / "models"))


def row_of(scheme: str, instance: Instance, work: Path) -> dict[str, Any]:
    """Train by one scheme; a refusal is a row too."""
    try:
        made_for, plan, changes = scheme_plan(instance, scheme, Settings(time_limit=20.0))
    except (InputError, VerificationError) as error:
        return {"scheme": scheme, "refused": str(error)}
    folder = work / scheme.replace(":", "-").replace("=", "-")
    summary = run_plan(_run(made_for, plan), folder, resume=(folder / "settings.json").exists())
    data, samples = summary.data, 0
    points = []
    for row in summary.rows:
        samples += LOCAL_STEPS * sum(
            device.batch for device in made_for.devices if device.id in row["participants"]
        )
        if row["metric"] is not None:
            points.append({"round": row["round"], "samples": samples,
                           "time_s": float(f"{row['time_s']:.6g}"),
                           "accuracy": row["metric"]})  # fmt: skip
    return {
        "scheme": scheme, "refused": None, "order": data["order"],
        "aggregation": data["aggregation"], "ranks": sorted(data["ranks"].values()),
        "cuts": [part.blocks for part in plan.devices], "changes": list(changes),
        "predicted_round_s": plan.breakdown.round_s if plan.breakdown else None,
        "bytes": data["bytes"], "points": points,
    }  # fmt: skip


def _run(instance: Instance, plan: Plan) -> PlanRun:
    """As ``sftopt finetune`` sets it up: optimiser and adapters of the calibration's runs."""
    measured = load_calibration(CALIBRATION)
    assert measured.accuracy is not None
    known = measured.accuracy.settings
    task = load_task("digit-scenes")
    return PlanRun(
        instance=instance, plan=plan, task=task, model_task=task.kind.model_task,
        labels=task.labels, model=_model(),
        rounds=ROUNDS, local_steps=LOCAL_STEPS, evaluate_every=EVERY, evaluation_limit=EVALUATED,
        optimizer=OptimizerSettings(learning_rate=known["learning_rate"]),
        schedule=Schedule(known["schedule"]),
        lora=LoraSettings(
            rank=instance.workload.lora_rank,
            alpha=known["lora_alpha"] / known["lora_rank"] * instance.workload.lora_rank,
        ),
        calibration=measured, local_files_only=True,
    )  # fmt: skip


def page(rows: list[dict[str, Any]], instance: Instance) -> str:
    """Write the Markdown page of the rows."""
    ran = [row for row in rows if row["refused"] is None]
    samples = sorted({row["points"][-1]["samples"] for row in ran})
    lines = [
        "# Schemes in real fine-tuning",
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.studies.schemes_training --work DIR`: "
        f"task digit-scenes on `{instance.name}` ({DEVICES} devices, batch 16, the bundled "
        f"calibration, speeds measured), {ROUNDS} rounds of {LOCAL_STEPS} steps a device, "
        f"{' or '.join(f'{count:,}' for count in samples)} samples, one seed; the learning rate "
        f"falls over the run. Accuracy on {EVALUATED:,} held-out scenes, seconds of the virtual "
        "clock. The last two columns: the accuracy at the least time that any scheme took for all "
        "of its samples, and MB that crossed the air. Rounds are equal in samples, not in updates: "
        "a sequential round has as many server steps as all its devices' local steps together.",
        "",
        "| scheme | order | adapters | ranks | cuts | round s | predicted | total s | accuracy "
        "| by then | MB |",
        "|---|---|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    least = min(row["points"][-1]["time_s"] for row in ran)
    for row in rows:
        if row["refused"] is not None:
            lines.append(f"| {row['scheme']} | refused: {row['refused']} ||||||||||")
            continue
        last = row["points"][-1]
        ranks = sorted(set(row["ranks"]))
        reached = [point["accuracy"] for point in row["points"] if point["time_s"] <= least]
        sent = sum(row["bytes"][kind] for kind in ("uplink", "downlink", "adapters", "head"))
        lines.append(
            f"| {row['scheme']} | {row['order']} | {row['aggregation'] or 'handed on'} | "
            f"{'-'.join(str(rank) for rank in (ranks[0], *ranks[1:][-1:]))} | "
            f"{min(row['cuts'])}-{max(row['cuts'])} | {last['time_s'] / ROUNDS:.4g} | "
            f"{row['predicted_round_s']:.4g} | {last['time_s']:.4g} | {last['accuracy']:.3f} | "
            f"{f'{reached[-1]:.3f}' if reached else '-'} | {sent / 1e6:.4g} |"
        )
    missing = [scheme for scheme in SCHEMES if scheme not in {row["scheme"] for row in rows}]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join([*lines, "", "![accuracy over virtual seconds](schemes_training.png)", ""])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy against virtual seconds, a line for each scheme."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(row for row in rows if row["refused"] is None):
        axes.plot(
            [point["time_s"] for point in row["points"]],
            [point["accuracy"] for point in row["points"]],
            color=_COLOURS[row["order"]], marker=_MARKERS[number % len(_MARKERS)], markersize=5,
            linewidth=1.2, label=f"{row['scheme']} ({row['order']})",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("virtual time in s")
    axes.set_ylabel("accuracy on held-out scenes")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run the study from a command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "schemes_training.jsonl")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument(
        "--only", choices=SCHEMES, help="this scheme alone, beside those that are there"
    )
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.out.exists():
        rows = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    instance, done = cell(), {row["scheme"] for row in rows}
    for scheme in reversed(SCHEMES):  # sft last: the first plan of a checkout compiles
        if scheme not in done and given.only in (None, scheme):
            rows.append(row_of(scheme, instance, given.work))
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    rows.sort(key=lambda row: SCHEMES.index(row["scheme"]))
    given.out.with_suffix(".md").write_text(page(rows, instance), encoding="utf-8")
    draw(rows, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
