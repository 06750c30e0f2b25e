"""From a derived instance to the bound's static arrays. Used by the bound alone.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

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
from sftopt.solvers.certify.bound.arrays import BoundData, MergedTable
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    fill_table,
    table_nodes,
)
from sftopt.solvers.certify.bound.merged_bound import fill_merged
from sftopt.solvers.certify.bound.rate_tangents import (
    build_share_tangents,
    no_share_tangents,
    shares_per_bit,
)
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]

NOT_ALLOWED = 2.0
"""A least keep fraction that no domain holds: the option is not allowed at that cut."""
_UNITS = 16
"""Parts of the least size that are tried as a unit of memory: Statement 15."""
_WHOLE = 1e-10
"""How far from whole, relative, a count of units may be: Statement 15."""
_FIRST_BITS = 2.0
"""Bits per element where tangents touch before any item is known; any number is valid."""
_LEAST_RATE = 1e-3
"""Part of the slowest rate that could matter from which tangents have entries of their own."""
_ROOM = 0.03
"""Part of the barrier time that an item must leave for its payload to be looked at where the range
of a table is chosen; set by hand: any range is valid."""
_SLOWER = 0.1
"""Least price of shares that a merged table covers, as a part of K tau; set by hand."""
_DEARER = 0.5
"""Largest price of shares that a merged table covers, as a part of K tau; set by hand."""
_PRICES_BELOW = 0.2
"""How far below the least price of bits a merged table begins; set by hand."""
_PRICES_ABOVE = 3.0
"""How far above the largest price of bits a merged table ends; set by hand."""
_FIRST_OCTAVE = -14
"""Octave that no table begins below: prices there are next to nothing."""
_LAST_FIRST_OCTAVE = 6
"""Octave that no table begins above."""
_LAST_OCTAVE = 8
"""Octave that no table ends above, which keeps it small."""
_COMMON_MARGIN = 1e-12
"""What the loss limit of a common keep fraction is raised by, relative: its own rounding must not
lose a cut, and too many cuts only weaken the bound."""
_COMMON_MARGIN_ABSOLUTE = 1e-15
"""As ``_COMMON_MARGIN``, absolute."""


def build_bound_data(derived: Derived) -> BoundData:
    """Build the bound's arrays of problem (13) from ``derived``, without tables."""
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
        scale = float(held.max(axis=1).sum()) or 1.0  # blocks may hold nothing
        held = held / scale
        budget = attainable(
            derived.server_activation_bytes, float(derived.server_activation_budget_bytes)
        )
        memory = budget / scale
    per_option = [_coefficients(derived, option) for option in derived.options]
    columns = np.array(per_option).T.copy()
    return BoundData(
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
        tangents=no_share_tangents(),
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
    """Return the largest sum of whole numbers of ``sizes`` up to ``budget``, from above.

    Statement 15; in the unit of ``sizes``, bytes.

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


def with_share_tangents(data: BoundData, derived: Derived) -> BoundData:
    """Return the data with tangents of the uplink shares under law ``total``; Statement 8."""
    if not data.total:
        return data
    first = np.full(data.s1.shape, _FIRST_BITS)
    # shares that matter little are touched at the first entry
    least = _LEAST_RATE * float(derived.elements.min()) / float(data.s1.max() + 1e-9)
    tangents = build_share_tangents(
        derived.snr_terms, float(derived.uplink_bandwidth_hz), float(derived.efficiency_cap),
        least, first,
    )  # fmt: skip
    return data._replace(tangents=tangents)


def sent_bits(derived: Derived, choice: NDArray[np.int64], keep: Array) -> Array:
    """Return the uplink bits per element of a plan, (N,)."""
    rows = np.array([_coefficients(derived, option)[:3] for option in derived.options])
    return _up_bits(rows[choice], keep)


def _up_bits(rows: Array, keep: Array) -> Array:
    """Return uplink bits per element; ``rows``: :func:`_coefficients`, along the second axis."""
    entropy = np.vectorize(entropy_bits, otypes=[float])(keep)
    return np.asarray(rows[:, 0] * keep + rows[:, 1] * entropy + rows[:, 2])


def _uplink_prices(data: BoundData, tau_up: float) -> Array:
    """Return the share that one bit per element in one second takes, (N, 1 or L)."""
    if not data.total:
        return data.up[:, None]
    return data.up[:, None] * np.asarray(
        shares_per_bit(data.tangents, data.up, data.s1, tau_up, _ROOM)
    )


def with_tables(
    data: BoundData, parts: int, m: Multipliers, tau_up: float, tau_down: float
) -> BoundData:
    """Return the data with tables of 2^``parts`` nodes an octave, where prices near ``m`` lead.

    Anywhere else the tables are valid too, only weak; Statement 4.
    """
    if not data.mean or m.loss <= 0.0:
        return data
    unit = m.loss * data.loss_keep * data.weight[:, None] * data.factor
    room_up, room_down = tau_up - data.s1, tau_down - data.s5
    # where keep fractions cost no accuracy (no weight, a_1 or factor of 0) there is no curve
    inside = (room_up > _ROOM * tau_up) & (room_down > _ROOM * tau_down) & (unit > 0.0)
    if not np.any(inside):
        return data
    unit = np.where(unit > 0.0, unit, 1.0)
    up = _uplink_prices(data, tau_up)
    ups = (m.uplink * up / np.where(inside, room_up, 1.0) / unit)[inside]
    downs = (m.downlink * data.down[:, None] / np.where(inside, room_down, 1.0) / unit)[inside]
    curved = (data.scale > 0.0) & np.any(data.low < data.high, axis=1)
    if not np.any(curved):
        return data
    eta, masks = data.eta_up[curved], data.omega[curved]
    S_low = float((ups * eta.min() + downs * data.eta_down[curved].min()).min())
    S_high = float((ups * eta.max() + downs * data.eta_down[curved].max()).max())
    P_first, P_count = _range(float(ups.min() * masks.min()), float(ups.max() * masks.max()))
    S_first, S_count = _range(S_low, S_high)
    nodes = table_nodes(parts, P_first, P_count, S_first, S_count)
    tables = np.zeros((len(curved), len(nodes.P), len(nodes.S)))
    for index in np.flatnonzero(curved):
        allowed = data.low[index] < data.high[index]
        least, most = data.low[index][allowed].min(), data.high[index][allowed].max()
        ratio = float(data.eta_up[index] / max(data.omega[index], 1e-9))
        fill_table(tables[index], nodes, data.decay, float(least), float(most), ratio)
    return data._replace(tables=tables, nodes=nodes)


def merge(
    data: BoundData, parts: int, m: Multipliers, tau_up: float, tau_down: float
) -> MergedTable:
    """Return one table of all options, where prices near ``m`` lead; Statement 14.

    Empty where options differ by cut.
    """
    curve = data.loss_keep * float(data.factor[0])
    same = np.all(data.factor == data.factor[0]) and np.all(data.low == data.low[:, :1])
    room_up, room_down = tau_up - data.s1, tau_down - data.s5
    inside = (room_up > _ROOM * tau_up) & (room_down > _ROOM * tau_down)
    weighed = bool(np.all(data.weight > 0.0))
    possible = same and weighed and data.mean and m.loss > 0.0 and curve > 0.0
    if parts < 0 or not possible or not np.any(inside):
        nodes = table_nodes(0, 0, 1, 0, 1)
        empty = np.zeros((1, 0, 0)), np.zeros((0, 0), np.int8), np.zeros((0, 0))
        return MergedTable(*empty, nodes, 1.0, 0.0, 0.0)
    unit = m.loss * curve * data.weight[:, None]
    ups = (m.uplink * _uplink_prices(data, tau_up) / np.where(inside, room_up, 1.0) / unit)[inside]
    downs = (m.downlink * data.down[:, None] / np.where(inside, room_down, 1.0) / unit)[inside]
    # prices of shares are K tau where all of tau is payload, next to nothing where it is computing
    A_range, B_range = (
        _range(
            _PRICES_BELOW * float(prices.min()) * min(1.0, _SLOWER * data.steps * tau / price),
            _PRICES_ABOVE * float(prices.max()) * max(1.0, _DEARER * data.steps * tau / price),
        )
        for prices, tau, price in ((ups, tau_up, m.uplink), (downs, tau_down, m.downlink))
    )
    return fill_merged(data, table_nodes(parts, *A_range, *B_range), curve)


def _range(low: float, high: float) -> tuple[int, int]:
    """Return the first octave and the number of octaves, with one to spare on either side."""
    first = min(max(int(np.floor(np.log2(max(low, 1e-9)))) - 1, _FIRST_OCTAVE), _LAST_FIRST_OCTAVE)
    last = min(max(int(np.ceil(np.log2(max(high, 1e-9)))) + 1, first + 1), _LAST_OCTAVE)
    return first, last - first


def keep_domain(derived: Derived) -> tuple[Array, Array]:
    """Return the least and the largest keep fraction worth considering, (O, L); Statement 6.

    The least one within a device's own loss budget, and the one of least loss: beyond it payload
    and loss both grow. Scopes other than ``mean``: the least one alone.
    """
    shape = (len(derived.options), derived.blocks)
    low, high = np.empty(shape), np.empty(shape)
    budget, cuts = np.full(derived.blocks, derived.loss_budget_each), np.arange(derived.blocks)
    for index, option in enumerate(derived.options):
        least = least_keep(derived, option, budget, cuts)
        most = best_keep(derived, option, cuts)
        if derived.scope is not AccuracyScope.MEAN:
            most = least
        low[index] = np.where(np.isnan(least), NOT_ALLOWED, least)
        high[index] = np.where(np.isnan(least), 0.0, np.maximum(least, most))
    return low, high


def _undominated(derived: Derived, low: Array) -> Array:
    """Return ``low`` without options that send no fewer bits than another at that cut.

    Scope ``each`` fixes the keep fraction and prices no loss, so such an option is never better;
    Statement 16.
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
    """Return eta, omega, sigma up; eta, sigma down; noise with and without rho; 1 with a loss."""
    none = option.kind is ModeKind.NONE
    masked = option.has_mask
    constant = derived.constant_up(option)
    up = (option.eta, option.omega, constant) if masked else (0.0, 0.0, constant)
    down = (option.eta, option.sigma) if masked else (0.0, derived.constant_down(option))
    if derived.downlink is DownlinkPayload.DENSE:
        down = (0.0, derived.reference_bits)
    noise = 0.0 if none else option.noise
    sloped = derived.noise_scales and masked
    noises = (noise, 0.0) if sloped else (0.0, noise)
    return (*up, *down, *noises, 0.0 if none else 1.0)


def _ends(derived: Derived, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Return H2 and exp(-a_2 rho) at both ends, (O, L, 2), and the convexity caps, (O, L)."""
    shape = low.shape
    ends_low, ends_high = np.zeros((*shape, 2)), np.zeros((*shape, 2))
    cap = np.zeros(shape)
    for o in range(shape[0]):
        for cut in range(shape[1]):
            for ends, keep in ((ends_low, low[o, cut]), (ends_high, high[o, cut])):
                ends[o, cut] = entropy_bits(keep), np.exp(-derived.decay * keep)
            cap[o, cut] = convexity_cap(derived.decay, min(low[o, cut], 1.0), high[o, cut])
    return ends_low, ends_high, cap


def common_keeps(derived: Derived, data: BoundData) -> list[tuple[int, Array, BoundData]]:
    """List (option, its keep by cut, data) for every keep that can be best under scope ``common``.

    Statement 6: for given cuts the least common keep is the largest of the devices' least ones.
    """
    found = []
    for index, option in enumerate(derived.options):
        for keep in np.unique(data.low[index][data.low[index] <= data.high[index]]):
            losses = derived.loss_at(
                option, np.full(derived.blocks, float(keep)), derived.cut_factor
            )
            # the limit's own rounding must not lose a cut: too many cuts only weaken the bound
            allowed = (
                losses <= derived.loss_budget * (1.0 + _COMMON_MARGIN) + _COMMON_MARGIN_ABSOLUTE
            )
            allowed &= data.low[index] <= keep
            low = np.full_like(data.low, NOT_ALLOWED)
            low[index, allowed] = keep
            high = np.where(low < NOT_ALLOWED, low, 0.0)
            ends_low, ends_high, cap = _ends(derived, low, high)
            found.append(
                (
                    index,
                    low[index],
                    data._replace(
                        low=low, high=high, end_low=ends_low, end_high=ends_high, cap=cap
                    ),
                )
            )
    return found


def multicast_cost(derived: Derived, cuts: NDArray[np.int64]) -> Array:
    """Return seconds, (N, L), whose sum over devices is at most the multicast time; Statement 12.

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
