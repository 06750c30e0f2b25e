"""The figure that our functions return: it shows itself in a notebook, whatever its backend."""

from __future__ import annotations

from contextlib import AbstractContextManager
from io import BytesIO
from typing import Any, final

import matplotlib
from matplotlib.figure import Figure

DOTS_PER_INCH = 110
"""Of the picture in a notebook."""
TRUETYPE = 42
"""Kind of letters in PDF and PostScript; publishers' checks refuse Type 3, the default."""


def embedded_fonts() -> AbstractContextManager[None]:
    """Return a context in which letters are written into PDF and PostScript as TrueType."""
    return matplotlib.rc_context({"pdf.fonttype": TRUETYPE, "ps.fonttype": TRUETYPE})


@final
class Picture(Figure):
    """A figure without pyplot, which notebooks show only where it says how it looks."""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Write the figure as matplotlib does, its letters as TrueType where the format is PDF."""
        with embedded_fonts():
            super().savefig(*args, **kwargs)

    def _repr_png_(self) -> bytes:
        sink = BytesIO()
        self.savefig(sink, format="png", dpi=DOTS_PER_INCH)
        return sink.getvalue()
