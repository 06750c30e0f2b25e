"""Fields that a dotted path means when its last word is in another unit: ``radio.bandwidth_mhz``.

What people write at the border (``instance set``, ``from-csv --set``, the axes of a sweep) is
turned into paths and SI values here, by the endings of ``unit_suffixes``, as is what
``Instance.replace`` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sftopt.core.compression import Compression, Mode
from sftopt.core.errors import InputError
from sftopt.core.sections import (
    Accuracy,
    Device,
    Radio,
    Server,
    Training,
    Workload,
)
from sftopt.core.unit_suffixes import SHORT, Convert, in_si, with_short

_EVERY_DEVICE = "devices[*]."
"""Before a field that is set for every device."""
_HOMES: dict[str, Any] = {
    "server": Server, "radio": Radio, "accuracy": Accuracy, "workload": Workload,
    "training": Training, "compression": Compression, "devices": Device,
    "compression.modes": Mode,
}  # fmt: skip
"""Part of a path before its last dot, without places in lists -> the model it leads to."""


def fields_meant(path: str) -> list[tuple[str, Convert | None]]:
    """Return the fields that ``path`` names, each with the way of a value to SI.

    The way is None for a path that is taken as it is written: a field's own name, and a name that
    nothing is known about, of which the edit then says what is wrong.
    """
    holder, _, name = path.rpartition(".")
    home = _HOMES.get(holder.partition("[")[0])
    fields = frozenset() if home is None else frozenset(home.model_fields)
    if name in fields:
        return [(path, None)]
    meant = in_si(name, with_short(fields))
    if meant is None:
        return [(path, None)]
    found, convert = meant
    names = SHORT.get(found, (found,))
    return [(f"{holder}.{one}" if holder else one, convert) for one in names]


def of_every_device(path: str, devices: int) -> list[str]:
    """Return the paths that one path means in a cell of so many: ``devices[*]`` is all of them."""
    if not path.startswith(_EVERY_DEVICE):
        return [path]
    field = path.removeprefix(_EVERY_DEVICE)
    return [f"devices[{index}].{field}" for index in range(devices)]


def edits_in_si(edits: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``edits`` with the paths and SI values that they mean.

    Raises InputError for a field set twice, and for one in another unit that is no number.
    """
    found: dict[str, Any] = {}
    for path, value in edits.items():
        for meant, convert in fields_meant(path):
            if meant in found:
                raise InputError(f"'{meant}' is set twice")
            found[meant] = value if convert is None else _converted(path, value, convert)
    return found


def _converted(path: str, value: Any, convert: Convert) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{path} is '{value}'; a number is needed")
    return convert(float(value))
