"""The committed rows of equal_bytes as one page: what each codec loses at each budget."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.equal_bytes_arms import UNCOMPRESSED
from sftopt.training.calibrate.fit import mean_half_width

RESULTS = Path(__file__).parents[1] / "results"
"""Folder of committed results."""
ROWS = RESULTS / "equal_bytes.jsonl"
"""The committed rows."""
_REFERENCE_BITS = 32.0
"""Bits of an element of the uncompressed run."""

_NOTES = (
    "- The rows of `wordnet-senses` were made on one H100, 16 processes at once, of which the "
    "time ran out: most arms of the table have one seed, and a single one tells little below two "
    "points (2,000 test glosses: about a point of noise each).",
    "- Its rows of 500 steps at half a bit were made on a processor, by a plan "
    "([closed loop](closed_loop.md)), as were those of `topk, 0.42 at 4 bits`, the published chain "
    "where it sends what its authors claim; both are paired with uncompressed runs on the H100. "
    "`uncompressed, on a processor` is one such run again, to show how far that may be trusted.",
    "- The rows of `digit-scenes` and `stdlib-bytes` (100 steps; two and one seed in most arms) "
    "were made on a processor, one thread each, until the time ran out: they rank what differs by "
    "points and tell nothing below one.",
    "- Of a padded definition 57 % is padding. Both ends know the mask, so `no padding` sends "
    "nothing of it; the other codecs send it as any other token.",
    "- `memory` codes against a sample's last visit; first visits take twice the budget, later "
    "ones what is left, and held-out samples are coded as first visits are. What it remembers is "
    "in the last column, at either end.",
    "- `learned projection` is no fair rival: its directions were learnt, with a head, in 120 "
    "steps on the task's own labels before fine-tuning; without it in evaluation the model fails.",
    "- `topk, one scale` has values of 4 bits and one scale for the tensor: without padding it "
    "cannot fill 2 bits. The published chain stands here with a scale for each token; how many "
    "values share one there is not public.",
    "- Peers in their own settings are what of them fits our shapes; SplitLite's rank is that "
    "share of a sample's tokens.",
)
"""What a reader must know of the committed rows."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """What an arm does to the metric, paired with the uncompressed run of its seeds."""

    seeds: int
    mean: float
    """Change of the metric; below 0: worse."""
    half_width: float
    """95 %, Student, paired."""
    mean_without_codec: float
    """The same with held-out samples evaluated without the codec."""
    up_bits: float
    """Per element of the boundary."""
    down_bits: float
    side_bits: float
    uplink_cut: float
    """Of the uplink, labels, masks and numbers of samples in both."""
    memory_bytes: int

    @property
    def low(self) -> float:
        """Return the lower end of the interval, a fraction of right answers or nats."""
        return self.mean - self.half_width


def committed_rows() -> list[Row]:
    """Return the committed rows; none where nothing is committed yet."""
    if not ROWS.is_file():
        return []
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def losses_of(rows: Sequence[Row], task: str, steps: int) -> dict[str, Loss]:
    """Return the loss of every arm of a task that has a partner, by label."""
    mine = [row for row in rows if row["task"] == task and row["steps"] == steps]
    partners = {(row["epochs"], row["seed"]): row for row in mine if row["name"] == UNCOMPRESSED}
    by_label: defaultdict[str, list[Row]] = defaultdict(list)
    for row in mine:
        if (row["epochs"], row["seed"]) in partners:
            by_label[row["label"]].append(row)
    return {label: _loss(found, partners) for label, found in by_label.items()}


def _loss(found: Sequence[Row], partners: dict[tuple[int, int], Row]) -> Loss:
    pairs = [(row, partners[row["epochs"], row["seed"]]) for row in found]
    change = np.array([row["metric"] - other["metric"] for row, other in pairs])
    plain = [row["metric_without_codec"] - other["metric_without_codec"] for row, other in pairs]
    whole = sum(other["uplink_bytes"] for _, other in pairs)
    side = sum(other["side_bytes"] for _, other in pairs)
    up, down, own_side = (
        sum(row[f"{name}_bytes"] for row, _ in pairs) for name in ("uplink", "downlink", "side")
    )
    return Loss(
        seeds=len(pairs),
        mean=float(change.mean()),
        half_width=mean_half_width(change) if len(pairs) > 1 else math.nan,
        mean_without_codec=float(np.mean(plain)),
        up_bits=_REFERENCE_BITS * up / whole,
        down_bits=_REFERENCE_BITS * down / whole,
        side_bits=_REFERENCE_BITS * own_side / whole,
        uplink_cut=1.0 - (up + own_side) / (whole + side),
        memory_bytes=max(row["memory_bytes"] for row, _ in pairs),
    )


def page(rows: Sequence[Row]) -> str:
    """Write the Markdown page of all rows."""
    lines = [
        "# Codecs at equal bytes",
        "",
        "Written by `python -m benchmarks.studies.equal_bytes --page` from `equal_bytes.jsonl`, "
        "rows of `python -m benchmarks.studies.equal_bytes --task TASK --part table|ten`.",
        "",
        "Bits per element of the boundary (padding counts as elements), headers, tables and scales "
        "included; side: labels, masks and numbers of samples. Change against the uncompressed run "
        "of the same seed and visits, mean and 95 % half width (Student, paired): points of "
        "accuracy, or per cent of perplexity. The last figures are with held-out samples evaluated "
        "without the codec: what the training itself lost. Codecs that need samples to return are "
        "compared with an uncompressed run over the same visits.",
        "",
        *_NOTES,
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        for steps in sorted({row["steps"] for row in rows if row["task"] == task}):
            lines += ["", f"## {task}, {steps} steps", "", *_table(rows, task, steps)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row], task: str, steps: int) -> list[str]:
    accuracy = any(row["metric"] > 0.0 for row in rows if row["task"] == task)
    unit = "points" if accuracy else "% of perplexity"
    lines = [
        f"| codec | seeds | bits up | bits down | side | uplink cut | {unit} | without codec in "
        "evaluation | remembered, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    losses = losses_of(rows, task, steps)
    order = {row["label"]: (-(row["rate"] or 99.0), row["epochs"]) for row in rows}
    for label, loss in sorted(losses.items(), key=lambda pair: (order[pair[0]], -pair[1].mean)):
        half = "" if math.isnan(loss.half_width) else f" ± {_told(loss.half_width, accuracy, True)}"
        memory = f"{loss.memory_bytes / 1e6:.1f}" if loss.memory_bytes else ""
        lines.append(
            f"| {label} | {loss.seeds} | {loss.up_bits:.3f} | {loss.down_bits:.3f} "
            f"| {loss.side_bits:.3f} | {100 * loss.uplink_cut:.2f} % "
            f"| {_told(loss.mean, accuracy)}{half} | {_told(loss.mean_without_codec, accuracy)} "
            f"| {memory} |"
        )
    return lines


def _told(change: float, accuracy: bool, width: bool = False) -> str:
    """In points, or in per cent of perplexity, where more is worse."""
    value = 100.0 * change if accuracy else 100.0 * math.expm1(change if width else -change)
    return f"{value:.2f}" if width else f"{value:+.2f}"
