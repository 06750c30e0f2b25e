"""The picture of a comparison: delay by parts beside traffic by kind, a bar for each scheme."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from sftopt.studies.compare.row import SchemeRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DELAY = {
    "device_s": ("device", "#56b4e9"),
    "uplink_s": ("uplink", "#e69f00"),
    "server_s": ("server", "#009e73"),
    "downlink_s": ("downlink", "#f0e442"),
    "adapters_s": ("adapters", "#cc79a7"),
}
"""Parts of a round: what the legend calls them, and Okabe and Ito's colours."""
TRAFFIC = {
    "up": ("boundary up", "#e69f00"),
    "down": ("gradient down", "#f0e442"),
    "adapters": ("adapters", "#cc79a7"),
    "head": ("head", "#0072b2"),
    "side": ("labels, masks", "#999999"),
}
"""Kinds of traffic, likewise."""
REFUSED = "#c00000"
"""What a refused scheme is written in; its bars are hatched."""
PARTS_NOTE = (
    "Parts of a parallel round are those of the devices that hold the barriers, so they may differ "
    "where rounds hardly do; of a sequential round they are sums over all turns."
)
"""What the stacked bars of a round mean."""
_ROW_INCHES = 0.36
"""Height of one scheme."""
_REASON_CHARACTERS = 62
"""Of a refusal; the table and --json have all of it."""


def figure_of(rows: Sequence[SchemeRow], title: str) -> Figure:
    """Draw one bar for each scheme: its round by parts on the left, its traffic on the right."""
    from sftopt.core.pictures.picture import Picture

    height = 1.7 + _ROW_INCHES * len(rows)
    figure = Picture(figsize=(12.5, height), layout="constrained")
    delay, traffic = figure.subplots(1, 2, sharey=True)
    seconds = [_values(row, "parts", DELAY, 1.0) for row in rows]
    megabytes = [_values(row, "bytes", TRAFFIC, 1e6) for row in rows]
    _bars(delay, rows, seconds, list(DELAY.values()))
    _bars(traffic, rows, megabytes, list(TRAFFIC.values()))
    for index, row in enumerate(rows):
        _label_delay(delay, index, row, sum(seconds[index]))
        _label_traffic(traffic, index, row, sum(megabytes[index]))
    delay.set_yticks(range(len(rows)), [row.scheme for row in rows])
    for tick, row in zip(delay.get_yticklabels(), rows, strict=True):
        tick.set_color(REFUSED if row.refused else "black")
    delay.invert_yaxis()
    delay.set_xlabel("round delay in s")
    traffic.set_xlabel("traffic of a round in MB, all devices")
    delay.set_title(title, loc="left")
    return figure


def _values(
    row: SchemeRow, field: str, names: dict[str, tuple[str, str]], unit: float
) -> list[float]:
    given = getattr(row, field)
    return [(getattr(given, name, None) or 0.0) / unit for name in names]


def _bars(
    axes: Axes,
    rows: Sequence[SchemeRow],
    values: Sequence[Sequence[float]],
    kinds: Sequence[tuple[str, str]],
) -> None:
    """Stack the values of every row; refused rows are pale and hatched in red."""
    from matplotlib.patches import Patch

    left = [0.0] * len(rows)
    for part, (label, colour) in enumerate(kinds):
        widths = [row_values[part] for row_values in values]
        bars = axes.barh(range(len(rows)), widths, left=left, color=colour, label=label, height=0.7)
        for bar, row in zip(bars, rows, strict=True):
            if row.refused is not None:
                bar.set(alpha=0.55, hatch="////", edgecolor=REFUSED, linewidth=0.0)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    most = max(left, default=0.0)
    axes.set_xlim(0.0, 1.32 * most if most > 0.0 else 1.0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    plain = [Patch(color=colour, label=label) for label, colour in kinds]  # not hatched
    axes.legend(handles=plain, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=len(kinds),
                frameon=False, fontsize=8, columnspacing=1.0, handlelength=1.2)  # fmt: skip


def _label_delay(axes: Axes, index: int, row: SchemeRow, end: float) -> None:
    """Write round and ratio behind a bar."""
    text = "no plan"
    if row.round_s is not None:
        ratio = "" if row.ratio_to_sft is None else f"  x{row.ratio_to_sft:.3g}"
        text = f" {row.round_s:.4g} s{ratio}"
    colour = REFUSED if row.refused else "black"
    axes.text(end, index, text, va="center", fontsize=8, color=colour)


def _label_traffic(axes: Axes, index: int, row: SchemeRow, end: float) -> None:
    """Write the sum behind a bar, and why the scheme is refused."""
    text = "" if row.bytes is None else f" {end:.4g}"
    if row.refused is not None:
        text += " refused: " + shorten(row.refused, _REASON_CHARACTERS, placeholder=" ...")
    colour = REFUSED if row.refused else "black"
    reach = axes.get_xlim()[1]
    inside = row.refused is not None and end > 0.3 * reach
    axes.text(
        0.02 * reach if inside else end, index, text, va="center", fontsize=7 if row.refused else 8,
        color=colour, bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1}
        if row.refused else None,
    )  # fmt: skip
