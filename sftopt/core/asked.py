"""Calls by people: an argument that is misspelt or of the wrong kind gets a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import ParamSpec, TypeVar

from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def asked_plainly(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Make ``function`` refuse unknown arguments with the nearest name, and things of other kinds.

    It then raises TypeError for the one; for the other, where its first argument is no instance
    or its second, if that is called ``plan``, no plan, InputError.
    """
    known = list(inspect.signature(function).parameters)
    takes_a_plan = known[1:2] == ["plan"]

    @wraps(function)
    def called(*values: Given.args, **named: Given.kwargs) -> Answer:
        check_names(function.__name__, named, known)
        given = values[0] if values else named.get("instance")
        if given is not None and not isinstance(given, Instance):
            load = f"sftopt.load({given!r})" if isinstance(given, str) else "sftopt.load(...)"
            raise InputError(
                f"{function.__name__}() needs an Instance, not a {type(given).__name__}; "
                f"load it first: {load}"
            )
        plan = values[1] if len(values) > 1 else named.get("plan")
        if takes_a_plan and plan is not None and not isinstance(plan, Plan):
            raise InputError(f"{function.__name__}() {_no_plan(plan)}")
        return function(*values, **named)

    return called


def check_names(function: str, named: Iterable[str], known: Sequence[str]) -> None:
    """Raise TypeError, with the nearest name, for the first of ``named`` that is not known."""
    for name in named:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise TypeError(
                f"{function}() has no argument '{name}'.{hint} Known: {', '.join(known)}."
            )


def _no_plan(given: object) -> str:
    """Say what was given in place of a plan, and how to come by one."""
    kind = type(given).__name__
    if kind == "Result":
        return "needs a Plan, not a Result; give it result.plan"
    load = f"Plan.load({given!r})" if isinstance(given, str) else "Plan.load(...)"
    return f"needs a Plan, not a {kind}; load it first: sftopt.{load}"
