"""Compiled: the named tuples that the bound's functions share, lists of cuts, tangents of a box.

Numbers of statements refer to ``DERIVATION.md`` in the folder above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.keep_minimum import Nodes
from sftopt.solvers.certify.bound.rate_tangents import ShareTangents
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Cuts = NDArray[np.int8]
Compiled = TypeVar("Compiled", bound=Callable[..., Any])

EDGE = 1e-13
"""A device time this part above a box's top still counts as inside: Statement 7."""
CORNERS = 4
"""Corners of a box: bit 0 of a corner's number says tau_u high, bit 1 tau_d high."""
MULTIPLIERS = 4
"""Coupling limits with a multiplier: uplink shares, downlink shares, mean loss, server memory."""
NEAR_CENTRE = 0.75
"""A tangent touches at the box's centre if that is this many widths above the device's own time,
else at the top, as one in between never improves a bound for items that fit a part of the box;
found by trying (Statement 2 holds for any)."""


class Box(NamedTuple):
    """A box of the times tau_u and tau_d and the least server time in it, all in seconds."""

    up_low: float
    up_high: float
    down_low: float
    down_high: float
    server: float
    """The least of the longest server times allowed; 0 where the server works in turn."""


class BoundData(NamedTuple):
    """Static arrays of problem (13). N devices, L cuts 0..L-1, O options."""

    steps: float
    """K, steps of a round."""
    decay: float
    """a_2, the rate at which loss falls with the keep fraction."""
    loss_keep: float
    """a_1, the loss of keeping nothing."""
    budget: float
    """R: the mean loss allowed."""
    memory: float
    """Server activation memory allowed (summed), scaled to 1; 0 where it does not couple."""
    mean: bool
    """True: keep fractions are free under a limit on the mean loss. False: they are given."""
    total: bool
    """True: uplink shares are a constant plus a multiple of the rate (Statement 8)."""
    up: Array
    """(N,) seconds that one bit per element takes on the whole uplink; b E under ``total``."""
    down: Array
    """(N,) seconds that one bit per element takes on the whole downlink."""
    weight: Array
    """(N,) parts of the devices in the mean loss."""
    s1: Array
    """(N, L) device time before the uplink, in seconds."""
    s5: Array
    """(N, L) device time after the downlink, in seconds."""
    cost: Array
    """(N, L) seconds of a round that depend on the cut alone."""
    held: Array
    """(N, L) server memory of a device, scaled by the budget."""
    tangents: ShareTangents
    """Tangents of the uplink share; a stand-in where ``total`` is False."""
    eta_up: Array
    """(O,) uplink bits per element that grow with the keep fraction."""
    omega: Array
    """(O,) uplink bits per element that grow with the entropy of the mask."""
    sigma_up: Array
    """(O,) uplink bits per element whatever is kept."""
    eta_down: Array
    """(O,) downlink bits per element that grow with the keep fraction."""
    sigma_down: Array
    """(O,) downlink bits per element whatever is kept."""
    noise_slope: Array
    """(O,) loss by quantisation that grows with the keep fraction."""
    noise_constant: Array
    """(O,) loss by quantisation whatever is kept."""
    scale: Array
    """(O,) 1, or 0 for an option without loss."""
    low: Array
    """(O, L) least keep fraction; above 1 where the option is not allowed at that cut."""
    high: Array
    """(O, L) largest keep fraction."""
    factor: Array
    """(L,) factor of a cut on a_1."""
    end_low: Array
    """(O, L, 2): H2 and exp(-a_2 rho) at ``low``."""
    end_high: Array
    """(O, L, 2): H2 and exp(-a_2 rho) at ``high``."""
    cap: Array
    """(O, L) :func:`~sftopt.solvers.certify.bound.keep_minimum.convexity_cap`."""
    tables: Array
    """(O, nodes, nodes) of the least cost over the keep fraction, or (0, 0, 0): no pruning."""
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


class MergedTable(NamedTuple):
    """All options of a cut in one table over the prices of uplink and downlink bits."""

    table: Array
    """(1, nodes of A, nodes of B)"""
    option: NDArray[np.int8]
    """(nodes of A, nodes of B) the option that is least there."""
    keep: Array
    """(nodes of A, nodes of B) the keep fraction that is least there."""
    nodes: Nodes
    curve: float
    """a_1 times the cut's factor: what the prices are divided by, with alpha w."""
    least_up: float
    """The fewest bits of any option and keep: at least the table's slope beyond its last node."""
    least_down: float
    """As ``least_up``, on the downlink."""


class LiveCuts(NamedTuple):
    """The cuts to look at, device after device."""

    first: Integers
    """(N + 1,) where the cuts of each device begin in ``cuts``."""
    cuts: Cuts
    """(count,)"""


class CornerBounds(NamedTuple):
    """What a box bound at given multipliers writes, corner by corner."""

    values: Array
    """(4,) safe lower bounds in seconds; infinite where some device has nothing left."""
    planes: Array
    """(4, 5) kappa and the coefficients of the multipliers in a linear function of them that is
    at least the bound for every m (about so where tangents of shares move with m)."""
    lost: Array
    """(4, 2) seconds that the tangents of uplink and downlink are below the function."""


class Record(NamedTuple):
    """The choices behind the planes, for parting a device; without columns nothing is recorded."""

    items: Integers
    """(rows, N) cut * O + option."""
    keeps: Array
    """(rows, N) keep fractions."""
    weights: Array
    """(rows,) the planes' parts in the dual average."""


class Listing(NamedTuple):
    """Where to list the cuts that can win in a box, and for what range of multipliers."""

    kept: LiveCuts
    """Filled with the cuts that can win somewhere in the box at some multipliers within
    ``factor`` of those given; Statement 13."""
    factor: float
    """0: nothing is listed."""


class TangentLoss(NamedTuple):
    """Seconds that tangents lose: at the corner of the least bound, and at most."""

    up: float
    down: float
    most_up: float
    most_down: float


class Answer(NamedTuple):
    """What the search for the best multipliers of a box found."""

    bound: float
    """The best safe bound in seconds."""
    evaluations: int
    multipliers: Multipliers
    """Those of the best bound."""
    lost: TangentLoss
    """What the tangents lose there."""


def empty_bounds() -> CornerBounds:
    """Make a place for what a box bound writes."""
    return CornerBounds(
        np.empty(CORNERS), np.empty((CORNERS, MULTIPLIERS + 1)), np.zeros((CORNERS, 2))
    )


def no_record(rows: int = CORNERS) -> Record:
    """Make a record that holds no choices, with ``rows`` weights."""
    return Record(np.zeros((rows, 0), dtype=np.int64), np.zeros((rows, 0)), np.zeros(rows))


def no_listing() -> Listing:
    """Make a listing that asks for no cuts."""
    return Listing(LiveCuts(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8)), 0.0)


def middle_box(box: Box) -> Box:
    """Return the point in the middle of a box, as a box without width."""
    up, down = 0.5 * (box.up_low + box.up_high), 0.5 * (box.down_low + box.down_high)
    return Box(up, up, down, down, box.server)


def uncounted(function: Compiled) -> Compiled:
    """Compile a loop over devices without reference counts.

    An attribute of a named tuple costs nothing in it; with counts the bounds of 1,000 devices take
    twice as long. It may not allocate: its caller makes all places.
    """
    compiled = njit(cache=True, nogil=True, _nrt=False)(function)  # type: ignore[call-overload]
    return cast(Compiled, compiled)


@njit(cache=True)
def every_cut(data: BoundData, region: Region) -> LiveCuts:
    """List the cuts that the region allows."""
    N, L = data.s1.shape
    first = np.zeros(N + 1, dtype=np.int64)
    cuts = np.empty(N * L, dtype=np.int8)
    count = 0
    for n in range(N):
        for cut in range(region.cut_low[n], region.cut_high[n] + 1):
            cuts[count] = cut
            count += 1
        first[n + 1] = count
    return LiveCuts(first, cuts[:count].copy())


@njit(cache=True)
def with_every_cut(live: LiveCuts, every: LiveCuts, changed: NDArray[np.bool_]) -> LiveCuts:
    """Return the lists ``live``, for the devices ``changed`` (N,) those of ``every``."""
    N = len(changed)
    first = np.zeros(N + 1, dtype=np.int64)
    cuts = np.empty(len(every.cuts), dtype=np.int8)
    count = 0
    for n in range(N):
        source = every if changed[n] else live
        for j in range(source.first[n], source.first[n + 1]):
            cuts[count] = source.cuts[j]
            count += 1
        first[n + 1] = count
    return LiveCuts(first, cuts[:count].copy())


@njit(cache=True, inline="always")
def touching_room(low: float, high: float, fixed: float) -> float:
    """Return tau - fixed in seconds where the tangents of a box touch; Statement 2."""
    top = max(high - fixed, EDGE * high)
    width = high - low
    point = top - 0.5 * width
    return point if point >= NEAR_CENTRE * width else top


@njit(cache=True, inline="always")
def tangent(low: float, high: float, fixed: float) -> tuple[float, float]:
    """Return a tangent of 1 / (tau - fixed) at ``low`` and ``high``, per second; Statement 2."""
    top = max(high - fixed, EDGE * high)
    width = high - low
    point = touching_room(low, high, fixed)
    scale = 1.0 / (point * point)
    at_high = (2.0 * point - top) * scale
    return at_high + width * scale, at_high


@njit(cache=True, inline="always")
def corner_times(box: Box, k: int) -> tuple[float, float]:
    """Return tau_u and tau_d in seconds at corner ``k`` of a box."""
    return (box.up_high if k & 1 else box.up_low), (box.down_high if k >> 1 else box.down_low)
