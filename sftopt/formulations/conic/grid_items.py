"""Keep fractions as items of a list: what a device may choose, or what bounds every choice.

An item holds square roots of payloads, because that is what the barrier needs: room x rate >=
payload, a rotated second-order cone in (room, rate, sqrt(payload)). At most one item is chosen, so
SUM_g sqrt(payload_g) m_g is the root of the chosen payload, and the cone over that sum is the
convex hull of the choices (a cone of one variable per item adds nothing to it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NewType

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, Option
from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import AccuracyScope, ModeKind
from sftopt.core.limits import least_keep
from sftopt.formulations.bounds import require_domain

Array = NDArray[np.float64]
OptionKeeps = NewType("OptionKeeps", tuple[tuple[float, ...], ...])
"""The declared grid: per option of ``Derived.options`` the keep fractions on offer."""

_LOSS_SLACK = 1e-12
"""Losses up to this far (relative) above a limit count as within: rounding only."""


@dataclass(frozen=True)
class Items:
    """What can be chosen: arrays of shape (N, G), or (1, G) under scope ``common``.

    loss at a cut = factor(cut) a_1 ``fade`` + ``noise``; measured losses of options come on top.
    """

    option: NDArray[np.int64]
    """Index into ``Derived.options``."""
    keep: Array
    root_up: Array
    """sqrt(beta), bits per element, equation (1)."""
    root_down: Array
    """sqrt(beta_g), equation (2)."""
    fade: Array
    """exp(-a_2 rho), equation (12); 0 under mode none and where a loss was measured."""
    noise: Array
    """The noise term of the loss."""

    @property
    def count(self) -> int:
        """Return the number of items G."""
        return int(self.keep.shape[1])

    def loss(self, derived: Derived, factor: Array | float) -> Array:
        """Return the loss a_0 - a at given factors on a_1, equation (12); shapes broadcast."""
        value: Array = np.asarray(factor) * derived.loss_keep * self.fade + self.noise
        return value


@dataclass(frozen=True)
class _Points:
    """Items of one option, each array of shape (points,)."""

    option: int
    keep: Array
    root_up: Array
    root_down: Array
    fade: Array
    noise: Array


def allowed_cuts(derived: Derived) -> NDArray[np.bool_]:
    """Tell which cuts a device may take, shape (N, L)."""
    cuts = np.arange(derived.blocks)
    found: NDArray[np.bool_] = (cuts >= derived.cut_low[:, None]) & (
        cuts <= derived.cut_high[:, None]
    )
    return found


def allowed_items(derived: Derived, items: Items) -> NDArray[np.bool_]:
    """Tell which items a device may choose at which cuts, shape (N, L, G)."""
    cuts = np.arange(derived.blocks)[None, :, None]
    low = by_item(derived.option_cut_low, items)[:, None, :]
    found: NDArray[np.bool_] = (low <= cuts) & (cuts <= derived.cut_high[:, None, None])
    return found


def by_item(table: NDArray[Any], items: Items) -> NDArray[Any]:
    """Return the entries of a table by option, (N, O), for every item, (N, G)."""
    chosen = np.broadcast_to(items.option, (len(table), items.count))
    entries: NDArray[Any] = np.take_along_axis(table, chosen, axis=1)
    return entries


def used_cuts(derived: Derived) -> NDArray[np.int64]:
    """Return cuts that some device may take: one for each factor on a_1, ascending in factors."""
    cuts = np.flatnonzero(allowed_cuts(derived).any(axis=0))
    first: NDArray[np.int64] = cuts[np.unique(derived.cut_factor[cuts], return_index=True)[1]]
    return first


def keep_spans(derived: Derived) -> list[tuple[float, float] | None]:
    """Return per option the keep fractions that can be within a device's loss limit, or None.

    The lower end is the least keep fraction within the limit at the smallest factor. Raises
    InfeasibleError where a domain is empty.
    """
    require_domain(derived)
    spans: list[tuple[float, float] | None] = []
    best = used_cuts(derived)[:1]
    every = np.flatnonzero(allowed_cuts(derived).any(axis=0))
    for option in derived.options:
        cuts = best if option.own_loss is None else every
        budget = np.full(len(cuts), derived.loss_budget_each)
        budget = budget + _LOSS_SLACK * np.abs(budget)
        ends = least_keep(derived, option, budget, cuts)
        possible = ends[~np.isnan(ends)]
        spans.append((float(possible.min()), option.keep_high) if len(possible) else None)
    return spans


def default_keeps(derived: Derived, points: int) -> OptionKeeps:
    """Return the default grid: per option ``points`` keep fractions, and those that matter.

    Spaced geometrically from the least keep fraction within a device's own loss limit to the
    option's greatest; with factors by cut, also the least keep fraction at every factor. Without
    such factors the optimum under scopes ``each`` and ``common`` is at that least keep fraction,
    so the grid holds it.
    """
    cuts = used_cuts(derived)
    grid: list[tuple[float, ...]] = []
    for option, span in zip(derived.options, keep_spans(derived), strict=True):
        if span is None:
            grid.append(())
            continue
        low, high = span
        if not option.has_mask or high <= low:
            grid.append((low,))
            continue
        budget = np.full(len(cuts), derived.loss_budget_each)
        ends = least_keep(derived, option, budget, cuts)
        spaced = _spaced(low, high, points)
        keeps = np.concatenate([spaced, ends[~np.isnan(ends)]])
        grid.append(tuple(np.unique(np.clip(keeps, low, high)).tolist()))
    return OptionKeeps(tuple(grid))


def _spaced(low: float, high: float, points: int) -> Array:
    """``points`` values from ``low`` to ``high``, by equal factors where ``low`` is above 0."""
    if low <= 0.0:
        return np.linspace(low, high, points)
    values = np.geomspace(low, high, points)
    values[0], values[-1] = low, high
    return values


def chosen_items(derived: Derived, keeps: OptionKeeps, own: Candidate | None) -> Items:
    """Return the items of a declared grid, exact at every keep fraction; ``own`` adds a plan's own.

    Each device may also choose what ``own`` chooses for it. Raises InfeasibleError where a grid
    is empty.
    """
    parts = [
        _at(derived, index, np.array(list(given)))
        for index, given in enumerate(keeps)
        if len(given)
    ]
    rows = [_joined(parts)] if parts else []
    if own is not None:
        rows.append(own_items(derived, own))
    if not rows:
        raise InfeasibleError("the grid of keep fractions offers no item: every list is empty")
    if len(rows) == 1:
        return rows[0]
    return _combined([rows_of(rows[0], rows[1].keep.shape[0]), rows[1]], np.hstack)


def own_items(derived: Derived, own: Candidate) -> Items:
    """Return one item per device (or one for all under scope ``common``): what ``own`` chooses."""
    choices = own.choices()
    tall = 1 if derived.scope is AccuracyScope.COMMON else derived.devices
    rows = [_joined([_at(derived, int(choices[n]), own.keep[n : n + 1])]) for n in range(tall)]
    return _combined(rows, np.vstack)


def covering_items(derived: Derived, cells: int) -> Items:
    """Return items whose convex hull lies below all (sqrt(beta), sqrt(beta_g), loss) of a device.

    On a cell [a, b] of keep fractions sqrt(beta) and sqrt(beta_g) are concave (roots of concave
    functions that are not negative), so the chord from a to b lies below them; exp(-a_2 rho) is
    convex, so its tangents at a and b lie below it; the noise term is linear. Items are the two
    ends and the point where the tangents cross, with the chords' values there: what any rho in
    the cell costs is at least what the mixture of two neighbouring items with the same mean keep
    fraction costs, in all three at once and for every factor on a_1. No rho outside
    :func:`keep_spans` is within a device's own limit of equation (12).
    """
    parts = []
    for index, (option, span) in enumerate(zip(derived.options, keep_spans(derived), strict=True)):
        if span is None:
            continue
        low, high = span[0] * (1.0 - 1e-12), span[1]
        if not option.has_mask or high <= low:
            parts.append(_at(derived, index, np.array([span[0]])))
            continue
        at_ends = _at(derived, index, _spaced(low, high, cells + 1))
        parts += [at_ends, _crossings(derived, option, at_ends)]
    if not parts:
        raise InfeasibleError("no option has a keep fraction within the devices' loss limit")
    return _joined(parts)


def _crossings(derived: Derived, option: Option, ends: _Points) -> _Points:
    """Between neighbouring ends: where the tangents of exp(-a_2 rho) cross, chords elsewhere."""
    width = np.diff(ends.keep)
    step = derived.decay * width
    # in the cell e^-t has tangents 1 - t at 0 and e^-step (1 + step - t) at step; they cross at
    # t = part * step. At any other part the smaller of the two would do as well
    shrink = np.exp(-step)
    safe = np.maximum(step, 1e-4)
    part = np.clip(1.0 / safe - np.exp(-safe) / -np.expm1(-safe), 0.0, 1.0)
    left = ends.fade[:-1]
    fade = np.minimum(left * (1.0 - part * step), left * shrink * (1.0 + (1.0 - part) * step))

    def chord(values: Array) -> Array:
        mixed: Array = values[:-1] + part * np.diff(values)
        return mixed

    return _Points(
        ends.option,
        chord(ends.keep),
        chord(ends.root_up),
        chord(ends.root_down),
        fade,
        chord(ends.noise),
    )


def _at(derived: Derived, index: int, keep: Array) -> _Points:
    """Exact items at keep fractions of one option, equations (1), (2) and (12)."""
    option = derived.options[index]
    kept = (
        np.clip(keep, option.keep_low, option.keep_high) if option.has_mask else np.ones(len(keep))
    )
    zero = np.zeros_like(kept)
    measured = option.own_loss is not None  # loss_table knows it, by cut
    noise = zero if measured else derived.loss_at(option, kept, 0.0)
    lossless = option.kind is ModeKind.NONE or measured
    fade = zero if lossless else np.exp(-derived.decay * kept)
    return _Points(
        index,
        kept,
        np.sqrt(derived.beta_up(option, kept)),
        np.sqrt(derived.beta_down(option, kept)),
        fade,
        np.broadcast_to(noise, kept.shape).astype(float),
    )


_FIELDS = ("option", "keep", "root_up", "root_down", "fade", "noise")
"""Fields of an item, in the order of :class:`Items`."""


def _joined(parts: Sequence[_Points]) -> Items:
    """The items of several options as one row."""
    return Items(
        *(
            np.concatenate([np.broadcast_to(getattr(p, name), p.keep.shape) for p in parts])[None]
            for name in _FIELDS
        )
    )


def _combined(rows: Sequence[Items], join: Callable[[list[NDArray[Any]]], NDArray[Any]]) -> Items:
    return Items(*(join([getattr(row, name) for row in rows]) for name in _FIELDS))


def rows_of(items: Items, count: int) -> Items:
    """Return the items with ``count`` rows, where they have one for all."""
    return items if items.keep.shape[0] == count else _combined([items] * count, np.vstack)
