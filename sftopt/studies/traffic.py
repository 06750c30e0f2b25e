"""How much is lost at a given cut of the traffic: codecs against the uncompressed run, paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from sftopt.core.calibration import Calibration
from sftopt.core.codec_files import without_places
from sftopt.training.calibrate.cells import CELLS_NAME, Cell, CellResult, FinishedCells
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources, run_in_processes
from sftopt.training.codec import EcsqConfig, TopKConfig
from sftopt.training.codec.rotated import RotatedConfig
from sftopt.training.data import Task
from sftopt.training.evaluation import ACCURACY
from sftopt.training.model_hash import model_hash

CUT_CLAIMED = 0.936
"""[SFT] arXiv 2501.09237 claims 93.6 % less traffic; here of the uplink, against fp32."""
_REFERENCE_BITS = 32.0
"""Bits of an element of the uncompressed boundary."""
_CHAINS = ("topk", "rotated-topk")
"""Codecs that are the published chain, in the channels' basis or a turned one."""


@dataclass(frozen=True)
class Arm:
    """One way to carry the boundary. ``codec`` None: 32 bit, uncompressed."""

    name: str
    cut_goal: float | None
    codec: TopKConfig | EcsqConfig | None

    def cell(self, seed: int) -> Cell:
        """Return the fine-tuning of one seed."""
        if self.codec is None:
            return Cell("none", seed)
        if isinstance(self.codec, TopKConfig):
            return Cell("topk", seed, self.codec.keep, self.codec.bits)
        return Cell("ecsq", seed, target_bits=float(self.codec.bits or 0.0))

    def settings(self, base: CalibrationSettings) -> CalibrationSettings:
        """Return ``base`` with this arm's further codec options."""
        if isinstance(self.codec, TopKConfig):
            return replace(base, codec=self.codec)
        if isinstance(self.codec, EcsqConfig):
            return replace(base, ecsq_codec=self.codec)
        return base


@dataclass(frozen=True)
class ArmRow:
    """One fine-tuning of one arm."""

    arm: str
    seed: int
    metric: float
    uplink_bytes: int
    """Of the boundary."""
    downlink_bytes: int
    side_bytes: int = 0
    """Of labels and masks, which go up too and are the same in every arm."""


def arms_of(task: Task, measured: Calibration, chain: TopKConfig | None) -> list[Arm]:
    """List the arms: uncompressed, the published ``chain``, and the task's own codecs.

    Other forms of the chain in the channels' basis are left out: it stands in its best one
    (:func:`sftopt.studies.chain.best_chain`). Labels and masks go up beside the boundary in every
    arm, the uncompressed one too, and leave the codec the rest.
    """
    arms = [Arm("uncompressed", None, None)]
    if chain is not None:
        arms.append(Arm(f"chain at {100 * CUT_CLAIMED:.1f} %", CUT_CLAIMED, chain))
    side = measured.workload.side_bits / measured.workload.boundary_elements
    left = bits_left(side) / bits_left(0.0)
    own = task.recommended_codecs
    turned = any(isinstance(codec, RotatedConfig) for codec in own.values())
    for name, codec in own.items():
        # in a turned basis, where the model has one, the dead-zone quantiser loses less
        if turned and isinstance(codec, EcsqConfig) and not isinstance(codec, RotatedConfig):
            continue
        if type(codec) is TopKConfig:
            continue
        # what holds at 93.6 % holds at the easier cuts that some codecs are also named for
        if f"{100 * CUT_CLAIMED:.1f}" in name and isinstance(codec, TopKConfig | EcsqConfig):
            arms.append(Arm(name, CUT_CLAIMED, _scaled(codec, left)))
    return arms


def bits_left(side: float) -> float:
    """Return the bits per element that the cut leaves a codec beside ``side`` bits per element.

    Side information goes up in both, so that 1 - (bits + side) / (32 + side) is the cut.
    """
    return _REFERENCE_BITS * (1.0 - CUT_CLAIMED) - CUT_CLAIMED * side


def _scaled(codec: TopKConfig | EcsqConfig, left: float) -> TopKConfig | EcsqConfig:
    """The codec with the share of its bits that labels and masks leave it."""
    if isinstance(codec, TopKConfig):
        return replace(codec, keep=round(codec.keep * left, 4))
    return codec if codec.bits is None else replace(codec, bits=round(codec.bits * left, 4))


def measured_arms(
    sources: Sources,
    base: CalibrationSettings,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    work: Path,
    workers: int,
    tell: Callable[[str], None],
) -> list[ArmRow]:
    """Run all fine-tunings of all arms; those that are in folder ``work`` are not run again."""
    task = sources.load_task()
    key = model_hash(sources.load_model(task))
    rows = []
    for arm in arms:
        settings = arm.settings(base)
        finished = FinishedCells(work / CELLS_NAME, key, task, settings)
        cells = [arm.cell(seed) for seed in seeds]
        missing = [cell for cell in cells if finished.get(cell) is None]

        def kept(
            cell: Cell, result: CellResult, finished: FinishedCells = finished, name: str = arm.name
        ) -> None:
            finished.add(cell, result)
            tell(f"{name}, seed {cell.seed}: {result.metric:.5g}")

        if missing:
            run_in_processes(sources, settings, missing, workers, kept)
        for cell in cells:
            result = finished.get(cell)
            assert result is not None
            rows.append(
                ArmRow(
                    arm.name, cell.seed, result.metric, result.uplink_bytes,
                    result.downlink_bytes, result.side_bytes,
                )
            )  # fmt: skip
    return rows


def summary_of_arms(
    task: Task, arms: Sequence[Arm], rows: Sequence[ArmRow]
) -> list[dict[str, Any]]:
    """Summarise each arm: traffic cut against 32 and 16 bits, paired loss with interval."""
    reference = {row.seed: row for row in rows if row.arm == arms[0].name}
    found = []
    for arm in arms:
        mine = [row for row in rows if row.arm == arm.name]
        change = np.array([row.metric - reference[row.seed].metric for row in mine])
        low, high = interval(change)
        found.append(
            {
                "arm": arm.name,
                "codec": None if arm.codec is None else without_places(arm.codec.to_dict()),
                "cut_goal": arm.cut_goal,
                "seeds": [row.seed for row in mine],
                "metric": [row.metric for row in mine],
                "metric_mean": float(np.mean([row.metric for row in mine])),
                "change_mean": float(change.mean()),
                "change_low": low,
                "change_high": high,
                **quality(task, float(change.mean()), low, high),
                "cut_of_fp32": _cuts(mine, reference, 1.0),
                "cut_of_fp16": _cuts(mine, reference, 0.5),
                "rows": [asdict(row) for row in mine],
            }
        )
    return found


def interval(change: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, by Student's t."""
    half = float(student.ppf(0.975, len(change) - 1) * change.std(ddof=1) / math.sqrt(len(change)))
    return float(change.mean()) - half, float(change.mean()) + half


def quality(task: Task, mean: float, low: float, high: float) -> dict[str, float]:
    """Return a change in the field's words: points of accuracy, or per cent of perplexity."""
    if task.kind.metric == ACCURACY:
        return {"points": 100.0 * mean, "points_low": 100.0 * low, "points_high": 100.0 * high}
    return {
        "perplexity_percent": 100.0 * math.expm1(-mean),
        "perplexity_percent_low": 100.0 * math.expm1(-high),
        "perplexity_percent_high": 100.0 * math.expm1(-low),
    }


def _cuts(mine: Sequence[ArmRow], reference: dict[int, ArmRow], scale: float) -> dict[str, float]:
    """Bytes saved up, down and together, as fractions of the reference's.

    ``scale`` is of the reference's boundary; labels and masks go up as they are in both.
    """
    side = sum(row.side_bytes for row in mine)
    up = side + sum(row.uplink_bytes for row in mine)
    down = sum(row.downlink_bytes for row in mine)
    up_whole = side + scale * sum(reference[row.seed].uplink_bytes for row in mine)
    down_whole = scale * sum(reference[row.seed].downlink_bytes for row in mine)
    return {
        "uplink": 1.0 - up / up_whole,
        "downlink": 1.0 - down / down_whole,
        "total": 1.0 - (up + down) / (up_whole + down_whole),
    }


def goals_of(task: Task, summary: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check each arm with a goal: the cut of the uplink, and what may be lost at it."""
    found = []
    for arm in summary:
        if arm["cut_goal"] is None:
            continue
        cut = arm["cut_of_fp32"]["uplink"]
        found.append({"goal": f"{arm['arm']}: uplink cut of fp32", "limit": arm["cut_goal"],
                      "value": cut, "met": cut >= arm["cut_goal"]})  # fmt: skip
        if task.kind.metric == ACCURACY:
            found.append({"goal": f"{arm['arm']}: points of accuracy, lower end", "limit": -1.0,
                          "value": arm["points_low"], "met": arm["points_low"] > -1.0})  # fmt: skip
            continue
        limit = 3.0 if arm["codec"]["codec"] in _CHAINS else 1.0
        value = arm["perplexity_percent"]
        found.append({"goal": f"{arm['arm']}: per cent of perplexity", "limit": limit,
                      "value": value, "met": value <= limit})  # fmt: skip
    return found
