"""What all pictures share: colours of the parts of a round, how many devices, plain ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, TypeVar

from sftopt.core.pictures.paper import LETTERS_PT, Look, legend_columns, legend_lines, letters_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PARTS = {
    "device": "#56b4e9",
    "uplink": "#e69f00",
    "server": "#009e73",
    "downlink": "#f0e442",
    "adapters": "#cc79a7",
}
"""Parts of a round -> Okabe and Ito's colours, which the colour-blind can tell apart."""
WAIT = "#d9dee5"
"""Colour of waiting at a barrier."""
MOST_DEVICES_SHOWN = 30
"""Devices of a picture; of more, those that bind are shown."""

_Entry = TypeVar("_Entry")


def most_binding(entries: Sequence[_Entry], slacks: Sequence[float]) -> list[_Entry]:
    """Return at most :data:`MOST_DEVICES_SHOWN` entries, those of least slack, in their order."""
    if len(entries) <= MOST_DEVICES_SHOWN:
        return list(entries)
    ranked = sorted(range(len(entries)), key=lambda index: slacks[index])
    kept = sorted(ranked[:MOST_DEVICES_SHOWN])
    return [entries[index] for index in kept]


_LEGEND_PT = 9.0
"""Size of letters in a legend for the screen."""
_UPRIGHT_IN = 1.5
"""Inches for a line of words that stands beside a panel."""
_BELOW = 0.75
"""Part of a panel's place that its picture has at least, for words below it."""
_LEGEND_LINE_IN = 0.17
"""Inches of a line of a legend in letters of 8 points."""
LEAST_LABELS = 3
"""Numbers that a logarithmic axis shows at least, however short its range."""
_WITHIN_A_DECADE = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
"""Ticks of a decade, from few to many: the first that give enough labels are taken."""


def logarithmic_ticks(least: float, most: float) -> list[float]:
    """Return round numbers between ``least`` and ``most`` for a logarithmic axis, at least three.

    Powers of ten, else 1-2-5 numbers, and so on; for a range too short for any, evenly spaced ones.
    """
    from matplotlib.ticker import MaxNLocator

    if not 0.0 < least < most:
        return [least]
    decades = range(math.floor(math.log10(least)), math.floor(math.log10(most)) + 1)
    for factors in _WITHIN_A_DECADE:
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [tick for tick in ticks if least <= tick <= most]
        if len(inside) >= LEAST_LABELS:
            return inside
    even = MaxNLocator(nbins=2 * LEAST_LABELS, steps=[1, 2, 2.5, 5, 10])
    return [float(tick) for tick in even.tick_values(least, most) if least <= tick <= most]


def plain_logarithms(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers: 50, 100, 200 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, Locator, LogLocator, NullFormatter

    class Plain(Locator):
        """Ticks of whatever range the axis has when it is drawn."""

        def __call__(self) -> list[float]:
            return self.tick_values(*sorted(axis.get_view_interval()))

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return logarithmic_ticks(vmin, vmax)

    axis.set_major_locator(Plain())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)))
    axis.set_minor_formatter(NullFormatter())


def finished(figure: Figure, look: Look, legend_of: Axes | None = None, columns: int = 5) -> Figure:
    """Return the figure as ``look`` has it: its letters, and a legend below the panels.

    ``legend_of``: the panel whose lines or bars the legend names, None for no legend; ``columns``
    of it, at most. Every letter has 8 points where the width is given.
    """
    from matplotlib.text import Text

    if legend_of is not None:
        handles, labels = legend_of.get_legend_handles_labels()
        if look.width_in is not None:
            room_in = look.width_in - 2.0 * _LEGEND_LINE_IN
            columns = min(columns, legend_columns(labels, room_in))
            more = (legend_lines(labels, columns) - 1) * _LEGEND_LINE_IN
            figure.set_size_inches(look.width_in, figure.get_figheight() + more)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False,
                      fontsize=_LEGEND_PT)  # fmt: skip
    if look.width_in is not None:
        for text in figure.findobj(Text):
            text.set_fontsize(LETTERS_PT)
        for axes in figure.axes:
            axes.tick_params(which="both", labelsize=LETTERS_PT)
            axes.set_ylabel(fill(axes.get_ylabel(), letters_in(_UPRIGHT_IN)))
            place = axes.get_subplotspec()
            beside = 1 if place is None else place.get_gridspec().ncols
            room = letters_in(_BELOW * look.width_in / beside)
            axes.set_xlabel(fill(axes.get_xlabel(), room))
    return figure
