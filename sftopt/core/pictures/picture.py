"""The figure that our functions return: it shows itself in a notebook, whatever its backend."""

from __future__ import annotations

from io import BytesIO
from typing import final

from matplotlib.figure import Figure

DOTS_PER_INCH = 110
"""Of the picture in a notebook."""


@final
class Picture(Figure):
    """A figure without pyplot, which notebooks show only where it says how it looks."""

    def _repr_png_(self) -> bytes:
        sink = BytesIO()
        self.savefig(sink, format="png", dpi=DOTS_PER_INCH)
        return sink.getvalue()
