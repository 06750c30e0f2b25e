"""What a menu gains on a real model: plans from the committed rows at equal bytes, and their runs.

Most rows of ``equal_bytes.jsonl`` were made on a GPU, each of one device that holds two blocks,
which is what a plan for one device runs. So the published chain and the best codec at two rates
become modes with the bits that were sent and the upper end of the paired 95 % interval of what was
lost; profile and seconds of the codecs are measured here, and the cell is planned with the chain
alone and with all, at the limit that the chain just meets. Other cuts than the two blocks were not
measured and are not on offer. With ``--seeds`` the plan is fine-tuned, seed by seed; the rows of
these runs are for ``equal_bytes --take``.

    python -m benchmarks.studies.menu_of_rows --work DIR --seeds 6
    python -m benchmarks.studies.menu_of_rows --work DIR
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.studies.equal_bytes_arms import CHAIN, NO_PADDING, UNCOMPRESSED, Arm
from benchmarks.studies.equal_bytes_page import RESULTS, committed_rows
from benchmarks.studies.menu_by_plan import ByPlan
from sftopt.core.calibration import Calibration, Speeds, calibrated
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.families import generate
from sftopt.core.files import write_json
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import Plan
from sftopt.face.default_model import default_model
from sftopt.studies.closed_loop import prediction_goals
from sftopt.studies.loop_menu import goals_of_menu, offered_points, paired
from sftopt.studies.loop_plans import BANDS, decisions, proven
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
TRIED_STEPS = 200
"""Of the runs that the rate at half a bit was chosen by, before it was measured."""
BAND = 0.0625
"""Share of the cell's band that is fine-tuned: payload is about half of Top-K's round."""
NARROWER = 0.03125
"""A further share: this model computes longer, and payload is to be more than half of a round."""
WHOLE = Arm(NO_PADDING, 1.0)
"""The codec that loses least, at a bit an element."""
HALF = Arm(NO_PADDING, 0.5)
"""The same at half a bit."""
_NOT_MEASURED = 1.0
"""Loss at a cut that was not measured: all of the accuracy, so that no plan takes it."""

Rows = dict[int, dict[str, Any]]
"""Of one label and number of steps, by seed."""


@dataclass(frozen=True)
class Pairs:
    """The rows of one codec, and the uncompressed ones of the same seeds."""

    label: str
    mine: Rows
    plain: Rows

    @property
    def lost(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return what each seed lost of the metric."""
        return np.array(
            [self.plain[seed]["metric"] - self.mine[seed]["metric"] for seed in self.mine]
        )

    @property
    def end(self) -> float:
        """Return the upper end of the loss's 95 % interval, at least 0; of one seed its own."""
        half = mean_half_width(self.lost) if len(self.mine) > 1 else 0.0
        return max(0.0, float(self.lost.mean()) + half)

    def bits(self, link: str) -> float:
        """Return the bits per element that were sent on ``link``."""
        whole = sum(row["uplink_bytes"] for row in self.plain.values())
        return float(32.0 * sum(row[f"{link}_bytes"] for row in self.mine.values()) / whole)


def rows_of(label: str, steps: int = STEPS) -> Rows:
    """Return the committed rows of ``label``, ascending by seed."""
    found = {
        row["seed"]: row
        for row in committed_rows()
        if (row["task"], row["steps"], row["label"]) == (TASK, steps, label)
    }
    return {seed: found[seed] for seed in sorted(found)}


def pairs_of(label: str, steps: int = STEPS) -> Pairs:
    """Return the committed rows of ``label`` whose seed has an uncompressed row."""
    mine, plain = rows_of(label, steps), rows_of(UNCOMPRESSED, steps)
    seeds = [seed for seed in mine if seed in plain]
    return Pairs(label, {one: mine[one] for one in seeds}, {one: plain[one] for one in seeds})


@dataclass(frozen=True)
class Measured:
    """What is not in the rows: seconds, memory and a boundary of the base model."""

    task: Task
    model: Path
    grid: CalibrationSettings
    calibration: Calibration
    pair: BoundaryPair

    def point(self, pairs: Pairs) -> OperatingPoint:
        """Return a codec of the rows as a mode."""
        blocks, cut = self.calibration.workload.blocks, self.grid.cuts[0]
        options = dict(next(iter(pairs.mine.values()))["codec"])
        if "bases" in options:
            options |= {"bases": str(self.model / BASES_NAME), "cut": None}
        codec = codec_from(options).config
        seconds = device_seconds(codec, self.pair, cut)
        up = pairs.bits("uplink")
        mode = Mode(
            name=pairs.label, kind=ModeKind.DENSE, bits=max(1, round(up)), value_bits=up,
            gradient_bits=pairs.bits("downlink"),
            loss=tuple(pairs.end if at == cut else _NOT_MEASURED for at in range(blocks)),
            codec_seconds_factor=seconds / self.calibration.codec.seconds_per_element,
        )  # fmt: skip
        losses = (tuple(float(one) for one in pairs.lost),)
        return OperatingPoint(mode=mode, codec=codec.to_dict(), cuts=(cut,), losses=losses)

    def cell(
        self, points: list[OperatingPoint], plain: float, minimum: float, band: float
    ) -> Instance:
        """Return a Jetson board with the measured model, ``points`` on offer, at one limit."""
        data = generate("jetson-vit-b", 1, 0).to_dict()
        data["devices"][0] |= {"batch": self.grid.batch, "weight": 1.0}
        data["training"]["local_steps"] = self.grid.local_steps
        for link in ("uplink_bandwidth_hz", "downlink_bandwidth_hz"):
            data["radio"][link] *= band
        data["compression"]["modes"] = [{"kind": "none"}]
        data["accuracy"] |= {"uncompressed": plain, "minimum": minimum, "minimum_each": None}
        data["name"] = f"menu-{TASK}"
        given = Instance.model_validate(data)
        made = calibrated(given, self.calibration, speeds=Speeds.MEASURED).instance
        changed = made.to_dict()
        changed["compression"]["modes"] = [one.mode.model_dump(mode="json") for one in points]
        return Instance.model_validate(changed)


def measure(work: Path) -> Measured:
    """Measure what is not in the rows; what ``work`` has of it is read."""
    torch.set_num_threads(1)
    model = Path(default_model(TASK, quiet=False))
    sources = Sources(str(model), TASK)
    task = sources.load_task()
    grid = replace(
        settings_for(task, seeds=(0,)), statistics_bits=(4,), statistics_keeps=(0.2, 0.3, 0.5)
    )
    measured = calibrate(sources, grid, work=work, fine_tunings=False)
    split = SplitModel.from_pretrained(sources.load_model(task), grid.split_config(0))
    pair = boundary_pairs(split, task, grid, 1, held_out=False)[0]
    return Measured(task, model, grid, measured, pair)


def limits() -> tuple[float, float]:
    """Return the uncompressed accuracy and the one that the chain just meets."""
    plain = float(np.mean([row["metric"] for row in rows_of(UNCOMPRESSED).values()]))
    return plain, plain - pairs_of(CHAIN).end


def first_plan(measured: Measured) -> tuple[Instance, Plan, Calibration]:
    """Plan the cell with half a bit as the runs of 200 steps had it, the rest as measured."""
    found = (pairs_of(CHAIN), pairs_of(WHOLE.label), pairs_of(HALF.label, TRIED_STEPS))
    points = [measured.point(pairs) for pairs in found]
    instance = measured.cell(points, *limits(), BAND)
    plan, _ = proven(instance)
    return instance, plan, measured.calibration.model_copy(update={"points": tuple(points)})


def by_plan(measured: Measured, work: Path) -> ByPlan:
    """Return the plan that is fine-tuned, made now where ``work`` has none."""
    return ByPlan(
        work / "by_plan", measured.model, measured.task, measured.grid,
        lambda: first_plan(measured),
    )  # fmt: skip


def result(measured: Measured, work: Path, command: str) -> dict[str, Any]:
    """Plan with the chain alone and with the menu at several bands; return the result."""
    found = {label: pairs_of(label) for label in (CHAIN, WHOLE.label, HALF.label)}
    points = [measured.point(pairs) for pairs in found.values()]
    plain, minimum = limits()
    bands = []
    for band in (*BANDS, NARROWER):
        alone, menu = (
            proven(measured.cell(offered, plain, minimum, band))[1]
            for offered in (points[:1], points)
        )
        bands.append(
            {"band": band, "alone_round_s": alone["round_s"],
             "alone_payload_share": alone["payload_share"], "round_s": menu["round_s"],
             "less_delay": 1.0 - menu["round_s"] / alone["round_s"]}
        )  # fmt: skip
        if band == BAND:
            plans = alone, menu
    alone, menu = plans
    runs = by_plan(measured, work)
    (taken,) = {part["mode_name"] for part in menu["devices"]}
    mine, chain = found[taken].mine, found[CHAIN].mine
    if taken == HALF.label:
        assert menu["devices"] == decisions(runs.plan), "what was run is what is planned"
    both = [seed for seed in mine if seed in chain]
    first = runs.run(0)
    gain = {
        "offered": offered_points(points),
        "plan": menu,
        "alone_round_s": alone["round_s"],
        "alone_payload_share": alone["payload_share"],
        "bands": bands,
        "less_delay": 1.0 - menu["round_s"] / alone["round_s"],
        "runs": [run_of(seed, row) for seed, row in mine.items()],
        "fine_tuned": {
            "devices": decisions(runs.plan),
            "accuracy": first.planned_metric,
            "runs": [run_of(seed, row) for seed, row in found[HALF.label].mine.items()],
        },
        "predicted_against_measured": [row.to_dict() for row in first.compared],
        **paired(
            measured.task, *([rows[seed]["metric"] for seed in both] for rows in (chain, mine))
        ),
    }  # fmt: skip
    return {
        "command": command,
        "task": TASK,
        "task_fingerprint": measured.task.fingerprint,
        "metric": measured.task.metric,
        "from_rows": True,
        "machine": measured.calibration.source.machine,
        "accuracy_minimum": minimum,
        "traffic": [],
        "menu": gain,
        "goals": [
            *prediction_goals(gain["predicted_against_measured"]),
            *goals_of_menu(gain, minimum, measured.task.metric),
        ],
    }


def run_of(seed: int, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a run of a loop; ``by_plan``: made by the plan that is fine-tuned."""
    sent = {"uplink": "uplink_bytes", "downlink": "downlink_bytes", "side": "side_bytes"}
    return {
        "seed": seed,
        "final_metric": row["metric"],
        "bytes": {name: row[key] for name, key in sent.items()},
        "cpu_s": row["cpu_s"],
        "by_plan": row.get("by_plan", False),
    }


def main() -> int:
    """Fine-tune by the plan or write the result; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=0, help="of fine-tunings by the plan")
    parser.add_argument("--out", type=Path, default=RESULTS / "closed_loop_menu_senses.json")
    given = parser.parse_args()
    measured = measure(given.work)
    if given.seeds:
        by_plan(measured, given.work).fine_tune(HALF, given.seeds)
        return 0
    command = "python -m benchmarks.studies.menu_of_rows --work DIR"
    write_json(given.out, result(measured, given.work, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
