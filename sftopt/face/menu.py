"""Codecs at rates as they are typed: ``rotated:2,rotated:1,tokens:1``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.face.lists import names
from sftopt.face.output import tell

if TYPE_CHECKING:
    from sftopt.core.calibration import Calibration
    from sftopt.training.calibrate import CalibrationSettings, Sources
    from sftopt.training.calibrate.budgets import MenuItem

MenuOption = Annotated[
    str,
    typer.Option(
        "--menu",
        metavar="CODEC:BITS,...",
        help="Also codecs as modes of their own, such as rotated:2,tokens:1; 'default' for some "
        "that suit.",
        show_default=False,
    ),
]
"""Codecs that a calibration measures besides Top-K."""
DEFAULT = "default"
"""What stands for the menu that suits model and task."""
_LEAST_RATE = 0.05
"""Least budget in bits per element."""
_MOST_RATE = 10.0
"""Most budget in bits per element."""


def items_of(text: str) -> tuple[MenuItem, ...] | None:
    """Return the items of option --menu: none where it is not given, None for the default menu.

    Raises InputError.
    """
    if not text:
        return ()
    found = menu_of(text)
    return None if found is None else tuple(found)


def menu_of(text: str) -> list[MenuItem] | None:
    """Return the items of a menu, None for the default one. Raises InputError.

    A codec without bits stands at all usual rates.
    """
    from sftopt.training.calibrate.budgets import CODECS, RATES, MenuItem

    entries = names(text)
    if entries == (DEFAULT,):
        return None
    found = []
    for entry in entries:
        name, colon, bits = entry.partition(":")
        if name not in CODECS:
            raise UnknownNameError("codec of --menu", name, CODECS)
        rates: tuple[float, ...] = RATES
        if colon:
            try:
                rates = (float(bits),)
            except ValueError:
                raise InputError(f"--menu '{entry}': give NAME:BITS, such as rotated:1") from None
        if not all(_LEAST_RATE <= rate <= _MOST_RATE for rate in rates):
            raise InputError(
                f"--menu '{entry}': {_LEAST_RATE:g} to {_MOST_RATE:g} bits per element are possible"
            )
        found += [MenuItem(name, rate) for rate in rates]
    return list(dict.fromkeys(found))


def with_menu(
    made: Calibration,
    sources: Sources,
    settings: CalibrationSettings,
    items: Sequence[MenuItem] | None,
    work: Path,
    workers: int,
) -> Calibration:
    """Return a calibration with the codecs of a menu measured, as it is without one.

    Raises InputError.
    """
    if items == ():
        return made
    from sftopt.training.calibrate.points import with_points

    return with_points(made, sources, settings, items, work, workers, tell=tell)
