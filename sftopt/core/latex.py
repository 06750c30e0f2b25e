"""Texts in LaTeX files."""

from __future__ import annotations

_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""Characters that mean something to LaTeX, and how they are written."""


def latex_text(text: str) -> str:
    """Return ``text`` with LaTeX's special characters escaped."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
