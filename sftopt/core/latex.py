"""Texts and tables in LaTeX files."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""Characters that mean something to LaTeX, and how they are written."""


def latex_text(text: str) -> str:
    """Return ``text`` with LaTeX's special characters escaped."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def booktabs(
    columns: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    origin: str = "",
    caption: str = "",
    label: str = "",
    over: tuple[int, int, str] | None = None,
) -> str:
    """Return a booktabs table; ``heads`` and ``rows`` are LaTeX already.

    ``columns``: letters of ``tabular``. Comments above say where the table is from, what its
    preamble needs and, plain texts both, which caption and label would suit. ``over``: first and
    last column, from 1, of a head above the heads, and its text.
    """
    comments = [origin, r"needs \usepackage{booktabs}"]
    if caption:
        comments.append(rf"\caption{{{latex_text(caption)}}}")
    if label:
        comments.append(rf"\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', label)}}}")
    lines = [f"% {comment}" for comment in comments if comment]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    if over is not None:
        first, last, text = over
        before = "& " * (first - 1)
        lines.append(rf"{before}\multicolumn{{{last - first + 1}}}{{c}}{{{text}}} \\")
        lines.append(rf"\cmidrule(lr){{{first}-{last}}}")
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
