"""Sphinx extension: show pages that live outside of docs/ without a second copy of their text.

A page of the site holds ``{include}``; links in the included text lead to files of the repository,
which are pages here or are not: both are mended while the text is read.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]

SHOWN = {
    "sftopt/formulations/MODEL.md": "concepts/model-equations",
    "sftopt/solvers/certify/DERIVATION.md": "concepts/derivation",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "benchmarks/README.md": "reference/benchmarks",
    "docs/paper-map.md": "paper-map",
}
"""Page of the repository -> page of the site that shows it."""

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")


def included(page: str, at: str) -> str:
    """Return the text of a repository's page as the site's page ``at`` shows it.

    Links to other pages shown lead there; links to other files become plain text, since a built
    site has no repository beside it.
    """
    text = (ROOT / page).read_text(encoding="utf-8")

    def mended(match: re.Match[str]) -> str:
        label, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if target.startswith("http"):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if path in SHOWN:
            away = posixpath.relpath(SHOWN[path], posixpath.dirname(at) or ".")
            return f"{label}({away}.md{anchor})"
        if label.startswith("!"):
            return (
                f"{label}({posixpath.relpath(ROOT / path, ROOT / 'docs' / posixpath.dirname(at))})"
            )
        return f"{label[1:-1]} (`{path}`)"

    return _LINK.sub(mended, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    for page, at in SHOWN.items():
        if name == at:
            source[0] = included(page, at)


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the pages that show others."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
