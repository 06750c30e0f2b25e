"""``--json`` of large cells: totals and the devices that bind most, not a line for every one."""

from __future__ import annotations

from typing import Any

MOST_PRINTED = 1_000
"""Devices up to which all of them are printed."""
SHOWN = 100
"""Devices that are printed of more: those with the least room."""


def shortened(data: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with the devices that bind most, where there are more than 1,000.

    Plan and breakdown are then cut to the same devices, ``truncated`` is true and ``devices_total``
    counts all; an answer about fewer devices is returned as it is.
    """
    found = data.get("breakdown")
    times = [] if found is None else found["devices"]
    if len(times) <= MOST_PRINTED:
        return data
    ids = {one["id"] for one in sorted(times, key=_room)[:SHOWN]}
    cut = {name: _only(data[name], ids) for name in ("breakdown", "plan") if data.get(name)}
    return {**data, **cut, "truncated": True, "devices_total": len(times)}


def _room(times: dict[str, Any]) -> tuple[float, float]:
    """What a device has left: of its memory, as a share, and in the barrier that it nears most."""
    memory = times["memory_bytes"] + times["memory_slack_bytes"]
    left = times["memory_slack_bytes"] / memory if memory > 0.0 else 0.0
    return left, min(times["slack_u_s"], times["slack_d_s"])


def _only(part: dict[str, Any], ids: set[str]) -> dict[str, Any]:
    """A plan or a breakdown with these devices alone, and so the breakdown inside a plan."""
    kept: dict[str, Any] = {"devices": [one for one in part["devices"] if one["id"] in ids]}
    inner = part.get("breakdown")
    if inner:
        kept["breakdown"] = _only(inner, ids)
    return {**part, **kept}
