"""The picture of a curve: round delay against the server's energy, CARD's beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftopt.core.pictures.paper import LETTERS_PT, Look
from sftopt.studies.pareto.points import CardPoint, CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "#000000"
"""Of the planner's curve."""
CARD = "#d55e00"
"""Of CARD's, as in figures of sweeps."""


def figure_of(
    name: str, points: Sequence[CurvePoint], card: Sequence[CardPoint], look: Look
) -> Figure:
    """Draw delay in seconds against energy in joules, both in logarithms; bounds as bars."""
    from sftopt.core.pictures.picture import Picture
    from sftopt.core.pictures.style import plain_logarithms

    size = (7.0, 4.6) if look.width_in is None else (look.width_in, 0.62 * look.width_in + 0.6)
    figure = Picture(figsize=size, layout="constrained")
    axes = figure.subplots()
    ours = [
        (p.server_j, p.round_s, p.bound_s, p.server_flops_per_s)
        for p in points
        if p.server_j is not None and p.round_s is not None
    ]
    axes.plot([energy for energy, *_ in ours], [delay for _, delay, *_ in ours], color=OURS,
              linewidth=1.3, marker="o", markersize=5, label="sft, one server speed a point",
              zorder=3)  # fmt: skip
    bounds = [(energy, bound) for energy, _, bound, _ in ours if bound is not None]
    axes.plot([energy for energy, _ in bounds], [bound for _, bound in bounds], color=OURS,
              linestyle="none", marker="_", markersize=13,
              label="no plan at this speed is faster", zorder=4)  # fmt: skip
    places = [((6, 8), "left"), ((6, -14), "right")]  # above the first, below the last
    for (energy, delay, _, speed), (off, side) in zip(
        ours[:1] + ours[1:][-1:], places, strict=False
    ):
        axes.annotate(f"{speed / 1e12:.3g} TFLOP/s", (energy, delay), xytext=off, ha=side,
                      textcoords="offset points", fontsize=LETTERS_PT)  # fmt: skip
    _card(axes, card)
    axes.set(
        xscale="log",
        yscale="log",
    )
    axes.set_xlabel("server energy of a round in J", fontsize=LETTERS_PT)
    axes.set_ylabel("round delay in s", fontsize=LETTERS_PT)
    axes.tick_params(labelsize=LETTERS_PT)
    axes.margins(
        y=0.1 if look.width_in is None else 0.2
    )  # room for the words beside the first and the last point
    for axis in (axes.xaxis, axes.yaxis):
        plain_logarithms(axis)
    axes.grid(alpha=0.25)
    if look.width_in is None:
        axes.legend(frameon=False, fontsize=LETTERS_PT)
    else:  # a small picture has no free corner
        figure.legend(loc="outside lower center", frameon=False, fontsize=LETTERS_PT)
    if look.title:
        axes.set_title(f"{name}: delay against server energy", loc="left", fontsize=LETTERS_PT + 1)
    return figure


def _card(axes: Axes, card: Sequence[CardPoint]) -> None:
    """Draw CARD's curve; hollow marks say that some of its plans are refused."""
    drawn = [
        (p.server_j, p.round_s, p.w)
        for p in card
        if p.server_j is not None and p.round_s is not None
    ]
    if not drawn:
        return
    refused = any(p.refused for p in card)
    axes.plot([energy for energy, *_ in drawn], [delay for _, delay, _ in drawn], color=CARD,
              linewidth=1.3, linestyle="--", marker="s", markersize=5, zorder=3,
              markerfacecolor="white" if refused else CARD,
              label="card over its weight w" + (" (refused)" if refused else ""))  # fmt: skip
    for (energy, delay, weight), off in ((drawn[0], (6, 8)), (drawn[-1], (-26, 8))):
        axes.annotate(f"w = {weight:g}", (energy, delay), xytext=off, color=CARD,
                      textcoords="offset points", fontsize=LETTERS_PT)  # fmt: skip
