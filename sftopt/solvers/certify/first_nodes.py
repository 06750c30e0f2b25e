"""From an instance to the search's first nodes: data, tables, first multipliers, first boxes.

Used by the bound alone: of plans it is given cuts, choices and prices, which are guidance.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, AdapterDownlink, PowerLaw
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import (
    BoundData,
    Region,
    every_place,
    most_memory,
)
from sftopt.solvers.certify.bound.bound_data import (
    build_bound_data,
    common_keeps,
    multicast_cost,
    sent_bits,
    with_share_tangents,
)
from sftopt.solvers.certify.bound.boxes import first_box
from sftopt.solvers.certify.bound.dual_descent import downhill
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.nodes import NO_LEAST, NO_MOST, LiveItems, Node
from sftopt.solvers.certify.bound.places import places_of
from sftopt.solvers.certify.bound.rate_tangents import adapter_prices
from sftopt.solvers.certify.bound.tables import with_tables
from sftopt.solvers.certify.branching import Levels
from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Common = tuple[int, Array]
"""An option and the keep fractions that all devices share; scope ``common``."""

_NO_TABLES = -1
"""Stands for no tables of single options."""
_FEW_PARTS = 3
"""2^3 nodes an octave of the tables of single options in small cells; found by timing."""
_PARTS = 4
"""2^4 nodes an octave of the tables of single options in larger cells; found by timing."""
_LOSS_PART = 0.01
"""The first price of the mean loss, where no plan has one: this part of the delay for all of it."""
_MEMORY_PART = 0.02
"""The first price of server memory where it may bind: this part of the delay for all of it."""


def nothing_to_choose(derived: Derived) -> bool:
    """Tell whether some device has no rate, no cut or no option."""
    without = np.any(derived.outage) or np.any(derived.cut_low > derived.cut_high)
    return bool(without) or not derived.options


def first_cells(derived: Derived) -> list[tuple[Common | None, BoundData]]:
    """List the data that together hold every plan: one, or one for each common option and keep.

    Statement 6.
    """
    data = with_share_tangents(build_bound_data(derived), derived)
    if derived.scope is not AccuracyScope.COMMON:
        return [(None, data)]
    return [((option, keeps), part) for option, keeps, part in common_keeps(derived, data)]


def adapter_estimate(derived: Derived, data: BoundData, cuts: Integers) -> Array | None:
    """Return lower estimates of the adapters' time in seconds, (N, L), tight at a plan's ``cuts``.

    Statements 11 and 12. None where the cost that :func:`first_cells` gives has all of it.
    """
    extra = np.zeros((derived.devices, derived.blocks))
    if derived.adapter_downlink is AdapterDownlink.MULTICAST:
        extra += multicast_cost(derived, cuts)
    if derived.power is PowerLaw.TOTAL:
        prices = adapter_prices(
            cuts, float(derived.adapter_bits_per_block), data.tangents,
            derived.uplink_full_bits_per_s,
        )  # fmt: skip
        extra += np.arange(derived.blocks) * prices[:, None]
    return extra if np.any(extra) else None


def first_node(
    bounding: Bounding, index: int, levels: Levels, guide: TimesAndPrices, choice: Integers,
    keep: Array,
) -> Node | None:  # fmt: skip
    """Return the node that holds every better plan of cell ``index``, or None; sets its root.

    ``guide``, ``choice`` and ``keep`` are a plan's, of this cell where it has one. Statement 9.
    """
    derived, best = bounding.derived, bounding.incumbent.value_s
    data = bounding.cells[index]
    if levels.first == len(levels.values):  # a common option that leaves some device no cut
        return None
    region = whole_region(derived, data)
    box = first_box(data, region, best, float(levels.values[levels.first]))
    if box is None:
        return None
    if data.total:
        data.tangents.bits[:] = sent_bits(derived, choice, keep)[:, None]
        points = (data.group >= data.tabled) & (data.first[:-1] < data.first[1:])
        data.tangents.bits[:, points] = data.sigma_up[data.allowed[data.first[:-1][points]]]
    m = _first_multipliers(data, region, guide, best)
    parts = _table_parts(derived.devices)
    if parts != _NO_TABLES:
        data = with_tables(data, parts, m, guide.tau_up, guide.tau_down)
        bounding.cells[index] = data
    alive = LiveItems(every_place(data, region), NO_LEAST, NO_MOST)
    bounding.add_root(index, region, alive, guide, m)
    allowed = levels.first, len(levels.values) - 1
    return Node(-np.inf, index, box, allowed, region, m, 0, alive)


def whole_region(derived: Derived, data: BoundData) -> Region:
    """Return the region that allows everything."""
    n = derived.devices
    every = np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64)
    return Region(
        data.cut_low.astype(np.int64),
        derived.cut_high.astype(np.int64),
        every,
        np.zeros(n),
        np.ones(n),
    )


def _first_multipliers(
    data: BoundData, region: Region, guide: TimesAndPrices, best: float
) -> Multipliers:
    """Return the plan's prices; a small part of the delay per unit where a limit may yet bind."""
    loss, memory = guide.loss_price, 0.0
    if data.mean and loss <= 0.0:
        loss = _LOSS_PART * best / max(abs(data.budget), 1e-6)
    if most_memory(data, region) > data.memory:
        memory = _MEMORY_PART * best / max(abs(data.memory), 1e-3)
    return Multipliers(guide.up_price, guide.down_price, loss, memory)


def _table_parts(devices: int) -> int:
    """Return the nodes an octave, as a power of two, of the tables of single options."""
    if devices < thresholds.TABLED:
        return _NO_TABLES
    return _FEW_PARTS if devices < thresholds.LISTED else _PARTS


def least_dual(bounding: Bounding, node: Node, guide: TimesAndPrices) -> tuple[float, float]:
    """Return times in seconds downhill of ``guide`` where the dual of a sample of devices is least.

    Sets the node's multipliers to those found there.
    """
    part, region = bounding.sampled_parts(node)
    times, node.multipliers = downhill(
        part, bounding.roots[node.root].merged, region, (guide.tau_up, guide.tau_down),
        node.multipliers, node.box.server, np.inf,
    )  # fmt: skip
    return float(times[0]), float(times[1])


def least_cuts(derived: Derived, region: Region) -> Integers:
    """Return the least cuts that a region allows by option, (N, O), or (N, 1): one for all."""
    if region.cut_low.shape[1] == 1:
        return region.cut_low
    return region.cut_low[:, places_of(derived).group_of_options]
