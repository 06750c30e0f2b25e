"""The hash of an instance: sha256 of the canonical JSON of what differs from the defaults.

``defaults_v2.json`` holds the defaults of schema version 2, frozen with it: a default that is
changed later changes no hash. ``formulations/MODEL.md`` says how to recompute a hash from a file.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from sftopt.core.files import canonical_json

DEFAULTS_FILE = Path(__file__).with_name("defaults_v2.json")
"""Frozen with schema version 2: ``ignored`` paths, and ``defaults`` by path; null ones left out."""

ADDED_IN_2: Final = frozenset(
    {
        "compression.modes[].codec_seconds_factor",
        "compression.modes[].gradient_bits",
        "compression.modes[].loss",
        "compression.modes[].name",
        "compression.modes[].tokens",
        "devices[].blocks_max",
        "devices[].position_m",
        "workload.adapted_matrices",
        "workload.element_bytes",
        "workload.head_bytes",
        "workload.head_parameters",
        "workload.head_size",
        "workload.heads",
        "workload.is_decoder",
        "workload.key_value_heads",
        "workload.sample_head_bytes",
        "workload.side_bits",
    }
)
"""Paths of an instance that schema version 1 does not have."""

_EXACT = 2**53
"""Whole numbers below it are written as integers, however they were spelled."""


def instance_hash(data: dict[str, Any]) -> str:
    """Return the hash of an instance's JSON data under schema version 2, in hexadecimal."""
    return _sha256(_reduced(data, ""))


def instance_hash_v1(data: dict[str, Any]) -> str | None:
    """Return the hash version 1 gave, from data with every field written out.

    It covers all fields of version 1, name, source and defaults included. None where a field that
    version 1 does not have holds anything but its default.
    """
    found, added = _split_v1(data, "")
    return None if added else _sha256({**found, "schema_version": 1})


def _sha256(data: Any) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


@cache
def _table() -> tuple[frozenset[str], dict[str, Any]]:
    """Ignored paths, and defaults by path in reduced form."""
    data = json.loads(DEFAULTS_FILE.read_text(encoding="utf-8"))
    ignored = frozenset(data["ignored"])
    inner = {path: _plain(value) for path, value in data["defaults"].items()}
    return ignored, {path: _kept(value, path, ignored, inner) for path, value in inner.items()}


def _reduced(value: Any, path: str) -> Any:
    ignored, defaults = _table()
    return _kept(value, path, ignored, defaults)


def _kept(value: Any, path: str, ignored: frozenset[str], defaults: dict[str, Any]) -> Any:
    """``value`` without what is ignored, null, empty or a default."""
    if isinstance(value, dict):
        found = {}
        for key, entry in value.items():
            inner = f"{path}.{key}" if path else key
            if entry is None or inner in ignored:
                continue
            kept = _kept(entry, inner, ignored, defaults)
            if kept != {} and not (inner in defaults and kept == defaults[inner]):
                found[key] = kept
        return found
    if isinstance(value, list | tuple):
        return [_kept(entry, f"{path}[]", ignored, defaults) for entry in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    """A number in its one spelling: 1 for 1.0 and 1e0; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _split_v1(value: Any, path: str) -> tuple[Any, bool]:
    """Data without the fields that came later, and whether one of them was in use."""
    defaults = _table()[1]
    if isinstance(value, dict):
        found, used = {}, False
        for key, entry in value.items():
            inner = f"{path}.{key}" if path else key
            if inner in ADDED_IN_2:
                used |= entry is not None and _plain(entry) != defaults.get(inner)
                continue
            found[key], more = _split_v1(entry, inner)
            used |= more
        return found, used
    if isinstance(value, list):
        parts = [_split_v1(entry, f"{path}[]") for entry in value]
        return [part for part, _ in parts], any(used for _, used in parts)
    return value, False
