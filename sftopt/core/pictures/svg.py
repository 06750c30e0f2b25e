"""A figure as SVG text for a page: letters stay letters, and the same figure is the same text."""

from __future__ import annotations

import io
import re
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
    from html import escape

    said = f'<svg role="img" aria-label="{escape(label, quote=True)}" '
    # ids are numbered per figure: two figures on one page must not share them
    prefix = f"f{abs(hash_of(label)):x}-"
    inner = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", found.group(0))
    return inner.replace("<svg ", said, 1)


def hash_of(text: str) -> int:
    """Return a number that stands for a text, the same in every process."""
    import zlib

    return zlib.crc32(text.encode())
