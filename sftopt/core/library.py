"""The bundled instances by name: each family at its own number of devices, seed 0."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import FAMILIES, generate
from sftopt.core.files import read_json, write_json
from sftopt.core.instance import Instance, parse_instance

DATA = Path(__file__).resolve().parent.parent / "data"
"""The folder of the bundled JSON files; package data."""


@dataclass(frozen=True)
class Description:
    """One bundled instance in a line."""

    name: str
    devices: int
    model: str
    blocks: int
    options: dict[str, str]
    text: str


def bundled_names() -> list[str]:
    """List the names that :func:`load` knows without a path, in the order of the families."""
    return list(FAMILIES)


def load(name_or_path: str | os.PathLike[str]) -> Instance:
    """Load an instance by bundled name or by path; a file of that path wins.

    Raises UnknownNameError for a word that is neither, InputError for a file that is missing,
    unreadable or faulty.
    """
    name = os.fspath(name_or_path)
    if not Path(name).is_file():
        if name in FAMILIES:
            return _bundled(name)
        if Path(name).is_dir():
            raise InputError(
                f"'{name}' is a folder; name one instance file, or plan all of a folder's by "
                "'sftopt plan --many FOLDER'."
            )
        if not _looks_like_a_path(name):
            raise UnknownNameError("instance", name, FAMILIES)
    return parse_instance(read_json(name, "instance"), name)


def descriptions() -> list[Description]:
    """Describe all bundled instances, for ``sftopt instance list``."""
    found = []
    for name, family in FAMILIES.items():
        instance = _bundled(name)
        found.append(
            Description(
                name=name,
                devices=len(instance.devices),
                model=instance.workload.name,
                blocks=instance.workload.blocks,
                options=instance.option_names(),
                text=family.summary,
            )
        )
    return found


def write_bundled(folder: Path = DATA) -> list[Path]:
    """Generate every bundled instance anew and write it to ``folder``."""
    paths = []
    for name in FAMILIES:
        path = folder / f"{name}.json"
        write_json(path, generate(name).to_dict())
        paths.append(path)
    return paths


def _bundled(name: str) -> Instance:
    return parse_instance(read_json(DATA / f"{name}.json", "bundled instance"), name)


def _looks_like_a_path(name: str) -> bool:
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    return name.lower().endswith(".json") or any(part in name for part in separators)
