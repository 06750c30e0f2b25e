"""Figures as files: the format by the name's ending, checked before the work."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sftopt.core.errors import InputError
from sftopt.core.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
"""Of a picture in dots."""


def check_picture(path: Path) -> None:
    """Check that a picture's name ends in a format. Raises InputError naming the usual ones."""
    from matplotlib.figure import Figure

    ending = path.suffix.removeprefix(".").lower()
    if ending not in Figure().canvas.get_supported_filetypes():
        raise InputError(
            f"cannot write '{path}': '{path.suffix}' is no format of pictures; "
            "use .png, .pdf or .svg"
        )


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name's ending says, letters of a PDF as TrueType.

    Raises InputError where the ending is no format or the file cannot be written.
    """
    from sftopt.core.pictures.picture import embedded_fonts

    check_picture(path)
    picture = io.BytesIO()
    with embedded_fonts():
        figure.savefig(picture, format=path.suffix.removeprefix(".").lower(), dpi=DOTS_PER_INCH)
    write_bytes(path, picture.getvalue())


def save_for_paper(figures: Mapping[str, Figure | None], folder: Path) -> list[Path]:
    """Write each figure as ``NAME.png`` and ``NAME.pdf``, and return the paths. Raises InputError.

    A figure that is None, as there is nothing to draw, is left out.
    """
    made = []
    for name, figure in figures.items():
        if figure is None:
            continue
        for ending in ("png", "pdf"):
            made.append(folder / f"{name}.{ending}")
            save(figure, made[-1])
    return made
