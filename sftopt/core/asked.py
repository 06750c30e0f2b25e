"""Calls by people: an argument that is misspelt or of the wrong kind gets a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from typing import ParamSpec, TypeVar

from sftopt.core.errors import InputError
from sftopt.core.instance import Instance

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def asked_plainly(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Make ``function`` refuse unknown arguments with the nearest name, and what is no instance.

    It then raises TypeError for the one and InputError for the other.
    """
    known = list(inspect.signature(function).parameters)

    @wraps(function)
    def called(*values: Given.args, **named: Given.kwargs) -> Answer:
        for name in named:
            if name not in known:
                close = get_close_matches(name, known, n=1, cutoff=0.6)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise TypeError(
                    f"{function.__name__}() has no argument '{name}'.{hint} "
                    f"Known: {', '.join(known)}."
                )
        given = values[0] if values else named.get("instance")
        if given is not None and not isinstance(given, Instance):
            load = f"sftopt.load({given!r})" if isinstance(given, str) else "sftopt.load(...)"
            raise InputError(
                f"{function.__name__}() needs an Instance, not a {type(given).__name__}; "
                f"load it first: {load}"
            )
        return function(*values, **named)

    return called
