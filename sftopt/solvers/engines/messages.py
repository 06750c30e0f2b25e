"""What is wrong, in an engine's own words: the telling line of a print-out or of an exception."""

from __future__ import annotations

import re


def complaint(text: str) -> str:
    """Return the first line that an engine printed, without its source file; '' if none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^\[\S+\] ERROR: ", "", lines[0]) if lines else ""


def last_line(error: BaseException) -> str:
    """Return the last line of an engine's exception, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^\S+\.[ch]pp:\d+: ", "", lines[-1]) if lines else type(error).__name__
