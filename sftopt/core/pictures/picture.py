"""The figure that our functions return: it shows itself in a notebook, whatever its backend."""

from __future__ import annotations

from io import BytesIO
from typing import Any, final

import matplotlib
from matplotlib.figure import Figure

DOTS_PER_INCH = 110
"""Of the picture in a notebook."""
EMBEDDED_FONTS = {"pdf.fonttype": 42, "ps.fonttype": 42}
"""Letters in PDF and PostScript are TrueType: publishers' checks refuse Type 3, the default."""


@final
class Picture(Figure):
    """A figure without pyplot, which notebooks show only where it says how it looks."""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Write the figure as matplotlib does, its letters as TrueType where the format is PDF."""
        with matplotlib.rc_context(EMBEDDED_FONTS):
            super().savefig(*args, **kwargs)

    def _repr_png_(self) -> bytes:
        sink = BytesIO()
        self.savefig(sink, format="png", dpi=DOTS_PER_INCH)
        return sink.getvalue()
