"""First boxes, samples of a cell and the parting of a device: what the search cuts up."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import Cell, Region
from sftopt.solvers.certify.bound.rate_tangents import Law, touched

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_HALVINGS, _SURE = 40, 1e-9
"""Bisections of the first box's edges; shares exceed 1 where they do so by more than rounding."""


def sampled(cell: Cell, sample: Integers) -> Cell:
    """The cell of some devices, scaled to stand for all: for guesses at multipliers only."""
    scale = len(cell.weight) / len(sample)
    up = cell.up[sample] * scale
    law = cell.law
    if cell.total:
        # shares grow by the scale, the law of each device stays
        up = cell.up[sample]
        one = law.per_unit.shape[0] == 1
        law = law._replace(
            per_unit=law.per_unit if one else law.per_unit[sample],
            constant=law.constant if one else law.constant[sample],
            most=law.most if one else law.most[sample],
            fading=law.fading if one else law.fading[sample],
            steep=law.steep if one else law.steep[sample],
            reach=law.reach[sample] * scale,
            band=law.band[sample] / scale,
            bits=law.bits[sample],
        )
    return cell._replace(
        up=up,
        law=law,
        down=cell.down[sample] * scale,
        weight=cell.weight[sample] * scale,
        s1=cell.s1[sample],
        s5=cell.s5[sample],
        cost=cell.cost[sample] * scale,
        held=cell.held[sample] * scale,
    )


def device_split(
    cell: Cell, region: Region, m: Array, items: Integers, keeps: Array, weights: Array
) -> list[Region] | None:
    """Two regions that part the device whose choices the multipliers mix most; None if none.

    ``items``, ``keeps`` (rows, N): the choices behind the planes, ``weights`` (rows,) their part
    in the dual average.
    """
    options = len(cell.eta_up)
    mass = weights / max(float(weights.sum()), 1e-300)
    rows = mass > 1e-4
    if not np.any(rows):
        return None
    mass, items, keeps = mass[rows] / mass[rows].sum(), items[rows], keeps[rows]
    cuts, choice = items // options, items % options
    index = np.arange(items.shape[1])

    def spread(values: Array) -> Array:
        mean = mass @ values
        return np.asarray(np.sqrt(mass @ (values - mean) ** 2))

    per_cut = np.zeros(len(index))
    if cell.s1.shape[1] > 1:
        held = cell.s1[:, 1] - cell.s1[:, 0] + cell.s5[:, 1] - cell.s5[:, 0]
        per_cut = cell.steps * held + np.abs(cell.cost[:, 1] - cell.cost[:, 0])
        per_cut += m[3] * np.abs(cell.held[:, 1] - cell.held[:, 0])
    steep = m[2] * cell.weight * cell.loss_keep * cell.decay
    worth = steep * np.exp(-cell.decay * keeps.mean(axis=0))
    score_cut = spread(cuts.astype(float)) * per_cut
    score_keep = spread(keeps) * worth if cell.mean else np.zeros(len(index))
    score_option = spread((choice != choice[0]).astype(float)) * (worth * 0.05 + 1e-9)
    scores = np.array([score_cut, score_option, score_keep])
    kind, n = np.unravel_index(int(np.argmax(scores)), scores.shape)
    if scores[kind, n] <= 1e-12:
        return None
    if kind == 0:
        at = int(np.floor(mass @ cuts[:, n]))
        at = min(max(at, int(cuts[:, n].min())), int(cuts[:, n].max()) - 1)
        lower, upper = region.cut_high.copy(), region.cut_low.copy()
        lower[n], upper[n] = at, at + 1
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


@njit(cache=True)
def _least_shares(
    tau: float, fixed: Array, scale: Array, bits: Array, total: bool, law: Law
) -> float:
    """At most the sum of the devices' least shares at one barrier time; infinite: none has any."""
    N, L = fixed.shape
    whole = 0.0
    for n in range(N):
        least = np.inf
        for cut in range(L):
            room = tau - fixed[n, cut]
            if room > 0.0 and bits[n, cut] < np.inf:
                rate = scale[n] * bits[n, cut] / room
                share = rate
                if total:
                    slope, constant = touched(law, n, rate)
                    share = max(constant + slope * rate, 0.0)
                least = min(least, share)
        whole += least
    return whole


@njit(cache=True)
def least_time(
    low: float, high: float, fixed: Array, scale: Array, bits: Array, total: bool, law: Law
) -> float:
    """A time below which the devices' least shares of a link, (N, L) bits, exceed 1. Statement 9.

    Sought between ``low``, below which some device gets nothing through, and ``high``.
    """
    if _least_shares(high, fixed, scale, bits, total, law) > 1.0 + _SURE:
        return high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if _least_shares(middle, fixed, scale, bits, total, law) > 1.0 + _SURE:
            low = middle
        else:
            high = middle
    return low * (1.0 - 1e-12)


def first_box(cell: Cell, region: Region, best: float, tau_s: float) -> Array | None:
    """The box that holds every point better than ``best``; None if there is none. Statement 9."""
    cuts = np.arange(cell.s1.shape[1])
    inside = (region.cut_low[:, None] <= cuts) & (cuts <= region.cut_high[:, None])
    offered = cell.low <= cell.high
    keep = np.where(offered, cell.low, np.inf)
    plain = np.where(offered, keep, 0.0)
    up = np.where(
        offered,
        cell.eta_up[:, None] * plain + cell.sigma_up[:, None]
        + cell.omega[:, None] * cell.end_low[..., 0],
        np.inf,
    ).min(axis=0)  # fmt: skip
    down = np.where(offered, cell.eta_down[:, None] * plain + cell.sigma_down[:, None], np.inf).min(
        axis=0
    )
    inside &= np.isfinite(up)
    if not np.all(inside.any(axis=1)):
        return None
    bits = np.where(inside, np.where(np.isfinite(up), up, 0.0), np.inf)
    bits_down = np.where(inside, np.where(np.isfinite(down), down, 0.0), np.inf)
    top, tau = best / cell.steps, []
    for fixed, scale, sent, total in (
        (cell.s1, cell.up, bits, cell.total), (cell.s5, cell.down, bits_down, False),
    ):  # fmt: skip
        low = float(np.where(np.isfinite(sent), fixed, np.inf).min(axis=1).max())
        tau.append(least_time(low, max(top, low), fixed, scale, sent, total, cell.law))
    tau_up, tau_down = tau
    rest = float(np.where(inside, cell.cost, np.inf).min(axis=1).sum())
    room = (best - rest + 1e-12 * (best + abs(rest))) / cell.steps - tau_s
    top_up, top_down = room - tau_down, room - tau_up
    if top_up < tau_up or top_down < tau_down:
        return None
    return np.array([tau_up, top_up, tau_down, top_down, tau_s])
