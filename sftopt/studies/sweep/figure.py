"""The picture of a sweep: a line for each scheme, the range over the seeds shaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError
from sftopt.studies.sweep.axes import AxisNote, is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
"""Okabe and Ito's colours and a grey; the first scheme, sft, is black."""
DASHES = ("-", "--", ":", "-.")
"""Told apart in print as well: after each round of colours the next."""
MARKERS = "osD^v<>PX*"
"""A mark for each scheme."""
MOST_PANELS = 8
"""Values of the second axis that are drawn, side by side."""
MOST_TICKS = 10
"""Values of the first axis up to which each is written out."""
UNITS = {
    "_hz": (1e6, "MHz"), "_flops_per_s": (1e12, "TFLOP/s"), "_bytes": (1e9, "GB"), "_w": (1.0, "W"),
    "_s": (1.0, "s"), "_mhz": (1.0, "MHz"), "_ghz": (1.0, "GHz"), "_gflops": (1.0, "GFLOP/s"),
    "_tflops": (1.0, "TFLOP/s"), "_mb": (1.0, "MB"), "_gb": (1.0, "GB"), "_mib": (1.0, "MiB"),
    "_gib": (1.0, "GiB"), "_mw": (1.0, "mW"), "_dbm": (1.0, "dBm"), "_db": (1.0, "dB"),
}  # fmt: skip
"""Ending of a name: how many of its unit make one of the axis's, and what that is."""
METRICS = {
    "round_s": "round delay in s",
    "ratio_to_sft": "round delay, sft = 1",
    "bytes.up": "boundary bytes up of a round",
    "bytes.adapters": "adapter bytes of a round",
    "energy.server_j": "server energy of a round in J",
    "energy.device_j": "devices' energy of a round in J",
}
"""What the axis of a figure is called; others by the name of their column."""


def figure_of(
    title: str, axes: Sequence[AxisNote], schemes: Sequence[str],
    spread: Sequence[dict[str, Any]], metric: str,
) -> Figure:  # fmt: skip
    """Draw a sweep of one or two axes; hollow marks say that some of the cells are refused.

    ``spread``: least, median and most of ``metric``, by point and scheme. Raises InputError where
    there are more axes.
    """
    from sftopt.core.pictures.picture import Picture

    if len(axes) > 2:
        raise InputError(
            f"{len(axes)} axes are varied; a figure shows at most 2 (rows and CSV have all)"
        )
    second = axes[1] if len(axes) == 2 else None
    panels: Sequence[Any] = (None,) if second is None else second.values[:MOST_PANELS]
    figure = Picture(figsize=(3.1 + 3.4 * len(panels), 4.4), layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, value in zip(drawn, panels, strict=True):
        rows = spread if second is None else [r for r in spread if r[second.name] == value]
        _lines(panel, axes[0], schemes, rows)
        if second is not None:
            panel.set_title(f"{_short(second.name)} = {_told(second.name, value)}", fontsize=9)
    drawn[0].set_ylabel(METRICS.get(metric, metric))
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _lines(
    axes: Axes, axis: AxisNote, schemes: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Draw one panel over the first axis."""
    from sftopt.core.pictures.style import plain_logarithms

    numbers = all(map(is_number, axis.values))
    unit, name = _unit(axis.name) if numbers else (1.0, "")
    for index, scheme in enumerate(schemes):
        points = [row for row in rows if row["scheme"] == scheme and row["median"] is not None]
        if not points:
            continue
        x = [row[axis.name] / unit if numbers else str(row[axis.name]) for row in points]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            x,
            [row["median"] for row in points],
            label=scheme,
            color=colour,
            linewidth=1.4,
            linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
            marker="",
            zorder=3,
        )
        for row, place in zip(points, x, strict=True):
            axes.plot([place], [row["median"]], color=colour, markersize=4.5,
                      marker=MARKERS[index % len(MARKERS)], zorder=4,
                      markerfacecolor="white" if row["refused"] else colour)  # fmt: skip
        if any(row["least"] < row["most"] for row in points):
            axes.fill_between(x, [row["least"] for row in points], [row["most"] for row in points],
                              color=colour, alpha=0.13, linewidth=0.0)  # fmt: skip
    values = [row["median"] for row in rows if row["median"] is not None and row["median"] > 0.0]
    if values and max(values) > 8.0 * min(values):
        axes.set_yscale("log")
        plain_logarithms(axes.yaxis)
    plain = [float(v) for v in axis.values if is_number(v)] if numbers else []
    if plain and min(plain) > 0.0 and max(plain) > 8.0 * min(plain):
        axes.set_xscale("log")
    if plain and len(plain) <= MOST_TICKS:
        axes.set_xticks([value / unit for value in plain],
                        [f"{value / unit:.3g}" for value in plain])  # fmt: skip
        axes.minorticks_off()
    axes.set_xlabel(f"{_short(axis.name)}{f' in {name}' if name else ''}", fontsize=9)
    axes.grid(alpha=0.25, which="both")


def _short(name: str) -> str:
    """An axis's name without its unit; the first path speaks for those joined to it."""
    if name == "devices":
        return "number of devices"
    first = name.removeprefix("scale:").split("+")[0].rpartition(".")[2]
    for ending in UNITS:
        first = first.removesuffix(ending)
    more = " and others" if "+" in name else ""
    factor = ", times the cell's" if name.startswith("scale:") else ""
    return first.replace("_", " ") + more + factor


def _unit(name: str) -> tuple[float, str]:
    """Divisor and unit of an axis."""
    if name.startswith("scale:"):
        return 1.0, ""
    for ending, found in UNITS.items():
        if name.split("+")[0].endswith(ending):
            return found
    return 1.0, ""


def _told(name: str, value: Any) -> str:
    if not is_number(value):
        return str(value)
    unit, word = _unit(name)
    return f"{value / unit:g} {word}".strip()
