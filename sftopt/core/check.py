"""Is this instance sound and feasible, and if not, what would have to give?

:func:`check` answers in the user's words. Every fault of severity ``error`` names one field and
the change that mends it; applying all stated changes makes the instance feasible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.optimize import brentq

from sftopt.core.asked import asked_plainly
from sftopt.core.channel import fading_gains, spectral_efficiency
from sftopt.core.derived import Derived, derive
from sftopt.core.faults import Fault
from sftopt.core.instance import AccuracyScope, Instance, ServerOrder
from sftopt.core.limits import (
    best_keep,
    feasible_point,
    option_best_cuts,
    reach,
    server_memory_fits,
)
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.option import why_left_out
from sftopt.core.payload import keep_limit
from sftopt.core.remembered import LAST, Remembered, derived_once
from sftopt.core.sense import sense_warnings
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, REFUSED, Tolerance
from sftopt.core.unused import unused_warnings

MARGIN = 1e-9
"""Relative extra in every stated change, so that rounding does not undo it."""


@dataclass(frozen=True)
class CheckReport:
    """``feasible`` is exact for problem (13); ``faults`` holds errors first, then warnings."""

    feasible: bool
    faults: tuple[Fault, ...]


@asked_plainly
def check(instance: Instance, feas_tol: float = FEASIBILITY_TOLERANCE) -> CheckReport:
    """Return all faults of a parsed instance at once; an infeasible one is an answer, no error.

    A limit can hide another (no accuracy can be judged without a mode), so the stated changes are
    tried out, and what still stands in the way then is stated too. A limit counts as met up to
    ``feas_tol``, as for the judge. Raises InputError where no mode on offer has an accuracy, where
    tokens need figures that the workload lacks, and for a ``feas_tol`` that is out of range.
    """
    return _REPORTS.of(instance, feas_tol, lambda: _checked(instance, feas_tol))


_REPORTS: Remembered[CheckReport] = Remembered(LAST)
"""Reports of the instances that were checked last."""


def _checked(instance: Instance, feas_tol: float) -> CheckReport:
    errors = errors_of(instance, feas_tol)
    warnings = (*sense_warnings(instance), *unused_warnings(instance))
    return CheckReport(not errors, (*errors, *warnings))


def errors_of(instance: Instance, feas_tol: float = FEASIBILITY_TOLERANCE) -> tuple[Fault, ...]:
    """Return the errors of :func:`check` alone: none where problem (13) has a plan.

    Raises InputError as :func:`check` does.
    """
    return _ERRORS.of(instance, feas_tol, lambda: _all_errors(instance, feas_tol))


_ERRORS: Remembered[tuple[Fault, ...]] = Remembered(LAST)
"""Errors of the instances that were checked or solved last."""


def _all_errors(instance: Instance, feas_tol: float) -> tuple[Fault, ...]:
    found = _errors(instance, derived_once(instance, feas_tol))
    errors: dict[tuple[str, str | None], Fault] = {}
    for _ in range(_TRIES):
        for fault in found:
            key = (fault.field, fault.device)
            errors[key] = _together(errors[key], fault) if key in errors else fault
        instance_then = _applied(instance, list(errors.values())) if found else None
        if instance_then is None:
            break
        found = _errors(instance_then, derive(instance_then, feas_tol=feas_tol))
    return tuple(errors.values())


_TRIES = 8
"""How often stated changes are tried out; each try can uncover one more layer."""


def _errors(instance: Instance, derived: Derived) -> list[Fault]:
    errors = [
        *_mode_faults(instance, derived),
        *_outage_faults(instance, derived),
        *_device_memory_faults(instance, derived),
        *_server_memory_faults(instance, derived),
        *_accuracy_faults(instance, derived),
    ]
    if not errors and feasible_point(derived) is None:
        errors = [_coupled_fault(instance, derived)]
    return list({(fault.field, fault.device): fault for fault in errors}.values())


_IN_ALL = "; with the other changes made, "
"""What stands before the sum of two changes of one field."""


def _together(first: Fault, second: Fault) -> Fault:
    """Two changes of one field as one, from the first value."""
    change = (first.needed_change or 0.0) + (second.needed_change or 0.0)
    text = f"{first.message.partition(_IN_ALL)[0]}{_IN_ALL}{change:+.6g} in all"
    return first.model_copy(
        update={"needed_change": change, "limit": second.limit, "message": text}
    )


def _applied(instance: Instance, faults: list[Fault]) -> Instance | None:
    """The instance with every stated change made; None where that gives no instance."""
    data = instance.to_dict()
    devices = {entry["id"]: entry for entry in data["devices"]}
    for fault in faults:
        if fault.needed_change is None or not isinstance(fault.value, int | float):
            return None
        section, _, name = fault.field.rpartition(".")
        target = data[section] if section else devices[fault.device or ""]
        target[name] = fault.value + fault.needed_change
    try:
        return Instance.model_validate(data)
    except ValidationError:
        return None


def _mode_faults(instance: Instance, derived: Derived) -> Iterator[Fault]:
    if derived.options:
        return
    known = [mode for mode in instance.compression.modes if not why_left_out(mode)]
    limit = max(keep_limit(mode, instance) for mode in known)
    wrong = f"no mode has a keep fraction left: keep_min is {instance.keep_min:.6g}, but a mask"
    if limit <= 0.0:
        yield Fault(
            field="compression.modes", value=len(instance.compression.modes), unit="modes",
            message=f"{wrong} pays at none: its side bits alone are more than the reference bits; "
            "offer a dense mode, mode none or less side_bits_per_element",
        )  # fmt: skip
        return
    yield Fault(
        field="compression.keep_min",
        value=instance.keep_min,
        limit=limit,
        unit="fraction",
        needed_change=(limit - instance.keep_min) - MARGIN * limit,
        message=f"{wrong} pays only up to {limit:.6g}; lower keep_min or offer a dense mode",
    )


def _outage_faults(instance: Instance, derived: Derived) -> Iterator[Fault]:
    radio = instance.radio
    needed = radio.outage_rate_bits_per_s
    tolerance = Tolerance(derived.feas_tol)
    noise_up = radio.noise_w_per_hz * radio.uplink_noise_figure * radio.uplink_bandwidth_hz
    noise_down = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
    links = (
        ("uplink", radio.uplink_bandwidth_hz, noise_up, derived.uplink_full_bits_per_s),
        ("downlink", radio.downlink_bandwidth_hz, noise_down, derived.downlink_full_bits_per_s),
    )
    for name, bandwidth, noise, rates in links:
        if np.all(rates >= tolerance.least_rate(needed)):
            continue
        if bandwidth * radio.efficiency_cap_bits_per_s_hz <= needed * (1.0 + MARGIN):
            most = bandwidth * radio.efficiency_cap_bits_per_s_hz
            yield Fault(
                field="radio.outage_rate_bits_per_s", value=needed, limit=most, unit="bit/s",
                needed_change=most * (1.0 - 1e-6) - needed,
                message=f"radio: the whole {name} band of {bandwidth:g} Hz carries at most "
                f"{most:g} bit/s, below outage_rate_bits_per_s = {needed:g}",
            )  # fmt: skip
            continue
        for device, rate in zip(instance.devices, rates, strict=True):
            if rate >= tolerance.least_rate(needed):
                continue
            power = (
                device.transmit_power_w if name == "uplink" else instance.server.transmit_power_w
            )
            gain = device.uplink_gain if name == "uplink" else device.gain_down
            enough = _gain_for(instance, needed / bandwidth, noise / power) * (1.0 + 1e-6)
            yield Fault(
                field=f"{name}_gain", device=device.id, value=gain, limit=enough, unit="1",
                needed_change=enough - gain,
                message=f"device {device.id}: is in outage: its whole-band {name} rate is "
                f"{rate:.4g} bit/s and at least {needed:g} bit/s are needed; {name}_gain is "
                f"{gain:.4g} and would have to be {enough:.4g} (or leave the device out)",
            )  # fmt: skip


def _gain_for(instance: Instance, efficiency: float, noise_over_power: float) -> float:
    """The linear gain at which the mean spectral efficiency reaches ``efficiency``."""
    gains = fading_gains(instance.radio)

    def short(log_snr: float) -> float:
        return float(spectral_efficiency(np.exp(log_snr), instance.radio, gains)) - efficiency

    root = brentq(short, -200.0, 200.0, xtol=1e-12)
    return float(np.exp(root)) * noise_over_power


def _device_memory_faults(instance: Instance, derived: Derived) -> Iterator[Fault]:
    only_tokens = _only_tokens(derived)
    for device, high in zip(instance.devices, derived.cut_high, strict=True):
        least = max(device.blocks_min, int(only_tokens))
        if high >= least:
            continue
        if device.blocks_max is not None and device.blocks_max < least:
            yield Fault(
                field="blocks_max", device=device.id, value=device.blocks_max, limit=least,
                unit="blocks", needed_change=least - device.blocks_max,
                message=f"device {device.id}: blocks_max is {device.blocks_max}, but every mode on "
                "offer is of kind tokens, which needs at least 1 block on the device; raise it or "
                "offer a mode of another kind",
            )  # fmt: skip
            continue
        needed = device_memory_bytes(instance.workload, device, least)
        needed *= 1.0 + MARGIN
        why = "a mode of kind tokens" if least > device.blocks_min else "the privacy floor"
        yield Fault(
            field="memory_bytes", device=device.id, value=device.memory_bytes, limit=needed,
            unit="bytes", needed_change=needed - device.memory_bytes,
            message=f"device {device.id}: memory_bytes is {device.memory_bytes:.6g}, but {why} "
            f"of {least} block(s) at batch {device.batch} needs "
            f"{needed:.6g} bytes; {needed - device.memory_bytes:.6g} bytes are missing",
        )  # fmt: skip


def _server_memory_faults(instance: Instance, derived: Derived) -> Iterator[Fault]:
    """What the server must hold when every device holds all it can."""
    most = np.maximum(derived.cut_high, np.maximum(derived.cut_floor, _only_tokens(derived)))
    in_turn = instance.server_order is ServerOrder.IN_TURN
    if in_turn and np.all(derived.cut_low <= most):
        return
    if not in_turn and server_memory_fits(derived, most, _lightest(derived)):
        return
    limit = instance.server.memory_bytes
    needed = _server_bytes(instance, derived, most, _lightest(derived))
    order = "in turn" if in_turn else "in parallel"
    yield Fault(
        field="server.memory_bytes", value=limit, limit=needed, unit="bytes",
        needed_change=needed - limit,
        message=f"server: memory_bytes is {limit:.6g}, but serving the devices {order} needs "
        f"{needed:.6g} bytes even if every device holds as many blocks as fit on it and as its "
        f"blocks_max allows; "
        f"{needed - limit:.6g} bytes are missing",
    )  # fmt: skip


def _only_tokens(derived: Derived) -> bool:
    return bool(derived.options) and all(o.tokens is not None for o in derived.options)


def _lightest(derived: Derived) -> NDArray[np.int64] | None:
    """Per device the option that saves least at the server, (N,); None without options."""
    if not derived.options:
        return None
    lightest: NDArray[np.int64] = np.argmin(derived.option_server_activation_bytes, axis=1)
    return lightest


def _server_bytes(
    instance: Instance, derived: Derived, cuts: NDArray[np.int64], choice: NDArray[np.int64] | None
) -> float:
    """Bytes at the server with which these cuts fit, a little above what they do not fit."""
    sent = None if choice is None else [derived.options[int(o)].tokens for o in choice]
    needed = server_memory_bytes(instance, [int(cut) for cut in cuts], tokens=sent)
    limit = Tolerance(derived.feas_tol).most_bytes(instance.server.memory_bytes)
    return max(needed, limit) * (1.0 + MARGIN)


def _accuracy_faults(instance: Instance, derived: Derived) -> Iterator[Fault]:
    """Accuracy that no mode and keep fraction on offer reaches, whatever the spectrum."""
    if not derived.options:
        return
    limits = instance.accuracy
    if limits.scope is AccuracyScope.COMMON:
        loss = _common_loss(derived)
        if np.isfinite(loss) and loss > derived.loss_budget - REFUSED * derived.loss_rounding:
            yield _common_fault(instance, loss)
        return
    best = reach(derived).loss
    if np.any(np.isinf(best)):  # memory leaves no cut: that is said, and tried out, first
        return
    mean = float((derived.weight * best).sum())
    lowered = limits.minimum
    if limits.scope is AccuracyScope.MEAN and (
        mean > derived.loss_budget - REFUSED * derived.loss_rounding
    ):
        fault = _mean_fault(instance, mean)
        lowered += fault.needed_change or 0.0
        yield fault
    follows = limits.scope is AccuracyScope.MEAN and limits.minimum_each is None
    freed = limits.minimum - lowered if follows else 0.0
    worst = int(np.argmax(best))
    most = derived.loss_budget_each - REFUSED * derived.loss_rounding_each
    if best[worst] > most + freed:
        name = "minimum_each" if limits.scope is AccuracyScope.MEAN else "minimum"
        floor = limits.floor_each - freed
        reached = limits.uncompressed - float(best[worst])
        change = reached - floor - _accuracy_margin(instance)
        yield Fault(
            field=f"accuracy.{name}", value=floor,
            limit=reached, unit=limits.metric, needed_change=change,
            message=f"accuracy: every device must reach {floor:.6g} ({name}), but device "
            f"{instance.devices[worst].id} reaches {reached:.6g} at best; lower it by "
            f"{-change:.3g}, keep more or offer more bits",
        )  # fmt: skip


def _accuracy_margin(instance: Instance) -> float:
    limits = instance.accuracy
    return MARGIN * max(1.0, abs(limits.uncompressed), abs(limits.minimum))


def _mean_fault(instance: Instance, loss: float) -> Fault:
    limits = instance.accuracy
    mean = limits.uncompressed - loss
    change = mean - limits.minimum - _accuracy_margin(instance)
    return Fault(
        field="accuracy.minimum", value=limits.minimum, limit=mean, unit=limits.metric,
        needed_change=change,
        message=f"accuracy: minimum is {limits.minimum:.6g}, but the best mean the modes on "
        f"offer reach is {mean:.6g}; lower it by {-change:.3g}, keep more or offer more bits",
    )  # fmt: skip


def _common_loss(derived: Derived) -> float:
    """Scope ``common``: the least loss that one mode and keep fraction give to every device.

    Loss grows with the factor, so at any one keep the device of the largest one counts.
    """
    least = np.inf
    for index, option in enumerate(derived.options):
        cuts = option_best_cuts(derived, index)
        if np.any(cuts < derived.option_cut_low[:, index]) and not derived.plain:
            continue
        levels = derived.cut_factor if option.own_loss is None else option.own_loss
        worst = cuts[[int(np.argmax(levels[cuts]))]]
        loss = derived.loss(option, best_keep(derived, option, worst), worst)
        least = min(least, float(loss[0]))
    return least


def _common_fault(instance: Instance, loss: float) -> Fault:
    limits = instance.accuracy
    reached = limits.uncompressed - loss
    change = reached - limits.minimum - _accuracy_margin(instance)
    return Fault(
        field="accuracy.minimum", value=limits.minimum, limit=reached, unit=limits.metric,
        needed_change=change,
        message=f"accuracy: minimum is {limits.minimum:.6g} for one common mode and keep "
        f"fraction, but the best on offer reaches {reached:.6g}; lower it by {-change:.3g}",
    )  # fmt: skip


def _coupled_fault(instance: Instance, derived: Derived) -> Fault:
    """Memory and accuracy are each reachable, but not together (accuracy depends on the cut).

    The server's memory is raised to what the cuts of best accuracy need.
    """
    best = reach(derived)
    needed = _server_bytes(instance, derived, best.cut, best.choice)
    limit = instance.server.memory_bytes
    on = "cut (accuracy.cut_factor)" if instance.accuracy.cut_factor else "cut or the mode"
    return Fault(
        field="server.memory_bytes", value=limit, limit=needed, unit="bytes",
        needed_change=needed - limit,
        message=f"server: accuracy depends on the {on} here, and nothing meets both the accuracy "
        f"limit and the server's memory of {limit:.6g} bytes; with {needed:.6g} bytes the cuts of "
        "best accuracy fit",
    )  # fmt: skip
