"""Where the time of a round goes, in one bar, and how the devices share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftopt.core.pictures.style import PARTS, most_binding
from sftopt.core.plan import Breakdown, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def parts_figure(breakdown: Breakdown, plan: Plan | None = None) -> Figure:
    """Draw the parts of a round in seconds and, of a plan, blocks and band of every device."""
    from sftopt.core.pictures.picture import Picture

    shown = [] if plan is None else most_binding(
        plan.devices, [min(one.slack_u_s, one.slack_d_s) for one in breakdown.devices]
    )  # fmt: skip
    height = 1.5 + (0.6 + 0.2 * len(shown) if shown else 0.0)
    figure = Picture(figsize=(9.0, height), layout="constrained")
    if not shown:
        _bar(figure.subplots(), breakdown)
        return figure
    grid = figure.add_gridspec(2, 2, height_ratios=[1.0, 0.3 + 0.2 * len(shown)])
    _bar(figure.add_subplot(grid[0, :]), breakdown)
    names = [part.id for part in shown]
    places = range(len(shown))
    blocks = figure.add_subplot(grid[1, 0])
    blocks.barh(places, [part.blocks for part in shown], color=PARTS["device"])
    blocks.set_xlabel("blocks on the device")
    blocks.set_yticks(places, names, fontsize=7)
    blocks.invert_yaxis()
    band = figure.add_subplot(grid[1, 1], sharey=blocks)
    for offset, share, part in (
        (-0.2, "uplink_share", "uplink"),
        (0.2, "downlink_share", "downlink"),
    ):
        values = [100.0 * getattr(one, share) for one in shown]
        band.barh([place + offset for place in places], values, height=0.38, color=PARTS[part],
                  label=part)  # fmt: skip
    band.set_xlabel("share of the band in %")
    band.tick_params(labelleft=False)
    band.legend(fontsize=7, frameon=False)
    return figure


def _bar(axes: object, breakdown: Breakdown) -> None:
    """One bar of the five parts that sum to the round."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    parts = breakdown.parts
    seconds = (
        {"device": 0.0, "uplink": breakdown.tau_u_s, "server": breakdown.server_s,
         "downlink": breakdown.tau_d_s, "adapters": breakdown.tau_a_s}
        if parts is None
        else {name: getattr(parts, f"{name}_s") for name in PARTS}
    )  # fmt: skip
    begin = 0.0
    for name, colour in PARTS.items():
        length = seconds[name]
        axes.barh(0, length, left=begin, color=colour, label=f"{name} {length:.4g} s")
        begin += length
    axes.set_yticks([])
    axes.set_xlim(0.0, begin if begin > 0.0 else 1.0)
    axes.set_xlabel(f"seconds of a round: {breakdown.round_s:.5g} s")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, frameon=False, fontsize=8)
