"""The adapter exchange tau_a of equation (8), both rate laws and both ways down."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from sftopt.core.instance import AdapterDownlink
from sftopt.formulations.algebraic.cut_indicators import Cuts
from sftopt.formulations.algebraic.frame import Expr, Frame, linear, pairs
from sftopt.formulations.algebraic.rates import TermSum, add_rate_tangents, add_rates
from sftopt.formulations.algebraic.variables import sends_adapters

Array = NDArray[np.float64]

LEAST_ADAPTER_SHARE = 1e-8
"""In units of share_unit: the share of a device that may hold no block, where a rate of exactly 0
would divide by 0. The sum of the shares is widened by as much, so no plan is lost."""


def adapter_share_bounds(frame: Frame) -> tuple[Array, Array]:
    """Return least and greatest x^a_n (N,) in units of share_unit, from tau_a of equation (8)."""
    derived, count = frame.derived, float(frame.derived.devices)
    bits = derived.cut_low.astype(np.float64) * derived.adapter_bits_per_block
    rate = np.asarray(bits / max(frame.bounds.tau_adapter_up_s.high, 1e-300), dtype=np.float64)
    low = derived.uplink_law.inverse(rate)[0] * count * (1.0 - 1e-9)
    low = np.maximum(np.where(bits > 0.0, low, 0.0), LEAST_ADAPTER_SHARE)
    high = np.minimum(count - (low.sum() - low), count) * (1.0 + 1e-9)
    return low, np.maximum(high, low)


def add_adapter_rates(frame: Frame, term_sum: TermSum, tangents: bool) -> pyo.Var | None:
    """Add x^a_n with SUM x^a_n <= 1 and their rates, equations (3) and (8); None under ``psd``.

    Under ``psd`` the best shares are known and eliminated.
    """
    if not sends_adapters(frame):
        return None
    model, ids = frame.model, frame.ids
    low, high = adapter_share_bounds(frame)
    model.var_adapter_share = pyo.Var(
        ids, bounds=pairs(low, high, ids), doc="x^a_n, in units of share_unit"
    )
    idle = int((frame.derived.cut_low == 0).sum())
    model.con_adapter_share = pyo.Constraint(
        expr=pyo.quicksum(model.var_adapter_share.values()) <= len(ids) + idle * LEAST_ADAPTER_SHARE
    )
    share = model.var_adapter_share
    rate = add_rates(frame, "adapter", share, low, high, term_sum)
    if tangents:
        add_rate_tangents(frame, "adapter", share, rate, low, high)
    return rate


def add_adapter_products(frame: Frame, rate: pyo.Var | None) -> None:
    """Add ``con_adapter_time``: tau_a R_n >= l_n A_blk, equation (8)."""
    if rate is None:
        return
    model, load = frame.model, frame.scaled.adapter_up
    model.con_adapter_time = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_tau_adapter_up * rate[d] >= float(load[row]) * model.var_blocks[d]
            for d, row in frame.place.items()
        },
    )


def add_adapter_ratios(frame: Frame, rate: pyo.Var | None) -> None:
    """Add ``con_adapter_time``: tau_a >= l_n A_blk / R_n, equation (8)."""
    if rate is None:
        return
    model, load = frame.model, frame.scaled.adapter_up
    model.con_adapter_time = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_tau_adapter_up >= float(load[row]) * model.var_blocks[d] / rate[d]
            for d, row in frame.place.items()
        },
    )


def multicast_ends(frame: Frame) -> list[tuple[float, float]]:
    """Return the least and greatest time of each block's multicast, in units of objective_unit_s.

    Blocks from 1 up; equation (8).
    """
    derived, down = frame.derived, frame.scaled.adapter_down
    top = int(derived.cut_high.max())
    return [
        (
            float(down[derived.cut_low >= block].max(initial=0.0)),
            float(down[derived.cut_high >= block].max(initial=0.0)),
        )
        for block in range(1, top + 1)
    ]


def add_multicast(frame: Frame, cuts: Cuts | None) -> None:
    """Add t_j >= A_blk / R^d_n(1) for every holder n of block j, equation (8) under ``multicast``.

    ``var_tau_block[block]`` and ``con_block_time[dev, block]``.
    """
    if frame.derived.adapter_downlink is not AdapterDownlink.MULTICAST or cuts is None:
        return
    model, derived, down = frame.model, frame.derived, frame.scaled.adapter_down
    ends = multicast_ends(frame)
    if not any(high > 0.0 for _, high in ends):
        return
    model.var_tau_block = pyo.Var(
        range(1, len(ends) + 1), bounds={j: ends[j - 1] for j in range(1, len(ends) + 1)}
    )
    rules = {
        (d, j): model.var_tau_block[j] >= float(down[row]) * cuts.held(d, j)
        for d, row in frame.place.items()
        for j in range(int(derived.cut_low[row]) + 1, int(derived.cut_high[row]) + 1)
        if down[row] > ends[j - 1][0]
    }
    model.con_block_time = pyo.Constraint(list(rules), rule=rules)


def adapter_time(frame: Frame) -> Expr:
    """Return tau_a of equation (8), up and down, in units of objective_unit_s.

    psd, up: SUM l_n A/R^u_n(1); unicast, down: SUM l_n A/R^d_n(1).
    """
    model, scaled = frame.model, frame.scaled
    blocks = [model.var_blocks[d] for d in frame.ids]
    total = sends_adapters(frame)
    multicast = frame.derived.adapter_downlink is AdapterDownlink.MULTICAST
    slope = np.zeros(len(blocks))
    if not total:
        slope = slope + scaled.adapter_up
    if not multicast:
        slope = slope + scaled.adapter_down
    time = linear(0.0, slope, blocks)
    if total:
        time = time + model.var_tau_adapter_up
    if multicast and "var_tau_block" in model.component_map():
        time = time + pyo.quicksum(model.var_tau_block.values())
    return time
