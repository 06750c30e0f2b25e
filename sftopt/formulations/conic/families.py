"""The families of problem (13) around the links, for CVXPY models: linear all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, AdapterDownlink, PowerLaw, ServerOrder
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.conic.frame import ConicFrame, needs_pairs
from sftopt.formulations.conic.grid_items import by_item, rows_of
from sftopt.formulations.conic.links import LinkRules, Root, add_link

Array = NDArray[np.float64]


def payload_root(frame: ConicFrame, roots: Array) -> Root:
    """Return SUM_g sqrt(payload_g) m_ng for roots of shape (N or 1, G), equations (1) and (2)."""
    count = frame.derived.devices
    value = cp.sum(cp.multiply(roots, frame.variables["var_item"]), axis=1)
    if roots.shape[0] != count:
        value = np.ones((count, 1)) @ value
    full = np.broadcast_to(roots, (count, roots.shape[1]))
    return Root(value, full.min(axis=1), full.max(axis=1))


def add_uplink(frame: ConicFrame, rules: LinkRules) -> Root:
    """Add tau_u >= s1_n(l_n) + s2_n, equations (1), (4) and (7)."""
    scaled, root = frame.scaled, payload_root(frame, frame.items.root_up)
    fixed = scaled.s1_base + cp.multiply(scaled.s1_block, frame.variables["var_blocks"])
    fixed = fixed + _by_mode(frame, scaled.s1_more)
    add_link(frame, frame.uplink, frame.variables["var_tau_up"], fixed, root, rules)
    return root


def add_downlink(frame: ConicFrame, rules: LinkRules) -> Root:
    """Add tau_d >= s4_n + s5_n(l_n), equations (2), (6) and (7)."""
    scaled, root = frame.scaled, payload_root(frame, frame.items.root_down)
    fixed = scaled.s5_base + cp.multiply(scaled.s5_block, frame.variables["var_blocks"])
    fixed = fixed + _by_mode(frame, scaled.s5_more)
    add_link(frame, frame.downlink, frame.variables["var_tau_down"], fixed, root, rules)
    return root


def _by_mode(frame: ConicFrame, table: Array) -> Any:
    """SUM_g table_n,o(g) m_ng, (N,), of what options have of their own, (N, O); 0 without."""
    if frame.derived.plain:
        return 0.0
    chosen = frame.variables["var_item"]
    if chosen.shape[0] != frame.derived.devices:
        chosen = np.ones((frame.derived.devices, 1)) @ chosen
    return cp.sum(cp.multiply(by_item(table, frame.items), chosen), axis=1)


def _by_pair(frame: ConicFrame, table: Array) -> Any:
    """SUM_lg table_nlg p_nlg, (N,), for a table (N, L, G)."""
    pairs = frame.cut_pairs
    assert pairs is not None
    product = frame.variables["var_cut_item"]
    return pairs.by_device @ cp.sum(cp.multiply(table[pairs.device, pairs.cut], product), axis=1)


def server_table(frame: ConicFrame) -> Array:
    """Return what items add to s3, (N, L, G) in step units: tokens change the server's work."""
    scaled, cuts = frame.scaled, np.arange(frame.derived.blocks)[None, :, None]
    more = by_item(scaled.s3_more, frame.items)[:, None, :]
    value: Array = more - cuts * by_item(scaled.s3_block_more, frame.items)[:, None, :]
    return value


def memory_table(frame: ConicFrame) -> Array:
    """Return what items add to the server's memory, (N, L, G), scaled as server_memory_row."""
    derived, cuts = frame.derived, np.arange(frame.derived.blocks)[None, :, None]
    plain = derived.server_activation_bytes[:, None]
    more = by_item(derived.option_server_activation_bytes - plain, frame.items)[:, None, :]
    value: Array = more * (derived.blocks - cuts) / _memory_unit(derived)
    return value


def add_adapter_uplink(frame: ConicFrame, rules: LinkRules) -> Root | None:
    """Add tau_a R_n(x^a_n) >= l_n A under ``total``, equation (8); None where nothing is sent so.

    With a binary per cut the root of the blocks is exact; without, its chord over the allowed
    cuts lies below it, as sqrt is concave.
    """
    if frame.adapter is None:
        return None
    derived = frame.derived
    low, high = derived.cut_low.astype(float), derived.cut_high.astype(float)
    barrier = frame.variable("var_tau_adapter_up", nonneg=True)
    pairs = frame.cut_pairs
    if pairs is not None:
        cut = frame.variables["var_cut"]
        value = (pairs.by_device * np.sqrt(pairs.cut)) @ cut
        sends = pairs.held(1) @ cut
    else:
        slope = (np.sqrt(high) - np.sqrt(low)) / np.maximum(high - low, 1.0)
        blocks = frame.variables["var_blocks"]
        value = np.sqrt(low) + cp.multiply(slope, blocks - low)
        sends = np.ones(derived.devices)
    root = Root(value, np.sqrt(np.maximum(low, 1.0)), np.sqrt(np.maximum(high, 1.0)), sends)
    add_link(frame, frame.adapter, barrier, np.zeros(derived.devices), root, rules)
    return root


def add_multicast(frame: ConicFrame) -> None:
    """Add t_j >= A / R^d_n(1) for every holder n of block j, equation (8) under ``multicast``."""
    derived = frame.derived
    pairs = frame.cut_pairs
    multicast = derived.adapter_downlink is AdapterDownlink.MULTICAST
    top = int(derived.cut_high.max())
    if not multicast or pairs is None or derived.adapter_bits_per_block <= 0.0 or top == 0:
        return
    time = frame.variable("var_tau_block", top, nonneg=True)
    for block in range(1, top + 1):
        held = frame.scaled.adapter_down[:, None] * pairs.held(block)
        row = time[block - 1] * np.ones(derived.devices)
        frame.builder.add(
            f"con_block_time_{block}", row >= held @ frame.variables["var_cut"], frame.ids
        )


def add_server(frame: ConicFrame) -> None:
    """Add the ``parallel`` server's barrier, equation (7), and its memory, equation (11)."""
    derived, scaled = frame.derived, frame.scaled
    if derived.server_order is not ServerOrder.PARALLEL:
        return
    blocks, barrier = frame.variables["var_blocks"], frame.variables["var_tau_server"]
    time = scaled.s3_base - cp.multiply(scaled.s3_block, blocks)
    held, limit = server_memory_row(frame)
    used = held @ (derived.blocks - blocks)
    if not derived.plain:
        time = time + _by_pair(frame, server_table(frame))
        used = used + cp.sum(_by_pair(frame, memory_table(frame)))
    frame.builder.add("con_server_time", time <= barrier * np.ones(derived.devices), frame.ids)
    frame.builder.add("con_server_memory", used <= limit)


def server_memory_row(frame: ConicFrame) -> tuple[Array, float]:
    """Return weights and limit, scaled, of SUM held_n (L - l_n) <= limit, equation (11)."""
    derived = frame.derived
    unit = _memory_unit(derived)
    return (
        derived.server_activation_bytes / unit, derived.server_activation_budget_bytes / unit
    )  # fmt: skip


def _memory_unit(derived: Derived) -> float:
    budget = abs(derived.server_activation_budget_bytes)
    return max(budget, float(derived.server_activation_bytes.sum()), 1e-300)


def add_accuracy(frame: ConicFrame) -> None:
    """Add equation (12): the mean under scope ``mean``, every device's own limit in all scopes."""
    derived, builder = frame.derived, frame.builder
    unit = frame.scaled.loss_unit
    joined = needs_pairs(derived)
    loss = _by_pair(frame, loss_table(frame) / unit) if joined else _losses(frame)
    budget = np.full(derived.devices, derived.loss_budget_each / unit)
    builder.add("con_accuracy", loss <= budget, frame.ids)
    if derived.scope is AccuracyScope.MEAN:
        builder.add("con_accuracy_mean", derived.weight @ loss <= derived.loss_budget / unit)


def _losses(frame: ConicFrame) -> Any:
    """SUM_g loss_g m_ng in units of loss_unit, shape (N,), equation (12) without cut factors."""
    table = frame.items.loss(frame.derived, 1.0) / frame.scaled.loss_unit
    loss = cp.sum(cp.multiply(table, frame.variables["var_item"]), axis=1)
    return (
        loss
        if table.shape[0] == frame.derived.devices
        else np.ones((frame.derived.devices, 1)) @ loss
    )


def loss_table(frame: ConicFrame) -> Array:
    """Return the losses by device, cut and item, shape (N, L, G), equation (12)."""
    derived = frame.derived
    rows = rows_of(frame.items, derived.devices)
    factor = derived.cut_factor[None, :, None]
    value: Array = factor * derived.loss_keep * rows.fade[:, None, :] + rows.noise[:, None, :]
    if derived.plain:
        return value
    none = np.zeros(derived.blocks)
    own = [none if option.own_loss is None else option.own_loss for option in derived.options]
    measured = np.array(own)[rows.option].transpose(0, 2, 1)
    return np.asarray(value + measured)


def round_time(frame: ConicFrame) -> Any:
    """Return T of equation (9) in units of objective_unit_s."""
    derived, scaled, known = frame.derived, frame.scaled, frame.variables
    blocks = known["var_blocks"]
    time = known["var_tau_up"] + known["var_tau_down"]
    slope = adapter_slope(frame)
    if derived.server_order is ServerOrder.PARALLEL:
        time = time + known["var_tau_server"]
    else:
        time = time + float(scaled.s3_base.sum())
        slope = slope - scaled.s3_block
        if not derived.plain:
            time = time + cp.sum(_by_pair(frame, server_table(frame)))
    time = time + slope @ blocks
    if "var_tau_adapter_up" in known:
        time = time + known["var_tau_adapter_up"]
    if "var_tau_block" in known:
        time = time + cp.sum(known["var_tau_block"])
    return time


def adapter_slope(frame: ConicFrame) -> Array:
    """Return exchange times per block (N,) in units of objective_unit_s; equation (8)."""
    derived, scaled = frame.derived, frame.scaled
    slope = np.zeros(derived.devices)
    if derived.power is PowerLaw.PSD:
        slope = slope + scaled.adapter_up
    if derived.adapter_downlink is AdapterDownlink.UNICAST:
        slope = slope + scaled.adapter_down
    return slope
