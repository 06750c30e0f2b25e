"""The cell on a map: the server in the middle, a dot for each device, its size by its blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sftopt.core.instance import Instance
from sftopt.core.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH_LOSS_EXPONENT = 3.5
"""Gain falls with this power of the distance, where positions are not known: for the eye alone."""
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
"""Angle in radians from device to device, where positions are not known: no two dots meet."""
_KIND_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
"""Colours of the first kinds of devices; the last stands for all others."""
_LABELLED = 40
"""Devices up to which each dot has its name."""


def positions_known(instance: Instance) -> bool:
    """Tell whether every device has a position."""
    return all(device.position_m is not None for device in instance.devices)


def positions_m(instance: Instance) -> NDArray[np.float64]:
    """Return x and y in metres, shape (N, 2): as given, else a radius that follows from the gain.

    Without positions the best gain is drawn at 10 m, others farther by the path-loss exponent 3.5,
    at any angle: distances can be compared, directions mean nothing.
    """
    if positions_known(instance):
        return np.array([device.position_m[:2] for device in instance.devices if device.position_m])
    gains = np.array([max(device.uplink_gain, 1e-30) for device in instance.devices])
    radius = 10.0 * (gains.max() / gains) ** (1.0 / PATH_LOSS_EXPONENT)
    angle = _GOLDEN_ANGLE * np.arange(len(gains))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def map_figure(instance: Instance, plan: Plan | None = None) -> Figure:
    """Draw the cell: colours are kinds of devices, sizes the blocks of a plan, if there is one."""
    from matplotlib.collections import PathCollection

    from sftopt.core.pictures.picture import Picture

    at = positions_m(instance)
    figure = Picture(figsize=(7.0, 5.4), layout="constrained")
    axes = figure.subplots()
    blocks = {part.id: part.blocks for part in plan.devices} if plan is not None else {}
    most = max(1, instance.workload.blocks - 1)
    sizes = np.array(
        [36.0 + 240.0 * blocks.get(device.id, 0) / most for device in instance.devices]
    )
    kinds = list(dict.fromkeys(device.kind or "device" for device in instance.devices))
    for index, kind in enumerate(kinds):
        mine = [i for i, device in enumerate(instance.devices) if (device.kind or "device") == kind]
        colour = _KIND_COLOURS[min(index, len(_KIND_COLOURS) - 1)]
        label = kind if index < len(_KIND_COLOURS) else None
        axes.scatter(at[mine, 0], at[mine, 1], s=sizes[mine], color=colour, label=label,
                     alpha=0.85, edgecolors="white", linewidths=0.6)  # fmt: skip
    axes.scatter([0.0], [0.0], marker="^", s=110, color="#1c2430", label="edge server")
    if len(instance.devices) <= _LABELLED:
        for device, (x, y) in zip(instance.devices, at, strict=True):
            text = device.id if device.id not in blocks else f"{device.id}: {blocks[device.id]}"
            axes.annotate(text, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=7)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.grid(alpha=0.25)
    if positions_known(instance):
        axes.set_xlabel("x in m")
        axes.set_ylabel("y in m")
    else:
        axes.set_xlabel("distance by gain; angles mean nothing")
        axes.set_xticklabels([])
        axes.set_yticklabels([])
    legend = axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([60.0])  # sizes mean blocks on the map, nothing in the legend
    return figure
