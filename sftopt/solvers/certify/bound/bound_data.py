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
from sftopt.core.limits import best_keep, least_keeps
from sftopt.solvers.certify.bound.arrays import BoundData
from sftopt.solvers.certify.bound.keep_minimum import entropy_bits, fill_ends, table_nodes
from sftopt.solvers.certify.bound.places import Places, places_of
from sftopt.solvers.certify.bound.rate_tangents import (
    build_share_tangents,
    no_share_tangents,
)

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
_COMMON_MARGIN = 1e-12
"""What the loss limit of a common keep fraction is raised by, relative: its own rounding must not
lose a cut, and too many cuts only weaken the bound."""
_COMMON_MARGIN_ABSOLUTE = 1e-15
"""As ``_COMMON_MARGIN``, absolute."""


def build_bound_data(derived: Derived) -> BoundData:
    """Build the bound's arrays of problem (13) from ``derived``, without tables."""
    n = derived.devices
    places = places_of(derived)
    mean = derived.scope is AccuracyScope.MEAN
    low, high = keep_domain(derived, places)
    if derived.scope is AccuracyScope.EACH:
        low = _undominated(derived, low)
    total = derived.power is PowerLaw.TOTAL
    rate = derived.uplink_full_bits_per_s
    held, memory = _memory(derived, places)
    per_option = [_coefficients(derived, option) for option in derived.options]
    columns = np.array(per_option).T.copy()
    data = BoundData(
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
        s1=places.seconds(derived.s1_s),
        s5=places.seconds(derived.s5_s),
        cost=_cost(derived, places),
        held=held,
        server=places.seconds(derived.s3_s),
        cut_low=places.lowest_cuts(derived),
        blocks=places.blocks,
        group=places.group,
        timing=places.timing(derived),
        tabled=places.tabled,
        first=np.zeros(len(places.blocks) + 1, dtype=np.int64),
        allowed=np.zeros(0, dtype=np.int64),
        priced=False,
        tangents=no_share_tangents(),
        eta_up=columns[0],
        omega=columns[1],
        sigma_up=columns[2],
        eta_down=columns[3],
        sigma_down=columns[4],
        noise_slope=columns[5],
        noise_constant=_constant_losses(derived, places, columns[6]),
        scale=columns[7],
        low=low,
        high=high,
        factor=derived.cut_factor.astype(float)[places.blocks],
        end_low=np.zeros((*low.shape, 2)),
        end_high=np.zeros((*low.shape, 2)),
        cap=np.zeros(low.shape),
        tables=np.zeros((0, 0, 0)),
        nodes=table_nodes(0, 0, 1, 0, 1),
    )
    return _with_domain(data, derived, low, high)


def _with_domain(data: BoundData, derived: Derived, low: Array, high: Array) -> BoundData:
    """Return the data with keep fractions from ``low`` to ``high``, (O, P)."""
    ends_low, ends_high, cap = _ends(derived, low, high)
    offered = low <= high
    count = offered.sum(axis=0)
    return data._replace(
        low=low,
        high=high,
        end_low=ends_low,
        end_high=ends_high,
        cap=cap,
        first=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        allowed=np.nonzero(offered.T)[1].astype(np.int64),
        priced=not derived.plain and bool(np.all(low[offered] == high[offered])),
    )


def _cost(derived: Derived, places: Places) -> Array:
    """Return the seconds of a round that depend on the place alone, (N, P)."""
    total, rate = derived.power is PowerLaw.TOTAL, derived.uplink_full_bits_per_s
    per_block = derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
    if not total:
        per_block = per_block + derived.adapter_bits_per_block / rate
    if derived.adapter_downlink is AdapterDownlink.MULTICAST:
        per_block = 0.0 * rate if total else derived.adapter_bits_per_block / rate
    cost = places.blocks * per_block[:, None]
    if derived.server_order is ServerOrder.IN_TURN:
        cost = cost + derived.steps * places.seconds(derived.s3_s)
    return cost


def _memory(derived: Derived, places: Places) -> tuple[Array, float]:
    """Return the server memory of every device, (N, P), and what is allowed, both scaled.

    Zero where the server works in turn: memory does not couple.
    """
    held = np.zeros((derived.devices, len(places.blocks)))
    if derived.server_order is not ServerOrder.PARALLEL:
        return held, 0.0
    each = derived.option_server_activation_bytes[:, places.option]
    held = each * (derived.blocks - places.blocks)
    scale = float(held.max(axis=1).sum()) or 1.0  # blocks may hold nothing
    sizes = each[:, :: derived.blocks].ravel()  # of all groups
    budget = attainable(sizes, float(derived.server_activation_budget_bytes))
    return np.ascontiguousarray(held / scale), budget / scale


def _constant_losses(derived: Derived, places: Places, noise: Array) -> Array:
    """Return the loss whatever is kept, (O, P): ``noise`` (O,), or a point's own."""
    found = np.repeat(noise[:, None], len(places.blocks), axis=1)
    for index, option in enumerate(derived.options):
        if option.own_loss is not None:
            found[index] = option.own_loss[places.blocks]
    return found


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


def keep_domain(derived: Derived, places: Places) -> tuple[Array, Array]:
    """Return the least and the largest keep fraction worth considering, (O, P); Statement 6.

    The least one within a device's own loss budget, and the one of least loss: beyond it payload
    and loss both grow. Scopes other than ``mean``: the least one alone.
    """
    shape = (len(derived.options), len(places.blocks))
    low, high = np.full(shape, NOT_ALLOWED), np.zeros(shape)
    every = np.arange(derived.blocks)
    for index, (option, least) in enumerate(
        zip(derived.options, least_keeps(derived), strict=True)
    ):
        most = best_keep(derived, option, every)
        if derived.scope is not AccuracyScope.MEAN:
            most = least
        own = places.of_option(index)
        low[index, own] = np.where(np.isnan(least), NOT_ALLOWED, least)
        high[index, own] = np.where(np.isnan(least), 0.0, np.maximum(least, most))
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
    """Return eta, omega, sigma up; eta, sigma down; noise with and without rho; 1 with a curve."""
    masked, dense = option.has_mask, derived.downlink is DownlinkPayload.DENSE
    up = (*((option.eta, option.omega) if masked else (0.0, 0.0)), derived.constant_up(option))
    down = (option.eta if masked and not dense else 0.0, derived.constant_down(option))
    curved = option.kind is not ModeKind.NONE and option.own_loss is None
    noise = option.noise if curved else 0.0
    sloped = derived.noise_scales and option.has_mask
    noises = (noise, 0.0) if sloped else (0.0, noise)
    return (*up, *down, *noises, 1.0 if curved else 0.0)


def _ends(derived: Derived, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Return H2 and exp(-a_2 rho) at both ends, (O, P, 2), and the convexity caps, (O, P)."""
    shape = low.shape
    ends_low, ends_high = np.zeros((*shape, 2)), np.zeros((*shape, 2))
    cap = np.zeros(shape)
    fill_ends(float(derived.decay), low, high, ends_low, ends_high, cap)
    return ends_low, ends_high, cap


def common_keeps(derived: Derived, data: BoundData) -> list[tuple[int, Array, BoundData]]:
    """List (option, its keep by cut, data) for every keep that can be best under scope ``common``.

    Statement 6: for given cuts the least common keep is the largest of the devices' least ones.
    The data holds the places of that option alone.
    """
    found = []
    every = np.arange(derived.blocks)
    places = places_of(derived)
    for index, option in enumerate(derived.options):
        part = _of_places(data, places, places.of_option(index))
        own = part.low[index]
        for keep in np.unique(own[own <= part.high[index]]):
            losses = derived.loss(option, np.full(derived.blocks, float(keep)), every)
            # the limit's own rounding must not lose a cut: too many cuts only weaken the bound
            allowed = (
                losses <= derived.loss_budget * (1.0 + _COMMON_MARGIN) + _COMMON_MARGIN_ABSOLUTE
            )
            low = np.full_like(part.low, NOT_ALLOWED)
            low[index, allowed & (own <= keep)] = keep
            high = np.where(low < NOT_ALLOWED, low, 0.0)
            found.append((index, low[index], _with_domain(part, derived, low, high)))
    return found


def _of_places(data: BoundData, places: Places, own: slice) -> BoundData:
    """Return the data with the places of one group alone."""
    if len(places.members) == 1:
        return data
    group = own.start // places.cuts
    tangents = data.tangents
    if data.total:
        tangents = tangents._replace(bits=tangents.bits[:, own].copy())
    return data._replace(
        s1=data.s1[:, own].copy(),
        s5=data.s5[:, own].copy(),
        cost=data.cost[:, own].copy(),
        held=data.held[:, own].copy(),
        server=data.server[:, own].copy(),
        cut_low=data.cut_low[:, group : group + 1].copy(),
        blocks=data.blocks[own].copy(),
        group=np.zeros(places.cuts, dtype=np.int64),
        timing=np.arange(places.cuts),
        tabled=int(group < data.tabled),
        noise_constant=data.noise_constant[:, own].copy(),
        low=data.low[:, own].copy(),
        high=data.high[:, own].copy(),
        factor=data.factor[own].copy(),
        tangents=tangents,
    )


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
