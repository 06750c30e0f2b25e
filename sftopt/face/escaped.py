"""Text that came from files and arguments, made safe to show: control characters as escapes.

A name may hold escape sequences that move the cursor, set the window's title or ring the bell, line
ends that make it look like a message of ours, or marks that turn the direction of what follows.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
"""Controls of terminals, line ends, and marks of direction."""
_LINE_END_OF_OURS = re.compile(r"\n(?=  |Try '|$)")
"""Line ends in messages of ours: what follows is indented, or says where the help is."""


def visible(text: str) -> str:
    """Show every control character of a name as an escape, line ends included."""
    return _UNSAFE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """Show the control characters of text that may have several lines as escapes."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def visible_message(text: str) -> str:
    """Show a message: its list of faults keeps its lines, line ends within names are escapes."""
    return "\n".join(map(visible, _LINE_END_OF_OURS.split(text)))


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


__all__ = ["visible", "visible_lines", "visible_message"]
