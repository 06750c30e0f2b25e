"""Sphinx extension: what the theme leaves out for keyboards and readers of the screen.

Boxes that scroll can be reached by the keyboard, captions of the sidebar have a level, and its
landmark has a name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MENDS = (
    (re.compile(r'role="heading"(?! aria-level)'), 'role="heading" aria-level="2"'),
    (re.compile(r"<pre(?! tabindex)"), '<pre tabindex="0"'),
    (re.compile(r'<table(?! tabindex)( class="[^"]*docutils)'), r'<table tabindex="0"\1'),
    (re.compile(r'<math(?! tabindex)([^>]* display="block")'), r'<math tabindex="0"\1'),
    (
        re.compile(r'<aside class="sidebar-drawer">'),
        '<aside class="sidebar-drawer" aria-label="Pages">',
    ),
    (
        re.compile(r'<aside class="toc-drawer([^"]*)">'),
        r'<aside class="toc-drawer\1" aria-label="On this page">',
    ),
)
"""What is written -> what is written in its place."""


def mended(text: str) -> str:
    """Return the HTML text of a page, its gaps filled; a second time changes nothing."""
    for pattern, put in MENDS:
        text = pattern.sub(put, text)
    return text


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        better = mended(text)
        if better != text:
            path.write_text(better, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend pages once all are written."""
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
