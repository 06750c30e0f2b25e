"""Where the files of codecs lie, as a calibration names them: beside it, or in the model's folder.

In ``calibration.json`` a file below the calibration's own folder is named by its way from there,
one in the model's folder by ``{model}/NAME``, others by their absolute paths. So both may move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CODEC_FILES = ("bases", "books")
"""Options of codecs that are paths of files; behind ``first_`` and ``gradient_`` likewise."""
IN_MODEL = "{model}/"
"""What the name of a file in the model's folder begins with."""


def is_file_option(name: str) -> bool:
    """Return whether an option of a codec is the path of a file."""
    return name.rpartition("_")[2] in CODEC_FILES


def named(codec: Mapping[str, Any], folder: Path, model: str) -> dict[str, Any]:
    """Name a codec's files for a calibration in ``folder`` on ``model``, a folder or a hub id."""

    places = [(folder, ""), *([(Path(model), IN_MODEL)] if model else [])]

    def name(path: str) -> str:
        place = Path(path).absolute()
        for base, start in places:
            if place.is_relative_to(base.absolute()):
                return start + place.relative_to(base.absolute()).as_posix()
        return path

    return _each_file(codec, name)


def found(codec: Mapping[str, Any], folder: Path, model: str) -> dict[str, Any]:
    """Return a codec with its files as they lie seen from ``folder`` and ``model``.

    What is not there stays as it is named: another folder of the model may have it.
    """

    def find(path: str) -> str:
        in_model = path.startswith(IN_MODEL)
        place = (Path(model) if in_model else folder) / path.removeprefix(IN_MODEL)
        return str(place) if place.is_file() else path

    return _each_file(codec, find)


def without_places(codec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a codec with its files by name alone: what it is, wherever they lie."""
    return _each_file(codec, lambda path: Path(path).name)


def _each_file(codec: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    return {
        name: change(value) if value and is_file_option(name) else value
        for name, value in codec.items()
    }
