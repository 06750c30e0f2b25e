"""Which codec carries a planned mode: the calibrated one, the published chain, or as asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sftopt.core.calibration import Calibration
from sftopt.core.codec_files import found
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.training.codec import (
    CodecConfig,
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    TokensConfig,
    TopKConfig,
    codec_from,
)
from sftopt.training.codec.base import REGISTRY
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.split import BoundaryCodec, DeviceSplit, LosslessCodec

CodecChooser = Callable[[DeviceSplit], CodecConfig]
"""The codec of a device's mode, bits and keep fraction."""


@dataclass(frozen=True)
class CodecOverride:
    """A codec for all devices in place of the plan's; what is not named stays as planned."""

    name: str
    options: dict[str, Any]

    @staticmethod
    def parse(text: str) -> CodecOverride:
        """Parse ``NAME`` or ``NAME:option=value,...``, such as ``ecsq:bits=2.4``.

        Raises InputError for a name or an option that is not known.
        """
        name, _, rest = text.partition(":")
        known = [codec for codec, kind in REGISTRY.items() if not kind.needs_scores]
        if name not in known:
            raise UnknownNameError("codec", name, known)
        options: dict[str, Any] = {}
        for pair in filter(None, rest.split(",")):
            option, equals, value = pair.partition("=")
            if not equals or not option.strip():
                raise InputError(f"codec option '{pair}': give it as NAME=VALUE")
            options[option.strip()] = _value(value.strip())
        return CodecOverride(name, options)


def codec_chooser(
    instance: Instance,
    calibration: Calibration | None = None,
    override: CodecOverride | None = None,
    scheme: str | None = None,
    model: str = "",
) -> CodecChooser:
    """Choose the codec of each device; ``scheme`` is the one whose plan is run, ``model`` the
    folder in which files are looked for that the calibration names by its model.

    ``topk``: with the calibration's options (rate, group, centring), else the default ones.
    ``dense``: with a calibration the dead-zone quantiser that was measured for this mode; the
    stochastic quantiser without one, and for a mode that a scheme brings along; a point of the
    calibration's menu is carried by its own codec. ``none``: the
    instance's reference precision. ``tokens``: as many as the mode sends, the last the merged one.
    Raises InputError where the calibration has no codec for a mode of the instance. Codecs of bases
    are told the cut.
    """

    def of_mode(device: DeviceSplit) -> CodecConfig:
        if override is not None:
            return _overridden(override, device)
        point = None if calibration is None else calibration.point(device.mode_name)
        if point is not None:
            return _config(found(point.codec, Path.cwd(), model), EcsqConfig.codec)
        if device.mode is ModeKind.TOKENS:
            sent = _mode_of(instance, device).tokens
            assert sent is not None, "a mode of kind tokens says how many"
            return TokensConfig(tokens=sent - 1, bits=device.bits)
        if device.mode is ModeKind.NONE:
            return NoneConfig(precision=f"float{instance.workload.reference_bits}")
        if device.mode is ModeKind.TOPK:
            options = {} if calibration is None else dict(calibration.codec.config)
            options |= {"bits": device.bits, "keep": device.keep_fraction}
            return _config(options, TopKConfig.codec)
        mode = _mode_of(instance, device)
        brought_along = scheme is not None and mode.value_bits is None
        if calibration is None or brought_along:
            return QuantiseConfig(bits=device.bits)
        return _dead_zone(calibration, mode)

    return lambda device: told_of_cut(of_mode(device), device.blocks)


def _mode_of(instance: Instance, device: DeviceSplit) -> Mode:
    """The instance's mode that a device's entry names, by name or else by kind and bits."""
    for mode in instance.compression.modes:
        if device.mode_name is not None:
            if mode.label == device.mode_name:
                return mode
        elif mode.kind is device.mode and mode.bits == device.bits:
            return mode
    raise UnknownNameError(
        "mode",
        device.mode_name or f"{device.mode.value}{device.bits}",
        [mode.label for mode in instance.compression.modes],
    )


def codec_of(config: CodecConfig) -> BoundaryCodec:
    """Make the codec itself; what loses nothing needs none."""
    if isinstance(config, NoneConfig) and config.precision == "float32":
        return LosslessCodec()
    return codec_from(config)


def _config(options: dict[str, Any], usual: str) -> CodecConfig:
    """Of the codec that ``options`` name; the ``usual`` one where they name none."""
    return REGISTRY[options.get("codec", usual)].config_class.from_dict(options)


def _dead_zone(calibration: Calibration, mode: Mode) -> CodecConfig:
    """The measured dead-zone level that a mode ``dense`` of a calibrated instance stands for."""
    fit = calibration.accuracy
    for cell in () if fit is None else fit.ecsq:
        if cell.value_bits == mode.value_bits:
            given = {} if fit is None else dict(fit.settings.get("ecsq_codec", {}))
            return _config({**given, "bits": cell.target_bits}, EcsqConfig.codec)
    raise InputError(
        f"mode {mode.label} of the instance is not one that calibration '{calibration.name}' "
        "measured. Give the calibration the instance was made with."
    )


def _overridden(override: CodecOverride, device: DeviceSplit) -> CodecConfig:
    """What the override leaves open is the plan's; a mode that has no such value must be told."""
    kind = REGISTRY[override.name].config_class
    open_names = {entry.name for entry in fields(kind)} & {"bits", "keep"} - set(override.options)
    if issubclass(kind, EcsqConfig):  # its bits are an entropy, no plan's bits; a step will do
        open_names = set() if "step" in override.options else open_names
        planned: dict[str, Any] = {}
    else:
        planned = {"bits": device.bits, "keep": device.keep_fraction}
        planned = {} if device.mode is ModeKind.NONE else planned
    missing = sorted(open_names - set(planned))
    if missing:
        raise InputError(
            f"codec {override.name} for device {device.id}: the plan does not give "
            f"{' and '.join(missing)}; say for instance "
            f"{override.name}:{','.join(f'{name}=...' for name in missing)}"
        )
    chosen = {name: planned[name] for name in open_names}
    return kind.from_dict({**chosen, **override.options})


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
