"""Compiled: the arrays that the bound's kernels share, lists of cuts, tangents of a box.

Numbers of statements refer to ``DERIVATION.md`` in this folder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.keep_minimum import Nodes
from sftopt.solvers.certify.bound.rate_tangents import Law

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Cuts = NDArray[np.int8]
Live = tuple[Integers, Cuts]

MARGIN = 1e-12
"""Relative to the sum of absolute terms: Statement 7."""
EDGE = 1e-13
"""A device time this part above a box's top still counts as inside."""
BLOCK = 64
"""So many devices are summed at a time: Statement 7."""
CORNERS = 4
MULTIPLIERS = 4
"""Uplink shares, downlink shares, mean loss, server memory."""


class Cell(NamedTuple):
    """Static arrays of problem (13). N devices, L cuts 0..L-1, O options."""

    steps: float
    decay: float
    loss_keep: float
    budget: float
    """R: the mean loss allowed."""
    memory: float
    """Server activation memory allowed (summed), scaled to 1; 0 where it does not couple."""
    mean: bool
    """True: keep fractions are free under a limit on the mean loss. False: they are given."""
    total: bool
    """True: uplink shares are a constant plus a multiple of the rate, by ``law`` (Statement 8)."""
    up: Array
    """b E / R^u(1), (N,); b E under ``total``."""
    down: Array
    weight: Array
    s1: Array
    """(N, L) device time before the uplink."""
    s5: Array
    cost: Array
    """(N, L) seconds of a round that depend on the cut alone."""
    held: Array
    """(N, L) server memory of a device, scaled by the budget."""
    law: Law
    eta_up: Array
    omega: Array
    sigma_up: Array
    eta_down: Array
    sigma_down: Array
    noise_slope: Array
    noise_constant: Array
    scale: Array
    """1, or 0 for an option without loss."""
    low: Array
    """(O, L) least keep fraction; above 1 where the option is not allowed at that cut."""
    high: Array
    """(O, L)"""
    factor: Array
    """(L,) factor on a_1."""
    end_low: Array
    """(O, L, 2): H2 and exp(-a_2 rho) at ``low``."""
    end_high: Array
    cap: Array
    """(O, L) :func:`convexity_cap`."""
    tables: Array
    """(O, nodes, nodes), or (0, 0, 0): no pruning."""
    nodes: Nodes
    """Where the tables' nodes are."""


class Region(NamedTuple):
    """What is still allowed in a node of the search; arrays of shape (N,)."""

    cut_low: Integers
    cut_high: Integers
    options: Integers
    """Bit o is set where option o is allowed."""
    keep_low: Array
    keep_high: Array


class Merged(NamedTuple):
    """All options of a cut in one table over the prices of uplink and downlink bits."""

    table: Array
    """(1, nodes of A, nodes of B)"""
    option: NDArray[np.int8]
    keep: Array
    nodes: Nodes
    curve: float
    """a_1 times the cut's factor: what the prices are divided by, with alpha w."""
    least_up: float
    """The fewest bits of any option and keep: at least the table's slope beyond its last node."""
    least_down: float


@njit(cache=True)
def every_cut(cell: Cell, region: Region) -> Live:
    """(first (N + 1,), cuts): the cuts that the region allows, device after device."""
    N, L = cell.s1.shape
    first = np.zeros(N + 1, dtype=np.int64)
    cuts = np.empty(N * L, dtype=np.int8)
    count = 0
    for n in range(N):
        for cut in range(region.cut_low[n], region.cut_high[n] + 1):
            cuts[count] = cut
            count += 1
        first[n + 1] = count
    return first, cuts[:count].copy()


@njit(cache=True, inline="always")
def touching_room(low: float, high: float, fixed: float) -> float:
    """tau - fixed where the tangents of a box touch."""
    top = max(high - fixed, EDGE * high)
    width = high - low
    point = top - 0.5 * width
    return point if point >= 0.75 * width else top


@njit(cache=True, inline="always")
def tangent(low: float, high: float, fixed: float) -> tuple[float, float]:
    """Values at ``low`` and ``high`` of a tangent of 1 / (tau - fixed), touching inside the box."""
    top = max(high - fixed, EDGE * high)
    width = high - low
    point = touching_room(low, high, fixed)
    scale = 1.0 / (point * point)
    at_high = (2.0 * point - top) * scale
    return at_high + width * scale, at_high
