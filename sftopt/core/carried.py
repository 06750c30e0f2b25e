"""What moves along with a speed that people set: its range and the coefficient of its energy.

A server of 40 TFLOP/s in place of one of 3.7 is another machine: the range that schemes with a
server speed of their own choose from moves with it, and its coefficient is such that it draws the
power that it drew before, kappa f^3. So is a device's. Only a fresh speed without words about the
rest is meant so: a range or coefficient set beside it stands as set, and ``Instance.replace`` does
what it is told and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sftopt.core.edit import value_at
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.written_paths import edits_in_si, of_every_device

_SPEED = "compute_flops_per_s"
"""The field that others follow, of the server and of each device."""
_RANGE = ("compute_min_flops_per_s", "compute_max_flops_per_s")
"""Of the server."""
_COEFFICIENT = "energy_coefficient_j_s2_per_flop3"
"""kappa: a FLOP at speed f costs kappa f^2 joules."""


def set_in_si(instance: Instance, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is set as people write it, in paths of fields and SI values.

    ``devices[*]`` is every device. Raises InputError for a field set twice, and for one in another
    unit that is no number.
    """
    typed: dict[str, Any] = {}
    for key, value in written.items():
        for path in of_every_device(key, len(instance.devices)):
            if path in typed:
                raise InputError(f"'{path}' is set twice")
            typed[path] = value
    return edits_in_si(typed)


def carried(instance: Instance, edits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the edits that follow from the speeds in ``edits``: paths and values in SI.

    The server's range moves by the same factor, coefficients of energy by its third power down.
    """
    found: dict[str, Any] = {}
    for path, speed in edits.items():
        holder, _, name = path.rpartition(".")
        if name != _SPEED or not _is_positive(speed):
            continue
        for field, value in _following(instance, holder, float(speed)):
            if field not in edits:
                found[field] = value
    return found


def carried_note(found: Mapping[str, Any]) -> str | None:
    """Return one sentence that says what :func:`carried` moved; None where nothing did."""
    names = sorted({path.rpartition(".")[2] for path in found})
    if not names:
        return None
    listed = ", ".join(names)
    return f"moved with compute_flops_per_s: {listed} (the same power at the new speed)"


def _following(instance: Instance, holder: str, speed: float) -> Iterator[tuple[str, float]]:
    try:
        before = value_at(instance, f"{holder}.{_SPEED}")
        kappa = value_at(instance, f"{holder}.{_COEFFICIENT}")
    except InputError:
        return  # a path that leads nowhere, or a workload's field: the edit itself says so
    factor = speed / before
    if factor == 1.0:
        return
    if kappa:
        yield f"{holder}.{_COEFFICIENT}", kappa / factor**3
    if holder == "server":
        for name in _RANGE:
            end = value_at(instance, f"{holder}.{name}")
            if end is not None:
                yield f"{holder}.{name}", end * factor


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
