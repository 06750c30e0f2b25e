"""The heat map of a claim: band against server speed, reached where framed."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from sftopt.studies.reproduce.findings import Finding, TrialFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FRAME = "#d55e00"
"""Of places at which the claim is reached in the median cell."""


def figure_of(one: Finding) -> Figure:
    """Draw one panel for each baseline: the median figure by band and server speed.

    Framed: the median cell reaches the claim.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 3.5 * len(one.trials), 3.9), layout="constrained")
    panels = figure.subplots(1, len(one.trials), squeeze=False)[0]
    per_cent = one.unit != "times"
    for axes, trial in zip(panels, one.trials, strict=True):
        _panel(axes, trial, one.at_least, per_cent)
    goal = f"{100 * one.at_least:g} %" if per_cent else f"{one.at_least:g} times"
    figure.suptitle(f"{one.claim}: {one.text} (framed: median at least {goal})", fontsize=9)
    return figure


def _panel(axes: Axes, trial: TrialFinding, at_least: float, per_cent: bool) -> None:
    from matplotlib.patches import Rectangle

    groups: dict[tuple[float, float], list[float]] = {}
    for key, value in trial.by_cell.items():
        place = key.split("|")
        groups.setdefault((float(place[2]), float(place[3])), []).append(value)
    bands = sorted({mhz for mhz, _ in groups})
    speeds = sorted({tflops for _, tflops in groups})
    for (mhz, tflops), values in groups.items():
        column, line = bands.index(mhz), speeds.index(tflops)
        median = statistics.median(values)
        reached = median >= at_least
        axes.add_patch(
            Rectangle((column - 0.48, line - 0.48), 0.96, 0.96, zorder=2,
                      facecolor=_shade(median, at_least), linewidth=2.5 if reached else 0.0,
                      edgecolor=_FRAME if reached else "none")
        )  # fmt: skip
        text = f"{100 * median:.0f} %" if per_cent else f"{median:.2f}"
        axes.text(column, line, text, ha="center", va="center", fontsize=9, zorder=3)
    axes.set(xlim=(-0.6, len(bands) - 0.4), ylim=(-0.6, len(speeds) - 0.4),
             xticks=range(len(bands)), yticks=range(len(speeds)),
             xticklabels=[f"{mhz:g}" for mhz in bands],
             yticklabels=[f"{tflops:g}" for tflops in speeds],
             xlabel="band in MHz", ylabel="server in TFLOP/s")  # fmt: skip
    axes.set_title(f"{trial.scheme} against {trial.against}\n{trial.figure}: reached in "
                   f"{trial.reached} of {trial.cells} cells", fontsize=8)  # fmt: skip


def _shade(value: float, at_least: float) -> tuple[float, float, float]:
    """White where nothing of the claim is there, blue where all of it is."""
    part = min(max(value / at_least, 0.0), 1.0)
    return (1.0 - 0.66 * part, 1.0 - 0.29 * part, 1.0 - 0.09 * part)
