"""What a sweep varies: fields by dotted path, or the number of devices, each over some values.

An axis is asked for as ``PATH=VALUES``. VALUES are a list, ``4,10,30``, or a range,
``5e6:100e6:8log`` (``8lin``). Several paths that take the same value are joined by ``+``;
``devices[*]`` means every device; ``scale:PATH`` multiplies what the cell has. ``devices`` alone is
the number of devices. Values are in SI, or in the unit that the path's last word names
(``radio.bandwidth_mhz=5:80:5log``), and stand so in rows and figures.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from sftopt.core.edit import value_at
from sftopt.core.errors import InputError
from sftopt.core.fields import Reported
from sftopt.core.instance import Instance
from sftopt.core.unit_suffixes import Convert
from sftopt.core.written_paths import fields_meant, of_every_device

DEVICES = "devices"
"""The axis that is no field: N."""
SCALE = "scale:"
"""Before paths whose values are multiplied."""
MOST_VALUES = 1_000
"""Values of one axis."""

_RANGE = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+):(?P<count>\d+)(?P<law>lin|log)")
"""LOW:HIGH:COUNTlog or LOW:HIGH:COUNTlin."""

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Axis:
    """One thing that is varied: what users call it, its paths, its values."""

    name: str
    paths: tuple[str, ...]
    values: tuple[Value, ...]
    scales: bool = False

    @property
    def counts_devices(self) -> bool:
        """Tell whether the axis is the number of devices, for which cells are drawn anew."""
        return self.paths == (DEVICES,)

    def edits(self, instance: Instance, value: Value) -> dict[str, Any]:
        """Return what :meth:`Instance.replace` needs to set the axis to ``value``.

        Raises InputError for a path that leads nowhere and for a text that is to be multiplied.
        """
        found: dict[str, Any] = {}
        for path, convert in self._paths_of(instance):
            now = value_at(instance, path)
            new: Any = value
            if self.scales:
                if not (is_number(now) and is_number(value)):
                    raise InputError(f"{SCALE}{path}: there is no number to multiply, but {now!r}")
                if convert is not None and convert(2.0) != 2.0 * convert(1.0):
                    raise InputError(f"{self.name}: decibels are not multiplied; write {path}")
                new = now * value
            elif convert is not None and is_number(value):
                new = convert(value)
            if isinstance(now, int) and not isinstance(now, bool) and isinstance(new, float):
                if not self.scales and not new.is_integer():
                    raise InputError(
                        f"{self.name} is {value:g}; {path} takes whole numbers: list them, as in "
                        f"{self.name}={math.floor(new)},{math.ceil(new)}"
                    )
                new = round(new)
            elif isinstance(now, float) and is_number(new):
                new = float(new)
            found[path] = new
        return found

    def _paths_of(self, instance: Instance) -> list[tuple[str, Convert | None]]:
        """Paths of fields, each with the way of a value to SI where it is in another unit."""
        return [
            found
            for path in self.paths
            for one in of_every_device(path, len(instance.devices))
            for found in fields_meant(one)
        ]


class AxisNote(Reported):
    """One axis of a sweep as the summary has it."""

    name: str
    values: tuple[Value, ...]


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether ``value`` is a number of some unit, which can be drawn on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def axis_of(text: str) -> Axis:
    """Return the axis that ``PATH=VALUES`` asks for. Raises InputError naming what is wrong."""
    name, equals, values = text.partition("=")
    if not equals or not name.strip() or not values.strip():
        raise InputError(
            f"--vary '{text}': write PATH=VALUES, as in radio.bandwidth_mhz=5:100:8log "
            "or devices=4,10,30"
        )
    return made_axis(name.strip(), _values(name.strip(), values.strip()))


def axes_of(vary: Mapping[str, Sequence[Value] | str]) -> tuple[Axis, ...]:
    """Return the axes of ``{path: values}``; values as a sequence or as :func:`axis_of` has them.

    Raises InputError naming what is wrong.
    """
    if not vary:
        raise InputError("nothing is varied: name at least one field and its values")
    found = []
    for name, values in vary.items():
        given = _values(name, values) if isinstance(values, str) else tuple(values)
        found.append(made_axis(name, given))
    paths = [field for axis in found for path in axis.paths for field, _ in fields_meant(path)]
    doubled = sorted({path for path in paths if paths.count(path) > 1})
    if doubled:
        raise InputError(f"'{doubled[0]}' is varied twice; give one axis for it")
    return tuple(found)


def made_axis(name: str, values: Sequence[Value]) -> Axis:
    """Return an axis over ``values``, checked. Raises InputError naming value and limit."""
    scales = name.startswith(SCALE)
    paths = tuple(part.strip() for part in name.removeprefix(SCALE).split("+"))
    if not values or len(values) > MOST_VALUES:
        raise InputError(f"{name} has {len(values)} values; 1 to {MOST_VALUES:,} are taken")
    if len(set(map(repr, values))) < len(values):
        raise InputError(f"{name} has a value twice")
    if DEVICES in paths and (len(paths) > 1 or scales):
        raise InputError(f"{name}: the number of devices stands alone; write devices=4,10,30")
    counts = paths == (DEVICES,)
    for value in values:
        if counts and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            raise InputError(f"devices is {value!r}; numbers of devices are whole, from 1 on")
        if scales and not (is_number(value) and math.isfinite(float(value or 0.0))):
            raise InputError(f"{name} is {value!r}; a number to multiply by is needed")
    return Axis(name, paths, tuple(values), scales)


def _values(name: str, text: str) -> tuple[Value, ...]:
    asked = _RANGE.fullmatch(text)
    if asked is None:
        if ":" in text:
            raise InputError(
                f"{name}={text}: a range is LOW:HIGH:COUNTlog or LOW:HIGH:COUNTlin, "
                "as in 5e6:100e6:8log"
            )
        listed = tuple(_value(part.strip()) for part in text.split(","))
        return tuple(map(_whole, listed)) if name == DEVICES else listed
    low, high = _number(name, asked["low"]), _number(name, asked["high"])
    count = int(asked["count"])
    if not 2 <= count <= MOST_VALUES:
        raise InputError(f"{name}: a range of {count} values; 2 to {MOST_VALUES:,} are taken")
    if low >= high:
        raise InputError(f"{name}: the range {text} does not rise; write the lower end first")
    if asked["law"] == "lin":
        spread = np.linspace(low, high, count)
    elif low <= 0.0:
        raise InputError(f"{name}: a log range begins at {low:g}; it must begin above 0")
    else:
        spread = np.geomspace(low, high, count)
    values = [float(f"{value:.6g}") for value in spread]
    if name == DEVICES:
        return tuple(dict.fromkeys(round(value) for value in values))
    return tuple(values)


def _whole(value: Value) -> Value:
    """A number of devices typed as 1e3 is 1000."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name}: '{text}' is no number")
    return value


def _value(text: str) -> Value:
    """A number, true, false or null as JSON has them; else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) else text
    return value if value is None or isinstance(value, int | float | bool | str) else text
