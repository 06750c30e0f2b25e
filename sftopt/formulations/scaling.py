"""Problem (13) in model units, chosen so that variables and coefficients are near 1.

Times of a step are in units of ``objective_unit_s / K`` and times of a round in units of
``objective_unit_s``, so that the four parts of equation (9) simply add up to the objective. Shares
are in units of ``share_unit`` = 1/N, losses of accuracy in units of ``loss_unit``, payloads in
bits per boundary element; everything else of a link is folded into one load per device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw
from sftopt.formulations.base import Start
from sftopt.formulations.bounds import DelayBounds, Range, delay_bounds

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaled:
    """An instance's numbers in model units; arrays have shape (N,) unless said."""

    objective_unit_s: float
    """Objective value x objective_unit_s = T of equation (9) in seconds."""
    step_unit_s: float
    """objective_unit_s / K: the unit of tau_u, tau_d, s1, s2, s3, s4 and s5."""
    share_unit: float
    loss_unit: float
    """The unit of every loss a_0 - a."""
    s1_base: Array
    s1_block: Array
    s3_base: Array
    s3_block: Array
    s5_base: Array
    s5_block: Array
    s1_more: Array
    """What an option adds to s1, (N, O); likewise below: 0 without figures of its own."""
    s3_more: Array
    s3_block_more: Array
    s5_more: Array
    uplink_load: Array
    """psd: (tau_u - s1) x >= uplink_load * beta; total: the same with the rate in place of x."""
    downlink_load: Array
    adapter_up: Array
    """psd: one block's adapters over the whole band; total: tau_a * rate >= adapter_up * l."""
    adapter_down: Array
    """One block's adapters to this device over the whole band."""
    snr_terms: Array
    """a_nk in units of ``share_unit``, shape (N, k): the total law."""
    loss_keep: float
    """a_1 / loss_unit."""
    tau_up: Range
    tau_down: Range
    tau_server: Range
    tau_adapter_up: Range
    uplink_share_low: Array
    uplink_share_high: Array
    downlink_share_low: Array
    downlink_share_high: Array


def scale(derived: Derived, start: Start | None) -> tuple[Scaled, DelayBounds]:
    """Scale data and bounds of ``derived`` to model units, set by ``start`` where there is one."""
    bounds = delay_bounds(derived, start)
    if start is None:
        unit = math.sqrt(bounds.objective_s.low * bounds.objective_s.high)
    else:
        unit = start.objective_s
    step = unit / derived.steps
    share = 1.0 / derived.devices
    if derived.power is PowerLaw.PSD:
        full = derived.uplink_full_bits_per_s
        adapter_up = derived.adapter_bits_per_block / full / unit
    else:
        best = derived.uplink_bandwidth_hz * derived.efficiency_cap
        full = np.full(derived.devices, best)
        adapter_up = derived.adapter_bits_per_block / full / (unit * share)
    loss_unit = max(abs(derived.loss_budget_each), 1e-4)
    return Scaled(
        objective_unit_s=unit,
        step_unit_s=step,
        share_unit=share,
        loss_unit=loss_unit,
        s1_base=derived.s1_base_s / step,
        s1_block=derived.s1_block_s / step,
        s3_base=derived.s3_base_s / step,
        s3_block=derived.s3_block_s / step,
        s5_base=derived.s5_base_s / step,
        s5_block=derived.s5_block_s / step,
        s1_more=(derived.option_s1_base_s - derived.s1_base_s[:, None]) / step,
        s3_more=(derived.option_s3_base_s - derived.s3_base_s[:, None]) / step,
        s3_block_more=(derived.option_s3_block_s - derived.s3_block_s[:, None]) / step,
        s5_more=(derived.option_s5_base_s - derived.s5_base_s[:, None]) / step,
        uplink_load=derived.elements / full / (step * share),
        downlink_load=derived.elements / derived.downlink_full_bits_per_s / (step * share),
        adapter_up=adapter_up,
        adapter_down=derived.adapter_bits_per_block / derived.downlink_full_bits_per_s / unit,
        snr_terms=derived.snr_terms / share,
        loss_keep=derived.loss_keep / loss_unit,
        tau_up=_in(bounds.tau_up_s, step),
        tau_down=_in(bounds.tau_down_s, step),
        tau_server=_in(bounds.tau_server_s, step),
        tau_adapter_up=_in(bounds.tau_adapter_up_s, unit),
        uplink_share_low=bounds.uplink_share_low / share,
        uplink_share_high=bounds.uplink_share_high / share,
        downlink_share_low=bounds.downlink_share_low / share,
        downlink_share_high=bounds.downlink_share_high / share,
    ), bounds


def _in(interval: Range, unit: float) -> Range:
    """``interval`` in units of ``unit``, a little wider than rounding can make it."""
    return Range(interval.low / unit * (1.0 - 1e-9), interval.high / unit * (1.0 + 1e-9))
