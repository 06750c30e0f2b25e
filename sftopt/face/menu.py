"""Codecs at rates as they are typed: ``rotated:2,rotated:1,ecsq:2``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.face.output import tell

if TYPE_CHECKING:
    from sftopt.core.calibration import Calibration
    from sftopt.training.calibrate import CalibrationSettings, Sources
    from sftopt.training.codec import EcsqConfig


MenuOption = Annotated[
    str,
    typer.Option(
        "--menu",
        metavar="CODEC:BITS,...",
        help="Also codecs as modes of their own, such as rotated:2,rotated:1.",
        show_default=False,
    ),
]
"""Codecs that a calibration measures besides Top-K."""


def menu_of(text: str, model: str | None) -> list[EcsqConfig]:
    """Return the codecs of a menu; bases are those beside ``model``. Raises InputError."""
    from sftopt.training.codec import BASES_NAME, EcsqConfig, RotatedConfig

    kinds: dict[str, type[EcsqConfig]] = {kind.codec: kind for kind in (EcsqConfig, RotatedConfig)}
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, bits = entry.partition(":")
        if name not in kinds:
            raise UnknownNameError("codec of a menu", name, kinds)
        options: dict[str, Any] = {}
        if name == RotatedConfig.codec:
            options["bases"] = str(Path(model or ".") / BASES_NAME)
        try:
            options["bits"] = float(bits)
        except ValueError:
            raise InputError(f"--menu '{entry}': give NAME:BITS, such as rotated:1") from None
        found.append(kinds[name](**options))
    return found


def with_menu(
    made: Calibration,
    sources: Sources,
    settings: CalibrationSettings,
    text: str,
    work: Path,
    workers: int,
) -> Calibration:
    """Return a calibration with the codecs of a menu measured, as it is without one.

    Raises InputError.
    """
    if not text:
        return made
    from sftopt.training.calibrate.points import with_points

    menu = menu_of(text, sources.model)
    return with_points(made, sources, settings, menu, work, workers, tell=tell)
