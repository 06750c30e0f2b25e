"""The hash of an instance: sha256 of the canonical JSON of what differs from the defaults.

``defaults_v2.json`` holds the defaults of schema version 2, frozen with it: a default that is
changed later changes no hash. ``formulations/MODEL.md`` says how to recompute a hash from a file.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

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
        "devices[].remembered_bytes",
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

_NO_DEFAULT = object()
"""Stands for the default of a field that has none: nothing is equal to it."""
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


class _Rule(NamedTuple):
    """What becomes of one field."""

    path: str
    ignored: bool
    default: Any
    """In reduced form; ``_NO_DEFAULT`` where the field has none."""


@cache
def _table() -> tuple[frozenset[str], dict[str, Any]]:
    """Ignored paths, and defaults by path: their numbers in one spelling, else as written."""
    data = json.loads(DEFAULTS_FILE.read_text(encoding="utf-8"))
    return frozenset(data["ignored"]), {p: _plain(value) for p, value in data["defaults"].items()}


@cache
def _rules(path: str) -> dict[str, _Rule]:
    """Return the rules of the fields of the part at ``path`` that were met so far."""
    return {}


def _rule(path: str, key: str) -> _Rule:
    """Make the rule of a field of the part at ``path``."""
    ignored, defaults = _table()
    inner = f"{path}.{key}" if path else key
    default = _reduced(defaults[inner], inner) if inner in defaults else _NO_DEFAULT
    return _Rule(inner, inner in ignored, default)


def _reduced(value: Any, path: str) -> Any:
    """``value`` without what is ignored, null, empty or a default."""
    if type(value) is float:  # nearly all there is in a large cell
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, dict):
        return _reduced_fields(value, path)
    if isinstance(value, list | tuple):
        return [_reduced(entry, f"{path}[]") for entry in value]
    return _plain(value)


def _reduced_fields(value: dict[str, Any], path: str) -> dict[str, Any]:
    """The fields of a part that are neither ignored, null, empty nor a default."""
    found, rules = {}, _rules(path)
    for key, entry in value.items():
        if entry is None:
            continue
        rule = rules.get(key)
        if rule is None:
            rule = rules[key] = _rule(path, key)
        inner, ignored, default = rule
        if ignored:
            continue
        kept = entry if type(entry) is str else _reduced(entry, inner)
        if kept != default and kept != {}:
            found[key] = kept
    return found


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
