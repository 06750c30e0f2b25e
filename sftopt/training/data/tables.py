"""Tables of the user's own as columns: JSON Lines, CSV, Parquet, and Arrow folders of ``datasets``.

``KIND:PATH`` names one file, or a folder with files that begin with ``train``, ``test`` and, if
wanted, ``validation`` (``val``, ``dev``), there or in its folder ``data``. Of one file, every 20th
row is for testing and the one after it for validation. ``hf:DIR`` is what ``save_to_disk`` of the
library ``datasets`` writes; nothing of that library is needed to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.training.data.table_files import Content, read_arrow, read_csv, read_jsonl, read_parquet

IntArray = NDArray[np.int64]

HELD_OUT_EVERY = 20
"""Of the rows every so many-th is held out where no file does."""
_HELD_NAMES = {"test": ("test",), "validation": ("validation", "valid", "val", "dev", "eval")}
"""How names of files and splits begin, by part."""
_READERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Content]]] = {
    "jsonl": ((".jsonl", ".ndjson", ".json"), read_jsonl),
    "csv": ((".csv", ".tsv"), read_csv),
    "parquet": ((".parquet",), read_parquet),
}
"""Ends of file names, and what reads a file, by kind."""

TABLE_KINDS = (*_READERS, "hf")
"""Kinds of data that are tables."""


@dataclass(frozen=True)
class Table:
    """Rows of one part, in the order of its files."""

    contents: tuple[Content, ...]
    rows: IntArray
    """Numbers of the rows taken, through all contents."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of classes by column, where the file tells them."""

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self.rows.size)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(dict.fromkeys(name for one in self.contents for name in one.names))

    def column(self, name: str) -> list[Any]:
        """Return a column's values; None where a row has none."""
        values = [value for one in self.contents for value in one.column(name)]
        return [values[row] for row in self.rows]

    def where(self, row: int) -> str:
        """Name a row for a message: its file and its line or row there, counted from 1."""
        path, number = self.place(row)
        return f"'{path}' {self.contents[0].unit} {number}"

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and the number of the row there, from 1."""
        number = int(self.rows[row])
        for one in self.contents:
            if number < one.size:
                return one.path, one.numbers[number]
            number -= one.size
        raise IndexError(row)

    def take(self, chosen: IntArray) -> Table:
        """Return some of the rows, by number."""
        return Table(self.contents, self.rows[chosen], self.classes)


def read_parts(kind: str, place: str) -> dict[str, Table]:
    """Read the parts ``train``, ``validation`` and ``test`` of a place.

    Raises InputError for what is missing or cannot be read, naming the way out.
    """
    path = Path(place).expanduser()
    if kind == "hf":
        found = _arrow_parts(path)
    elif path.is_dir():
        found = _folder_parts(kind, path)
    else:
        found = {"train": [_READERS[kind][1](path)]}
    return _divided({part: _joined(contents) for part, contents in found.items()})


def _joined(contents: Sequence[Content]) -> Table:
    size = sum(one.size for one in contents)
    classes: dict[str, tuple[str, ...]] = {}
    for one in contents:
        classes |= one.classes
    return Table(tuple(contents), np.arange(size), classes)


def _divided(found: dict[str, Table]) -> dict[str, Table]:
    """Part off what no file holds: every 20th row for testing, the one after it for validation."""
    train = found["train"]
    numbers = np.arange(train.size)
    places = numbers % HELD_OUT_EVERY
    free = 0
    kept = np.ones(train.size, bool)
    parts: dict[str, Table] = {}
    for part in ("test", "validation"):
        if part in found:
            parts[part] = found[part]
            continue
        parts[part] = train.take(numbers[places == free])
        kept &= places != free
        free += 1
    return {"train": train.take(numbers[kept]), **parts}


def _folder_parts(kind: str, folder: Path) -> dict[str, list[Content]]:
    ends, reader = _READERS[kind]
    files = [
        path
        for place in (folder, folder / "data")
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix.lower() in ends and not path.name.startswith(".")
    ]
    found = _by_part({path.name: path for path in files})
    if "train" not in found:
        there = ", ".join(path.name for path in files[:5]) or "none"
        raise InputError(
            f"data '{kind}:{folder}': no file whose name begins with 'train' and ends in "
            f"{' or '.join(ends)} (there: {there}). Name the files train{ends[0]} and "
            f"test{ends[0]}, or give one file."
        )
    return {part: [reader(path) for path in paths] for part, paths in found.items()}


def _by_part(paths: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Files or splits by the part that their names begin with."""
    found: dict[str, list[Path]] = {}
    for name, path in paths.items():
        for part, begins in {"train": ("train",), **_HELD_NAMES}.items():
            if name.lower().startswith(begins):
                found.setdefault(part, []).append(path)
                break
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")  # what is held out is first of all for testing
    return found


def _arrow_parts(folder: Path) -> dict[str, list[Content]]:
    if not folder.is_dir():
        raise InputError(
            f"data 'hf:{folder}': the folder does not exist. Give a folder that `save_to_disk` of "
            "the library datasets wrote; nothing is downloaded."
        )
    if (folder / "state.json").is_file():
        return {"train": read_arrow(folder)}
    splits = {
        path.name: path for path in sorted(folder.iterdir()) if (path / "state.json").is_file()
    }
    found = _by_part(splits)
    if "train" not in found:
        there = ", ".join(splits) or "none"
        raise InputError(
            f"data 'hf:{folder}': no split 'train' (a folder with a state.json) is there; splits: "
            f"{there}. Give the folder of one split to have it divided."
        )
    return {
        part: [content for path in paths for content in read_arrow(path)]
        for part, paths in found.items()
    }
