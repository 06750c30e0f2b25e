"""A simulation in figures: means, tails and gains over the policies it is compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

POLICIES = {
    "resolved_s": "shares solved anew every round",
    "held_s": "the plan's shares held",
    "equal_s": "equal shares",
    "scenario_s": "sample-average plan, shares solved anew",
    "clairvoyant_bound_s": "certified bound, gains known",
}
"""Column of a row -> what it is, in the order of tables and legends."""


def summarise(
    rows: list[dict[str, Any]], frames: list[dict[str, Any]], identity: dict[str, Any]
) -> dict[str, Any]:
    """Return plain JSON data; means are over the rounds in which every policy has a delay."""
    used = [row for row in rows if row.get("resolved_s") is not None]
    delays = {
        name: [float(row[name]) for row in used]
        for name in POLICIES
        if used and all(row.get(name) is not None for row in used)
    }
    summary: dict[str, Any] = {
        "settings": identity,
        "rounds": len(rows),
        "rounds_infeasible": sum(row["status"] == "infeasible" for row in rows),
        "rounds_with_devices_skipped": sum(row["status"] == "devices_skipped" for row in rows),
        "frames": frames,
        "policies": {name: _spread(values) for name, values in delays.items()},
    }
    if "resolved_s" in delays:
        summary["gains"] = _gains(delays, used, frames)
    return summary


def _spread(values: list[float]) -> dict[str, float]:
    """Mean with its 95 % confidence half width, total, median and tails; seconds."""
    array = np.array(values)
    half = 1.96 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return {
        "mean_s": float(array.mean()),
        "mean_half_width_s": half,
        "total_s": float(array.sum()),
        "median_s": float(np.median(array)),
        "p5_s": float(np.percentile(array, 5)),
        "p95_s": float(np.percentile(array, 95)),
        "max_s": float(array.max()),
    }


def _gains(
    delays: dict[str, list[float]], rows: list[dict[str, Any]], frames: list[dict[str, Any]]
) -> dict[str, float]:
    """How much re-solving saves, and how far it is from the bound; fractions of mean delay."""
    mean = {name: float(np.mean(values)) for name, values in delays.items()}
    resolved = mean["resolved_s"]
    gains = {
        "over_equal_shares": 1.0 - resolved / mean["equal_s"],
        "over_held_shares": 1.0 - resolved / mean["held_s"],
    }
    if "clairvoyant_bound_s" in mean:
        gains["above_clairvoyant_bound"] = resolved / mean["clairvoyant_bound_s"] - 1.0
    if "scenario_s" in mean:
        gains["regret_of_nominal_plan"] = resolved / mean["scenario_s"] - 1.0
    nominal = {frame["frame"]: frame["nominal_s"] for frame in frames}
    planned = _planned_s(nominal, rows)
    if planned is not None:
        # (13) uses mean rates; a round's delay is convex in them, so its mean is larger
        gains["mean_delay_over_nominal"] = resolved / planned - 1.0
    return gains


def _planned_s(nominal: dict[int, float], rows: list[dict[str, Any]]) -> float | None:
    """Mean of the frames' planned delays over the rounds."""
    if not nominal:
        return None
    firsts = sorted(nominal)
    planned = []
    for row in rows:
        made = [first for first in firsts if first <= row["frame"]]
        if not made:
            return None
        planned.append(nominal[made[-1]])
    return float(np.mean(planned))
