"""A sweep as files for other programs: CSV of all rows, CSV and LaTeX of medians."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.files import write_text
from sftopt.core.latex import latex_text

if TYPE_CHECKING:
    from sftopt.studies.sweep.sweep import Sweep


def write_latex(made: Sweep, path: Path, metric: str = "round_s") -> None:
    """Write a booktabs table: a line for each point, a column for each scheme, medians.

    A dagger marks points at which the scheme is refused in some cell. Raises InputError.
    """
    names = [axis.name for axis in made.axes]
    by_point: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in made.spread(metric):
        point = tuple(row[name] for name in names)
        number = "--" if row["median"] is None else f"{row['median']:.4g}"
        mark = r"$^\dagger$" if row["refused"] else ""
        by_point.setdefault(point, {})[row["scheme"]] = number + mark
    head = " & ".join(latex_text(name) for name in (*names, *made.schemes))
    bits = " or ".join(map(str, made.reference_bits))
    lines = [
        f"% sftopt sweep {made.instance}: {metric}, median of {len(made.seeds)} seeds, b_ref "
        f"{bits} bits; a dagger marks schemes refused in some of the cells",
        rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(made.schemes)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *(
            " & ".join([*(_cell(value) for value in point),
                        *(cells.get(scheme, "--") for scheme in made.schemes)]) + r" \\"
            for point, cells in by_point.items()
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]  # fmt: skip
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else latex_text(str(value))
