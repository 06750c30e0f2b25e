"""Lists as they are typed: parts with commas between them.

One rule for every option: blanks around a part and empty parts (a comma too many) do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sftopt.core.errors import InputError

Number = TypeVar("Number", int, float)
"""Whole numbers or any."""


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list that was typed."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(
    option: str, text: str, kind: Callable[[str], Number], *, of: str = ""
) -> tuple[Number, ...]:
    """Return the numbers in a list that was typed.

    ``kind``: ``int`` or ``float``. ``of``: what they are, where "numbers" says too little.
    Raises InputError that names ``option`` for a part that is no number and for an empty list.
    """
    whole = "whole numbers" if kind is int else "numbers"
    wanted = f"give {whole}{f' of {of}' if of else ''} with commas between them"
    try:
        found = tuple(kind(part) for part in names(text))
    except ValueError:
        raise InputError(f"{option} is '{text}'; {wanted}") from None
    if not found:
        raise InputError(f"{option} is '{text}', which holds none; {wanted}")
    return found


def maybe_numbers(
    option: str, text: str | None, kind: Callable[[str], Number]
) -> tuple[Number, ...] | None:
    """Return the numbers in a list that was typed; None where the option was not given."""
    return None if text is None else numbers(option, text, kind)
