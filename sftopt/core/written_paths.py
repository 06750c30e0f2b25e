"""Fields that a dotted path means when its last word is in another unit: ``radio.bandwidth_mhz``.

What people write at the border (``instance set``, ``from-csv --set``, the axes of a sweep) is
turned into paths and SI values here, by the endings of ``unit_suffixes``.
"""

from __future__ import annotations

from typing import Any

from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    Radio,
    Server,
    Training,
    Workload,
)
from sftopt.core.unit_suffixes import Convert, in_si

_HOMES: dict[str, Any] = {
    "": Instance, "server": Server, "radio": Radio, "accuracy": Accuracy, "workload": Workload,
    "training": Training, "compression": Compression, "devices": Device,
    "compression.modes": Mode,
}  # fmt: skip
"""Part of a path before its last dot, without places in lists -> the model it leads to."""
_SHORT = {
    "bandwidth_hz": ("uplink_bandwidth_hz", "downlink_bandwidth_hz"),
    "power_w": ("transmit_power_w",),
    "gain": ("uplink_gain", "downlink_gain"),
}
"""Short words for fields, and for both links together."""


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
    meant = in_si(name, {*fields, *_SHORT})
    if meant is None:
        return [(path, None)]
    found, convert = meant
    names = _SHORT.get(found, (found,))
    return [(f"{holder}.{one}" if holder else one, convert) for one in names]
