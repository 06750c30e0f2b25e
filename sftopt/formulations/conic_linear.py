"""Straight lines in place of cones: chords of the concave rate law, tangents of the product.

Chords lie below the law, so whoever uses them is on the safe side; tangents of room x rate >=
payload lie outside it, so they are an approximation. Both state their error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.spectrum import ConcaveRate
from sftopt.formulations.conic_frame import ConicFrame, Link
from sftopt.formulations.conic_links import RateRule, Root, SendRule
from sftopt.formulations.cvxpy_layer import cp

Array = NDArray[np.float64]

MOST_TANGENTS = 200
"""Per device and link; a wider range gets wider steps, and the error stated grows."""


def chord_rates(pieces: int) -> RateRule:
    """Rates under ``total`` by chords from below: equation (3) holds, with something to spare."""

    def rule(frame: ConicFrame, link: Link, share: Any, rate: Any) -> None:
        nodes, values = chord_nodes(frame, link, pieces)
        slope = np.diff(values, axis=1) / np.diff(nodes, axis=1)
        offset = values[:, :-1] - slope * nodes[:, :-1]
        builder, name = frame.builder, link.name
        builder.add(f"con_{name}_share_high", share <= link.share_high, frame.ids)
        for j in range(slope.shape[1]):
            line = cp.multiply(slope[:, j], share) + offset[:, j]
            builder.add(f"con_{name}_chord_{j}", rate <= line, frame.ids)

    return rule


def chord_nodes(frame: ConicFrame, link: Link, pieces: int) -> tuple[Array, Array]:
    """Shares and rates there, equation (3), in the link's units, shape (N, pieces + 2).

    The first is at 0; the others are spaced by equal factors over what a device may hold.
    """
    assert link.snr_terms is not None
    derived = frame.derived
    high = link.share_high
    low = np.minimum(link.share_low, 0.999 * high)
    shares = low[:, None] * (high / low)[:, None] ** np.linspace(0.0, 1.0, pieces + 1)
    law = ConcaveRate(1.0, link.snr_terms, derived.efficiency_cap)
    scale = link.share_unit / link.rate_unit / derived.efficiency_cap
    rates = np.column_stack([law.rate(column) * scale for column in shares.T])
    zero = np.zeros((derived.devices, 1))
    return np.hstack([zero, shares]), np.hstack([zero, rates])


def chord_error(frame: ConicFrame, link: Link, pieces: int) -> float:
    """By how much (relative) the law of equation (3) may exceed its chords; 0 for linear laws.

    Between two nodes the law lies below the neighbouring chords drawn on, and below its value at
    the right end: the ratio of two lines is greatest where the upper ones cross.
    """
    if link.snr_terms is None:
        return 0.0
    nodes, values = chord_nodes(frame, link, pieces)
    slope = np.diff(values, axis=1) / np.diff(nodes, axis=1)
    left, right = nodes[:, 1:-1], nodes[:, 2:]
    at_left, at_right = values[:, 1:-1], values[:, 2:]
    before, own = slope[:, :-1], slope[:, 1:]
    after = np.hstack([slope[:, 2:], np.zeros((len(slope), 1))])
    # from the left at slope `before`, from the right at slope `after`
    width = right - left
    bend = np.maximum(before - after, 1e-300)
    part = np.clip((at_right - after * width - at_left) / bend, 0.0, width)
    upper = np.minimum(at_left + before * part, at_right - after * (width - part))
    return float(np.max(upper / (at_left + own * part) - 1.0, initial=0.0))


def tangents_for(error: float) -> SendRule:
    """room x rate >= load x root^2 by tangents theta room + rate/theta >= 2 sqrt(load) root.

    Equations (4), (6) and (8). With steps of theta by a factor q, a point that keeps to the
    tangents has at least 1 - (sqrt(q) - 1)^2 of the room it needs: see :func:`tangent_error`.
    """

    def rule(frame: ConicFrame, link: Link, room: Any, rate: Any, root: Root) -> None:
        builder, name = frame.builder, link.name
        size = frame.variable(f"var_{name}_root", frame.derived.devices)
        builder.add(f"con_{name}_root", size == root.value, frame.ids)
        low, _ = rate_range(frame, link)
        builder.add(f"con_{name}_rate_low", rate >= cp.multiply(low, root.sends), frame.ids)
        theta = _thetas(frame, link, root, error)
        own, values = np.nonzero(np.isfinite(theta))[0], theta[np.isfinite(theta)]
        index = [f"{frame.ids[n]},{j}" for j, n in enumerate(own)]
        builder.add(
            f"con_{name}_send",
            cp.multiply(values, room[own]) + cp.multiply(1.0 / values, rate[own])
            >= cp.multiply(2.0 * np.sqrt(link.load)[own], size[own]),
            index,
        )

    return rule


def rate_range(frame: ConicFrame, link: Link) -> tuple[Array, Array]:
    """The rates at a link's least and greatest shares, in its units, equation (3)."""
    if link.snr_terms is None:
        return link.share_low, link.share_high
    law = ConcaveRate(1.0, link.snr_terms, frame.derived.efficiency_cap)
    scale = link.share_unit / link.rate_unit / frame.derived.efficiency_cap
    # chords may lie a little below the law, so a rate's lower limit is taken a little lower
    return law.rate(link.share_low) * scale * 0.9, law.rate(link.share_high) * scale


def _span(frame: ConicFrame, link: Link, root: Root) -> tuple[Array, Array]:
    """The least and greatest theta a device can need: rate / (sqrt(load) root)."""
    low, high = rate_range(frame, link)
    size = np.sqrt(link.load)
    least = low / (size * root.high)
    return least, np.maximum(high / (size * np.maximum(root.low, 1e-300)), least)


def _counts(least: Array, most: Array, error: float) -> NDArray[np.int64]:
    step = 2.0 * np.log1p(np.sqrt(error / (1.0 + error)))
    wanted = np.ceil(np.log(most / least) / step).astype(np.int64)
    counts: NDArray[np.int64] = np.clip(wanted, 1, MOST_TANGENTS)
    return counts


def _thetas(frame: ConicFrame, link: Link, root: Root, error: float) -> Array:
    """Tangent points in the middle of equal factors, shape (N, most), padded with NaN."""
    least, most = _span(frame, link, root)
    counts = _counts(least, most, error)
    places = np.arange(counts.max()) + 0.5
    with np.errstate(over="ignore"):
        theta = least[:, None] * (most / least)[:, None] ** (places / counts[:, None])
    return np.where(places < counts[:, None], theta, np.nan)


def tangent_error(frame: ConicFrame, link: Link, root: Root, error: float) -> float:
    """How much more room (relative) a point of the tangents may need than it has."""
    least, most = _span(frame, link, root)
    factor = np.exp(np.log(most / least) / _counts(least, most, error))
    short = (np.sqrt(factor) - 1.0) ** 2
    worst = float(np.max(short, initial=0.0))
    return worst / (1.0 - worst) if worst < 1.0 else float("inf")
