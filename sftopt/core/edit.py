"""Editing a model by dotted paths: ``server.memory_bytes``, ``devices[dev03].batch``.

An entry of a list is named by its position, or by what it is called: a device by its id, a mode by
its label. A name that an entry has goes before a position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

from pydantic import BaseModel

from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.unit_suffixes import people_spelling, spellings, with_short

Location = tuple[int | str, ...]
"""A place in the data of a model: names of fields and positions in lists."""

_STEP = re.compile(r"(?P<name>[^.\[\]]+)(?:\[(?P<key>.*?)\](?=\.|$))?(?:\.(?=.)|$)")
"""One step of a path: a field and, of a list, which entry."""

_SHOWN_CHARACTERS = 60
"""A value is noted in up to so many characters; a longer one by what it is."""
_SHOWN_EDITS = 20
"""Edits of one call that are noted one by one."""
_SHOWN_NAMES = 12
"""Names of entries that a message lists."""


class _Misled(Exception):
    """A path that leads nowhere; the text says where it went wrong."""


def edited(model: BaseModel, edits: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Return the data of ``model`` with ``edits`` made, and a fault for each path that misleads.

    Values are taken as they are; whether they fit the fields is for validation to say.
    """
    data = model.model_dump(mode="json")
    faults: list[Fault] = []
    places: dict[str, Location] = {}
    for path, value in edits.items():
        try:
            place = _place(model, path)
            _refuse_overlap(path, place, places)
        except _Misled as error:
            faults.append(Fault(field=path, message=f"{path}: {error}"))
            continue
        places[path] = place
        holder: Any = data
        for part in place[:-1]:
            holder = holder[part]
        holder[place[-1]] = plain(value)
    return data, faults


def value_at(model: BaseModel, path: str) -> Any:
    """Return the value that stands at ``path``, as plain data. Raises InputError."""
    try:
        place = _place(model, path)
    except _Misled as error:
        raise InputError(f"{path}: {error}", [Fault(field=path, message=str(error))]) from None
    here: Any = model
    for part in place:
        here = here[part] if isinstance(part, int) else getattr(here, part)
    return plain(here)


def note_of(edits: Mapping[str, Any], origin: str) -> str:
    """Return one line that says what was edited: ``edited from HASH: path = value; ...``."""
    parts = [f"{path} = {_shown(plain(value))}" for path, value in edits.items()]
    left_out = len(parts) - _SHOWN_EDITS
    if left_out > 0:
        parts = [*parts[:_SHOWN_EDITS], f"and {left_out} more"]
    return f"edited from {origin}: {'; '.join(parts)}"


def plain(value: Any) -> Any:
    """Return ``value`` as plain data: models, enumerations, tuples and NumPy's values turned."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _place(model: BaseModel, path: str) -> Location:
    """Where ``path`` leads. Raises _Misled."""
    steps = _steps(path)
    if steps[0][0] == "schema_version":
        raise _Misled("is the format's, not a field to edit")
    place: list[int | str] = []
    walked, here = "", model
    for number, (name, key) in enumerate(steps):
        if not isinstance(here, BaseModel):
            raise _Misled(f"'{walked}' has no fields of its own; end the path there")
        if name not in type(here).model_fields:
            raise _Misled(_no_such_field(model, here, name, walked))
        place.append(name)
        walked = f"{walked}.{name}" if walked else name
        here = getattr(here, name)
        if key is not None:
            place.append(_position(here, key, walked))
            here = here[place[-1]]
            walked += f"[{key}]"
        elif isinstance(here, tuple) and number + 1 < len(steps):
            example = f"{walked}[{next(iter(_names(here)), '0')}].{steps[number + 1][0]}"
            raise _Misled(f"'{walked}' is a list; name the entry, as in {example}")
    return tuple(place)


def _steps(path: str) -> list[tuple[str, str | None]]:
    steps, at = [], 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            break
        steps.append((step["name"], step["key"]))
        at = step.end()
    if not steps or at < len(path):
        raise _Misled("is no path; write section.field, or devices[ID].field")
    return steps


def _position(entries: Any, key: str, walked: str) -> int:
    """The position of the entry that ``key`` names. Raises _Misled."""
    if not isinstance(entries, tuple):
        what = "is null; give the whole list" if entries is None else "is no list"
        raise _Misled(f"'{walked}' {what}")
    names = _names(entries)
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(entries):
        return int(key)
    close = get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    listed = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
    known = f"; known: {listed}" if names else ""
    raise _Misled(
        f"'{walked}' has no entry '{key}'{hint}; its positions are 0..{len(entries) - 1}{known}"
    )


def _names(entries: Sequence[Any]) -> list[str]:
    """What the entries of a list are called: ids of devices, labels of modes."""
    found = [getattr(entry, "id", None) or getattr(entry, "label", None) for entry in entries]
    return [name for name in found if isinstance(name, str)]


def _no_such_field(model: BaseModel, here: BaseModel, name: str, walked: str) -> str:
    """What to say of a field that is not there: the nearest here, or where that name is."""
    near = _nearest(name, list(type(here).model_fields))
    places = [path.rpartition(".") for path in _paths(model)]
    elsewhere = _so_called(places, name)
    if near is None and not elsewhere:
        known = dict.fromkeys(leaf for _, _, leaf in places)
        meant = _nearest(name, list(known))
        elsewhere = [] if meant is None else _so_called(places, meant)
    where = f"'{walked}'" if walked else "the instance"
    hints = [f"{walked}.{near}" if walked else near] if near is not None else elsewhere[:3]
    hint = f"; did you mean {' or '.join(map(repr, hints))}?" if hints else ""
    return f"there is no field '{name}' in {where}{hint}"


def _nearest(name: str, fields: Sequence[str]) -> str | None:
    """The spelling nearest to ``name`` of a field, in any unit; None where nothing is near.

    A word that a field begins with stands for it, in the unit in which people write it.
    """
    begun = sorted((field for field in fields if field.startswith(f"{name}_")), key=len)
    if begun:
        return people_spelling(begun[0])
    known = [spelled for field in with_short(fields) for spelled in spellings(field)]
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.6)), None)


def _so_called(places: Sequence[tuple[str, str, str]], name: str) -> list[str]:
    """Paths under which ``name`` is a field, in any unit, or a short word for some."""
    fields: dict[str, list[str]] = {}
    for holder, _, leaf in places:
        fields.setdefault(holder, []).append(leaf)
    return [
        f"{holder}.{name}" if holder else name
        for holder, leaves in fields.items()
        if any(name in spellings(field) for field in with_short(leaves))
    ]


def _paths(model: BaseModel) -> list[str]:
    """Every path to a field of the model and its sections; of lists, by the first entry's name."""
    found = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        found.append(name)
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            label = next(iter(_names(value)), "0")
            found += [f"{name}[{label}].{inner}" for inner in _paths(value[0])]
        elif isinstance(value, BaseModel):
            found += [f"{name}.{inner}" for inner in _paths(value)]
    return found


def _refuse_overlap(path: str, place: Location, places: Mapping[str, Location]) -> None:
    for other, known in places.items():
        short = min(len(place), len(known))
        if place[:short] == known[:short]:
            raise _Misled(f"overlaps with '{other}'; give one of the two")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        count = f"[{len(value)} entries]"
    elif isinstance(value, dict):
        count = f"{{{len(value)} fields}}"
    else:
        count = ""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return count or text[: _SHOWN_CHARACTERS - 3] + "..."
