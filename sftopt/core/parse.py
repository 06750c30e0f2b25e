"""From JSON data to a model, with every fault of the data named at once in the user's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sftopt.core.compression import LOSS_TAGS
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.fields import is_version
from sftopt.core.files import READ_VERSIONS, SCHEMA_VERSION
from sftopt.core.instance import Instance

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 12
"""Faults spelled out in the exception's text; all of them are in ``faults``."""


def parse_model(model: type[Model], data: dict[str, Any], what: str) -> Model:
    """Return ``data`` as a ``model``; files of schema version 1 are upgraded.

    Raises InputError listing every fault; ``what`` names the source.
    """
    check_version(data, what)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise input_error(what, _field_faults(model, data, error)) from None


def check_version(data: dict[str, Any], what: str) -> None:
    """Refuse data of a schema version that is not read. Raises InputError."""
    version = data.get("schema_version", SCHEMA_VERSION)
    if not any(is_version(version, known) for known in READ_VERSIONS):
        raise InputError(
            f"{what}: schema_version is {version!r}; this sftopt reads versions "
            f"{' and '.join(map(str, READ_VERSIONS))}. Use the sftopt that wrote the file, or "
            f"bring it to version {SCHEMA_VERSION} ('sftopt schema' prints the schemas)."
        )


def parse_instance(data: dict[str, Any], what: str = "instance") -> Instance:
    """Return an instance from JSON data, types, ranges and cross-references checked.

    Raises InputError listing every fault.
    """
    check_version(data, what)
    try:
        instance = Instance.model_validate(data)
    except ValidationError as error:
        faults = _field_faults(Instance, data, error)
        raise input_error(what, [*faults, *_references_of_the_rest(data, error)]) from None
    faults = list(reference_faults(instance))
    if faults:
        raise input_error(what, faults)
    return instance


def _references_of_the_rest(data: dict[str, Any], error: ValidationError) -> Iterable[Fault]:
    """Yield faults between fields that can be told although single fields are faulty.

    A faulty field is left out, so that its default holds, and a faulty mode gives way to one that
    nothing refers to. Where that gives no instance (a needed field is missing, a device is no
    device) nothing is said.
    """
    rest = deepcopy(data)
    for item in error.errors():
        location = _plain_location(item["loc"])
        try:
            if len(location) == 3 and location[:2] == ("compression", "modes"):
                index = int(location[2])
                rest["compression"]["modes"][index] = {"bits": 1, "name": f"(faulty) {index}"}
                continue
            while isinstance(location[-1], int):  # an entry of a list: the whole list
                location = location[:-1]
            holder: Any = rest
            for part in location[:-1]:
                holder = holder[part]
            holder.pop(location[-1], None)
        except (KeyError, IndexError, TypeError, AttributeError):
            return []
    try:
        return list(reference_faults(Instance.model_validate(rest)))
    except ValidationError:
        return []


def input_error(what: str, faults: list[Fault]) -> InputError:
    """Make one InputError of all ``faults`` found in ``what``."""
    shown = "\n".join(f"  - {fault}" for fault in faults[:_SHOWN])
    rest = len(faults) - _SHOWN
    more = f"\n  ... and {rest} more (--json lists all)" if rest > 0 else ""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return InputError(f"{what}: {count}\n{shown}{more}", faults)


def reference_faults(instance: Instance) -> Iterable[Fault]:
    """Yield the faults between fields that no single field's type can show."""
    counts = Counter(device.id for device in instance.devices)
    for name, times in counts.items():
        if times > 1:
            yield Fault(field="devices.id", device=name, value=times, limit=1, unit="uses",
                        message=f"devices: the id '{name}' is used {times} times; "
                        "ids must be unique")  # fmt: skip
    total = sum(device.weight for device in instance.devices)
    if abs(total - 1.0) > 1e-6:
        yield Fault(field="devices.weight", value=total, limit=1.0, unit="1",
                    needed_change=1.0 - total,
                    message=f"devices: the weights sum to {total:.9g}; they must sum to 1 "
                    "(divide each by the sum)")  # fmt: skip
    last = instance.workload.blocks - 1
    for device in instance.devices:
        if device.blocks_min > last:
            yield Fault(field="blocks_min", device=device.id, value=device.blocks_min, limit=last,
                        unit="blocks", needed_change=last - device.blocks_min,
                        message=f"device {device.id}: blocks_min is {device.blocks_min}, but a "
                        f"device holds at most L-1 = {last} of {last + 1} blocks")  # fmt: skip
        if device.blocks_max is not None and device.blocks_max < device.blocks_min:
            yield Fault(field="blocks_max", device=device.id, value=device.blocks_max,
                        limit=device.blocks_min, unit="blocks",
                        needed_change=device.blocks_min - device.blocks_max,
                        message=f"device {device.id}: blocks_max is {device.blocks_max}, below its "
                        f"blocks_min of {device.blocks_min}; raise the one or lower the "
                        "other")  # fmt: skip
    factors = instance.accuracy.cut_factor
    if factors is not None and len(factors) != instance.workload.blocks:
        yield Fault(field="accuracy.cut_factor", value=len(factors), limit=instance.workload.blocks,
                    unit="entries",
                    message=f"accuracy.cut_factor has {len(factors)} entries; one for each of "
                    f"0..{last} blocks on the device is needed ({last + 1})")  # fmt: skip
    yield from _mode_reference_faults(instance)
    low, high = instance.compression.keep_min, instance.compression.keep_max
    if low is not None and low > high:
        yield Fault(field="compression.keep_min", value=low, limit=high, unit="fraction",
                    needed_change=high - low,
                    message=f"compression: keep_min {low} is above keep_max {high}")  # fmt: skip
    low_hz, high_hz = (
        instance.server.compute_min_flops_per_s,
        instance.server.compute_max_flops_per_s,
    )
    if low_hz is not None and high_hz is not None and low_hz > high_hz:
        yield Fault(field="server.compute_min_flops_per_s", value=low_hz, limit=high_hz,
                    unit="FLOP/s", needed_change=high_hz - low_hz,
                    message=f"server: compute_min_flops_per_s {low_hz:g} is above "
                    f"compute_max_flops_per_s {high_hz:g}")  # fmt: skip


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


def _mode_reference_faults(instance: Instance) -> Iterable[Fault]:
    """Yield faults between modes, and between a mode and the workload."""
    work = instance.workload
    labels = Counter(mode.label for mode in instance.compression.modes)
    for label, times in labels.items():
        if times > 1:
            yield Fault(field="compression.modes", value=label, limit=1, unit="uses",
                        message=f"compression.modes: '{label}' is listed {times} times; a plan "
                        "could not tell them apart (give each a name of its own)")  # fmt: skip
    for index, mode in enumerate(instance.compression.modes):
        path = f"compression.modes[{index}]"
        if mode.tokens is not None and mode.tokens >= work.tokens:
            yield Fault(field=f"{path}.tokens", value=mode.tokens, limit=work.tokens - 1,
                        unit="tokens", needed_change=work.tokens - 1 - mode.tokens,
                        message=f"{path}.tokens is {mode.tokens}; at most S-1 = {work.tokens - 1} "
                        f"of the workload's {work.tokens} tokens can be sent, or use kind "
                        "dense")  # fmt: skip
        if isinstance(mode.loss, tuple) and len(mode.loss) != work.blocks:
            yield Fault(field=f"{path}.loss", value=len(mode.loss), limit=work.blocks,
                        unit="entries",
                        message=f"{path}.loss has {len(mode.loss)} entries; one number, or one for "
                        f"each of 0..{work.blocks - 1} blocks on the device is needed "
                        f"({work.blocks})")  # fmt: skip


def _field_faults(model: type[BaseModel], data: Any, error: ValidationError) -> list[Fault]:
    """Return every fault of single fields that pydantic found."""
    items: list[dict[str, Any]] = [
        {**item, "loc": _plain_location(item["loc"])} for item in error.errors()
    ]
    # pydantic also calls a list too short when none of its entries is valid: not news
    inner = {item["loc"][:1] for item in items if len(item["loc"]) > 1}
    told = [i for i in items if not (i["type"] == "too_short" and i["loc"] in inner)]
    return [_fault(model, data, item) for item in told]


def _plain_location(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A place in the data without the marks that say which form of a field was tried."""
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
        close = get_close_matches(name, _field_names(model), n=1, cutoff=0.6)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        text = f"{where}: there is no such field{hint}; remove it or correct the name"
    elif kind == "missing":
        text = f"{where}: is missing and has no default" + (f" (unit: {unit})" if unit else "")
    elif limit is not None:
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        rule = next(words[key] for key in ("gt", "ge", "lt", "le") if key in context)
        suffix = f" {unit}" if unit else ""
        text = f"{where}: is {shown}{suffix}; it must be {rule} {limit}{suffix}"
    elif kind == "finite_number":
        text = f"{where}: is {shown}; it must be a finite number"
    else:
        said = str(item["msg"]).removeprefix("Value error, ")
        whole = isinstance(value, dict)  # of a whole entry the message names the field
        text = f"{where}: {said}" if whole else f"{where}: is {shown}; {said}"
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return Fault(
        field=path,
        device=device,
        value=number if number is not None and abs(number) < float("inf") else shown,
        limit=limit if isinstance(limit, (int, float)) else None,
        unit=unit,
        message=text,
    )


def _path(location: tuple[Any, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _show(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 60 else text[:57] + "..."


def _device_at(data: Any, location: tuple[Any, ...]) -> str | None:
    if len(location) < 2 or location[0] != "devices" or not isinstance(location[1], int):
        return None
    try:
        found = data["devices"][location[1]]["id"]
    except (KeyError, IndexError, TypeError):
        return f"#{location[1]}"
    return str(found)


def _field_names(model: type[BaseModel]) -> list[str]:
    """All field names of a model and the models inside it."""
    schema = model.model_json_schema()
    names = set(schema.get("properties", {}))
    for part in schema.get("$defs", {}).values():
        names.update(part.get("properties", {}))
    return sorted(names)
