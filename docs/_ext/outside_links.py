"""Sphinx extension: list the links that lead outside, which no build without a network checks."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

LIST = "outside-links.txt"
"""Of the file beside the built pages: an address, then the pages that lead there."""

_LOG = logging.getLogger(__name__)


def outside(app: Sphinx) -> dict[str, set[str]]:
    """Return the addresses that pages lead to, each with its pages."""
    found: dict[str, set[str]] = {}
    for page in sorted(app.env.found_docs):
        for link in app.env.get_doctree(page).findall(nodes.reference):
            address = link.get("refuri", "")
            if address.startswith(("http://", "https://")):
                found.setdefault(address, set()).add(page)
    return found


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None:
        return
    links = outside(app)
    lines = [f"{address}  {', '.join(sorted(pages))}" for address, pages in sorted(links.items())]
    Path(app.outdir, LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _LOG.info("%d links lead outside: %s", len(links), Path(app.outdir, LIST))


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the list when the pages are built."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
