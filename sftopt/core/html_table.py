"""Short HTML of our objects, for notebooks: a table whose texts are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

MOST_ROWS_SHOWN = 20
"""Rows of a table in a notebook; of more, so many are shown and the rest counted."""


def html_table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[object]], foot: str = ""
) -> str:
    """Return a titled table as HTML text; numbers are shortened, texts escaped."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row) + "</tr>"
        for row in rows[:MOST_ROWS_SHOWN]
    )
    left_out = len(rows) - MOST_ROWS_SHOWN
    notes = [foot, f"{left_out} more rows" if left_out > 0 else ""]
    below = "".join(f"<div>{escape(note)}</div>" for note in notes if note)
    return (
        f"<div><strong>{escape(title)}</strong><table><thead><tr>{cells}</tr></thead>"
        f"<tbody>{lines}</tbody></table>{below}</div>"
    )


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
