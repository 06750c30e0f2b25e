"""First boxes, samples of a cell and the parting of a device: what the search cuts up.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    BoundData,
    Box,
    Record,
    Region,
    allowed_places,
)
from sftopt.solvers.certify.bound.rate_tangents import ShareTangents, share_tangent
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_HALVINGS = 40
"""Bisections of the first box's edges: 1e-12 of the first bracket."""
_SURE = 1e-9
"""Shares exceed 1 where they do so by more than their rounding: Statement 9."""
_MARGIN = 1e-12
"""What the edges of the first box are moved out by for their rounding, relative."""
_COUNTED = 1e-4
"""Part of the dual average from which a plane's choices count."""
_OPTION_WORTH = 0.05
"""What another option is worth, as a part of what the keep fraction's loss is; set by hand."""
_SOME_WORTH = 1e-9
"""What another option is worth at least: one that costs nothing may still be mixed."""
_NO_SCORE = 1e-12
"""Scores up to this say that nothing is mixed."""


def sampled(data: BoundData, sample: Integers) -> BoundData:
    """Return the data of some devices, scaled to stand for all: for guesses at multipliers only."""
    scale = len(data.weight) / len(sample)
    up = data.up[sample] * scale
    tangents = data.tangents
    if data.total:
        # shares grow by the scale, the law of each device stays
        up = data.up[sample]
        one = tangents.per_unit.shape[0] == 1
        tangents = tangents._replace(
            per_unit=tangents.per_unit if one else tangents.per_unit[sample],
            constant=tangents.constant if one else tangents.constant[sample],
            most=tangents.most if one else tangents.most[sample],
            fading=tangents.fading if one else tangents.fading[sample],
            steep=tangents.steep if one else tangents.steep[sample],
            reach=tangents.reach[sample] * scale,
            band=tangents.band[sample] / scale,
            bits=tangents.bits[sample],
        )
    return data._replace(
        up=up,
        tangents=tangents,
        down=data.down[sample] * scale,
        weight=data.weight[sample] * scale,
        s1=data.s1[sample],
        s5=data.s5[sample],
        cost=data.cost[sample] * scale,
        held=data.held[sample] * scale,
        server=data.server[sample],
        cut_low=data.cut_low[sample],
    )


def device_split(
    data: BoundData, region: Region, m: Multipliers, record: Record
) -> list[Region] | None:
    """Return two regions that part the device whose choices the multipliers mix most, or None."""
    options = len(data.eta_up)
    mass = record.weights / max(float(record.weights.sum()), 1e-300)
    rows = mass > _COUNTED
    if not np.any(rows):
        return None
    mass, keeps = mass[rows] / mass[rows].sum(), record.keeps[rows]
    places, choice = record.items[rows] // options, record.items[rows] % options
    cuts, keeps = data.blocks[places], _curved_keeps(data, mass, places, keeps)
    scores = _mixing(data, m, mass, places, choice, keeps)
    kind, n = np.unravel_index(int(np.argmax(scores)), scores.shape)
    if scores[kind, n] <= _NO_SCORE:
        return None
    if kind == 0:
        at = int(np.floor(mass @ cuts[:, n]))
        at = min(max(at, int(cuts[:, n].min())), int(cuts[:, n].max()) - 1)
        lower, upper = region.cut_high.copy(), region.cut_low.copy()
        lower[n], upper[n] = at, np.maximum(upper[n], at + 1)
        return [region._replace(cut_high=lower), region._replace(cut_low=upper)]
    if kind == 1:
        share = np.bincount(choice[:, n], weights=mass, minlength=options)
        heavy = 1 << int(np.argmax(share))
        with_it, without = region.options.copy(), region.options.copy()
        with_it[n], without[n] = heavy, int(region.options[n]) & ~heavy
        return [region._replace(options=with_it), region._replace(options=without)]
    at_keep = float(mass @ keeps[:, n])
    low, high = region.keep_low.copy(), region.keep_high.copy()
    low[n] = high[n] = at_keep
    return [region._replace(keep_high=high), region._replace(keep_low=low)]


def _curved_keeps(data: BoundData, mass: Array, places: Integers, keeps: Array) -> Array:
    """Return ``keeps`` (rows, N), with the mean of the others in place of those of points.

    A point keeps everything, which says nothing of where the keep fraction should be parted.
    """
    points = data.group[places] >= data.tabled
    if not np.any(points):
        return keeps
    parts = np.where(points, 0.0, mass[:, None])
    whole = parts.sum(axis=0)
    mean = (parts * keeps).sum(axis=0) / np.where(whole > 0.0, whole, 1.0)
    return np.where(points, np.where(whole > 0.0, mean, 1.0), keeps)


def _mixing(
    data: BoundData, m: Multipliers, mass: Array, places: Integers, choice: Integers, keeps: Array
) -> Array:
    """Return how many seconds the mix of cuts, options and keeps is worth, (3, N).

    ``places``, ``choice``, ``keeps`` (rows, N): choices with the parts ``mass`` (rows,).
    """

    def spread(values: Array) -> Array:
        mean = mass @ values
        return np.asarray(np.sqrt(mass @ (values - mean) ** 2))

    cuts = data.blocks[places]
    devices = cuts.shape[1]
    per_cut = np.zeros(devices)
    if data.s1.shape[1] > 1:
        held = data.s1[:, 1] - data.s1[:, 0] + data.s5[:, 1] - data.s5[:, 0]
        per_cut = data.steps * held + np.abs(data.cost[:, 1] - data.cost[:, 0])
        per_cut += m.memory * np.abs(data.held[:, 1] - data.held[:, 0])
    steep = m.loss * data.weight * data.loss_keep * data.decay
    worth = steep * np.exp(-data.decay * keeps.mean(axis=0))
    by_cut = spread(cuts.astype(float)) * per_cut
    by_keep = spread(keeps) * worth if data.mean else np.zeros(devices)
    by_option = spread((choice != choice[0]).astype(float)) * (worth * _OPTION_WORTH + _SOME_WORTH)
    if data.group[-1] > 0:
        # options of other groups are mixed for what their work costs at the same cut
        rows = np.arange(devices)
        by_option += spread(data.cost[rows, places] - data.cost[rows, cuts])
    return np.array([by_cut, by_option, by_keep])


@njit(cache=True)
def _least_shares(
    tau: float, fixed: Array, scale: Array, bits: Array, total: bool, tangents: ShareTangents
) -> float:
    """Return at most the sum of the devices' least shares at one barrier time; Statement 9.

    Infinite where a device has no item that ends in time.
    """
    N, P = fixed.shape
    whole = 0.0
    for n in range(N):
        least = np.inf
        for place in range(P):
            room = tau - fixed[n, place]
            if room > 0.0 and bits[n, place] < np.inf:
                rate = scale[n] * bits[n, place] / room
                share = rate
                if total:
                    slope, constant = share_tangent(tangents, n, rate)
                    share = max(constant + slope * rate, 0.0)
                least = min(least, share)
        whole += least
    return whole


@njit(cache=True)
def barrier_floor(
    low: float, high: float, fixed: Array, scale: Array, bits: Array, total: bool,
    tangents: ShareTangents,
) -> float:  # fmt: skip
    """Return a time in seconds below which the devices' least shares of a link exceed 1.

    Statement 9. Sought between ``low``, below which some device gets nothing through, and
    ``high``; ``fixed`` and ``bits`` have shape (N, P), ``scale`` (N,).
    """
    if _least_shares(high, fixed, scale, bits, total, tangents) > 1.0 + _SURE:
        return high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if _least_shares(middle, fixed, scale, bits, total, tangents) > 1.0 + _SURE:
            low = middle
        else:
            high = middle
    return low * (1.0 - _MARGIN)


def first_box(data: BoundData, region: Region, best: float, tau_s: float) -> Box | None:
    """Return the box of all points better than ``best`` seconds, None if empty; Statement 9."""
    inside = allowed_places(data, region)
    offered = data.low <= data.high
    keep = np.where(offered, data.low, np.inf)
    plain = np.where(offered, keep, 0.0)
    up = np.where(
        offered,
        data.eta_up[:, None] * plain + data.sigma_up[:, None]
        + data.omega[:, None] * data.end_low[..., 0],
        np.inf,
    ).min(axis=0)  # fmt: skip
    down = np.where(offered, data.eta_down[:, None] * plain + data.sigma_down[:, None], np.inf).min(
        axis=0
    )
    inside &= np.isfinite(up)
    if not np.all(inside.any(axis=1)):
        return None
    bits = np.where(inside, np.where(np.isfinite(up), up, 0.0), np.inf)
    bits_down = np.where(inside, np.where(np.isfinite(down), down, 0.0), np.inf)
    top, tau = best / data.steps, []
    for fixed, scale, sent, total in (
        (data.s1, data.up, bits, data.total), (data.s5, data.down, bits_down, False),
    ):  # fmt: skip
        low = float(np.where(np.isfinite(sent), fixed, np.inf).min(axis=1).max())
        tau.append(barrier_floor(low, max(top, low), fixed, scale, sent, total, data.tangents))
    tau_up, tau_down = tau
    rest = float(np.where(inside, data.cost, np.inf).min(axis=1).sum())
    room = (best - rest + _MARGIN * (best + abs(rest))) / data.steps - tau_s
    top_up, top_down = room - tau_down, room - tau_up
    if top_up < tau_up or top_down < tau_down:
        return None
    return Box(tau_up, top_up, tau_down, top_down, tau_s)
