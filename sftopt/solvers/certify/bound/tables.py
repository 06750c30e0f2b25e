"""Tables over prices of bits, ranged where a plan's prices lead. Used by the bound alone.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.remembered import LAST, RememberedByKey
from sftopt.solvers.certify.bound.arrays import BoundData, MergedTable
from sftopt.solvers.certify.bound.keep_minimum import Nodes, fill_table, table_nodes
from sftopt.solvers.certify.bound.merged_bound import fill_merged
from sftopt.solvers.certify.bound.rate_tangents import shares_per_bit
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]

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
Curve = tuple[int, float, float, float]
"""An option, its least and its largest keep fraction, and its bits of a kept element a mask bit."""
_FILLED: RememberedByKey[tuple[Array, Nodes]] = RememberedByKey(LAST)
"""The last tables: cells that differ in gains alone mostly have the same."""


def _uplink_prices(data: BoundData, tau_up: float) -> Array:
    """Return the share that one bit per element in one second takes, (N, 1 or P)."""
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
    inside &= data.group < data.tabled
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
    axes, curves = (parts, P_first, P_count, S_first, S_count), []
    for index in np.flatnonzero(curved):
        allowed = data.low[index] < data.high[index]
        least, most = data.low[index][allowed].min(), data.high[index][allowed].max()
        ratio = float(data.eta_up[index] / max(data.omega[index], 1e-9))
        curves.append((int(index), float(least), float(most), ratio))
    key = (axes, len(curved), data.decay, tuple(curves))
    tables, nodes = _FILLED.of(key, lambda: _filled(*key))
    return data._replace(tables=tables, nodes=nodes)


def _filled(
    axes: tuple[int, int, int, int, int], options: int, decay: float, curves: tuple[Curve, ...]
) -> tuple[Array, Nodes]:
    """Return tables of single options and their nodes: zeros for options without a curve."""
    nodes = table_nodes(*axes)
    tables = np.zeros((options, len(nodes.P), len(nodes.S)))
    for index, least, most, ratio in curves:
        fill_table(tables[index], nodes, decay, least, most, ratio)
    return tables, nodes


def merge(
    data: BoundData, parts: int, m: Multipliers, tau_up: float, tau_down: float
) -> MergedTable:
    """Return one table of all options of each of the first groups, where prices near ``m`` lead.

    Statement 14. Empty where these options differ by cut.
    """
    curve = data.loss_keep * float(data.factor[0])
    same = data.tabled > 0 and bool(np.all(data.factor == data.factor[0]))
    for t in range(data.tabled):
        low = data.low[:, data.group == t]
        same = same and bool(np.all(low == low[:, :1]))
    room_up, room_down = tau_up - data.s1, tau_down - data.s5
    inside = (room_up > _ROOM * tau_up) & (room_down > _ROOM * tau_down)
    inside &= data.group < data.tabled
    weighed = bool(np.all(data.weight > 0.0))
    possible = same and weighed and data.mean and m.loss > 0.0 and curve > 0.0
    if parts < 0 or not possible or not np.any(inside):
        nodes = table_nodes(0, 0, 1, 0, 1)
        empty = np.zeros((1, 0, 0))
        return MergedTable(
            empty, empty.astype(np.int8), empty, nodes, 1.0, np.zeros(1), np.zeros(1)
        )
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
