"""What a menu gains on a real model: plans from the committed rows at equal bytes.

Fine-tuning MiniLM by a plan takes hours on a processor; the rows of ``equal_bytes.jsonl`` were made
on a GPU, each of one device that holds two blocks, which is what a plan for one device runs. So the
published chain and the best codec become modes with the bits that were sent and the upper end of
the paired 95 % interval of what was lost; profile and seconds of the codecs are measured here, and
the cell is planned with the chain alone and with both, at the limit that the chain just meets.
Cuts beyond the two blocks were not measured and are not on offer.

    python -m benchmarks.studies.menu_of_rows --work DIR
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.studies.equal_bytes_arms import CHAIN, NO_PADDING, UNCOMPRESSED, Arm
from benchmarks.studies.equal_bytes_page import RESULTS, committed_rows
from sftopt.core.calibration import Calibration, Speeds, calibrated
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.families import generate
from sftopt.core.files import write_json
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.face.default_model import default_model
from sftopt.studies.loop_menu import goals_of_menu, offered_points, paired
from sftopt.studies.loop_plans import BANDS, proven
from sftopt.training.bases import BASES_NAME
from sftopt.training.calibrate import CalibrationSettings, Sources, calibrate
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.calibrate.fit import mean_half_width
from sftopt.training.calibrate.payloads import BoundaryPair, boundary_pairs
from sftopt.training.calibrate.points import device_seconds
from sftopt.training.codec import codec_from
from sftopt.training.data import Task
from sftopt.training.split import SplitModel

TASK = "wordnet-senses"
"""The task of the rows."""
STEPS = 500
"""Of every fine-tuning."""
BAND = 0.25
"""Share of the cell's band at which quality stands beside delay."""
_BEST = Arm(NO_PADDING, 1.0).label
"""The codec that loses least at the fewest bits with seeds enough."""
_NOT_MEASURED = 1.0
"""Loss at a cut that was not measured: all of the accuracy, so that no plan takes it."""

Rows = dict[str, dict[int, dict[str, Any]]]
"""By label and seed."""


def rows_by_seed(labels: tuple[str, ...]) -> Rows:
    """Return the committed rows of ``labels``, of the seeds that all of them have."""
    found: Rows = {label: {} for label in labels}
    for row in committed_rows():
        if row["task"] == TASK and row["steps"] == STEPS and row["label"] in found:
            found[row["label"]][row["seed"]] = row
    seeds = set.intersection(*(set(rows) for rows in found.values()))
    return {label: {seed: rows[seed] for seed in sorted(seeds)} for label, rows in found.items()}


def points_of(
    rows: Rows, model: Path, blocks: int, cut: int, seconds: float, pair: BoundaryPair
) -> list[OperatingPoint]:
    """Return the chain and the best codec as modes; ``seconds`` per element are Top-K's."""
    plain = rows[UNCOMPRESSED]
    found = []
    for label in (CHAIN, _BEST):
        mine = rows[label]
        lost = np.array([plain[seed]["metric"] - mine[seed]["metric"] for seed in mine])
        end = max(0.0, float(lost.mean()) + mean_half_width(lost))
        whole = sum(row["uplink_bytes"] for row in plain.values())
        up, down = (
            32.0 * sum(row[f"{link}_bytes"] for row in mine.values()) / whole
            for link in ("uplink", "downlink")
        )
        options = dict(next(iter(mine.values()))["codec"])
        if "bases" in options:
            options["bases"] = str(model / BASES_NAME)
        codec = codec_from(options).config
        mode = Mode(
            name=label, kind=ModeKind.DENSE, bits=max(1, round(up)), value_bits=up,
            gradient_bits=down, loss=(end,) * (cut + 1) + (_NOT_MEASURED,) * (blocks - cut - 1),
            codec_seconds_factor=device_seconds(codec, pair, cut) / seconds,
        )  # fmt: skip
        losses = (tuple(float(one) for one in lost),)
        found.append(
            OperatingPoint(mode=mode, codec=codec.to_dict(), cuts=(cut,), losses=losses)
        )  # fmt: skip
    return found


def cell(
    measured: Calibration, grid: CalibrationSettings, points: list[OperatingPoint],
    plain: float, minimum: float, band: float,
) -> Instance:  # fmt: skip
    """Return a Jetson board with the measured model, ``points`` on offer, at one limit."""
    data = generate("jetson-vit-b", 1, 0).to_dict()
    data["devices"][0] |= {"batch": grid.batch, "weight": 1.0}
    data["training"]["local_steps"] = grid.local_steps
    for link in ("uplink_bandwidth_hz", "downlink_bandwidth_hz"):
        data["radio"][link] *= band
    data["compression"]["modes"] = [{"kind": "none"}]
    data["accuracy"] |= {"uncompressed": plain, "minimum": minimum, "minimum_each": None}
    data["name"] = f"menu-{TASK}"
    made = calibrated(Instance.model_validate(data), measured, speeds=Speeds.MEASURED).instance
    changed = made.to_dict()
    changed["compression"]["modes"] = [one.mode.model_dump(mode="json") for one in points]
    return Instance.model_validate(changed)


def measure(work: Path) -> tuple[Task, Path, CalibrationSettings, Calibration, BoundaryPair]:
    """Measure what is not in the rows: seconds, memory and a boundary of the base model."""
    torch.set_num_threads(1)
    model = Path(default_model(TASK, quiet=False))
    sources = Sources(str(model), TASK)
    task = sources.load_task()
    grid = replace(
        settings_for(task, seeds=(0,)), statistics_bits=(4,), statistics_keeps=(0.2, 0.3, 0.5)
    )
    measured = calibrate(sources, grid, work=work, fine_tunings=False)
    split = SplitModel.from_pretrained(sources.load_model(task), grid.split_config(0))
    return task, model, grid, measured, boundary_pairs(split, task, grid, 1, held_out=False)[0]


def result(work: Path, command: str) -> dict[str, Any]:
    """Plan with the chain alone and with both codecs at several bands; return the result."""
    rows = rows_by_seed((UNCOMPRESSED, CHAIN, _BEST))
    task, model, grid, measured, pair = measure(work)
    points = points_of(
        rows, model, measured.workload.blocks, grid.cuts[0], measured.codec.seconds_per_element,
        pair,
    )  # fmt: skip
    finals = {label: [row["metric"] for row in mine.values()] for label, mine in rows.items()}
    plain = float(np.mean(finals[UNCOMPRESSED]))
    chain = points[0].mode.loss
    assert isinstance(chain, tuple)
    minimum = plain - chain[0]
    bands = []
    plans: dict[float, tuple[dict[str, Any], dict[str, Any]]] = {}
    for band in BANDS:
        alone, menu = (
            proven(cell(measured, grid, offered, plain, minimum, band))[1]
            for offered in (points[:1], points)
        )
        plans[band] = alone, menu
        bands.append(
            {"band": band, "alone_round_s": alone["round_s"],
             "alone_payload_share": alone["payload_share"], "round_s": menu["round_s"],
             "less_delay": 1.0 - menu["round_s"] / alone["round_s"]}
        )  # fmt: skip
    alone, menu = plans[BAND]
    taken = {part["mode_name"] for part in menu["devices"]}
    assert taken == {_BEST}, "the rows of the plan's own codec stand for its runs"
    gain = {
        "offered": offered_points(points),
        "plan": menu,
        "alone_round_s": alone["round_s"],
        "alone_payload_share": alone["payload_share"],
        "bands": bands,
        "less_delay": 1.0 - menu["round_s"] / alone["round_s"],
        "runs": [
            {"seed": seed, "final_metric": row["metric"]} for seed, row in rows[_BEST].items()
        ],
        **paired(task, finals[CHAIN], finals[_BEST]),
    }
    return {
        "command": command,
        "task": TASK,
        "task_fingerprint": task.fingerprint,
        "metric": task.metric,
        "from_rows": True,
        "machine": measured.source.machine,
        "accuracy_minimum": minimum,
        "traffic": [],
        "menu": gain,
        "goals": goals_of_menu(gain, minimum, task.metric),
    }


def main() -> int:
    """Write the result; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "closed_loop_menu_senses.json")
    given = parser.parse_args()
    command = "python -m benchmarks.studies.menu_of_rows --work DIR"
    write_json(given.out, result(given.work, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
