"""From a derived instance to the bound's static arrays. Used by the bound alone."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option
from sftopt.core.instance import (
    AccuracyScope,
    AdapterDownlink,
    DownlinkPayload,
    ModeKind,
    PowerLaw,
    ServerOrder,
)
from sftopt.core.limits import best_keep, least_keep
from sftopt.solvers.certify.bound.arrays import Cell, Merged
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    fill_table,
    table_nodes,
)
from sftopt.solvers.certify.bound.merged_bound import fill_merged
from sftopt.solvers.certify.bound.rate_tangents import law_of, no_law, per_bits

Array = NDArray[np.float64]

_UNITS, _WHOLE = 16, 1e-10
"""Parts of the least size tried as a unit, and how far from whole (relative) a count may be."""
NOT_ALLOWED = 2.0
"""A least keep fraction that no domain holds."""


def build_cell(derived: Derived) -> Cell:
    """Fill a :class:`~sftopt.solvers.certify.bound.arrays.Cell` from ``derived``; no tables."""
    n, blocks = derived.devices, derived.blocks
    cuts = np.arange(blocks)
    mean = derived.scope is AccuracyScope.MEAN
    low, high = keep_domain(derived)
    if derived.scope is AccuracyScope.EACH:
        low = _undominated(derived, low)
    ends_low, ends_high, cap = _ends(derived, low, high)
    total = derived.power is PowerLaw.TOTAL
    rate = derived.uplink_full_bits_per_s
    server = derived.s3_base_s[:, None] - cuts * derived.s3_block_s[:, None]
    per_block = derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
    if not total:
        per_block = per_block + derived.adapter_bits_per_block / rate
    if derived.adapter_downlink is AdapterDownlink.MULTICAST:
        per_block = 0.0 * rate if total else derived.adapter_bits_per_block / rate
    cost = cuts * per_block[:, None]
    if derived.server_order is ServerOrder.IN_TURN:
        cost = cost + derived.steps * server
    held = np.zeros((n, blocks))
    memory = 0.0
    if derived.server_order is ServerOrder.PARALLEL:
        held = derived.server_activation_bytes[:, None] * (blocks - cuts)
        scale = float(held.max(axis=1).sum())
        held = held / scale
        budget = attainable(
            derived.server_activation_bytes, float(derived.server_activation_budget_bytes)
        )
        memory = budget / scale
    per_option = [_coefficients(derived, option) for option in derived.options]
    columns = np.array(per_option).T.copy()
    return Cell(
        steps=float(derived.steps),
        decay=float(derived.decay),
        loss_keep=float(derived.loss_keep),
        budget=float(derived.loss_budget),
        memory=float(memory),
        mean=mean,
        total=total,
        up=derived.elements / (np.ones(n) if total else rate),
        down=derived.elements / derived.downlink_full_bits_per_s,
        weight=derived.weight.copy(),
        s1=derived.s1_base_s[:, None] + cuts * derived.s1_block_s[:, None],
        s5=derived.s5_base_s[:, None] + cuts * derived.s5_block_s[:, None],
        cost=cost,
        held=held,
        law=no_law(),
        eta_up=columns[0],
        omega=columns[1],
        sigma_up=columns[2],
        eta_down=columns[3],
        sigma_down=columns[4],
        noise_slope=columns[5],
        noise_constant=columns[6],
        scale=columns[7],
        low=low,
        high=high,
        factor=derived.cut_factor.astype(float),
        end_low=ends_low,
        end_high=ends_high,
        cap=cap,
        tables=np.zeros((0, 0, 0)),
        nodes=table_nodes(0, 0, 1, 0, 1),
    )


def attainable(sizes: Array, budget: float) -> float:
    """The largest sum of whole numbers of ``sizes`` up to ``budget``, from above; Statement 15.

    Where all sizes are multiples of one unit (batches of the same tensor), sums are too.
    """
    least = float(sizes.min(initial=np.inf))
    if not 0.0 < least < np.inf:
        return budget
    for parts in range(1, _UNITS + 1):
        counts = sizes * (parts / least)
        if np.all(np.abs(counts - np.rint(counts)) <= _WHOLE * counts):
            unit = least / parts
            return float(np.floor(budget / unit * (1.0 + 4.0 * _WHOLE))) * unit * (1.0 + _WHOLE)
    return budget


def with_law(cell: Cell, derived: Derived) -> Cell:
    """The cell with tangents of the ``total`` law, first touching where two bits are sent."""
    if not cell.total:
        return cell
    first = np.full(cell.s1.shape, 2.0)
    # shares that matter little are touched at the first entry
    least = 1e-3 * float(derived.elements.min()) / float(cell.s1.max() + 1e-9)
    law = law_of(
        derived.snr_terms, float(derived.uplink_bandwidth_hz), float(derived.efficiency_cap),
        least, first,
    )  # fmt: skip
    return cell._replace(law=law)


def sent_bits(derived: Derived, choice: NDArray[np.int64], keep: Array) -> Array:
    """(N,) uplink bits per element."""
    rows = np.array([_coefficients(derived, option)[:3] for option in derived.options])
    return _up_bits(rows[choice], keep)


def _up_bits(rows: Array, keep: Array) -> Array:
    """Uplink bits per element; ``rows`` are of :func:`_coefficients`, along the second axis."""
    entropy = np.vectorize(entropy_bits, otypes=[float])(keep)
    return np.asarray(rows[:, 0] * keep + rows[:, 1] * entropy + rows[:, 2])


def _uplink_prices(cell: Cell, tau_up: float) -> Array:
    """(N, 1 or L) share that one bit per element in one second takes."""
    if not cell.total:
        return cell.up[:, None]
    return cell.up[:, None] * np.asarray(per_bits(cell.law, cell.up, cell.s1, tau_up, 0.03))


def with_tables(cell: Cell, parts: int, m: Array, tau_up: float, tau_down: float) -> Cell:
    """The cell with tables of 2^``parts`` nodes an octave, where prices near ``m`` lead.

    Anywhere else the tables are valid too, only weak.
    """
    if not cell.mean or m[2] <= 0.0:
        return cell
    unit = m[2] * cell.loss_keep * cell.weight[:, None] * cell.factor
    room_up, room_down = tau_up - cell.s1, tau_down - cell.s5
    inside = (room_up > 0.03 * tau_up) & (room_down > 0.03 * tau_down)
    if not np.any(inside):
        return cell
    up = _uplink_prices(cell, tau_up)
    ups = (m[0] * up / np.where(inside, room_up, 1.0) / unit)[inside]
    downs = (m[1] * cell.down[:, None] / np.where(inside, room_down, 1.0) / unit)[inside]
    curved = (cell.scale > 0.0) & np.any(cell.low < cell.high, axis=1)
    if not np.any(curved):
        return cell
    eta, masks = cell.eta_up[curved], cell.omega[curved]
    S_low = float((ups * eta.min() + downs * cell.eta_down[curved].min()).min())
    S_high = float((ups * eta.max() + downs * cell.eta_down[curved].max()).max())
    P_first, P_count = _range(float(ups.min() * masks.min()), float(ups.max() * masks.max()))
    S_first, S_count = _range(S_low, S_high)
    nodes = table_nodes(parts, P_first, P_count, S_first, S_count)
    tables = np.zeros((len(curved), len(nodes.P), len(nodes.S)))
    for index in np.flatnonzero(curved):
        allowed = cell.low[index] < cell.high[index]
        least, most = cell.low[index][allowed].min(), cell.high[index][allowed].max()
        ratio = float(cell.eta_up[index] / max(cell.omega[index], 1e-9))
        fill_table(tables[index], nodes, cell.decay, float(least), float(most), ratio)
    return cell._replace(tables=tables, nodes=nodes)


def merge(cell: Cell, parts: int, m: Array, tau_up: float, tau_down: float) -> Merged:
    """One table of all options, where prices near ``m`` lead; empty where options differ by cut."""
    curve = cell.loss_keep * float(cell.factor[0])
    same = np.all(cell.factor == cell.factor[0]) and np.all(cell.low == cell.low[:, :1])
    room_up, room_down = tau_up - cell.s1, tau_down - cell.s5
    inside = (room_up > 0.03 * tau_up) & (room_down > 0.03 * tau_down)
    possible = same and cell.mean and m[2] > 0.0 and curve > 0.0
    if parts < 0 or not possible or not np.any(inside):
        nodes = table_nodes(0, 0, 1, 0, 1)
        empty = np.zeros((1, 0, 0)), np.zeros((0, 0), np.int8), np.zeros((0, 0))
        return Merged(*empty, nodes, 1.0, 0.0, 0.0)
    unit = m[2] * curve * cell.weight[:, None]
    ups = (m[0] * _uplink_prices(cell, tau_up) / np.where(inside, room_up, 1.0) / unit)[inside]
    downs = (m[1] * cell.down[:, None] / np.where(inside, room_down, 1.0) / unit)[inside]
    # prices of shares are K tau where all of tau is payload, next to nothing where it is computing
    A_range, B_range = (
        _range(
            0.2 * float(prices.min()) * min(1.0, 0.1 * cell.steps * tau / price),
            3.0 * float(prices.max()) * max(1.0, 0.5 * cell.steps * tau / price),
        )
        for prices, tau, price in ((ups, tau_up, m[0]), (downs, tau_down, m[1]))
    )
    return fill_merged(cell, table_nodes(parts, *A_range, *B_range), curve)


def _range(low: float, high: float) -> tuple[int, int]:
    """First octave and number of octaves, with an octave to spare on either side."""
    first = min(max(int(np.floor(np.log2(max(low, 1e-9)))) - 1, -14), 6)
    last = min(max(int(np.ceil(np.log2(max(high, 1e-9)))) + 1, first + 1), 8)
    return first, last - first


def keep_domain(derived: Derived) -> tuple[Array, Array]:
    """Least and largest keep fraction worth considering, shapes (O, L); Statement 6.

    The least one within a device's own loss budget, and the one of least loss: beyond it payload
    and loss both grow. Scopes other than ``mean``: the least one alone.
    """
    shape = (len(derived.options), derived.blocks)
    low, high = np.empty(shape), np.empty(shape)
    budget = np.full(derived.blocks, derived.loss_budget_each)
    for index, option in enumerate(derived.options):
        least = least_keep(derived, option, budget, derived.cut_factor)
        most = best_keep(derived, option, derived.cut_factor)
        if derived.scope is not AccuracyScope.MEAN:
            most = least
        low[index] = np.where(np.isnan(least), NOT_ALLOWED, least)
        high[index] = np.where(np.isnan(least), 0.0, np.maximum(least, most))
    return low, high


def _undominated(derived: Derived, low: Array) -> Array:
    """``low`` without options that send no fewer bits, up and down, than another at that cut.

    Scope ``each`` fixes the keep fraction and prices no loss, so such an option is never better.
    """
    rows = np.array([_coefficients(derived, option)[:5] for option in derived.options])[:, :, None]
    keep = np.where(low < NOT_ALLOWED, low, 0.0)
    up = _up_bits(rows, keep)
    down = rows[:, 3] * keep + rows[:, 4]
    found = low.copy()
    for o, other in itertools.permutations(range(len(low)), 2):
        worse = (up[other] <= up[o]) & (down[other] <= down[o])
        same = (up[other] == up[o]) & (down[other] == down[o])
        beaten = worse & (~same | (other < o)) & (low[other] < NOT_ALLOWED)
        found[o, beaten] = NOT_ALLOWED
    return found


def _coefficients(derived: Derived, option: Option) -> tuple[float, ...]:
    """eta, omega, sigma up; eta, sigma down; noise with and without rho; 1 if it has a loss."""
    none = option.kind is ModeKind.NONE
    masked = option.has_mask
    plain = derived.reference_bits if none else option.eta + option.sigma
    up = (option.eta, option.omega, option.sigma) if masked else (0.0, 0.0, plain)
    down = (option.eta, option.sigma) if masked else (0.0, plain)
    if derived.downlink is DownlinkPayload.DENSE:
        down = (0.0, derived.reference_bits)
    noise = 0.0 if none else option.noise
    sloped = derived.noise_scales and masked
    noises = (noise, 0.0) if sloped else (0.0, noise)
    return (*up, *down, *noises, 0.0 if none else 1.0)


def _ends(derived: Derived, low: Array, high: Array) -> tuple[Array, Array, Array]:
    shape = low.shape
    ends_low, ends_high = np.zeros((*shape, 2)), np.zeros((*shape, 2))
    cap = np.zeros(shape)
    for o in range(shape[0]):
        for cut in range(shape[1]):
            for ends, keep in ((ends_low, low[o, cut]), (ends_high, high[o, cut])):
                ends[o, cut] = entropy_bits(keep), np.exp(-derived.decay * keep)
            cap[o, cut] = convexity_cap(derived.decay, min(low[o, cut], 1.0), high[o, cut])
    return ends_low, ends_high, cap


def common_cells(derived: Derived, cell: Cell) -> list[tuple[int, Array, Cell]]:
    """Scope ``common``: (option, its keep by cut, cell) for every keep that can be best.

    Statement 6: for given cuts the least common keep is the largest of the devices' least ones.
    """
    found = []
    for index, option in enumerate(derived.options):
        for keep in np.unique(cell.low[index][cell.low[index] <= cell.high[index]]):
            losses = derived.loss_at(
                option, np.full(derived.blocks, float(keep)), derived.cut_factor
            )
            # the limit's own rounding must not lose a cut: too many cuts only weaken the bound
            allowed = losses <= derived.loss_budget * (1.0 + 1e-12) + 1e-15
            allowed &= cell.low[index] <= keep
            low = np.full_like(cell.low, NOT_ALLOWED)
            low[index, allowed] = keep
            high = np.where(low < NOT_ALLOWED, low, 0.0)
            ends_low, ends_high, cap = _ends(derived, low, high)
            found.append(
                (
                    index,
                    low[index],
                    cell._replace(
                        low=low, high=high, end_low=ends_low, end_high=ends_high, cap=cap
                    ),
                )
            )
    return found


def multicast_cost(derived: Derived, cuts: NDArray[np.int64]) -> Array:
    """(N, L) seconds whose sum over devices is at most the multicast time; Statement 12.

    Block k is charged to the holder that is slowest at ``cuts``, if it holds k.
    """
    cost = np.zeros((derived.devices, derived.blocks))
    per_block = derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
    for block in range(1, int(cuts.max(initial=0)) + 1):
        holders = np.flatnonzero(cuts >= block)
        bound = holders[derived.cut_low[holders] >= block]
        slowest = holders[np.argmax(per_block[holders])]
        if len(bound) and per_block[bound].max() >= per_block[slowest]:
            slowest = bound[np.argmax(per_block[bound])]
        cost[slowest, block:] += per_block[slowest]
    return cost
