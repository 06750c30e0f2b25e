"""The picture of a comparison: delay by parts beside traffic by kind, a bar for each scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from sftopt.core.pictures.paper import (
    LETTERS_PT,
    Look,
    legend_columns,
    letters_in,
    text_in,
)
from sftopt.core.pictures.style import PARTS
from sftopt.studies.compare.notes import notes_of
from sftopt.studies.compare.row import SchemeRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DELAY = {f"{part}_s": (part, colour) for part, colour in PARTS.items()}
"""Parts of a round: what the legend calls them, and their colours."""
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
_SCREEN_IN = 11.5
"""Width of the figure for the screen, in inches."""
_ROW_IN = 0.17
"""Height of one scheme, in inches: letters of eight points and a gap."""
_LINE_IN = 0.14
"""Height of a line of a legend or of the notes, in inches."""
_BESIDE_FROM_IN = 6.0
"""Inches from which the two panels stand side by side; below, one above the other."""


def figure_of(rows: Sequence[SchemeRow], title: str, look: Look) -> Figure:
    """Draw one bar for each scheme: its round by parts, and its traffic beside it or below.

    With a title there are notes below: what bars and variants mean, why schemes are refused.
    """
    from sftopt.core.pictures.picture import Picture

    width = _SCREEN_IN if look.width_in is None else look.width_in
    beside = width >= _BESIDE_FROM_IN
    names_in = text_in([row.scheme for row in rows])
    panel_in = (width - names_in) / 2.0 if beside else width - names_in
    notes = _wrapped(notes_of(rows), width) if look.title else ""
    panel_height = 0.55 + _ROW_IN * (len(rows) + 1)
    figure = Picture(figsize=(width, panel_height), layout="constrained")
    panels = figure.subplots(1 if beside else 2, 2 if beside else 1, sharey=True, squeeze=False)
    delay, traffic = (panels[0][0], panels[0][1] if beside else panels[1][0])
    seconds = [_values(row, "parts", DELAY, 1.0) for row in rows]
    megabytes = [_values(row, "bytes", TRAFFIC, 1e6) for row in rows]
    _bars(delay, rows, seconds, list(DELAY.values()), panel_in, _delay_text)
    _bars(traffic, rows, megabytes, list(TRAFFIC.values()), panel_in, _traffic_text)
    legend_in = panel_in if beside else width
    legends = _legend(delay, list(DELAY.values()), legend_in)
    more = _legend(traffic, list(TRAFFIC.values()), legend_in)
    legends = max(legends, more) if beside else legends + more
    figure.set_figheight(
        panel_height * (1 if beside else 2)
        + _LINE_IN * (legends + notes.count("\n") + 2 * look.title)
    )
    for axes in (delay,) if beside else (delay, traffic):
        axes.set_yticks(range(len(rows)), [row.scheme for row in rows], fontsize=LETTERS_PT)
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(REFUSED if row.refused else "black")
    delay.set_ylim(len(rows) - 0.4, -0.6)
    delay.set_xlabel("round delay in s (\u00d7: times sft's)", fontsize=LETTERS_PT)
    traffic.set_xlabel("traffic of a round in MB, all devices", fontsize=LETTERS_PT)
    if look.title:
        figure.suptitle(fill(title, letters_in(width, LETTERS_PT + 1)), fontsize=LETTERS_PT + 1)
        figure.supxlabel(notes, x=0.01, ha="left", fontsize=LETTERS_PT)
    return figure


def _wrapped(notes: Sequence[str], inches: float) -> str:
    letters = letters_in(inches)
    return "\n".join(fill(note, letters, subsequent_indent="   ") for note in notes)


def _values(
    row: SchemeRow, field: str, names: dict[str, tuple[str, str]], unit: float
) -> list[float]:
    given = getattr(row, field)
    return [(getattr(given, name, None) or 0.0) / unit for name in names]


def _delay_text(row: SchemeRow, seconds: float) -> str:
    """Round and ratio behind a bar."""
    if row.round_s is None:
        return " no plan"
    ratio = "" if row.ratio_to_sft is None else f"  \u00d7{row.ratio_to_sft:.3g}"
    return f" {row.round_s:.4g} s{ratio}"


def _traffic_text(row: SchemeRow, megabytes: float) -> str:
    """The sum behind a bar, and whether the scheme is refused; the notes say why."""
    told = "" if row.bytes is None else f" {megabytes:.4g}"
    return f"{told} refused" if row.refused is not None else told


def _bars(
    axes: Axes,
    rows: Sequence[SchemeRow],
    values: Sequence[Sequence[float]],
    kinds: Sequence[tuple[str, str]],
    panel_in: float,
    text: Callable[[SchemeRow, float], str],
) -> None:
    """Stack the values of every row and write behind; refused rows are pale, hatched in red."""
    left = [0.0] * len(rows)
    for part, (label, colour) in enumerate(kinds):
        widths = [row_values[part] for row_values in values]
        bars = axes.barh(range(len(rows)), widths, left=left, color=colour, label=label, height=0.7)
        for bar, row in zip(bars, rows, strict=True):
            if row.refused is not None:
                bar.set(alpha=0.55, hatch="////", edgecolor=REFUSED, linewidth=0.0)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    texts = [text(row, end) for row, end in zip(rows, left, strict=True)]
    for index, (row, end) in enumerate(zip(rows, left, strict=True)):
        axes.text(end, index, texts[index], va="center", fontsize=LETTERS_PT,
                  color=REFUSED if row.refused else "black")  # fmt: skip
    axes.set_xlim(0.0, _reach(left, texts, panel_in))
    axes.tick_params(labelsize=LETTERS_PT)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _legend(axes: Axes, kinds: Sequence[tuple[str, str]], inches: float) -> int:
    """Name the kinds above the bars; return the lines that the legend has."""
    from matplotlib.patches import Patch

    columns = legend_columns([label for label, _ in kinds], inches, handle_em=3.2)
    plain = [Patch(color=colour, label=label) for label, colour in kinds]  # not hatched
    axes.legend(handles=plain, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns,
                frameon=False, fontsize=LETTERS_PT, columnspacing=1.0, handlelength=1.2,
                borderaxespad=0.2)  # fmt: skip
    return -(-len(kinds) // columns)


def _reach(ends: Sequence[float], texts: Sequence[str], panel_in: float) -> float:
    """Right end of an axis such that the words behind every bar fit inside the panel."""
    reach = max(ends, default=0.0) or 1.0
    free = [max(0.1, 1.0 - text_in([text]) / panel_in) for text in texts]
    return max([reach, *(end / part for end, part in zip(ends, free, strict=True))])
