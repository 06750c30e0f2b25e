"""Finite bounds on times and shares that no optimal point of problem (13) can miss.

Everything follows from one number, an upper bound T on the optimum: each part of the round can
exceed its own least value only by what the other parts leave of T. Cuts and payloads range over the
continuous relaxation, so the same bounds hold for ``joint-relaxed``. Inside a solve T is a start's
verified delay. A model that is handed out may be restricted further, to plans that are all slower
than that start: there T is the worst delay at equal shares over all cuts, modes and keep fractions,
which the best plan of no such restriction exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option
from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import DownlinkPayload, PowerLaw, ServerOrder
from sftopt.core.limits import least_times_s, most_times_s
from sftopt.core.spectrum import RateLaw, least_time
from sftopt.formulations.base import Start

Array = NDArray[np.float64]

_OBJECTIVE_SLACK = 1e-6
"""Room for solvers' tolerances, relative: a start must not sit on its own bounds."""
_SHARE_SLACK = 1e-9
"""Room for rounding in the bounds of shares."""


@dataclass(frozen=True)
class Range:
    """A closed interval."""

    low: float
    high: float


@dataclass(frozen=True)
class DelayBounds:
    """Bounds in SI units; arrays have shape (N,). Bits are per boundary element."""

    objective_s: Range
    tau_up_s: Range
    tau_down_s: Range
    tau_server_s: Range
    tau_adapter_up_s: Range
    uplink_bits: Range
    downlink_bits: Range
    uplink_share_low: Array
    uplink_share_high: Array
    downlink_share_low: Array
    downlink_share_high: Array


def require_domain(derived: Derived) -> None:
    """Raise InfeasibleError where a domain is empty, so that no model could be written."""
    if not derived.options:
        raise InfeasibleError(
            "no compression mode has a keep fraction between keep_min and its own limit; "
            "lower compression.keep_min or offer another mode"
        )
    cut = [d for d, empty in zip(derived.ids, derived.cut_low > derived.cut_high, strict=True)
           if empty]  # fmt: skip
    if cut:
        raise InfeasibleError(
            f"no number of blocks suits device {_few(cut)}: what its memory holds is less than its "
            "privacy floor (blocks_min) or than what the server's memory leaves to it"
        )
    silent = [d for d, out in zip(derived.ids, derived.outage, strict=True) if out]
    if silent:
        raise InfeasibleError(
            f"device {_few(silent)} is in outage: its rate over the whole band is below "
            "radio.outage_rate_bits_per_s"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def delay_bounds(derived: Derived, start: Start | None) -> DelayBounds:
    """Bound every time and share of problem (13), from ``start`` or from the worst plan.

    Plans up to ``start.slowest_plan_s`` seconds are within the bounds, where that is given.
    """
    steps, low, high = derived.steps, derived.cut_low, derived.cut_high
    up_bits, down_bits = _uplink_bits(derived), _downlink_bits(derived)
    s1_low, s3_low, s5_low = least_times_s(derived, low, high)
    tau_up = least_time(s1_low, derived.elements * up_bits.low, derived.uplink_law)[0]
    tau_down = least_time(s5_low, derived.elements * down_bits.low, derived.downlink_law)[0]
    server = _served(derived, s3_low)
    adapter_up = adapter_up_s(derived, low)
    adapter_down = derived.adapter_down_s(low)
    least = steps * (tau_up + server + tau_down) + adapter_up + adapter_down
    most = _slowest_plan_s(start)
    if math.isinf(most):
        most = worst_delay_s(derived, up_bits, down_bits)
    most = max(most, least) * (1.0 + _OBJECTIVE_SLACK)
    room = most - least
    tau_up_high, tau_down_high = tau_up + room / steps, tau_down + room / steps
    up = _shares(s1_low, derived.elements * up_bits.low, tau_up_high, derived.uplink_law)
    down = _shares(s5_low, derived.elements * down_bits.low, tau_down_high, derived.downlink_law)
    return DelayBounds(
        objective_s=Range(least, most),
        tau_up_s=Range(tau_up, tau_up_high),
        tau_down_s=Range(tau_down, tau_down_high),
        tau_server_s=Range(server, server + room / steps),
        tau_adapter_up_s=Range(adapter_up, adapter_up + room),
        uplink_bits=up_bits,
        downlink_bits=down_bits,
        uplink_share_low=up[0],
        uplink_share_high=up[1],
        downlink_share_low=down[0],
        downlink_share_high=down[1],
    )


def _slowest_plan_s(start: Start | None) -> float:
    """The delay up to which plans must be within the bounds; infinite for the worst plan's."""
    if start is None:
        return math.inf
    return start.objective_s if start.slowest_plan_s is None else start.slowest_plan_s


def keep_range(derived: Derived) -> Range | None:
    """Return the keep fractions of all masked options together; None where no option has a mask."""
    masked = [option for option in derived.options if option.has_mask]
    return keep_span(masked) if masked else None


def keep_span(masked: Iterable[Option]) -> Range:
    """Return the keep fractions of some masked options together, strictly inside (0, 1)."""
    ends = [(option.keep_low, option.keep_high) for option in masked]
    low = min(low for low, _ in ends)
    # H2 is written with logarithms: an end at exactly 1 (omega 0) moves by 1e-9
    return Range(low, max(min(max(high for _, high in ends), 1.0 - 1e-9), low))


def _uplink_bits(derived: Derived) -> Range:
    """Least and greatest beta, bits per element; beta is concave in the keep fraction."""
    keep = keep_range(derived)
    lows, highs = [], []
    for option in derived.options:
        ends = [keep.low, keep.high] if option.has_mask and keep is not None else [1.0]
        lows.append(float(np.min(derived.beta_up(option, np.array(ends)))))
        highs.append(float(derived.beta_up(option, option.keep_high)))
    return Range(min(lows), max(highs))


def _downlink_bits(derived: Derived) -> Range:
    """Least and greatest beta_g, bits per element; linear in the keep fraction."""
    if derived.downlink is DownlinkPayload.DENSE:
        return Range(float(derived.constants_down.min()), float(derived.constants_down.max()))
    keep = keep_range(derived)
    lows, highs = [], []
    for option in derived.options:
        low = keep.low if option.has_mask and keep is not None else 1.0
        lows.append(float(derived.beta_down(option, low)))
        highs.append(float(derived.beta_down(option, option.keep_high)))
    return Range(min(lows), max(highs))


def adapter_up_s(derived: Derived, cuts: Array | NDArray[np.int64]) -> float:
    """Return the seconds of tau_a's uplink part at the best shares, cuts (N,); equation (8)."""
    bits = derived.adapter_bits(cuts)
    if derived.power is PowerLaw.PSD:
        return float((bits / derived.uplink_full_bits_per_s).sum())
    return least_time(np.zeros_like(bits), bits, derived.uplink_law)[0]


def _served(derived: Derived, each: Array) -> float:
    """The server's part of a step of which ``each`` device takes so much; equation (7)."""
    return float(each.sum() if derived.server_order is ServerOrder.IN_TURN else each.max())


def worst_delay_s(derived: Derived, up_bits: Range, down_bits: Range) -> float:
    """Return a delay in seconds that every plan with equal shares keeps to: a bound from above."""
    count, high = derived.devices, derived.cut_high
    equal = np.full(count, 1.0 / count)
    forward, served, backward = most_times_s(derived, derived.cut_low, high)
    up = forward + derived.elements * up_bits.high / derived.uplink_law.rate(equal)
    down = backward + derived.elements * down_bits.high / derived.downlink_law.rate(equal)
    step = float(up.max() + down.max()) + _served(derived, served)
    return derived.steps * step + adapter_up_s(derived, high) + derived.adapter_down_s(high)


def _shares(
    fixed_s: Array, payload_bits: Array, tau_high_s: float, law: RateLaw
) -> tuple[Array, Array]:
    """Least and greatest share of every device where the barrier is at most ``tau_high_s``."""
    low = law.inverse(payload_bits / (tau_high_s - fixed_s))[0] * (1.0 - _SHARE_SLACK)
    high = np.minimum(1.0 - (low.sum() - low) + _SHARE_SLACK, 1.0)
    return low, np.maximum(high, low)
