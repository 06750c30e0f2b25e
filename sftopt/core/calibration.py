"""The calibration: what was measured on a model and a task, and how it enters an instance.

``calibration.json``, schema version 1, is written by ``sftopt calibrate``. :func:`calibrated` puts
it in the place of an instance's declared figures:

===========================  =====================================================================
field of the instance        after applying
===========================  =====================================================================
workload                     the calibration's, as a whole
compression.modes            of those on offer, the calibrated ones with measured eta_q, omega,
                             sigma; ``dense`` stands for the calibrated dead-zone quantiser; others
                             are left out (or stay as declared, if extrapolation is asked for)
compression.keep_min, _max   cut down to the calibrated range of the keep fraction
accuracy: the curve          the fitted curve of equation (12), or its lower confidence curve
accuracy: metric, band,      the calibration's; ``cut_factor`` becomes null, since the runs do not
provenance, cut_factor       tell cuts apart
accuracy.minimum, _each      what was allowed to be lost stays: a_min moves with a_0; or as asked
accuracy.scope               stays
devices.codec_s_per_element  the measured seconds, times measured speed / f_n
compute_flops_per_s          of devices and server: stays (``declared``); or all times one factor
                             that makes the median device the machine measured (``measured``), with
                             FLOP such that every part of the model takes the seconds measured
all others                   stay
===========================  =====================================================================

A calibration without fine-tunings (``accuracy`` null) leaves the accuracy section and the keep
range as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sftopt.core.calibration_file import (
    AccuracyCurve,
    AccuracyFit,
    BatchProfile,
    Calibration,
    CodecProfile,
    CodecRow,
    Curve,
    EcsqCell,
    GridCell,
    Profile,
    Source,
    Speeds,
)
from sftopt.core.codec_files import found
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault, Severity
from sftopt.core.fields import LARGEST
from sftopt.core.files import read_json
from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    ModeKind,
    Server,
    Workload,
)
from sftopt.core.parse import input_error, parse_model

__all__ = [
    "AccuracyCurve",
    "AccuracyFit",
    "Applied",
    "BatchProfile",
    "Calibration",
    "CodecProfile",
    "CodecRow",
    "Curve",
    "EcsqCell",
    "GridCell",
    "Profile",
    "Source",
    "Speeds",
    "apply",
    "calibrated",
    "load_calibration",
]


BUNDLED = Path(__file__).resolve().parent.parent / "data" / "calibrations"
"""The folder of the calibrations that come with the package."""


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read a calibration by path, or a bundled one by name (``digit-scenes``); a path wins.

    Files of codecs are those beside it or in its model's folder. Raises InputError naming every
    fault found.
    """
    bundled = BUNDLED / f"{os.fspath(path)}.json"
    if not Path(path).exists() and bundled.is_file():
        path = bundled
    read = parse_model(Calibration, read_json(path, "calibration"), f"calibration '{path}'")
    folder, model = Path(path).parent.absolute(), read.source.model
    points = tuple(
        one.model_copy(update={"codec": found(one.codec, folder, model)}) for one in read.points
    )
    return read.model_copy(update={"points": points})


@dataclass(frozen=True)
class Applied:
    """An instance with measured figures, and what had to be left out or could not be carried."""

    instance: Instance
    notices: tuple[Fault, ...]


def apply(
    instance: Instance,
    calibration: Calibration,
    *,
    curve: AccuracyCurve = AccuracyCurve.LOWER,
    speeds: Speeds = Speeds.DECLARED,
    minimum: float | None = None,
    extrapolate: bool = False,
) -> Instance:
    """Return the instance of :func:`calibrated`, for callers that have shown the notices before."""
    return calibrated(
        instance,
        calibration,
        curve=curve,
        speeds=speeds,
        minimum=minimum,
        extrapolate=extrapolate,
    ).instance


def calibrated(
    instance: Instance,
    calibration: Calibration,
    *,
    curve: AccuracyCurve = AccuracyCurve.LOWER,
    speeds: Speeds = Speeds.DECLARED,
    minimum: float | None = None,
    extrapolate: bool = False,
) -> Applied:
    """Return ``instance`` with measured figures; the module's table says which. It has its own
    hash.

    ``minimum``: a_min in the calibration's metric, in place of moving with a_0. ``extrapolate``
    keeps modes and keep fractions that were not measured. Raises InputError where no mode or keep
    fraction is left, where the limit is in another metric and no ``minimum`` is given, or where
    devices and the measured model do not fit together.
    """
    notices: list[Fault] = []
    compression = _compression(instance, calibration, curve, extrapolate, notices)
    workload, devices, server = _machines(instance, calibration, speeds, notices)
    made = instance.model_copy(
        update={
            "workload": workload,
            "devices": devices,
            "server": server,
            "compression": compression,
            "accuracy": _accuracy(instance.accuracy, calibration, curve, minimum, notices),
            "source": instance.source.model_copy(
                update={"text": f"{instance.source.text} {_origin(calibration)}".strip()}
            ),
        }
    )
    made = Instance.model_validate(made.to_dict())
    faults = made.reference_faults()
    if faults:
        raise input_error(f"instance '{instance.name}' with {_origin(calibration)}", faults)
    return Applied(made, tuple(notices))


def _origin(calibration: Calibration) -> str:
    return f"calibration '{calibration.name}' ({calibration.hash[:12]})"


def _notice(field: str, message: str, value: Any = None, limit: Any = None) -> Fault:
    return Fault(field=field, value=value, limit=limit, severity=Severity.WARNING, message=message)


def _compression(
    instance: Instance,
    calibration: Calibration,
    curve: AccuracyCurve,
    extrapolate: bool,
    notices: list[Fault],
) -> Compression:
    """Modes and keep range within what was measured. Raises InputError where nothing is left."""
    given, fit = instance.compression, calibration.accuracy
    modes = []
    for mode in given.modes:
        measured, reason = _measured(mode, calibration, curve)
        if measured is not None:
            modes.append(measured)
        elif extrapolate:
            modes.append(mode)
            text = f"mode {mode.label} stays as declared, an extrapolation: {reason}"
            notices.append(_notice("compression.modes", text, mode.label))
        else:
            text = f"mode {mode.label} is left out: {reason}"
            notices.append(_notice("compression.modes", text, mode.label))
    offered = {mode.label for mode in modes}
    modes += [one.mode for one in calibration.points if one.mode.label not in offered]
    if not modes:
        known = ", ".join(mode.label for mode in calibration.codec.modes) or "none"
        raise InputError(
            f"none of the modes on offer ({', '.join(mode.label for mode in given.modes)}) is "
            f"calibrated; calibrated: {known}. Offer one of these, calibrate more bits, or ask "
            "for extrapolation.",
            notices,
        )
    if fit is None:
        return given.model_copy(update={"modes": tuple(modes)})
    low = fit.keep_from if given.keep_min is None else given.keep_min
    high = given.keep_max
    if extrapolate:
        low = low if given.keep_min is not None else min(low, instance.keep_min)
        if low < fit.keep_from or high > fit.keep_to:
            text = (
                f"keep fractions {low:g} to {high:g} reach beyond the calibrated "
                f"{fit.keep_from:g} to {fit.keep_to:g}: an extrapolation"
            )
            notices.append(_notice("compression.keep_max", text, high, fit.keep_to))
    else:
        low, high = _clipped(low, high, fit, notices)
    return Compression(modes=tuple(modes), keep_min=low, keep_max=high)


def _clipped(
    low: float, high: float, fit: AccuracyFit, notices: list[Fault]
) -> tuple[float, float]:
    """The keep range within the calibrated one. Raises InputError where they do not meet."""
    if low > fit.keep_to or high < fit.keep_from:
        raise InputError(
            f"the instance's keep fractions {low:g} to {high:g} lie outside the calibrated "
            f"{fit.keep_from:g} to {fit.keep_to:g}; widen compression.keep_min / keep_max, "
            "calibrate there, or ask for extrapolation."
        )
    for field, value, limit, outside in (
        ("keep_min", low, fit.keep_from, low < fit.keep_from),
        ("keep_max", high, fit.keep_to, high > fit.keep_to),
    ):
        if outside:
            text = f"compression.{field} becomes {limit:g} (was {value:g}): calibrated up to there"
            notices.append(_notice(f"compression.{field}", text, value, limit))
    return max(low, fit.keep_from), min(high, fit.keep_to)


def _measured(
    mode: Mode, calibration: Calibration, curve: AccuracyCurve
) -> tuple[Mode | None, str]:
    """The calibrated mode of this name, or why there is none."""
    fit = calibration.accuracy
    if mode.kind is ModeKind.NONE or mode.beyond_equations:  # it has figures of its own, or needs
        return mode, ""  # none
    if mode.kind is ModeKind.DENSE:
        level = None if fit is None else fit.ecsq_levels(curve).get(mode.bits)
        if level is None:
            return None, "no fine-tuning was run with every element quantised at that loss"
        return Mode(
            name=mode.name,
            kind=ModeKind.DENSE,
            bits=mode.bits,
            value_bits=level.value_bits,
            side_bits_per_element=level.side_bits_per_element,
        ), ""
    if fit is not None and not fit.bits_from <= mode.bits <= fit.bits_to:
        return None, f"fine-tunings were run at {fit.bits_from} to {fit.bits_to} bits"
    for measured in calibration.codec.modes:
        if measured.kind is mode.kind and measured.bits == mode.bits:
            return measured.model_copy(update={"name": mode.name}), ""
    return None, "its bytes were not measured"


def _machines(
    instance: Instance, calibration: Calibration, speeds: Speeds, notices: list[Fault]
) -> tuple[Workload, tuple[Device, ...], Server]:
    """Workload, devices and server under the rule for speeds."""
    profile, workload, server = calibration.profile, calibration.workload, instance.server
    old = instance.workload
    if (old.model_type, old.blocks, old.hidden) != (
        workload.model_type,
        workload.blocks,
        workload.hidden,
    ):
        text = (
            f"the workload '{old.name}' ({old.blocks} blocks of {old.hidden}) is replaced by the "
            f"calibrated '{workload.name}' ({workload.blocks} blocks of {workload.hidden})"
        )
        notices.append(_notice("workload", text))
    batches = [one.batch for one in profile.batches]
    beyond = [d.id for d in instance.devices if not min(batches) <= d.batch <= max(batches)]
    if beyond:
        text = (
            f"the batch of {len(beyond)} device(s), '{beyond[0]}' among them, is outside the "
            f"{min(batches)} to {max(batches)} that was measured; times and bytes are taken as "
            "proportional to it"
        )
        notices.append(_notice("batch", text))
    factor = 1.0
    if speeds is Speeds.MEASURED:
        declared = median(device.compute_flops_per_s for device in instance.devices)
        factor = profile.speed_flops_per_s / declared
        workload = workload.model_copy(
            update={
                "embedding_forward_flops": profile.embedding_forward_flops,
                "block_forward_flops": profile.block_forward_flops,
                "block_backward_flops": profile.block_backward_flops,
                "head_flops": profile.head_flops,
            }
        )
        scaled = {
            name: value * factor
            for name in (
                "compute_flops_per_s",
                "compute_min_flops_per_s",
                "compute_max_flops_per_s",
            )
            if (value := getattr(server, name)) is not None
        }
        server = server.model_copy(update=scaled)
    # the codec runs on the same processor: where that is slower by so much, so is the codec
    work = calibration.codec.seconds_per_element * profile.speed_flops_per_s
    devices = tuple(
        device.model_copy(
            update={
                "compute_flops_per_s": device.compute_flops_per_s * factor,
                "codec_s_per_element": work / (device.compute_flops_per_s * factor),
            }
        )
        for device in instance.devices
    )
    return workload, devices, server


def _accuracy(
    given: Accuracy,
    calibration: Calibration,
    which: AccuracyCurve,
    minimum: float | None,
    notices: list[Fault],
) -> Accuracy:
    """The accuracy section with the calibrated curve; limits move with a_0 unless asked."""
    if minimum is not None and not abs(minimum) <= LARGEST:
        raise InputError(
            f"accuracy.minimum is {minimum:g}; a finite number in the metric is needed"
        )
    fit = calibration.accuracy
    if fit is None:
        text = "the calibration holds no fine-tunings: the accuracy curve stays as declared"
        notices.append(_notice("accuracy", text))
        return given if minimum is None else given.model_copy(update={"minimum": minimum})
    if minimum is None and given.metric != fit.metric:
        raise InputError(
            f"the instance's limit accuracy.minimum = {given.minimum:g} is in '{given.metric}', "
            f"but the calibration measures '{fit.metric}'; say what is needed in that metric "
            f"(uncompressed it reaches {fit.fit.uncompressed:.6g})."
        )
    curve = fit.curve(which)
    # a_0 of the fit for both: what is allowed to be lost is lost against the uncompressed run
    move = fit.fit.uncompressed - given.uncompressed
    if minimum is not None:
        move = minimum - given.minimum
    each = None if given.minimum_each is None else given.minimum_each + move
    if given.cut_factor is not None:
        text = "accuracy.cut_factor is dropped: the calibration does not tell cuts apart"
        notices.append(_notice("accuracy.cut_factor", text))
    name = "lower curve of the" if which is AccuracyCurve.LOWER else "fit inside a"
    return Accuracy(
        metric=fit.metric,
        uncompressed=curve.uncompressed,
        keep_loss=curve.keep_loss,
        keep_decay=curve.keep_decay,
        quantisation_loss=curve.quantisation_loss,
        quantisation_scales_with_keep=curve.quantisation_scales_with_keep,
        cut_factor=None,
        scope=given.scope,
        minimum=given.minimum + move if minimum is None else minimum,
        minimum_each=each,
        band=fit.half_width,
        provenance=f"{_origin(calibration)}: {name} {fit.confidence:.0%} band, "
        f"{len(fit.cells) * len(fit.seeds)} runs, keep {fit.keep_from:g} to {fit.keep_to:g}, "
        f"{fit.bits_from} to {fit.bits_to} bits",
    )
