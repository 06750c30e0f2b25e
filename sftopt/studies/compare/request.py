"""What is asked of a comparison: schemes by name, with their options.

A scheme is asked for as ``NAME`` or ``NAME:OPTION=VALUE:OPTION=VALUE``, such as ``card:w=0.5`` or
``tsflora:kept_tokens=60:bits=4``; the same scheme may be asked for several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.faults import Fault
from sftopt.core.schemes.base import Scheme, SchemeOption, Value
from sftopt.core.schemes.registry import SCHEMES, get_scheme

FIRST = "sft"
"""The scheme that every ratio refers to; its row stands first."""


@dataclass(frozen=True)
class Request:
    """One scheme and the options set for it; ``named`` says that the user asked for it."""

    scheme: Scheme
    given: dict[str, Value] = field(default_factory=dict)
    named: bool = True

    @property
    def label(self) -> str:
        """Return what rows call it: the name, and every option that differs from its default."""
        told = [f":{name}={_plain(value)}" for name, value in sorted(self.given.items())]
        return self.scheme.name + "".join(told)

    @property
    def options(self) -> dict[str, Value]:
        """Return the options in force: those given, and every default that is a value."""
        usual = {o.name: o.default for o in self.scheme.options if o.default is not None}
        return {**usual, **self.given}


def _plain(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def requests_of(schemes: Sequence[str | Scheme] | None, baselines: bool = True) -> list[Request]:
    """List what is compared: sft first, what is asked for, then the fair baselines left out.

    None asks for everything that is ours or published; without ``baselines`` the fair ones are
    there only where they are named. Raises InputError for an unknown name or
    option and for a value that is out of range; UnknownNameError proposes the nearest name.
    """
    if schemes is None:
        usual = [scheme for scheme in SCHEMES.values() if baselines or not scheme.fair]
        return [one for scheme in usual for one in _usual(scheme)]
    if not schemes:
        raise InputError("schemes: none is named; name one, or leave the argument out for all")
    asked = [parsed(one) for one in schemes]
    unique = {request.label: request for request in asked}
    first = unique.pop(FIRST, Request(SCHEMES[FIRST], named=False))
    fair = [Request(s, named=False) for s in SCHEMES.values() if s.fair and s.name not in unique]
    return [first, *unique.values(), *(fair if baselines else ())]


def _usual(scheme: Scheme) -> list[Request]:
    """The scheme, where devices take turns at both powers: the whole band flatters them."""
    both = [{}, {"power": "share"}] if scheme.option("power") is not None else [{}]
    return [Request(scheme, dict(given), named=False) for given in both]


def parsed(asked: str | Scheme) -> Request:
    """Read one scheme with its options.

    Raises InputError for an unknown name or option, one given twice and a value out of range.
    """
    if isinstance(asked, Scheme):
        return Request(asked)
    name, *pairs = asked.strip().split(":")
    scheme = get_scheme(name)
    given: dict[str, Value] = {}
    told: set[str] = set()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(
                f"scheme '{asked}': '{pair}' is no option=value; write {name}:OPTION=VALUE"
            )
        option = scheme.option(key)
        if option is None:
            known = [one.name for one in scheme.options]
            if not known:
                raise InputError(f"scheme '{name}' has no options; '{key}' was given")
            raise UnknownNameError(f"option of scheme '{name}'", key, known)
        if key in told:
            raise InputError(f"{name}:{key} is given twice; give it once")
        told.add(key)
        value = _value(f"{name}:{key}", option, text)
        if value != option.default:
            given[key] = value
    return Request(scheme, given)


def _value(what: str, option: SchemeOption, text: str) -> Value:
    """The value that a text spells for an option. Raises InputError where it spells none."""
    if option.choices:
        if text not in option.choices:
            raise UnknownNameError(f"value of {what}", text, option.choices)
        return text
    kind = int if option.whole else float
    try:
        value = kind(text)
    except ValueError:
        named = "a whole number" if option.whole else "a number"
        raise InputError(f"{what} is '{text}'; it must be {named} ({option.text})") from None
    check_range(what, value, option.least, option.most, option.text)
    return value


def check_range(what: str, value: float, least: float, most: float, text: str) -> None:
    """Refuse a number outside [least, most]. Raises InputError with value and limit."""
    if least <= value <= most:  # false for NaN
        return
    limit = most if value > most else least
    word = "at most" if value > most else "at least"
    message = f"{what} is {value:g}; it must be {word} {limit:g} ({text})"
    change: dict[str, Any] = {}
    if value == value and abs(value) != float("inf"):
        change = {"value": value, "needed_change": limit - value}
    raise InputError(message, [Fault(field=what, limit=limit, message=message, **change)])
