"""A figure as SVG text for a page: letters stay letters, and the same figure is the same text."""

from __future__ import annotations

import io
import re
import zlib
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_of(figure: Figure, label: str) -> str:
    """Return a figure as an SVG element that readers of the screen call ``label``."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sftopt"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    found = re.search(r"<svg.*</svg>", text.getvalue(), flags=re.DOTALL)
    assert found is not None, "matplotlib writes an svg element"
    said = f'<svg role="img" aria-label="{escape(label, quote=True)}" '
    # ids are numbered per figure: two figures on one page must not share them
    prefix = f"f{zlib.crc32(label.encode()):x}-"
    inner = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", found.group(0))
    return inner.replace("<svg ", said, 1)
