"""An instance as commands take it: by name or path, and with a calibration applied where asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.face.output import tell

if TYPE_CHECKING:
    from sftopt.core.instance import Instance

CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Put measured figures ('sftopt calibrate', or bundled: digit-scenes) in place of the "
        "instance's.",
        show_default=False,
    ),
]
CurveOption = Annotated[
    str | None,
    typer.Option(
        "--accuracy-curve",
        metavar="lower|fit",
        help="With --calibration: below the fit's confidence band, or the fit.",
        show_default="lower",
    ),
]
SpeedsOption = Annotated[
    str | None,
    typer.Option(
        "--speeds",
        metavar="declared|measured",
        help="With --calibration: keep the speeds, or make the median device the machine measured.",
        show_default="declared",
    ),
]
MinimumOption = Annotated[
    float | None,
    typer.Option(
        "--accuracy-minimum",
        help="With --calibration: the limit in its metric.",
        show_default="the loss allowed stays",
    ),
]
ExtrapolateOption = Annotated[
    bool,
    typer.Option(
        "--extrapolate",
        help="With --calibration: also modes and keep fractions that were not measured.",
    ),
]


def load_given(
    instance: str,
    calibration: Path | None,
    curve: str | None,
    speeds: str | None,
    minimum: float | None,
    extrapolate: bool,
) -> Instance:
    """Load the instance, calibrated if asked; tell on standard error what is left out.

    Raises InputError for a file that does not fit, and for an option that needs a calibration.
    """
    from sftopt.core.library import load

    given = load(instance)
    if calibration is None:
        options = {"--accuracy-curve": curve, "--speeds": speeds, "--accuracy-minimum": minimum,
                   "--extrapolate": extrapolate or None}  # fmt: skip
        needless = [name for name, value in options.items() if value is not None]
        if needless:
            raise InputError(f"{needless[0]} needs --calibration FILE")
        return given
    from sftopt.core.calibration import AccuracyCurve, Speeds, calibrated, load_calibration

    for name, value, known in (
        ("--accuracy-curve", curve, list(AccuracyCurve)),
        ("--speeds", speeds, list(Speeds)),
    ):
        if value is not None and value not in known:
            raise UnknownNameError(f"value of {name}", value, known)
    applied = calibrated(
        given,
        load_calibration(calibration),
        curve=AccuracyCurve(curve or AccuracyCurve.LOWER),
        speeds=Speeds(speeds or Speeds.DECLARED),
        minimum=minimum,
        extrapolate=extrapolate,
    )
    for notice in applied.notices:
        tell(f"note: {notice}")
    return applied.instance
