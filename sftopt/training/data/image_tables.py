"""Images and labels out of Parquet files, as the Hugging Face hub keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.files import refuse_lfs_pointer
from sftopt.training.data.class_folders import is_hidden
from sftopt.training.data.pictures import EncodedPictures, FromTable, Labelled
from sftopt.training.data.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_COLUMNS = ("img", "image")
"""Names of the column of images, by preference."""
_LABEL_COLUMNS = ("fine_label", "label")
"""Names of the column of labels, by preference."""
_MOST_CLASSES = 100_000
"""Labels beyond are refused: a model would get a head of as many classes."""


def image_tables(folder: Path) -> tuple[Labelled, Labelled] | None:
    """Read train and test out of Parquet files; None where there are none. Raises InputError."""
    files = [
        path
        for path in folder.rglob("*.parquet")
        if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    ]
    found = [
        sorted(path for path in files if path.name.startswith(names))
        for names in ("train", ("test", "val"))
    ]
    if not all(found):
        return None
    return _part(found[0]), _part(found[1])


def _part(paths: Sequence[Path]) -> Labelled:
    items: list[Path | FromTable] = []
    labels: list[int] = []
    for path in paths:
        table, image, label = _table(path)
        items += _images(path, image, table.column(image).to_pylist())
        labels += _labels(path, label, table.column(label).to_pylist())
    return Labelled(EncodedPictures(items), np.array(labels, dtype=np.int64))


def _table(path: Path) -> tuple[pa.Table, str, str]:
    """The table's two columns and their names."""
    import pyarrow as pa
    from pyarrow import parquet

    refuse_lfs_pointer(path, "Parquet file")
    try:
        names = parquet.read_schema(path).names
        image = next((name for name in _IMAGE_COLUMNS if name in names), None)
        label = next((name for name in _LABEL_COLUMNS if name in names), None)
        if image is None or label is None:
            raise InputError(f"'{path}' has columns {names}; img (image) and label expected.")
        return parquet.read_table(path, columns=[image, label]), image, label
    except (pa.ArrowException, OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise InputError(f"'{path}' cannot be read as Parquet: {text}") from None


def images_of(table: Table, column: str) -> list[Path | FromTable]:
    """Return the images of a table's column. Raises InputError naming the row of what is none."""
    found: list[Path | FromTable] = []
    for row, value in enumerate(table.column(column)):
        path, number = table.place(row)
        found += _images(path, column, [value], number)
    return found


def _images(path: Path, column: str, values: Sequence[Any], first: int = 1) -> list[FromTable]:
    """The bytes of images: plain, or in the field ``bytes`` of a struct."""
    found = []
    for row, value in enumerate(values, first):
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not content:
            raise InputError(
                f"'{path}', column '{column}', row {row}: {_told(value)}; the bytes of an image "
                "are needed, plain or as the field 'bytes'"
            )
        found.append(FromTable(content, path, column, row))
    return found


def _told(value: Any) -> str:
    """What stands in place of an image."""
    if isinstance(value, dict) and value.get("path"):
        return f"only the path {value['path']!r} and no bytes"
    if value is None or isinstance(value, dict):
        return "no bytes"
    return f"a {type(value).__name__}"


def _labels(path: Path, column: str, values: Sequence[Any]) -> list[int]:
    for row, value in enumerate(values, 1):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 0 <= value < _MOST_CLASSES:
            hidden = " (the labels of this part are hidden)" if value in (-1, None) else ""
            raise InputError(
                f"'{path}', column '{column}', row {row}: label {value!r}{hidden}; a class number "
                f"from 0 to {_MOST_CLASSES - 1} is needed"
            )
    return list(values)
