"""One page: facts, pictures and tables in sections, as a file that works from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sftopt import __version__
from sftopt.core.files import write_text
from sftopt.face.escaped import visible_message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "page.html"
"""The page's frame, with its style."""


@dataclass(frozen=True)
class Section:
    """One part of a page; what is empty is left out."""

    title: str = ""
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    svg: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Page:
    """What a page says, from top to bottom."""

    title: str
    text: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)
    command: str = ""


def picture(title: str, text: str, figure: Figure) -> Section:
    """Make a section of a figure, drawn as SVG."""
    from sftopt.core.pictures import svg_of

    return Section(title=title, text=text, svg=svg_of(figure, title))


def rendered(page: Page) -> str:
    """Return a page as HTML text; names from files can only be text in it."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        autoescape=select_autoescape(default_for_string=True), trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    sections = [
        Section(
            title=visible_message(one.title),
            text=visible_message(one.text),
            facts=[(name, visible_message(value)) for name, value in one.facts if value],
            svg=Markup(one.svg),  # our own drawing; matplotlib escapes its texts
            head=one.head,
            rows=[[visible_message(cell) for cell in row] for row in one.rows],
        )
        for one in page.sections
    ]
    shown = Page(visible_message(page.title), visible_message(page.text), sections, page.command)
    return template.render(page=shown, version=__version__)


def write_page(page: Page, path: Path) -> None:
    """Write a page as an HTML file, all or not at all. Raises InputError where that fails."""
    write_text(path, rendered(page))
