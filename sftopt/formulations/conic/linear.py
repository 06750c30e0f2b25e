"""Straight lines in place of cones: chords of the concave rate law, tangents of the product.

Chords lie below the law, so whoever uses them is on the safe side; tangents of room x rate >=
payload lie outside it, so they are an approximation. Both state their error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.spectrum import ConcaveRate
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.conic.frame import ConicFrame, Link
from sftopt.formulations.conic.links import RateRule, Root, SendRule

Array = NDArray[np.float64]

MOST_TANGENTS = 200
"""Per device and link; a wider range gets wider steps, and the error stated grows."""
_SPLIT = 8
"""Into how many parts a piece is split to see how far the law is above it."""
_FINE = 400
"""Places at which the law's bend is measured; only the chords' places depend on it."""


def chord_rates(pieces: int) -> RateRule:
    """Bound rates under ``total`` by chords from below: equation (3) holds with some to spare."""

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
    """Return shares and the rates there, equation (3), in the link's units, shape (N, pieces + 2).

    The first is at 0; the others lie over what a device may hold, dense where the law bends: a
    chord of width h is off by h^2 |R''| / (8 R), so they are spaced by equal parts of the
    integral of sqrt(|R''| / R).
    """
    assert link.snr_terms is not None
    high = link.share_high
    low = np.minimum(link.share_low, 0.999 * high)
    fine = low[:, None] * (high / low)[:, None] ** np.linspace(0.0, 1.0, _FINE)
    rates = _rates(frame, link, fine)
    slope = np.diff(rates, axis=1) / np.diff(fine, axis=1)
    bend = np.maximum(slope[:, :-1] - slope[:, 1:], 0.0)
    part = np.sqrt(bend * np.diff(fine, axis=1)[:, 1:] / rates[:, 1:-1])
    part = np.hstack([part[:, :1], part])
    part = part + 0.1 * part.sum(axis=1, keepdims=True) / _FINE + 1e-12
    total = np.hstack([np.zeros((len(part), 1)), np.cumsum(part, axis=1)])
    wanted = np.linspace(0.0, 1.0, pieces + 1)
    shares = np.stack(
        [
            np.interp(wanted * levels[-1], levels, places)
            for levels, places in zip(total, fine, strict=True)
        ]
    )
    zero = np.zeros((len(part), 1))
    return np.hstack([zero, shares]), np.hstack([zero, _rates(frame, link, shares)])


def _rates(frame: ConicFrame, link: Link, shares: Array) -> Array:
    """The law of equation (3) at shares of shape (N, places), in the link's units."""
    assert link.snr_terms is not None
    law = ConcaveRate(1.0, link.snr_terms, frame.derived.efficiency_cap)
    scale = link.share_unit / link.rate_unit / frame.derived.efficiency_cap
    return np.stack([law.rate(column) * scale for column in shares.T], axis=-1)


def chord_error(frame: ConicFrame, link: Link, pieces: int) -> float:
    """Return the relative excess of the law of equation (3) over its chords; 0 for linear laws.

    Each piece is split, so that the law is known closer. Between two neighbouring places it lies
    below the chords before and after, drawn on, and below its value at the right end; the ratio of
    two lines is greatest where the upper ones cross.
    """
    if link.snr_terms is None:
        return 0.0
    nodes, values = chord_nodes(frame, link, pieces)
    parts = np.arange(_SPLIT) / _SPLIT

    def split(ends: Array) -> Array:
        inner = ends[:, 1:-1, None] + np.diff(ends[:, 1:], axis=1)[:, :, None] * parts
        flat: Array = np.hstack([inner.reshape(len(ends), -1), ends[:, -1:]])
        return flat

    places, chord = split(nodes), split(values)
    law = _rates(frame, link, places)
    width, own = np.diff(places, axis=1), np.diff(chord, axis=1)
    slope = np.diff(law, axis=1) / width
    first = (values[:, 1:2] - values[:, :1]) / (nodes[:, 1:2] - nodes[:, :1])
    before = np.hstack([first, slope[:, :-1]])
    after = np.hstack([slope[:, 1:], np.zeros((len(slope), 1))])
    left, right = law[:, :-1], law[:, 1:]
    bend = np.maximum(before - after, 1e-300)
    part = np.clip((right - after * width - left) / bend, 0.0, width)
    upper = np.minimum(left + before * part, right - after * (width - part))
    return float(np.max(upper / (chord[:, :-1] + own * part / width) - 1.0, initial=0.0))


def tangents_for(error: float) -> SendRule:
    """Return room x rate >= load x root^2 as tangents theta room + rate/theta >= 2 sqrt(load) root.

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
    """Return the rates at a link's least and greatest shares, in its units, equation (3)."""
    if link.snr_terms is None:
        return link.share_low, link.share_high
    ends = _rates(frame, link, np.column_stack([link.share_low, link.share_high]))
    # chords may lie a little below the law, so a rate's lower limit is taken a little lower
    return 0.9 * ends[:, 0], ends[:, 1]


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
    """Return how much more room (relative) a point of the tangents may need than it has."""
    least, most = _span(frame, link, root)
    factor = np.exp(np.log(most / least) / _counts(least, most, error))
    short = (np.sqrt(factor) - 1.0) ** 2
    worst = float(np.max(short, initial=0.0))
    return worst / (1.0 - worst) if worst < 1.0 else float("inf")
