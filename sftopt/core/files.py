"""Reading and writing JSON so that nothing is ever half-written and every fault is readable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftopt.core.errors import DiskError, InputError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands in for one that Git LFS has not fetched."""


def refuse_lfs_pointer(path: str | os.PathLike[str], what: str) -> None:
    """Check that ``path`` is not a Git LFS pointer; ``what`` names it in messages.

    Raises InputError where it is one. A file that cannot be read passes: its reader says more.
    """
    try:
        with open(path, "rb") as file:
            pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return
    if pointer:
        raise InputError(
            f"{what} '{path}' is a Git LFS pointer, not the data: fetch it with 'git lfs pull'."
        )


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""Halves of characters in JSON text: most are in pairs, which are whole characters."""


MOST_FILE_BYTES = 128 * 1024 * 1024
"""Larger JSON files are refused; ``FILE_LIMIT_VARIABLE`` is the way out."""
FILE_LIMIT_VARIABLE = "SFTOPT_MOST_FILE_BYTES"
"""Environment variable with another limit on the bytes of a JSON file."""


def canonical_json(data: Any) -> str:
    """Return ``data`` as JSON text with sorted keys, no spaces and floats at their shortest."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_digest(data: Any) -> str:
    """Return the sha256 of plain JSON data, in hex: the same for the same values."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number JSON allows; every value must be finite")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a double; every value must be finite")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key '{key}' is given twice in one object")
        data[key] = value
    return data


def has_lone_surrogate(text: str, data: Any) -> bool:
    """Return whether plain ``data``, read from the JSON ``text``, holds half a character."""
    if not _SURROGATE.search(text):
        return False
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Read the JSON object in ``path``; ``what`` names it in messages ("instance", "plan").

    Raises :class:`InputError` for a missing or unreadable file, text that is not JSON, NaN or
    infinity, a key given twice, or a top level that is not an object.
    """
    file = Path(path)
    try:
        text = _limited(file, what).decode("utf-8-sig")  # some editors put a mark before it
    except FileNotFoundError:
        raise InputError(f"{what} file '{file}' does not exist; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{what} '{file}' is a folder; give a JSON file.") from None
    except UnicodeDecodeError:
        raise InputError(f"{what} file '{file}' is not UTF-8 text, so not JSON.") from None
    except OSError as error:
        raise InputError(f"{what} file '{file}' cannot be read: {error.strerror}.") from None
    if text.startswith(LFS_POINTER.decode()):
        refuse_lfs_pointer(file, f"{what} file")
    try:
        data = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"{what} file '{file}' is not JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}.{_of_a_table(file, what)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} file '{file}': {error}.") from None
    if has_lone_surrogate(text, data):
        raise InputError(
            f"{what} file '{file}' holds half a character (a surrogate \\ud800 to \\udfff without "
            "its other half); no text can be written with it."
        )
    if not isinstance(data, dict):
        raise InputError(
            f"{what} file '{file}' holds a JSON {type(data).__name__}; an object is needed."
        )
    return data


def _of_a_table(file: Path, what: str) -> str:
    """The way from a table to an instance, where one was given in its place."""
    tables = (".csv", ".tsv", ".txt", ".xlsx")
    if what != "instance" or file.suffix.lower() not in tables:
        return ""
    return " A table of devices becomes one by 'sftopt instance from-csv'."


def _limited(file: Path, what: str) -> bytes:
    """The bytes of a file of sane size. Raises InputError of a larger one, before it is held."""
    most = MOST_FILE_BYTES
    asked = os.environ.get(FILE_LIMIT_VARIABLE, "")
    if asked.isdecimal():
        most = int(asked)
    with file.open("rb") as handle:
        content = handle.read(most + 1)
    if len(content) > most:
        raise InputError(
            f"{what} file '{file}' is larger than {most} bytes, more than a cell of 10,000 devices "
            f"takes; if it is right, set {FILE_LIMIT_VARIABLE} to a larger number of bytes."
        )
    return content


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, all or not at all (see :func:`write_bytes`)."""
    write_bytes(path, text.encode())


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows of equal columns; numbers to the last digit. Raises InputError."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` all or not at all: a temporary neighbour, then a rename.

    Raises :class:`InputError` where the folder is missing and cannot be made, is not writable, or
    the disk is full; an old file at ``path`` is then still there, unharmed.
    """
    file = Path(path)
    temporary: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        if file.exists() and not file.is_file():
            # A device or pipe (/dev/stdout, /dev/full) cannot be renamed onto.
            file.write_bytes(content)
            return
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, file)
        temporary = None
    except OSError as error:
        raise DiskError(file, error, "Nothing was written; choose another place.") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write ``data`` as indented JSON, all or not at all (see :func:`write_text`)."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
