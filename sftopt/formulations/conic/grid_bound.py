"""A proven lower bound on problem (13) from the duals of its grid relaxation.

A solver's dual objective holds to its tolerances only. Here its multipliers serve as prices, and
the Lagrangian is minimised by enumeration, so that the bound holds whatever the prices are:

For alpha >= 0 with sum 1, lambda >= 0 and shares that sum to at most 1 (equations (4), (7)),

    tau_u >= SUM_n alpha_n (s1_n + s2_n) + lambda (SUM_n x_n - 1)
          >= SUM_n [alpha_n s1_n + min_x (lambda x + alpha_n load_n beta_n / R_n(x))] - lambda,

and the inner minimum is 2 sqrt(alpha_n lambda load_n beta_n) under a linear law. Under ``total``,
R_n lies below each of its tangents r + s x, which gives 2 sqrt(alpha_n lambda load_n beta_n / s) -
lambda r / s, or 0 where that is more. The downlink, the adapters, the parallel server and
multicast have barriers of the same kind; accuracy and the server's memory get a price each. What
is left separates into one minimum per device over its cuts and items. The items of
:func:`sftopt.formulations.conic.grid_items.covering_items` have every keep fraction above a mixture
of theirs, and mixtures of the least are no less than the least, so the minimum over items bounds
the minimum over keep fractions. Rounding is all that is left; :data:`MARGIN` covers it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.entropy import LN2
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.formulations.conic.families import (
    adapter_slope,
    loss_table,
    memory_table,
    server_memory_row,
    server_table,
)
from sftopt.formulations.conic.frame import ConicFrame, Link, needs_pairs
from sftopt.formulations.conic.grid_items import allowed_cuts, allowed_items, by_item, rows_of
from sftopt.formulations.conic.grid_model import GridModel

Array = NDArray[np.float64]

MARGIN = 1e-9
"""Relative to the sum of all terms' magnitudes: far above what rounding can do to a sum of them."""


def grid_bound_s(problem: Any) -> float | None:
    """Return a lower bound on problem (13) in seconds at the duals of ``problem``; None without."""
    grid: GridModel = problem.grid
    if any(c.dual_value is None for c in grid.frame.builder.constraints.values()):
        return None
    constant, by_cut, of_item = _prices(grid)
    of_item = np.broadcast_to(of_item, (grid.frame.derived.devices, of_item.shape[-1]))
    value, size = _least(grid.frame, by_cut, of_item)
    size += abs(constant)
    bound = constant + value - MARGIN * size
    return float(bound * grid.frame.scaled.objective_unit_s) if np.isfinite(bound) else None


def _dual(frame: ConicFrame, name: str) -> Array:
    """A constraint's multipliers, none negative."""
    value = np.asarray(frame.builder.constraints[name].dual_value, dtype=float)
    found: Array = np.maximum(np.nan_to_num(np.atleast_1d(value)), 0.0)
    return found


def _simplex(weights: Array) -> Array:
    """Weights scaled to sum to 1; equal ones where all vanish."""
    total = weights.sum()
    return weights / total if total > 0.0 else np.full(len(weights), 1.0 / len(weights))


def _prices(grid: GridModel) -> tuple[float, Array, Array]:
    """(constant, cost by device and cut (N, L), cost by device and item) of the Lagrangian.

    In units of the objective; equations (4)-(9) and the price of equation (11). The loss of
    equation (12) comes in :func:`_least`.
    """
    frame = grid.frame
    derived, scaled = frame.derived, frame.scaled
    cuts = np.arange(derived.blocks, dtype=float)
    by_cut = adapter_slope(frame)[:, None] * cuts
    rows = rows_of(frame.items, derived.devices)
    up = _simplex(_dual(frame, "con_uplink_time"))
    down = _simplex(_dual(frame, "con_downlink_time"))
    by_cut = by_cut + up[:, None] * (scaled.s1_base[:, None] + scaled.s1_block[:, None] * cuts)
    by_cut = by_cut + down[:, None] * (scaled.s5_base[:, None] + scaled.s5_block[:, None] * cuts)
    up_item, up_band = _sending(frame, frame.uplink, up, rows.root_up)
    down_item, down_band = _sending(frame, frame.downlink, down, rows.root_down)
    if not derived.plain:
        up_item = up_item + up[:, None] * by_item(scaled.s1_more, frame.items)
        down_item = down_item + down[:, None] * by_item(scaled.s5_more, frame.items)
    constant = -up_band - down_band
    if frame.adapter is not None:
        each = _simplex(_dual(frame, "con_adapter_time"))
        roots = np.broadcast_to(np.sqrt(cuts), (derived.devices, len(cuts)))
        cost, band = _sending(frame, frame.adapter, each, roots)
        by_cut, constant = by_cut + cost, constant - band
    server = scaled.s3_base[:, None] - scaled.s3_block[:, None] * cuts
    if derived.server_order is ServerOrder.PARALLEL:
        by_cut = by_cut + _simplex(_dual(frame, "con_server_time"))[:, None] * server
        price = float(_dual(frame, "con_server_memory")[0])
        held, limit = server_memory_row(frame)
        by_cut = by_cut + price * held[:, None] * (derived.blocks - cuts)
        constant -= price * limit
    else:
        by_cut = by_cut + server
    if "var_tau_block" in frame.variables:
        by_cut = by_cut + _multicast(frame)
    return constant, by_cut, up_item + down_item


def _sending(frame: ConicFrame, link: Link, weight: Array, root: Array) -> tuple[Array, float]:
    """(least cost per device and root, price of the whole band) of one barrier, (N, G)."""
    price = float(_dual(frame, f"con_{link.name}_share")[0])
    # the band's price is per whole band; a share in own units costs share_unit / N of it
    each = price * link.share_unit / frame.derived.devices
    if link.snr_terms is None:
        cost: Array = 2.0 * np.sqrt((weight * each * link.load)[:, None]) * root
        return cost, price
    offset, slope = _tangents(frame, link)
    safe = np.maximum(slope, 1e-300)
    cost = 2.0 * np.sqrt((weight * each / safe * link.load)[:, None]) * root
    cost = np.where(slope[:, None] > 1e-12, cost - (each * offset / safe)[:, None], 0.0)
    return np.maximum(cost, 0.0), price


def _tangents(frame: ConicFrame, link: Link) -> tuple[Array, Array]:
    """R <= offset + slope x under ``total``, equation (3), at the solution's shares, (N,) each.

    Every term x min(log2(1 + a/x), C) is concave, so a tangent (or at the cap's kink any line
    between the two) lies above it.
    """
    assert link.snr_terms is not None
    cap = frame.derived.efficiency_cap
    found = np.nan_to_num(frame.variables[f"var_{link.name}_share"].value)
    share = np.clip(found, 1e-12, None)[:, None]
    ratio = link.snr_terms / share
    each = np.log1p(ratio) / LN2
    capped = each >= cap
    # x log2(1 + a/x) = slope x + offset at x, with offset = a / (1 + a/x) / ln 2
    slope = np.where(capped, cap, each - ratio / (1.0 + ratio) / LN2)
    offset = np.where(capped, 0.0, link.snr_terms / (1.0 + ratio) / LN2)
    scale = link.share_unit / link.rate_unit / cap
    return offset.mean(axis=1) * scale, slope.mean(axis=1) * scale


def _multicast(frame: ConicFrame) -> Array:
    """SUM_j omega_nj A / R^d_n [l_n >= j], omega >= 0 with sum 1 over n: equation (8), (N, L)."""
    derived = frame.derived
    cost = np.zeros((derived.devices, derived.blocks))
    for block in range(1, int(derived.cut_high.max()) + 1):
        weight = _simplex(_dual(frame, f"con_block_time_{block}"))
        cost[:, block:] += (weight * frame.scaled.adapter_down)[:, None]
    return cost


def _of_pair(frame: ConicFrame) -> Array | float:
    """What cut and item cost together beside the loss, (N, L, G): tokens at the server."""
    derived = frame.derived
    if derived.plain:
        return 0.0
    cost: Array = np.where(allowed_items(derived, frame.items), server_table(frame), np.inf)
    if derived.server_order is ServerOrder.PARALLEL:
        late = _simplex(_dual(frame, "con_server_time"))[:, None, None]
        price = float(_dual(frame, "con_server_memory")[0])
        cost = late * server_table(frame) + price * memory_table(frame)
        cost = np.where(allowed_items(derived, frame.items), cost, np.inf)
    return cost


def _least(frame: ConicFrame, by_cut: Array, of_item: Array) -> tuple[float, float]:
    """Least priced cost over all cuts and items, loss of equation (12) included, and its size."""
    derived = frame.derived
    unit = frame.scaled.loss_unit
    own = _dual(frame, "con_accuracy")
    price, paid = own, float(own.sum()) * derived.loss_budget_each / unit
    if derived.scope is AccuracyScope.MEAN:
        mean = float(_dual(frame, "con_accuracy_mean")[0])
        price = own + mean * derived.weight
        paid += mean * derived.loss_budget / unit
    closed = np.where(allowed_cuts(derived), 0.0, np.inf)
    if needs_pairs(derived):
        table = loss_table(frame) / unit * price[:, None, None]
        table = table + (by_cut + closed)[:, :, None] + of_item[:, None, :] + _of_pair(frame)
        best = table.min(axis=1)
    else:
        rows = rows_of(frame.items, derived.devices)
        loss = rows.loss(derived, 1.0) / unit * price[:, None]
        best = (by_cut + closed).min(axis=1)[:, None] + of_item + loss
    together = derived.scope is AccuracyScope.COMMON
    value = float(best.sum(axis=0).min() if together else best.min(axis=1).sum())
    size = float(np.abs(best.min(axis=1)).sum()) + abs(paid)
    return value - paid, size
