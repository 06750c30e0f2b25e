"""A sweep as a table for LaTeX: medians, with the range over the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.files import write_text
from sftopt.core.latex import booktabs, latex_text
from sftopt.studies.compare.metrics import metric_of
from sftopt.studies.sweep.axes import is_number
from sftopt.studies.sweep.words import head_of, unit_of

if TYPE_CHECKING:
    from sftopt.studies.sweep.axes import AxisNote
    from sftopt.studies.sweep.sweep import Sweep


def write_latex(made: Sweep, path: Path, metric: str = "round_s") -> None:
    """Write a booktabs table: a line for each point, a column for each scheme, in people's units.

    Medians, with the least and the most where there are several seeds. A dagger marks points at
    which the scheme is refused in some cell. Axes of a single value are in the caption, which
    stands above as a comment. Raises InputError.
    """
    shown, asked = made.shown(metric), metric_of(metric)
    axes = shown.varied
    by_point: dict[tuple[Any, ...], dict[str, str]] = {}
    refused = False
    for row in shown.spread:
        point = tuple(row[axis.name] for axis in axes)
        refused = refused or bool(row["refused"])
        mark = r"$^\dagger$" if row["refused"] else ""
        cell = _spread(row, asked.per_unit, shown.seeds > 1)
        by_point.setdefault(point, {})[row["scheme"]] = cell + mark
    first, last = len(axes) + 1, len(axes) + len(made.schemes)
    note = " A dagger marks schemes that are refused in some of the cells." if refused else ""
    text = booktabs(
        "r" * len(axes) + "r" * len(made.schemes),
        [*(latex_text(head_of(axis.name, _numbers(axis))) for axis in axes),
         *map(latex_text, made.schemes)],
        [
            [*(_cell(axis, value) for axis, value in zip(axes, point, strict=True)),
             *(cells.get(scheme, "--") for scheme in made.schemes)]
            for point, cells in by_point.items()
        ],
        origin=f"sftopt sweep {made.instance}",
        caption=shown.caption + note,
        label=f"sweep-{made.instance}",
        over=(first, last, latex_text(asked.head)),
    )  # fmt: skip
    write_text(path, text)


def _spread(row: dict[str, Any], per_unit: float, seeds: bool) -> str:
    """The median, and the least and the most where there are seeds: ``52.4 (41.1--60.2)``."""
    if row["median"] is None:
        return "--"
    least, middle, most = (row[name] / per_unit for name in ("least", "median", "most"))
    if not seeds:
        return _digits(middle, 4)
    return f"{_digits(middle, 3)} ({_digits(least, 3)}--{_digits(most, 3)})"


def _digits(value: float, count: int) -> str:
    """A number in so many digits, or whole: no powers of ten in a table of seconds."""
    return f"{value:.0f}" if 10.0**count <= abs(value) < 1e7 else f"{value:.{count}g}"


def _numbers(axis: AxisNote) -> bool:
    return all(map(is_number, axis.values))


def _cell(axis: AxisNote, value: Any) -> str:
    if not _numbers(axis):
        return latex_text("none" if value is None else str(value))
    return f"{float(f'{value / unit_of(axis.name)[0]:.4g}'):g}"
