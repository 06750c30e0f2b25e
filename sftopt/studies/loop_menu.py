"""What a menu of codecs gains over Top-K alone: delay at one limit, quality paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sftopt.core.calibration import Calibration
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.codec_files import without_places
from sftopt.studies.traffic import interval, quality
from sftopt.training.data import Task
from sftopt.training.run import RunSummary

LESS_GOAL = 0.25
"""At least so much less delay than Top-K alone, where payload is half of Top-K's round or more."""
PAYLOAD_HALF = 0.5
"""Share of Top-K's round from which that is asked; below it a menu must not be slower."""


def gain_of(
    task: Task,
    offered: Calibration,
    alone: dict[str, Any],
    planning: dict[str, Any],
    bands: Sequence[dict[str, float]],
    runs: tuple[Sequence[RunSummary], Sequence[RunSummary]],
) -> dict[str, Any]:
    """Return the menu's points, its plan, and its gain over the plan of Top-K ``alone``.

    ``runs`` are those of Top-K alone and of the menu's plan, of the same seeds.
    """
    finals = [[run.data["final_metric"] for run in each] for each in runs]
    return {
        "offered": offered_points(offered.points),
        "plan": planning,
        "alone_round_s": alone["round_s"],
        "alone_payload_share": alone["payload_share"],
        "bands": list(bands),
        "less_delay": 1.0 - planning["round_s"] / alone["round_s"],
        "runs": [
            {"seed": run.data["seed"], "final_metric": run.data["final_metric"],
             "bytes": run.data["bytes"], "cpu_s": run.data["cpu_s"]}
            for run in runs[1]
        ],
        "predicted_against_measured": [row.to_dict() for row in runs[1][0].compared],
        **paired(task, *finals),
    }  # fmt: skip


def offered_points(points: Sequence[OperatingPoint]) -> list[dict[str, Any]]:
    """Return what was measured of every point, as plain data without places of files."""
    return [
        {
            "mode": one.mode.label,
            "codec": without_places(one.codec),
            "value_bits": one.mode.value_bits,
            "gradient_bits": one.mode.gradient_bits,
            "tokens": one.mode.tokens,
            "codec_seconds_factor": one.mode.codec_seconds_factor,
            "loss": one.mode.loss,
            "cuts": one.cuts,
            "losses": one.losses,
        }
        for one in points
    ]


def paired(task: Task, alone: Sequence[float], menu: Sequence[float]) -> dict[str, float]:
    """Return the menu's change of the metric against Top-K alone, with its 95 % interval."""
    change = np.array(menu) - np.array(alone)
    mean, (low, high) = float(change.mean()), interval(change)
    return {
        "change_mean": mean, "change_low": low, "change_high": high,
        **quality(task, mean, low, high),
    }  # fmt: skip


def goals_of_menu(gain: dict[str, Any], minimum: float, metric: str) -> list[dict[str, Any]]:
    """Check the menu's delay, its planned quality, and its quality against Top-K alone."""
    mean = float(np.mean([run["final_metric"] for run in gain["runs"]]))
    return [
        *(_delay_goal(row) for row in gain["bands"]),
        {"goal": f"menu: planned quality ({metric}), mean of {len(gain['runs'])} runs",
         "limit": minimum, "value": mean, "met": mean >= minimum},
        {"goal": f"menu: {metric} above Top-K alone, upper end of the paired 95 % interval",
         "limit": 0.0, "value": gain["change_high"], "met": gain["change_high"] >= 0.0},
    ]  # fmt: skip


def _delay_goal(row: dict[str, float]) -> dict[str, Any]:
    share, less = row["alone_payload_share"], row["less_delay"]
    limit = LESS_GOAL if share >= PAYLOAD_HALF else 0.0
    return {
        "goal": f"menu: less delay than Top-K alone at {row['band']:g} of the band, where payload "
        f"is {share:.0%} of its round",
        "limit": limit, "value": less, "met": less >= limit,
    }  # fmt: skip
