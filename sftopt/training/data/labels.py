"""Labels as people write them (texts, numbers, true and false) to class numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftopt.core.errors import InputError

_MOST_CLASSES = 100_000
"""Labels beyond are refused: a model would get a head of as many classes."""
_FEW_ROWS = 20
"""With so many rows some class occurs twice."""
_SHOWN = 60
"""Most characters of a value in a message."""

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""A text that is a whole number and nothing else: 01 is a name."""

Where = Callable[[int], str]
"""Names a row for a message."""


@dataclass(frozen=True)
class Classes:
    """The classes of a task, by number."""

    names: tuple[str, ...]
    numbers: Mapping[Any, int]
    """By the value that stands in the data."""


def checked_label(value: Any, where: str) -> Any:
    """Return a label as text, whole number or bool. Raises InputError for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with gaps make 1.0 of 1
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int):
        return value
    told = "no label" if value is None or value == "" else f"label {str(value)[:_SHOWN]!r}"
    if isinstance(value, float):
        told += " (a number between classes; regression is not offered)"
    raise InputError(f"{where}: {told}; every row needs a text, a whole number, true or false.")


def whole_numbers(values: Sequence[Any]) -> list[Any]:
    """Return texts that are all whole numbers as such: cells of CSV are all texts."""
    if all(isinstance(value, str) and _WHOLE.fullmatch(value) for value in values):
        return [int(value) for value in values]
    return list(values)


def classes_of(
    parts: Mapping[str, tuple[Sequence[Any], Where]],
    told: Sequence[str] | None,
    model_names: Sequence[str] | None,
    data: str,
) -> Classes:
    """Return the classes of the labels of all parts, numbered from 0.

    ``told`` are names that the data has for numbers from 0 on; ``model_names`` those of a model
    that was trained on these classes before: where they fit, the model's numbers are kept. Else
    classes are the values that occur, sorted. Raises InputError for less than two in training.
    """
    kinds: dict[type, str] = {}
    for values, where in parts.values():
        for row, value in enumerate(values):
            kinds.setdefault(type(value), where(row)) if type(value) not in kinds else None
    if len(kinds) > 1:
        both = " and ".join(f"{kind.__name__} ({place})" for kind, place in list(kinds.items())[:2])
        raise InputError(f"data '{data}' has labels of different types: {both}; write one type.")
    seen = sorted({value for values, _ in parts.values() for value in values})
    if len(set(parts["train"][0])) < 2:
        only = f"only one class, {_short(seen[0])}" if seen else "no labels"
        raise InputError(
            f"data '{data}': {only} in the training part; a classifier needs two or more."
        )
    trained = parts["train"][0]
    if len(trained) > _FEW_ROWS and len(set(trained)) == len(trained):
        raise InputError(
            f"data '{data}': every training row has a label of its own, such as "
            f"{_short(trained[0])}; these are no classes. Say with --columns what is learnt."
        )
    if -1 in seen and -1 not in trained and _is_number(seen[0]):
        raise InputError(
            f"data '{data}': labels of a held-out part are -1, which no training row has (they are "
            "hidden); give a part with its labels."
        )
    if len(seen) > _MOST_CLASSES:
        raise InputError(f"data '{data}' has {len(seen)} classes; {_MOST_CLASSES} at most.")
    names = _named(seen, told, data, parts) or _named_by_model(seen, model_names)
    if names is not None:
        by_name = {name: number for number, name in enumerate(names)}
        return Classes(
            tuple(names),
            {value: value if _is_number(value) else by_name[value] for value in seen},
        )
    return Classes(tuple(str(value) for value in seen), {v: n for n, v in enumerate(seen)})


def _named(
    seen: Sequence[Any],
    told: Sequence[str] | None,
    data: str,
    parts: Mapping[str, tuple[Sequence[Any], Where]],
) -> Sequence[str] | None:
    """The data's own names, where its labels are their numbers."""
    if told is None or not all(_is_number(value) for value in seen):
        return None
    odd = [value for value in seen if not 0 <= value < len(told)]
    if odd:
        place = next(
            where(row) for values, where in parts.values()
            for row, value in enumerate(values) if value == odd[0]
        )  # fmt: skip
        hidden = " (the labels of this part are hidden)" if odd[0] == -1 else ""
        raise InputError(
            f"{place}: label {odd[0]}{hidden}; data '{data}' names {len(told)} classes, numbered "
            "from 0."
        )
    return told


def _named_by_model(seen: Sequence[Any], model_names: Sequence[str] | None) -> Sequence[str] | None:
    if model_names is None:
        return None
    known = all(
        0 <= value < len(model_names) if _is_number(value) else value in model_names
        for value in seen
    )
    return model_names if known and not any(isinstance(v, bool) for v in seen) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:_SHOWN]
