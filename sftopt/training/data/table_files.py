"""One file of a table: JSON Lines, CSV in its dialects, Parquet, Arrow as ``datasets`` saves it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError
from sftopt.core.files import has_lone_surrogate, read_json, refuse_lfs_pointer

if TYPE_CHECKING:
    import pyarrow as pa

_DELIMITERS = (",", ";", "\t", "|")
"""What may stand between cells; the one that gives the first line most cells is taken."""
_LISTS = ("Sequence", "List", "LargeList")
"""Types of features that hold others, in the words of ``datasets``."""


@dataclass(frozen=True)
class Content:
    """The rows of one file."""

    path: Path
    unit: str
    """What its rows are called in messages."""
    names: tuple[str, ...]
    numbers: Sequence[int]
    """Where each row stands in the file, from 1."""
    columns: Mapping[str, Any]
    """Lists, or columns of Arrow."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    def column(self, name: str) -> list[Any]:
        """Return a column as plain values; None where the file has none."""
        if name not in self.columns:
            return [None] * self.size
        values = self.columns[name]
        return values if isinstance(values, list) else values.to_pylist()


def read_jsonl(path: Path) -> Content:
    """Read one object per line. Raises InputError naming the line."""
    lines = [(n, line) for n, line in enumerate(_text(path).split("\n"), 1) if line.strip()]
    rows = [_object(path, number, line) for number, line in lines]
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Content(path, "line", names, [number for number, _ in lines], columns)


def _text(path: Path) -> str:
    """The file's text; some editors put a mark before it. Lines are told by the reader."""
    refuse_lfs_pointer(path, "file of data")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError:
        raise InputError(
            f"file of data '{path}' does not exist or cannot be read. Give KIND:FILE, or a folder "
            "with files named train and test, such as train.jsonl and test.jsonl."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"file of data '{path}' is not UTF-8; save it as UTF-8.") from None


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"'{path}' line {number} is not JSON: {told}.") from None
    if not isinstance(entry, dict):
        raise InputError(
            f"'{path}' line {number}: an object such as {{\"text\": ...}} expected, not a "
            f"{type(entry).__name__}; JSON Lines has one object on each line."
        )
    for name, value in entry.items():
        if has_lone_surrogate(line, value):
            raise InputError(
                f"'{path}' line {number}: '{name}' holds half a character (a surrogate without its "
                "other half); write it out as UTF-8 again."
            )
    return entry


def read_csv(path: Path) -> Content:
    """Read a table whose first line names the columns; cells are texts.

    Between cells stands a comma, semicolon, tab or bar; quotes in quotes are doubled or follow a
    backslash; cells may hold line breaks. Raises InputError naming the line.
    """
    text = _text(path)
    header = max((_header(text, mark) for mark in _DELIMITERS), key=lambda found: len(found[1]))
    mark, names = header
    if not names or not any(name.strip() for name in names):
        raise InputError(f"'{path}': its first line names no columns.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"'{path}': its first line names column {twice[0]!r} more than once.")
    try:
        rows = _cells(path, text, mark, len(names), {})
    except _Quoting as error:
        try:
            if '\\"' not in text:
                raise
            rows = _cells(path, text, mark, len(names), {"doublequote": False, "escapechar": "\\"})
        except _Quoting:
            raise InputError(
                f"'{path}' line {error.line}: {error}. Quotes inside a quoted cell are doubled."
            ) from None
    columns = {name: [cells[place] for _, cells in rows] for place, name in enumerate(names)}
    return Content(path, "line", tuple(names), [line for line, _ in rows], columns)


class _Quoting(Exception):
    """Quotes that are not as the dialect has them."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def _header(text: str, mark: str) -> tuple[str, list[str]]:
    with _long_cells():
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), [])
        except csv.Error:
            cells = []
    return mark, [cell.strip() for cell in cells]


def _cells(
    path: Path, text: str, mark: str, width: int, dialect: dict[str, Any]
) -> list[tuple[int, list[str]]]:
    """All rows behind the first with the line each ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True, **dialect)
    found = []
    with _long_cells():
        try:
            for number, cells in enumerate(reader):
                if number == 0 or not cells:
                    continue
                if len(cells) != width:
                    raise InputError(
                        f"'{path}' line {reader.line_num}: {len(cells)} cells between "
                        f"{mark!r}; the first line names {width} columns."
                    )
                found.append((reader.line_num, cells))
        except csv.Error as error:
            raise _Quoting(reader.line_num, str(error)) from None
    return found


@contextmanager
def _long_cells() -> Iterator[None]:
    """Texts are longer than the 128 KB that the library allows a cell."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_parquet(path: Path) -> Content:
    """Read a Parquet file. Raises InputError."""
    import pyarrow as pa
    from pyarrow import parquet

    refuse_lfs_pointer(path, "Parquet file")
    try:
        return _of_arrow(path, parquet.read_table(path))
    except (pa.ArrowException, OSError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"'{path}' cannot be read as Parquet: {text}") from None


def read_arrow(folder: Path) -> list[Content]:
    """Read one split that ``datasets`` saved: the Arrow files its state.json lists.

    Raises InputError.
    """
    import pyarrow as pa

    state = read_json(folder / "state.json", "state of a saved data set")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(
            f"'{folder}' holds a selection of rows beside the data; call flatten_indices() before "
            "save_to_disk."
        )
    try:
        files = [folder / str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError):
        raise InputError(f"'{folder / 'state.json'}' lists no files of data.") from None
    info = folder / "dataset_info.json"
    features = read_json(info, "information on a data set") if info.is_file() else {}
    found = []
    for file in files:
        refuse_lfs_pointer(file, "Arrow file")
        try:
            found.append(_of_arrow(file, _arrow_table(file), features.get("features")))
        except (pa.ArrowException, OSError, ValueError) as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"'{file}' cannot be read as Arrow: {text}") from None
    return found


def _arrow_table(file: Path) -> pa.Table:
    """A stream, as ``datasets`` writes it, or a file of Arrow."""
    import pyarrow as pa

    with pa.OSFile(str(file)) as source:
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_file(source).read_all()


def _of_arrow(path: Path, table: pa.Table, features: Any = None) -> Content:
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise InputError(f"'{path}' has more than one column {twice[0]!r}.")
    columns = {name: table.column(name) for name in table.column_names}
    classes = _classes(features or _noted_features(table))
    return Content(path, "row", tuple(columns), range(1, table.num_rows + 1), columns, classes)


def _noted_features(table: pa.Table) -> Any:
    """What ``datasets`` notes of the columns in a file's own metadata."""
    noted = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        return json.loads(noted)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return None


def _classes(features: Any) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, of labels and of lists of labels."""
    found = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        if isinstance(feature, dict) and feature.get("_type") in _LISTS:
            feature = feature.get("feature")
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and all(isinstance(one, str) for one in names):
                found[str(name)] = tuple(names)
    return found
