"""From an instance to the search's first nodes: cells, tables, first multipliers, first boxes.

Used by the bound alone: of plans it is given cuts, choices and prices, which are guidance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, AdapterDownlink, PowerLaw
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import MULTIPLIERS, Cell, Region, every_cut
from sftopt.solvers.certify.bound.bound_data import (
    build_cell,
    common_cells,
    multicast_cost,
    sent_bits,
    with_law,
    with_tables,
)
from sftopt.solvers.certify.bound.boxes import first_box
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.rate_tangents import adapter_prices
from sftopt.solvers.certify.branching import Levels
from sftopt.solvers.certify.nodes import Alive, Node

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Common = tuple[int, Array]
"""An option and the keep fractions that all devices share; scope ``common``."""


def first_cells(derived: Derived) -> list[tuple[Common | None, Cell]]:
    """The cells that together hold every plan: one, or one for each common option and keep."""
    cell = with_law(build_cell(derived), derived)
    if derived.scope is not AccuracyScope.COMMON:
        return [(None, cell)]
    return [((option, keeps), part) for option, keeps, part in common_cells(derived, cell)]


def adapter_time(derived: Derived, cell: Cell, cuts: Integers) -> Array | None:
    """(N, L) linear lower estimates of the adapters' time, tight at a plan's ``cuts``.

    None where the cost that :func:`first_cells` gives has all of it.
    """
    extra = np.zeros((derived.devices, derived.blocks))
    if derived.adapter_downlink is AdapterDownlink.MULTICAST:
        extra += multicast_cost(derived, cuts)
    if derived.power is PowerLaw.TOTAL:
        prices = adapter_prices(
            cuts, float(derived.adapter_bits_per_block), cell.law,
            derived.uplink_full_bits_per_s,
        )  # fmt: skip
        extra += np.arange(derived.blocks) * prices[:, None]
    return extra if np.any(extra) else None


def first_node(
    bounding: Bounding, index: int, levels: Levels, state: Array, choice: Integers, keep: Array
) -> Node | None:
    """The node that holds every better plan of cell ``index``, or None; its root is set.

    ``state``, ``choice`` and ``keep`` are a plan's, of this cell where it has one.
    """
    derived, best = bounding.derived, bounding.incumbent.value_s
    cell = bounding.cells[index]
    region = _whole_region(derived)
    box = first_box(cell, region, best, float(levels.values[levels.first]))
    if box is None:
        return None
    if cell.total:
        cell.law.bits[:] = sent_bits(derived, choice, keep)[:, None]
    m = _first_multipliers(cell, region, state, best)
    parts = _table_parts(derived.devices)
    if parts >= 0:
        cell = with_tables(cell, parts, m, float(state[0]), float(state[1]))
        bounding.cells[index] = cell
    live = every_cut(cell, region)
    alive = Alive(live, np.zeros(MULTIPLIERS), np.full(MULTIPLIERS, np.inf))
    bounding.add_root(index, region, alive, state, m)
    allowed = levels.first, len(levels.values) - 1
    return Node(-np.inf, index, box, allowed, region, m, 0, alive)


def _whole_region(derived: Derived) -> Region:
    n = derived.devices
    every = np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64)
    return Region(
        derived.cut_low.astype(np.int64),
        derived.cut_high.astype(np.int64),
        every,
        np.zeros(n),
        np.ones(n),
    )


def _first_multipliers(cell: Cell, region: Region, state: Array, best: float) -> Array:
    """The plan's prices; a small part of the delay per unit where a limit may yet bind."""
    m = np.array([state[3], state[4], state[2], 0.0])
    if cell.mean and m[2] <= 0.0:
        m[2] = 0.01 * best / max(abs(cell.budget), 1e-6)
    if float(cell.held[np.arange(len(cell.weight)), region.cut_low].sum()) > cell.memory:
        m[3] = 0.02 * best / max(abs(cell.memory), 1e-3)
    return m


def _table_parts(devices: int) -> int:
    """Nodes an octave, as a power of two, of the tables of single options; -1: no tables."""
    if devices < thresholds.TABLED:
        return -1
    return 3 if devices < thresholds.LISTED else 4
