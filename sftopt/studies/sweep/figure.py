"""The picture of a sweep: a line for each scheme, bars from the least to the most of the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError
from sftopt.core.pictures.paper import LETTERS_PT, Look, legend_columns, legend_lines, letters_in
from sftopt.studies.compare.metrics import Metric, metric_of
from sftopt.studies.sweep.axes import AxisNote, is_number
from sftopt.studies.sweep.caption import Shown
from sftopt.studies.sweep.words import label_of, short_number, unit_of, value_of, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
"""Okabe and Ito's colours and a grey; the first scheme, sft, is black."""
DASHES = ("-", "--", ":", "-.")
"""Told apart in print as well: after each round of colours the next."""
MARKERS = "osD^v<>PX*"
"""A mark for each scheme."""
GAPS = (0, (3, 3))
"""Of a line that lies on another one, which is seen through them."""
MOST_PANELS = 8
"""Values of the second axis that are drawn."""
MOST_TICKS = 10
"""Values of the first axis up to which each is written out, and has bars beside each other."""
LOG_FROM = 8.0
"""Ratio of an axis's largest to its least number from which it is logarithmic."""
_DODGE = 0.008
"""Share of the axis by which bars of neighbouring schemes stand apart."""
_PANEL_IN = (3.4, 3.6)
"""Width and height of a panel for the screen, in inches."""
_PAPER_PANEL_IN = (2.2, 1.9)
"""Least width and the height of a panel in a paper, in inches."""
_LEGEND_IN = 1.9
"""Width of the legend beside the panels on the screen, in inches."""
_LEGEND_LINE_IN = 0.15
"""Height of a line of the legend below a figure, in inches."""
_ACROSS = 4
"""Panels beside each other on the screen."""


def figure_of(shown: Shown, look: Look) -> Figure:
    """Draw a sweep of one or two axes; hollow marks say that some of the cells are refused.

    Axes of a single value are not counted. Raises InputError where there are more axes.
    """
    from sftopt.core.pictures.picture import Picture

    axes = shown.varied
    if len(axes) > 2:
        raise InputError(
            f"{len(axes)} axes are varied; a figure shows at most 2 (rows and CSV have all)"
        )
    second = axes[1] if len(axes) == 2 else None
    panels: Sequence[Any] = (None,) if second is None else second.values[:MOST_PANELS]
    rows = math.ceil(len(panels) / _columns(look))
    columns = math.ceil(len(panels) / rows)  # rows of nearly equal length
    figure = Picture(figsize=_size(look, rows, columns), layout="constrained")
    drawn = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    near, spread, metric = shown.near, shown.spread, metric_of(shown.metric)
    for place, value in enumerate(panels):
        panel = drawn[place // columns][place % columns]
        mine = spread if second is None else [r for r in spread if r[second.name] == value]
        _panel(panel, axes[0], shown.schemes, mine, metric, near)
        if second is not None:
            panel.set_title(f"{words_of(second.name)} = {value_of(second.name, value)}",
                            fontsize=LETTERS_PT)  # fmt: skip
        last = place + columns >= len(panels)
        panel.tick_params(labelsize=LETTERS_PT, labelbottom=last)
        if last:
            numbers = all(map(is_number, axes[0].values))
            panel.set_xlabel(label_of(axes[0].name, numbers), fontsize=LETTERS_PT)
    for place in range(len(panels), rows * columns):
        drawn[place // columns][place % columns].set_visible(False)
    height = _panel_height(look, columns)
    for row in drawn:
        row[0].set_ylabel(fill(metric.label, letters_in(0.9 * height)), fontsize=LETTERS_PT)
    _legend(figure, drawn[0][0], near, look)
    if look.title:
        letters = letters_in(figure.get_size_inches()[0], LETTERS_PT + 1)
        figure.suptitle(fill(shown.title, letters), fontsize=LETTERS_PT + 1)
    return figure


def _columns(look: Look) -> int:
    return _ACROSS if look.width_in is None else max(1, int(look.width_in / _PAPER_PANEL_IN[0]))


def _size(look: Look, rows: int, columns: int) -> tuple[float, float]:
    """Width and height in inches; that of the legend below a figure for a paper comes on top."""
    if look.width_in is None:
        return _PANEL_IN[0] * columns + _LEGEND_IN, 0.4 + _PANEL_IN[1] * rows
    return look.width_in, 0.4 + _panel_height(look, columns) * rows


def _panel_height(look: Look, columns: int) -> float:
    """Height of a panel in inches: in a paper half its width, within reason."""
    if look.width_in is None:
        return _PANEL_IN[1]
    return max(_PAPER_PANEL_IN[1], min(0.5 * look.width_in / columns, _PANEL_IN[1]))


def _legend(figure: Figure, axes: Axes, near: dict[str, str], look: Look) -> None:
    """Name every scheme by line and mark; of one that lies on another, say so."""
    from matplotlib.lines import Line2D

    handles = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    shown = [
        Line2D([], [], color=line.get_color(), linestyle=line.get_linestyle(), linewidth=1.4,
               marker=line.get_marker(), markersize=4.5, label=_named(str(line.get_label()), near))
        for line in handles
    ]  # fmt: skip
    if any(line.get_markerfacecolor() == "white" for line in figure.findobj(Line2D)):
        shown.append(Line2D([], [], linestyle="none", marker="o", markerfacecolor="white",
                            color="0.3", label="hollow: refused\nin some cell"))  # fmt: skip
    labels = [str(line.get_label()) for line in shown]
    if look.width_in is None:
        figure.legend(shown, labels, loc="outside right upper", frameon=False, fontsize=LETTERS_PT)
        return
    columns = legend_columns(labels, look.width_in)
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE_IN * legend_lines(labels, columns))
    figure.legend(shown, labels, loc="outside lower center", frameon=False, fontsize=LETTERS_PT,
                  ncols=columns, columnspacing=1.0, handletextpad=0.5)  # fmt: skip


def _named(scheme: str, near: dict[str, str]) -> str:
    return f"{scheme}\n\u2248 {near[scheme]} (2 %)" if scheme in near else scheme


def _panel(
    axes: Axes, axis: AxisNote, schemes: Sequence[str], rows: Sequence[dict[str, Any]],
    metric: Metric, near: dict[str, str],
) -> None:  # fmt: skip
    """Draw one panel over the first axis."""
    from sftopt.core.pictures.style import plain_logarithms

    numbers = all(map(is_number, axis.values))
    unit = unit_of(axis.name)[0] if numbers else 1.0
    at = {value: float(value) / unit if numbers else float(place)  # type: ignore[arg-type]
          for place, value in enumerate(axis.values)}  # fmt: skip
    logarithmic = (
        numbers and min(at.values()) > 0.0 and max(at.values()) > LOG_FROM * min(at.values())
    )
    beside = len(at) <= MOST_TICKS and any(row["least"] != row["most"] for row in rows)
    for index, scheme in enumerate(schemes):
        points = [row for row in rows if row["scheme"] == scheme and row["median"] is not None]
        if points:
            shift = _DODGE * (index - 0.5 * (len(schemes) - 1)) if beside else 0.0
            x = [_moved(at[row[axis.name]], shift, list(at.values()), logarithmic)
                 for row in points]  # fmt: skip
            _line(axes, x, points, scheme, index, metric.per_unit, near)
    known = [row["median"] for row in rows if row["median"] is not None]
    if known and min(known) > 0.0 and max(known) > LOG_FROM * min(known):
        axes.set_yscale("log")
        plain_logarithms(axes.yaxis)
    if logarithmic:
        axes.set_xscale("log")
        plain_logarithms(axes.xaxis)
    if len(at) <= MOST_TICKS or not numbers:
        _ticks_at_values(axes, at, unit, numbers)
    axes.grid(alpha=0.25)


def _ticks_at_values(axes: Axes, at: dict[Any, float], unit: float, numbers: bool) -> None:
    from matplotlib.ticker import NullLocator

    texts = [short_number(value / unit) if numbers else str(value) for value in at]
    axes.set_xticks(list(at.values()), texts)
    axes.xaxis.set_minor_locator(NullLocator())


def _moved(x: float, shift: float, places: Sequence[float], logarithmic: bool) -> float:
    """A place moved by a share of the axis, so that bars of two schemes do not hide one another."""
    low, high = min(places), max(places)
    if logarithmic:
        return float(x * (high / low) ** shift)
    return x + shift * (high - low)


def _line(
    axes: Axes, x: Sequence[float], points: Sequence[dict[str, Any]], scheme: str, index: int,
    per_unit: float, near: dict[str, str],
) -> None:  # fmt: skip
    """Draw medians, marks, and the range over the seeds as bars; as a band where there are many."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    dash: Any = DASHES[index // len(COLOURS) % len(DASHES)]
    least, middle, most = (
        [row[name] / per_unit for row in points] for name in ("least", "median", "most")
    )
    many = len(points) > MOST_TICKS
    axes.plot(x, middle, label=scheme, color=colour, linewidth=1.4, zorder=3 + (scheme in near),
              linestyle=GAPS if scheme in near else dash, marker=marker,
              markersize=2.5 if many else 3.2 if scheme in near else 4.5)  # fmt: skip
    hollow = [place for place, row in enumerate(points) if row["refused"]]
    if hollow:
        axes.plot([x[place] for place in hollow], [middle[place] for place in hollow],
                  color=colour, linestyle="none", marker=marker, markersize=2.5 if many else 4.5,
                  markerfacecolor="white", zorder=5, label="_hollow")  # fmt: skip
    if all(low == high for low, high in zip(least, most, strict=True)):
        return
    if many:
        axes.fill_between(x, least, most, color=colour, alpha=0.06, linewidth=0.0)
        for end in (least, most):
            axes.plot(x, end, color=colour, linewidth=0.5, alpha=0.7, label="_end")
        return
    axes.vlines(x, least, most, colors=colour, linewidth=0.9, zorder=2)
    for end in (least, most):
        axes.plot(x, end, color=colour, linestyle="none", marker="_", markersize=4.0,
                  markeredgewidth=0.9, label="_end", zorder=2)  # fmt: skip
