"""Rows as tables for other programs, by the name's ending: CSV, Parquet, LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.files import write_bytes, write_csv, write_text
from sftopt.core.latex import booktabs, latex_text

Row = dict[str, Any]
"""One line of a table: column -> number, text, truth value or None."""

ENDINGS = (".csv", ".parquet", ".tex")
"""Ends of names that say what a table is written as."""


def check_ending(path: Path, flag: str) -> None:
    """Check that a table's name says what it is. Raises InputError naming the endings known."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{flag} '{path}': end the name in {', '.join(ENDINGS)}")


def write_table(rows: Sequence[Row], path: Path, caption: str = "") -> None:
    """Write rows in the format that the name's ending says. Raises InputError."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        write_parquet(rows, path)
    elif ending == ".tex":
        write_text(path, latex_table(rows, caption))
    else:
        write_csv(rows, path)


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet. Raises InputError."""
    import pyarrow as pa
    import pyarrow.parquet

    columns = {name: [row.get(name) for row in rows] for name in columns_of(rows)}
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table(columns), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def columns_of(rows: Sequence[Row]) -> list[str]:
    """List the columns of rows in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def latex_table(rows: Sequence[Row], caption: str = "") -> str:
    """Return rows as a booktabs table, numbers to four digits; ``caption`` is a comment above."""
    names = columns_of(rows)
    return booktabs(
        "l" + "r" * (len(names) - 1),
        [latex_text(name) for name in names],
        [[_cell(row.get(name)) for name in names] for row in rows],
        origin=caption,
    )


def _cell(value: Any) -> str:
    if value is None:
        return "--"
    return f"{value:.4g}" if isinstance(value, float) else latex_text(str(value))
