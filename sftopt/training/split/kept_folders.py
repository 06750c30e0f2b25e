"""Folders of state that are replaced whole, with a checksum for every file and the last one kept.

::

    <name>              the newest; checksums.json holds the sha256 of its other files
    <name>-previous     the one before it
    <name>-damaged      a newest one that was found damaged and set aside
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sftopt.core.errors import DiskError, InputError
from sftopt.core.files import read_json, write_json

LOGGER = logging.getLogger(__name__)
"""Tells what was found damaged and what is done about it; on standard error by default."""

STATE_NAME = "state.json"
"""The file without which a folder is no state."""
CHECKSUMS_NAME = "checksums.json"
"""Holds the sha256 of every other file by its path in the folder."""
_VERSION = 1
"""Of the file of checksums."""
_CHUNK_BYTES = 1 << 20
"""Read at a time."""


def previous_of(directory: Path) -> Path:
    """Return the path of the folder before the newest one."""
    return directory.parent / f"{directory.name}-previous"


def is_kept(directory: Path) -> bool:
    """Return whether there is a state, whole or not; also after a write that was cut off."""
    return any((place / STATE_NAME).is_file() for place in (directory, previous_of(directory)))


def remove_kept(directory: Path) -> None:
    """Remove the newest folder, those beside it, and what killed writes left."""
    for place in (directory, previous_of(directory), _damaged(directory)):
        _remove(place, directory)
    _remove_leftovers(directory)


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of ``directory`` when all is written.

    Its files get their checksums, and the folder so far becomes the previous one. Killed on the
    way, the folders are as they were, or (between two renames) only the previous one is there,
    where :func:`take_whole` finds it; what a kill left half-written is removed by the next write.
    One run at a time writes here. Raises InputError for folders that hold something else, and
    where it cannot be written.
    """
    previous = previous_of(directory)
    for place in (directory, previous):
        if place.is_dir() and any(place.iterdir()) and not (place / STATE_NAME).is_file():
            raise InputError(f"folder '{place}' is no checkpoint and not empty; choose another.")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)
        fresh = _temporary(directory)
        try:
            yield fresh
            write_checksums(fresh)
            fresh.chmod(0o755)
            if directory.exists():
                _remove(previous, directory)
                os.rename(directory, previous)
            os.rename(fresh, directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise DiskError(directory, error, "Choose another place.") from None


def write_checksums(directory: Path) -> None:
    """Write the checksums of all files in ``directory``. Raises InputError where that fails."""
    sums = {name: sha256_of(directory / name) for name in _files(directory)}
    write_json(directory / CHECKSUMS_NAME, {"schema_version": _VERSION, "sha256": sums})


def take_whole(directory: Path, what: str) -> None:
    """Make ``directory`` the newest folder that is whole; ``what`` names it in messages.

    Where the newest is damaged, it is set aside, the previous one takes its place, and a warning
    says so. Raises InputError naming the damaged files where neither is whole.
    """
    previous = previous_of(directory)
    if not directory.is_dir() and not previous.is_dir():
        raise InputError(f"{what} folder '{directory}' does not exist.")
    fault = _fault(directory)
    if fault is None:
        return
    older_fault = _fault(previous)
    if older_fault is not None:
        also = f", and of the one before it {older_fault}" if previous.is_dir() else ""
        raise InputError(
            f"{what} '{directory}' is damaged: {fault}{also}. It cannot be gone on from; put the "
            "file back from a copy, or start again in another folder."
        )
    try:
        if directory.is_dir():
            damaged = _damaged(directory)
            _remove(damaged, directory)
            os.rename(directory, damaged)
            LOGGER.warning(
                "%s '%s' is damaged: %s. Going on from the one before it; the damaged one is now "
                "'%s'.", what, directory, fault, damaged,
            )  # fmt: skip
        os.rename(previous, directory)
    except OSError as error:
        raise DiskError(directory, error) from None


def _fault(directory: Path) -> str | None:
    """What is wrong with a folder's files; None where all are whole."""
    if not directory.is_dir():
        return f"'{directory}' does not exist"
    if not (directory / CHECKSUMS_NAME).is_file():
        return f"'{directory / CHECKSUMS_NAME}' is missing"
    try:
        data = read_json(directory / CHECKSUMS_NAME, "checksum")
    except InputError as error:
        return str(error).rstrip(".")
    sums = data.get("sha256")
    if data.get("schema_version") != _VERSION or not isinstance(sums, dict):
        return f"'{directory / CHECKSUMS_NAME}' holds no checksums"
    for name in sorted({STATE_NAME, *sums}):
        path = directory / name
        try:
            found = sha256_of(path)
        except OSError as error:
            return f"'{path}' cannot be read ({error.strerror})"
        if found != sums.get(name):
            return f"'{path}' is not as it was written (its checksum differs)"
    return None


def _files(directory: Path) -> list[str]:
    """Paths of the files in a folder but the checksums', relative to it."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.as_posix() != CHECKSUMS_NAME)


def _temporary(directory: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))


def _remove(place: Path, directory: Path) -> None:
    """Remove a folder beside ``directory`` in one step: killed on the way, no half of it stays.

    Half a folder would be taken for something else's, and refused.
    """
    if not place.is_dir():
        return
    aside = _temporary(directory)
    try:
        os.rename(place, aside)  # over an empty folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove_leftovers(directory: Path) -> None:
    for place in directory.parent.glob(f".{glob.escape(directory.name)}.*"):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)


def _damaged(directory: Path) -> Path:
    return directory.parent / f"{directory.name}-damaged"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


__all__ = [
    "CHECKSUMS_NAME",
    "STATE_NAME",
    "is_kept",
    "previous_of",
    "remove_kept",
    "replacing",
    "sha256_of",
    "take_whole",
    "write_checksums",
]
