"""From JSON data to a model, with every fault of the data named at once in the user's words."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sftopt.core.compression import LOSS_TAGS
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.fields import LARGEST, SMALLEST, is_version
from sftopt.core.file_kinds import refuse_another_kind
from sftopt.core.version import READ_VERSIONS, SCHEMA_VERSION

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 12
"""Faults spelled out in the exception's text; all of them are in ``faults``."""


_SHOWN_CHARACTERS = 60
"""A faulty value is shown in up to so many characters."""
_WHOLE_TOO_LARGE = 10**300
"""Whole numbers from here on are described, not shown: as floats they overflow."""


def parse_model(model: type[Model], data: dict[str, Any], what: str) -> Model:
    """Return ``data`` as a ``model``; files of schema version 1 are upgraded.

    Raises InputError listing every fault; ``what`` names the source.
    """
    refuse_another_kind(model.__name__.lower(), data, what)
    check_version(data, what)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise input_error(what, field_faults(model, data, error)) from None


def check_version(data: dict[str, Any], what: str) -> None:
    """Refuse data of a schema version that is not read. Raises InputError."""
    version = data.get("schema_version", SCHEMA_VERSION)
    if not any(is_version(version, known) for known in READ_VERSIONS):
        raise InputError(
            f"{what}: schema_version is {_show(version)}; this sftopt reads versions "
            f"{' and '.join(map(str, READ_VERSIONS))}. Use the sftopt that wrote the file, or "
            f"bring it to version {SCHEMA_VERSION} ('sftopt schema' prints the schemas)."
        )


def input_error(what: str, faults: list[Fault]) -> InputError:
    """Make one InputError of all ``faults`` found in ``what``."""
    shown = "\n".join(f"  - {fault}" for fault in faults[:_SHOWN])
    rest = len(faults) - _SHOWN
    more = f"\n  ... and {rest} more (--json lists all)" if rest > 0 else ""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return InputError(f"{what}: {count}\n{shown}{more}", faults)


_UNIT_SUFFIXES = (
    ("_flops_per_s", "FLOP/s"),
    ("_bits_per_s_hz", "bit/s/Hz"),
    ("_bits_per_s", "bit/s"),
    ("_j_s2_per_flop3", "J s^2/FLOP^3"),
    ("_w_per_hz", "W/Hz"),
    ("_s_per_element", "s"),
    ("_flops", "FLOP"),
    ("_bytes", "bytes"),
    ("_bits", "bits"),
    ("_hz", "Hz"),
    ("_w", "W"),
    ("_s", "s"),
)
"""Ends of fields' names and the units they mean; a longer end stands before its own end."""


def unit_of(field: str) -> str:
    """Return the unit a field's suffix names; empty for pure numbers."""
    for suffix, unit in _UNIT_SUFFIXES:
        if field.endswith(suffix):
            return unit
    return ""


def field_faults(model: type[BaseModel], data: Any, error: ValidationError) -> list[Fault]:
    """Return every fault of single fields that pydantic found."""
    items: list[dict[str, Any]] = [
        {**item, "loc": plain_location(item["loc"])} for item in error.errors()
    ]
    # pydantic also calls a list too short when none of its entries is valid: not news
    inner = {item["loc"][:1] for item in items if len(item["loc"]) > 1}
    told = [i for i in items if not (i["type"] == "too_short" and i["loc"] in inner)]
    return [_fault(model, data, item) for item in told]


def plain_location(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return a place in the data (names of fields, index of entries) without marks of a form."""
    return tuple(part for part in location if part not in LOSS_TAGS)


def _fault(model: type[BaseModel], data: Any, item: Any) -> Fault:
    location = tuple(part for part in item["loc"])
    device = _device_at(data, location)
    path = _path(location)
    name = str(location[-1]) if location else ""
    where = f"device {device}: {_path(location[2:])}" if device is not None else path
    unit = unit_of(name)
    kind, context = item["type"], item.get("ctx", {})
    value = item.get("input")
    shown = _show(value)
    limit = next((context[key] for key in ("gt", "ge", "lt", "le") if key in context), None)
    if kind == "extra_forbidden":
        others = [known for known in _field_names(model) if known != name]
        close = get_close_matches(name, others, n=1, cutoff=0.6)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        text = f"{where}: there is no such field{hint}; remove it or correct the name"
    elif kind == "missing":
        text = f"{where}: is missing and has no default" + (f" (unit: {unit})" if unit else "")
    elif isinstance(value, int) and abs(value) >= _WHOLE_TOO_LARGE:
        text = f"{where}: is a whole number of more than 300 digits; it must be at most {LARGEST:g}"
    elif limit is not None:
        if limit == SMALLEST and isinstance(value, int | float) and value <= 0:
            limit, context = 0.0, {"gt": 0.0}
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        rule = next(words[key] for key in ("gt", "ge", "lt", "le") if key in context)
        suffix = f" {unit}" if unit else ""
        text = f"{where}: is {shown}{suffix}; it must be {rule} {limit}{suffix}"
        text += _slip(name, value, limit)
    elif kind == "finite_number":
        text = f"{where}: is {shown}; it must be a finite number"
    else:
        said = _plainly(kind, context, str(item["msg"]).removeprefix("Value error, "))
        whole = isinstance(value, dict)  # of a whole entry the message names the field
        text = f"{where}: {said}" if whole else f"{where}: is {shown}; {said}"
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return Fault(
        field=path,
        device=device,
        value=number if number is not None and abs(number) < _WHOLE_TOO_LARGE else shown,
        limit=limit if isinstance(limit, (int, float)) else None,
        unit=unit,
        message=text,
    )


_NEEDED = {
    "int_type": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_type": "a number is needed",
    "bool_type": "true or false is needed",
    "string_type": "text is needed",
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "dict_type": "an object is needed",
    "model_type": "an object is needed",
}
"""What a field takes, by pydantic's name of the fault."""


def _plainly(kind: str, context: dict[str, Any], said: str) -> str:
    """Pydantic's sentence without words of Python."""
    if kind == "too_short":
        least = context.get("min_length", 1)
        return f"at least {least} {'entry is' if least == 1 else 'entries are'} needed"
    if kind == "too_long":
        return f"at most {context.get('max_length')} entries are taken"
    return _NEEDED.get(kind, said)


def _slip(name: str, value: Any, limit: float) -> str:
    """What a number out of its range was likely given in: dB, dBm, dBm/Hz or per cent."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if limit == 1 and 1 < value <= 100:
        return f" (was it given in per cent? {value / 100:g})"
    if limit != 0 or not -300 < value < 0:
        return ""
    if name.endswith("_gain"):
        return f" (was it given in dB? gains are linear: {10.0 ** (value / 10.0):.4g})"
    if name.endswith("_w_per_hz"):
        return f" (was it given in dBm/Hz? {10.0 ** (value / 10.0 - 3.0):.4g} W/Hz)"
    if name.endswith("_w"):
        return f" (was it given in dBm? {10.0 ** (value / 10.0 - 3.0):.4g} W)"
    return ""


def _path(location: tuple[Any, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _show(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= _WHOLE_TOO_LARGE:
        return "a whole number of more than 300 digits"
    try:
        text = repr(value) if not isinstance(value, str) else f"'{value[:_SHOWN_CHARACTERS]}'"
    except ValueError:  # Python spells no whole number of more than 4300 digits
        return f"a {type(value).__name__} with a whole number of too many digits"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _device_at(data: Any, location: tuple[Any, ...]) -> str | None:
    if len(location) < 2 or location[0] != "devices" or not isinstance(location[1], int):
        return None
    try:
        found = data["devices"][location[1]]["id"]
    except (KeyError, IndexError, TypeError):
        return f"#{location[1]}"
    name = found if isinstance(found, str) else _show(found)
    return name if len(name) <= 2 * _SHOWN_CHARACTERS else f"#{location[1]}"


def _field_names(model: type[BaseModel]) -> list[str]:
    """All field names of a model and the models inside it."""
    schema = model.model_json_schema()
    names = set(schema.get("properties", {}))
    for part in schema.get("$defs", {}).values():
        names.update(part.get("properties", {}))
    return sorted(names)
