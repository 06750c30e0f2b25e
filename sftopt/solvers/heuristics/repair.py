"""Turn any candidate, fractional or slightly off, into a feasible integral point.

Rounding and repair: cuts to whole numbers within memory, the heaviest option of each device (of
all devices under scope ``common``), then keep fractions by :mod:`sftopt.solvers.heuristics.polish`.
Where the chosen options cannot meet the accuracy limit, devices move to more accurate options, the
cheapest loss reduction first. Heuristic for fractional candidates; for integral ones it only
settles the last digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.limits import choice_fits, feasible_point, least_keep, server_memory_fits
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.solvers.heuristics.polish import keep_range, polish

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def repair(derived: Derived, candidate: Candidate, *, rounds: int = 40) -> IntegralPoint | None:
    """Find a feasible point near ``candidate``; None where the instance has none.

    ``rounds`` of price renewal: see :func:`sftopt.solvers.heuristics.polish.polish`.
    """
    choice = _options(derived, candidate)
    cuts = _repair_cuts(derived, candidate.cuts, choice)
    keep = np.clip(candidate.keep, 0.0, 1.0)
    point = IntegralPoint(cuts, choice, keep)
    found = settle(derived, point, rounds)
    if found is None:
        fallback = feasible_point(derived)
        if fallback is None:
            return None
        choice = fallback.choices().astype(np.int64)
        cuts = np.rint(fallback.cuts).astype(np.int64)
        found = polish(derived, IntegralPoint(cuts, choice, fallback.keep))
    return found


def keep_as_is(
    derived: Derived, candidate: Candidate, *, polished: bool = True
) -> IntegralPoint | None:
    """Keep an integral candidate with its own keep fractions, if they meet every limit exactly.

    With ``polished`` better ones are taken where the polish finds them. Keep fractions that break a
    limit are settled by :func:`repair`, at the same cuts and options where that is possible.
    """
    point = IntegralPoint(
        np.rint(candidate.cuts).astype(np.int64),
        candidate.choices().astype(np.int64),
        candidate.keep.copy(),
    )
    if not choice_fits(derived, point.cuts, point.choice):
        return repair(derived, candidate)
    known = Coefficients(derived, point.cuts, point.choice)
    point = point.with_keep(np.clip(point.keep, known.low, known.high))
    if not _meets_accuracy(derived, point, known):
        return repair(derived, candidate)
    better = polish(derived, point) if polished else None
    if better is None:
        return point
    own_s = best_delay(derived, point, known).round_s
    return better if best_delay(derived, better, known).round_s <= own_s else point


def _meets_accuracy(derived: Derived, point: IntegralPoint, known: Coefficients) -> bool:
    loss = known.loss(point.keep)
    if np.any(loss > derived.loss_budget_each):
        return False
    if derived.scope is AccuracyScope.COMMON:
        same = np.all(point.choice == point.choice[0]) and np.all(point.keep == point.keep[0])
        return bool(same)
    return derived.scope is AccuracyScope.EACH or known.mean_loss(point.keep) <= derived.loss_budget


def settle(derived: Derived, point: IntegralPoint, rounds: int = 40) -> IntegralPoint | None:
    """Keep fractions for these cuts, changing options only where accuracy or a cut asks for it.

    None where that needs more of the server's memory than there is, too.
    """
    found = _settled(derived, point, rounds)
    if found is None or derived.plain or choice_fits(derived, found.cuts, found.choice):
        return found
    return None


def _settled(derived: Derived, point: IntegralPoint, rounds: int) -> IntegralPoint | None:
    found = polish(derived, point, rounds=rounds)
    if found is not None or derived.scope is AccuracyScope.COMMON:
        return found if found is not None else _settle_common(derived, point)
    choice = _reachable_choice(derived, point)
    if choice is None:
        return None
    point = IntegralPoint(point.cuts, choice, point.keep)
    for _ in range(derived.devices * len(derived.options) + 1):
        found = polish(derived, point, rounds=rounds)
        if found is not None:
            return found
        better = _most_useful_upgrade(derived, point)
        if better is None:
            return None
        point = better
    return None


def _settle_common(derived: Derived, point: IntegralPoint) -> IntegralPoint | None:
    """The best common option for these cuts."""
    best: IntegralPoint | None = None
    best_s = np.inf
    for index in range(len(derived.options)):
        tried = polish(
            derived, IntegralPoint(point.cuts, np.full_like(point.choice, index), point.keep)
        )
        if tried is not None:
            value = best_delay(derived, tried).round_s
            if value < best_s:
                best, best_s = tried, value
    return best


def _reachable_choice(derived: Derived, point: IntegralPoint) -> Integers | None:
    """Options within every device's own budget; those that are not are replaced by the cheapest."""
    budget = np.full(derived.devices, derived.loss_budget_each)
    bits = np.full((len(derived.options), derived.devices), np.inf)
    for index, option in enumerate(derived.options):
        keep = least_keep(derived, option, budget, point.cuts)
        good = ~np.isnan(keep) & (point.cuts >= derived.option_cut_low[:, index])
        bits[index, good] = derived.beta_up(option, keep[good])
    own = bits[point.choice, np.arange(derived.devices)]
    cheapest = np.argmin(bits, axis=0)
    if np.any(np.isinf(bits.min(axis=0))):
        return None
    return np.where(np.isfinite(own), point.choice, cheapest).astype(np.int64)


def _most_useful_upgrade(derived: Derived, point: IntegralPoint) -> IntegralPoint | None:
    """Move the device whose best loss, weighted, falls most to its most accurate option."""
    losses = []
    for index in range(len(derived.options)):
        tried = IntegralPoint(point.cuts, np.full_like(point.choice, index), point.keep)
        bounds = keep_range(derived, tried)
        high = Coefficients(derived, tried.cuts, tried.choice).high if bounds is None else bounds[1]
        loss = Coefficients(derived, tried.cuts, tried.choice).loss(high)
        losses.append(np.where(tried.cuts >= derived.lowest_cuts(tried.choice), loss, np.inf))
    table = np.array(losses)
    own = table[point.choice, np.arange(derived.devices)]
    gain = derived.weight * (own - table.min(axis=0))
    best = int(np.argmax(gain))
    if gain[best] <= 0.0:
        return None
    choice = point.choice.copy()
    choice[best] = int(np.argmin(table[:, best]))
    return IntegralPoint(point.cuts, choice, point.keep)


def _options(derived: Derived, candidate: Candidate) -> Integers:
    if derived.scope is AccuracyScope.COMMON:
        total = int(np.argmax(candidate.option_weights.sum(axis=0)))
        return np.full(derived.devices, total, dtype=np.int64)
    return candidate.choices().astype(np.int64)


def _repair_cuts(derived: Derived, cuts: Array, choice: Integers) -> Integers:
    """Whole cuts within every memory limit; ``parallel`` raises cuts until the server has room."""
    low = derived.lowest_cuts(choice)
    whole = np.clip(np.rint(cuts).astype(np.int64), low, derived.cut_high)
    if derived.server_order is ServerOrder.IN_TURN:
        return whole
    while not server_memory_fits(derived, whole, choice):
        room = whole < derived.cut_high
        if not np.any(room):
            break
        # seconds a block costs the device for every byte it frees at the server
        cost = (derived.s1_block_s + derived.s5_block_s) / derived.activation_bytes(choice)
        whole[int(np.argmin(np.where(room, cost, np.inf)))] += 1
    return whole
