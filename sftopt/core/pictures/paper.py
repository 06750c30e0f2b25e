"""How wide a figure is, and whether it has a title: for the screen, or for a paper's column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.errors import InputError

WIDTHS_IN = {"column": 3.5, "page": 7.16}
"""Widths of IEEE's two-column papers in inches, by what people call them."""
LEAST_IN = 2.5
"""Inches below which no letters of 8 points fit beside a picture."""
MOST_IN = 40.0
"""Inches above which a width is a slip."""
LETTERS_PT = 8.0
"""Size of letters in a figure of a given width, in points: what papers ask for at least."""
POINTS_PER_INCH = 72.0
"""Points of an inch."""
_SIDE_BY_SIDE_IN = 5.5
"""Inches from which two panels stand side by side."""
_PANEL = 0.6
"""Height of a panel in its width."""
_LEAST_PANEL_IN = 1.7
"""Inches that a panel is high at least."""
_MOST_PANEL_IN = 2.8
"""Inches that a panel is high at most."""
_LEGEND_IN = 0.5
"""Inches for what stands below the panels."""
_LETTER_EM = 0.56
"""Mean width of a letter, in its size."""


@dataclass(frozen=True)
class Look:
    """How a figure is to look: ``width_in`` inches (None: as suits the screen), with a title."""

    width_in: float | None = None
    title: bool = True

    @property
    def for_paper(self) -> bool:
        """Tell whether the figure is to stand in a paper at its own size."""
        return self.width_in is not None

    @property
    def narrow(self) -> bool:
        """Tell whether two panels have no room side by side."""
        return self.width_in is not None and self.width_in < _SIDE_BY_SIDE_IN

    def size(
        self, screen: tuple[float, float], rows: int = 1, columns: int = 1
    ) -> tuple[float, float]:
        """Return width and height in inches for a number of panels: ``rows`` x ``columns``.

        ``screen``: where no width is given.
        """
        if self.width_in is None:
            return screen
        panel_in = min(max(_LEAST_PANEL_IN, _PANEL * self.width_in / columns), _MOST_PANEL_IN)
        return self.width_in, rows * panel_in + _LEGEND_IN


SCREEN = Look()
"""As suits the screen, with a title."""


def look_of(width: str | float | None = None, title: bool | None = None) -> Look:
    """Return the look that is asked for: inches, ``column`` or ``page``; title None: as usual.

    A figure whose width is given has no title, as it will have a caption. Raises InputError.
    """
    shown = width is None if title is None else title
    if width is None:
        return Look(None, shown)
    known = ", ".join(f"{name} ({inches:g})" for name, inches in WIDTHS_IN.items())
    try:
        inches = WIDTHS_IN[width] if width in WIDTHS_IN else float(width)
    except ValueError:
        inches = math.nan
    if not LEAST_IN <= inches <= MOST_IN:
        raise InputError(
            f"the width of a figure is '{width}'; give inches from {LEAST_IN:g} to {MOST_IN:g}, "
            f"or {known}"
        )
    return Look(inches, shown)


def letters_in(inches: float, size_pt: float = LETTERS_PT) -> int:
    """Return the number of letters of ``size_pt`` points that fit into ``inches``."""
    return max(1, int(inches * POINTS_PER_INCH / (size_pt * _LETTER_EM)))


def text_in(texts: Sequence[str], size_pt: float = LETTERS_PT) -> float:
    """Return the share of a figure's width that the longest text and a gap take, in inches."""
    longest = max(map(len, texts), default=0)
    return (longest * _LETTER_EM + 1.0) * size_pt / POINTS_PER_INCH


def legend_columns(labels: Sequence[str], inches: float, handle_em: float = 4.5) -> int:
    """Return the number of columns of a legend of ``inches`` width, rows of nearly equal length.

    ``handle_em``: what stands beside a label, with gaps, in sizes of a letter; a line has 4.5.
    """
    longest = max((max(map(len, label.split("\n"))) for label in labels), default=1)
    one_in = (longest * _LETTER_EM + handle_em) * LETTERS_PT / POINTS_PER_INCH
    most = max(1, min(len(labels), int(inches / one_in)))
    rows = math.ceil(max(len(labels), 1) / most)
    return math.ceil(max(len(labels), 1) / rows)


def legend_lines(labels: Sequence[str], columns: int) -> int:
    """Return the number of lines that a legend takes in so many columns, filled from above."""
    rows = math.ceil(len(labels) / columns)
    heights = [label.count("\n") + 1 for label in labels]
    return sum(max(heights[row::rows]) for row in range(rows))
