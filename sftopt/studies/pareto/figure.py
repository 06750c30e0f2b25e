"""The picture of a curve: round delay against the server's energy, CARD's beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sftopt.studies.pareto.curve import Curve

OURS = "#000000"
"""Of the planner's curve."""
CARD = "#d55e00"
"""Of CARD's, as in figures of sweeps."""


def figure_of(made: Curve) -> Figure:
    """Draw delay in seconds against energy in joules, both in logarithms; bounds as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    known = [p for p in made.points if p.round_s is not None and p.server_j is not None]
    axes.plot(
        [p.server_j for p in known],
        [p.round_s for p in known],
        color=OURS,
        linewidth=1.3,
        marker="o",
        markersize=5,
        label="sft, one server speed a point",
        zorder=3,
    )
    bounds = [(p.server_j, p.bound_s) for p in known if p.bound_s is not None]
    axes.plot(
        [e for e, _ in bounds],
        [b for _, b in bounds],
        color=OURS,
        linestyle="none",
        marker="_",
        markersize=13,
        label="no plan at this speed is faster",
        zorder=4,
    )
    for place in ((0, -1) if len(known) > 1 else (0,)) if known else ():
        point = known[place]
        axes.annotate(f"{point.server_flops_per_s / 1e12:.3g} TFLOP/s",
                      (point.server_j or 0.0, point.round_s or 0.0), xytext=(6, 8),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    card = [p for p in made.card if p.round_s is not None and p.server_j is not None]
    if card:
        refused = any(p.refused for p in card)
        axes.plot(
            [p.server_j for p in card],
            [p.round_s for p in card],
            color=CARD,
            linewidth=1.3,
            linestyle="--",
            marker="s",
            markersize=5,
            zorder=3,
            markerfacecolor="white" if refused else CARD,
            label="card over its weight w" + (" (refused)" if refused else ""),
        )
        for point in (card[0], card[-1]):
            axes.annotate(
                f"w = {point.w:g}",
                (point.server_j or 0.0, point.round_s or 0.0),
                xytext=(6, 6),
                textcoords="offset points",
                fontsize=8,
                color=CARD,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="server energy of a round in J",
        ylabel="round delay in s",
    )
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"{made.instance}: delay against server energy", loc="left", fontsize=10)
    return figure
