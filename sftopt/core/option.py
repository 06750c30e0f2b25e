"""The options of problem (13): a compression mode on one interval of the keep fraction.

A mode with measured figures of its own (section 10 of ``formulations/MODEL.md``: an operating
point) and kind tokens are options too; what they change beside the payload is in
:mod:`sftopt.core.derived`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.payload import keep_limit, tolerated_keep
from sftopt.core.tolerance import Tolerance

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """A compression mode on one interval of the keep fraction, with constant coefficients.

    A mode whose mask overhead omega is given by intervals becomes one option per interval.
    """

    mode: int
    kind: ModeKind
    bits: int
    label: str
    keep_low: float
    keep_high: float
    eta: float
    omega: float
    sigma: float
    noise: float
    """a_3 4^-q (times rho where ``noise_scales``); 0 under mode none."""
    own_loss: Array | None = field(default=None, compare=False)
    """Measured loss by blocks held, shape (L,), in the place of equation (12)."""
    gradient_bits: float | None = None
    """Measured downlink bits per element, in the place of equation (2)."""
    codec_factor: float = 1.0
    """c_o of equation (4)."""
    tokens: int | None = None
    """S' of kind tokens."""

    @property
    def has_mask(self) -> bool:
        """Tell whether the keep fraction is a decision: under Top-K."""
        return self.kind is ModeKind.TOPK

    @property
    def is_point(self) -> bool:
        """Tell whether it has any figure of its own: times, memory or loss then depend on it."""
        own = (self.own_loss, self.gradient_bits, self.tokens)
        return self.codec_factor != 1.0 or any(figure is not None for figure in own)


def why_left_out(mode: Mode) -> str:
    """Say what a mode lacks to be an option of problem (13); empty where it lacks nothing."""
    if mode.kind is ModeKind.TOKENS and mode.loss is None:
        return "kind tokens has no accuracy of its own: give its loss, measured over S' tokens"
    return ""


def options_of(instance: Instance, tolerance: Tolerance) -> tuple[Option, ...]:
    """Return all non-empty (mode, interval of the keep fraction) pairs.

    Raises InputError where every mode is left out, and for tokens of a decoder.
    """
    options: list[Option] = []
    offered = list(enumerate(instance.compression.modes))
    known = [(index, mode) for index, mode in offered if not why_left_out(mode)]
    if not known:
        raise _none_known(instance)
    for index, mode in known:
        if mode.kind is ModeKind.TOKENS and instance.workload.is_decoder:
            raise _tokens_of_decoder(instance, index, mode)
        if mode.kind is ModeKind.TOPK:
            options.extend(_masked(instance, index, mode, tolerance))
        else:
            options.append(_unmasked(instance, index, mode))
    return tuple(options)


def _unmasked(instance: Instance, index: int, mode: Mode) -> Option:
    none = mode.kind is ModeKind.NONE
    reference = instance.workload.reference_bits
    loss = None
    if mode.loss is not None:
        loss = np.broadcast_to(np.array(mode.loss, dtype=float), (instance.workload.blocks,)).copy()
    return Option(
        mode=index,
        kind=mode.kind,
        bits=reference if none else mode.bits,
        label=mode.label,
        keep_low=1.0,
        keep_high=1.0,
        eta=float(reference) if none else mode.entropy_bits,
        omega=0.0,
        sigma=0.0 if none else mode.side_bits_per_element,
        noise=0.0 if none else _noise(instance, mode),
        own_loss=loss,
        gradient_bits=mode.gradient_bits,
        codec_factor=mode.codec_seconds_factor,
        tokens=mode.tokens,
    )


def _masked(instance: Instance, index: int, mode: Mode, tolerance: Tolerance) -> Iterator[Option]:
    limit = keep_limit(mode, instance)
    first, last = mode.mask_overhead[0], mode.mask_overhead[-1]
    for part in mode.mask_overhead:
        # outside all intervals the nearest one's omega holds
        low = tolerance.least_keep(instance.keep_min)
        high = tolerated_keep(mode, limit, tolerance.feas_tol)
        low = low if part is first else max(low, part.keep_from)
        high = high if part is last else min(high, part.keep_to)
        if low <= high:
            yield Option(
                mode=index,
                kind=mode.kind,
                bits=mode.bits,
                label=mode.label,
                keep_low=low,
                keep_high=high,
                eta=mode.entropy_bits,
                omega=part.factor,
                sigma=mode.side_bits_per_element,
                noise=_noise(instance, mode),
                codec_factor=mode.codec_seconds_factor,
            )


def _noise(instance: Instance, mode: Mode) -> float:
    return float(instance.accuracy.quantisation_loss * 4.0 ** (-mode.bits))


def _none_known(instance: Instance) -> InputError:
    named = "; ".join(
        f"'{mode.label}': {why_left_out(mode)}" for mode in instance.compression.modes
    )
    message = (
        f"compression.modes: every mode on offer is left out ({named}); "
        "offer a mode of kind topk, dense or none"
    )
    return InputError(
        f"instance '{instance.name}': {message}",
        [Fault(field="compression.modes", value=len(instance.compression.modes), unit="modes",
               message=message)],
    )  # fmt: skip


def _tokens_of_decoder(instance: Instance, index: int, mode: Mode) -> InputError:
    field = f"compression.modes[{index}]"
    message = (
        f"{field}: mode '{mode.label}' is of kind tokens, which needs an encoder with a CLS token; "
        f"the workload is a decoder (workload.is_decoder); take the mode out"
    )
    return InputError(
        f"instance '{instance.name}': {message}",
        [Fault(field=field, value=mode.label, message=message)],
    )
