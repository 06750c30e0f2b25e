"""Compiled: the named tuples that the bound's functions share, lists of cuts, tangents of a box.

Numbers of statements refer to ``DERIVATION.md`` in the folder above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.keep_minimum import Nodes
from sftopt.solvers.certify.bound.rate_tangents import ShareTangents
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.int32]

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
    """Static arrays of problem (13). N devices, O options, P places in G groups.

    A place is a cut with a group of options that have the same device times, cost and memory there;
    with one group places are the cuts 0..L-1. Group g has the places g L..g L + L-1.
    """

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
    """(N, P) device time before the uplink, in seconds."""
    s5: Array
    """(N, P) device time after the downlink, in seconds."""
    cost: Array
    """(N, P) seconds of a round that depend on the place alone."""
    held: Array
    """(N, P) server memory of a device, scaled by the budget."""
    server: Array
    """(N, P) server time of a device in seconds."""
    cut_low: Integers
    """(N, G) least cut of each group."""
    blocks: Integers
    """(P,) blocks on the device, the cut of a place."""
    group: Integers
    """(P,) group of a place."""
    timing: Integers
    """(P,) the first place with the same device times, of every device."""
    tabled: int
    """Groups whose options are the same at all cuts, which a merged table may hold; the first."""
    first: Integers
    """(P + 1,) where the options allowed at each place begin in ``allowed``."""
    allowed: Integers
    """(count,) options, place after place."""
    priced: bool
    """True: items are compared by their costs alone, as each has one keep fraction. False: by
    tables, where there are any."""
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
    """(O, P) loss whatever is kept: by quantisation, or the measured loss of a point."""
    scale: Array
    """(O,) 1, or 0 for an option whose loss does not depend on the keep fraction."""
    low: Array
    """(O, P) least keep fraction; above 1 where the option is not allowed at that place."""
    high: Array
    """(O, P) largest keep fraction."""
    factor: Array
    """(P,) factor of a cut on a_1."""
    end_low: Array
    """(O, P, 2): H2 and exp(-a_2 rho) at ``low``."""
    end_high: Array
    """(O, P, 2): H2 and exp(-a_2 rho) at ``high``."""
    cap: Array
    """(O, P) :func:`~sftopt.solvers.certify.bound.keep_minimum.convexity_cap`."""
    tables: Array
    """(O, nodes, nodes) of the least cost over the keep fraction, or (0, 0, 0): no pruning."""
    nodes: Nodes
    """Where the tables' nodes are."""


class Region(NamedTuple):
    """What is still allowed in a node of the search; arrays of shape (N,) unless said."""

    cut_low: Integers
    """(N, G) least cut of each group."""
    cut_high: Integers
    options: Integers
    """Bit o is set where option o is allowed."""
    keep_low: Array
    keep_high: Array


class MergedTable(NamedTuple):
    """All options of a place in one table over the prices of uplink and downlink bits.

    For the first T groups; the options of other places are priced one by one.
    """

    table: Array
    """(T, nodes of A, nodes of B); empty where there is none."""
    option: NDArray[np.int8]
    """(T, nodes of A, nodes of B) the option that is least there."""
    keep: Array
    """(T, nodes of A, nodes of B) the keep fraction that is least there."""
    nodes: Nodes
    curve: float
    """a_1 times the cut's factor: what the prices are divided by, with alpha w."""
    least_up: Array
    """(T,) the fewest bits of any option and keep: at least the table's slope beyond its last
    node."""
    least_down: Array
    """As ``least_up``, on the downlink."""


class LivePlaces(NamedTuple):
    """The places to look at, device after device, in rising order."""

    first: Integers
    """(N + 1,) where the places of each device begin in ``places``."""
    places: Places
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
    """(rows, N) place * O + option."""
    keeps: Array
    """(rows, N) keep fractions."""
    weights: Array
    """(rows,) the planes' parts in the dual average."""


class Listing(NamedTuple):
    """Where to list the places that can win in a box, and for what range of multipliers."""

    kept: LivePlaces
    """Filled with the places that can win somewhere in the box at some multipliers within
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
    """Make a listing that asks for no places."""
    return Listing(LivePlaces(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32)), 0.0)


def middle_box(box: Box) -> Box:
    """Return the point in the middle of a box, as a box without width."""
    up, down = 0.5 * (box.up_low + box.up_high), 0.5 * (box.down_low + box.down_high)
    return Box(up, up, down, down, box.server)


def every_place(data: BoundData, region: Region) -> LivePlaces:
    """List the places that the region allows."""
    allowed = allowed_places(data, region) & (data.first[1:] > data.first[:-1])
    first = np.zeros(len(allowed) + 1, dtype=np.int64)
    np.cumsum(allowed.sum(axis=1), out=first[1:])
    return LivePlaces(first, np.nonzero(allowed)[1].astype(np.int32))


@njit(cache=True, inline="always")
def is_allowed(data: BoundData, region: Region, n: int, place: int) -> bool:
    """Return whether the region allows a device the cut of a place, and the place an option."""
    cut = data.blocks[place]
    if cut < region.cut_low[n, data.group[place]] or cut > region.cut_high[n]:
        return False
    return bool(data.first[place] < data.first[place + 1])


@njit(cache=True)
def with_every_place(live: LivePlaces, every: LivePlaces, changed: NDArray[np.bool_]) -> LivePlaces:
    """Return the lists ``live``, for the devices ``changed`` (N,) those of ``every``."""
    N = len(changed)
    first = np.zeros(N + 1, dtype=np.int64)
    places = np.empty(len(every.places), dtype=np.int32)
    count = 0
    for n in range(N):
        source = every if changed[n] else live
        for j in range(source.first[n], source.first[n + 1]):
            places[count] = source.places[j]
            count += 1
        first[n + 1] = count
    return LivePlaces(first, places[:count].copy())


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


def allowed_places(data: BoundData, region: Region) -> NDArray[np.bool_]:
    """Tell which places have a cut that the region allows, (N, P)."""
    cuts, low = data.blocks, region.cut_low[:, data.group]
    return np.asarray((low <= cuts) & (cuts <= region.cut_high[:, None]))


def most_memory(data: BoundData, region: Region) -> float:
    """Return the server memory of all devices at their dearest cuts, scaled by the budget."""
    cuts = data.s1.shape[1] // region.cut_low.shape[1]
    most = np.zeros(len(data.weight))
    rows = np.arange(len(most))
    for g, low in enumerate(region.cut_low.T):
        inside = low <= region.cut_high
        held = data.held[rows, g * cuts + np.where(inside, low, 0)]
        most = np.maximum(most, np.where(inside, held, 0.0))
    return float(most.sum())
