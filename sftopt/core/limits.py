"""What the limits alone imply: least keep fractions, a feasible point, a simple proven bound.

Delay is never a limit in problem (13), so feasibility is a question of memory, accuracy and
reachability only, and is decided exactly here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, Option
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.remembered import LAST, Remembered, RememberedByKey
from sftopt.core.spectrum import least_time
from sftopt.core.tolerance import REFUSED

Array = NDArray[np.float64]
Cuts = NDArray[np.int64]

_BISECTIONS = 80
"""Halvings of a keep fraction's range: down to the last digit."""
_NEWTON_STEPS = 4
"""Steps from the root without noise to the one with noise that grows with what is kept."""
_NEAR_ROOT = 1e-13
"""By what a root found so may be off."""
_LEAST_KEEPS: Remembered[Array] = Remembered(LAST)
"""Keep fractions of the arrays that were asked for last: bounds and plans both begin with them."""
_OF_ACCURACY: RememberedByKey[Array] = RememberedByKey(LAST)
"""The same by all they depend on, for cells that differ in other things, such as gains."""
_MILP_COST = 1e4
"""The dearest choice in the small MILP: HiGHS stops at an absolute gap of 1e-6."""


def least_loss_candidate(derived: Derived) -> Candidate:
    """Return least cuts with, for all devices, the option of least loss: a start without a plan."""
    losses = [float(derived.loss(option, option.keep_high)) for option in derived.options]
    best = int(np.argmin(losses))
    count = derived.devices
    keep = np.full(count, derived.options[best].keep_high)
    choice = np.full(count, best)
    return Candidate.of(derived.lowest_cuts(choice), choice, keep, len(derived.options))


def best_keep(derived: Derived, option: Option, cuts: Cuts) -> Array:
    """Return the keep fraction of least loss on ``option`` at each cut; equation (12).

    Accuracy is concave in rho, so this is where its slope vanishes, clipped to the domain.
    """
    factor = derived.cut_factor[cuts]
    if not option.has_mask:
        return np.full_like(factor, option.keep_high)
    if not derived.noise_scales or option.noise <= 0.0:
        return np.full_like(factor, option.keep_high)
    gain = np.maximum(factor * derived.loss_keep * derived.decay / option.noise, 1e-300)
    return np.clip(np.log(gain) / derived.decay, option.keep_low, option.keep_high)


def least_keep(derived: Derived, option: Option, budget: Array, cuts: Cuts) -> Array:
    """Return the least keep fraction whose loss is within ``budget``; NaN where none is.

    Shapes as ``cuts``. The loss falls up to :func:`best_keep`, so bisection finds the root; the
    returned end is the one that satisfies the budget. None is where not even the best one leaves
    the rounding of a limit, which the judge refuses.
    """
    top = best_keep(derived, option, cuts)
    spare = np.where(budget == derived.loss_budget_each, REFUSED * derived.loss_rounding_each, 0.0)
    possible = derived.loss(option, top, cuts) <= budget - spare
    if not option.has_mask:
        return np.where(possible, top, np.nan)
    factor = derived.cut_factor[cuts]
    low = np.full_like(top, option.keep_low)
    at_low = derived.loss_at(option, low, factor) <= budget
    low, high = _narrowed(derived, option, budget, factor, low, top)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if not np.any((low < middle) & (middle < high)):
            break
        good = derived.loss_at(option, middle, factor) <= budget
        high = np.where(good, middle, high)
        low = np.where(good, low, middle)
    value = np.where(at_low, option.keep_low, high)
    return np.where(possible, value, np.nan)


def least_keeps(derived: Derived) -> Array:
    """Return the least keep fractions within a device's own budget, (O, L): option and cut.

    NaN where none is. Computed once for cells of the same accuracy and modes; for readers alone.
    """

    def found() -> Array:
        every = np.arange(derived.blocks)
        budget = np.full(derived.blocks, derived.loss_budget_each)
        return np.array([least_keep(derived, one, budget, every) for one in derived.options])

    if not derived.plain:  # options are compared without their measured losses
        return _LEAST_KEEPS.of(derived, None, found)
    key = (
        derived.options, derived.loss_keep, derived.decay, derived.cut_factor.tobytes(),
        derived.noise_scales, derived.loss_budget_each, derived.loss_rounding_each,
    )  # fmt: skip
    return _LEAST_KEEPS.of(derived, None, lambda: _OF_ACCURACY.of(key, found))


def _narrowed(
    derived: Derived, option: Option, budget: Array, factor: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Narrow a bracket of the root to about where Newton's method puts it, where that holds it."""
    steep = factor * derived.loss_keep
    noise = option.noise if derived.noise_scales else 0.0
    with np.errstate(all="ignore"):
        free = budget - (0.0 if derived.noise_scales else option.noise)
        root = np.log(steep / free) / derived.decay
        for _ in range(_NEWTON_STEPS if noise > 0.0 else 0):
            fall = steep * np.exp(-derived.decay * root)
            root = root - (fall + noise * root - free) / (noise - derived.decay * fall)
        left, right = root - _NEAR_ROOT, root + _NEAR_ROOT
        short = (left > low) & (left < high) & (derived.loss_at(option, left, factor) > budget)
        enough = (right > low) & (right < high) & (derived.loss_at(option, right, factor) <= budget)
    return np.where(short, left, low), np.where(enough, right, high)


@dataclass(frozen=True)
class Reach:
    """The best accuracy the modes can reach, per device; shapes (N,)."""

    cut: Cuts
    """The allowed cut of least loss, the highest where several tie (it spares the server)."""
    choice: NDArray[np.int64]
    keep: Array
    loss: Array
    """Infinite where memory leaves an operating point no cut."""


_REACH: Remembered[Reach] = Remembered(LAST)
"""The best accuracy of the arrays that were asked for last: the check and a first point want it."""


def reach(derived: Derived, cuts: Cuts | None = None) -> Reach:
    """Find the least loss per device over options, keep fractions and, unless given, cuts.

    Without cuts found once for each ``derived``; for readers alone.
    """
    if cuts is None:
        return _REACH.of(derived, None, lambda: _reach(derived, None))
    return _reach(derived, cuts)


def _reach(derived: Derived, cuts: Cuts | None) -> Reach:
    tables = []
    alike = best_cuts(derived) if cuts is None and derived.plain else cuts
    for index, option in enumerate(derived.options):
        at = option_best_cuts(derived, index) if alike is None else alike
        keep = best_keep(derived, option, at)
        loss = derived.loss(option, keep, at)
        if not derived.plain:
            low = derived.option_cut_low[:, index]
            loss = np.where((low <= at) & (at <= derived.cut_high), loss, np.inf)
        tables.append((at, keep, loss))
    losses = np.array([loss for _, _, loss in tables])
    choice = np.argmin(losses, axis=0)
    rows = np.arange(derived.devices)
    chosen = np.array([cut for cut, _, _ in tables])[choice, rows]
    keeps = np.array([keep for _, keep, _ in tables])[choice, rows]
    return Reach(chosen, choice, keeps, losses[choice, rows])


def best_cuts(derived: Derived) -> Cuts:
    """Return per device the allowed cut (N,) of the least factor on a_1, the highest of equals.

    Where memory allows no cut, the highest one that its device could hold once that is mended.
    """
    return _best_cuts(derived, derived.cut_factor, derived.cut_low)


def option_best_cuts(derived: Derived, index: int) -> Cuts:
    """Return :func:`best_cuts` of one option: of its least loss, within its own lowest cuts."""
    own = derived.options[index].own_loss
    levels = derived.cut_factor if own is None else own
    return _best_cuts(derived, levels, derived.option_cut_low[:, index])


def _best_cuts(derived: Derived, levels: Array, low: Cuts) -> Cuts:
    """The highest of the cuts from ``low`` up at which ``levels`` (L,) are least."""
    highest = np.maximum(derived.cut_high, derived.cut_floor)
    if np.all(levels == levels[0]):
        return highest
    best = highest.copy()
    for n in np.flatnonzero(low <= derived.cut_high):
        part = levels[low[n] : derived.cut_high[n] + 1]
        best[n] = low[n] + len(part) - 1 - int(np.argmin(part[::-1]))
    return best


def server_memory_fits(
    derived: Derived, cuts: Cuts, choice: NDArray[np.int64] | None = None
) -> bool:
    """Check equation (11) under ``parallel``; in turn it is part of ``cut_low``.

    ``choice``: the option indices, (N,), where options have figures of their own.
    """
    if derived.server_order is ServerOrder.IN_TURN:
        return True
    used = float((derived.activation_bytes(choice) * (derived.blocks - cuts)).sum())
    budget = derived.server_activation_budget_bytes
    return used <= budget + 1e-12 * abs(budget)


def choice_fits(derived: Derived, cuts: Cuts, choice: NDArray[np.int64]) -> bool:
    """Check that memory allows cuts with options, (N,) each; equations (10) and (11)."""
    low = derived.lowest_cuts(choice)
    inside = bool(np.all((low <= cuts) & (cuts <= derived.cut_high)))
    return inside and server_memory_fits(derived, cuts, choice)


def feasible_point(derived: Derived) -> Candidate | None:
    """Find a point that meets every limit of problem (13); None where there is none."""
    if not derived.options or np.any(derived.outage):
        return None
    if np.any(derived.cut_low > derived.cut_high):
        return None
    if derived.scope is AccuracyScope.COMMON:
        return _common_point(derived)
    best = reach(derived)
    changes_memory = derived.cuts_interact or not derived.plain
    if changes_memory and not server_memory_fits(derived, best.cut, best.choice):
        within = _within_server_memory(derived)
        if within is None:
            return None
        best = within
    if not server_memory_fits(derived, best.cut, best.choice):
        return None
    if np.any(best.loss > derived.loss_budget_each):
        return None
    if derived.scope is AccuracyScope.MEAN:
        mean = float((derived.weight * best.loss).sum())
        if mean > derived.loss_budget:
            return None
    return Candidate.of(best.cut, best.choice, best.keep, len(derived.options))


def _common_point(derived: Derived) -> Candidate | None:
    """Scope ``common``: one option and one keep for all.

    For given cuts the keeps that satisfy a device form an interval; if the intervals meet, they
    meet at the largest left end. So it is enough to try the left ends of all (option, factor).
    """
    every = np.arange(derived.blocks)
    for index, option in enumerate(derived.options):
        levels = derived.cut_factor if option.own_loss is None else option.own_loss
        cuts = np.unique(levels, return_index=True)[1]
        ends = least_keep(derived, option, np.full(len(cuts), derived.loss_budget), cuts)
        choice = np.full(derived.devices, index)
        for keep in np.unique(ends[~np.isnan(ends)]):
            losses = derived.loss(option, np.full(derived.blocks, keep), every)
            allowed = losses <= derived.loss_budget
            found = _highest_allowed(derived, allowed, derived.lowest_cuts(choice))
            if found is not None and server_memory_fits(derived, found, choice):
                keeps = np.full(derived.devices, keep)
                return Candidate.of(found, choice, keeps, len(derived.options))
    return None


def _highest_allowed(derived: Derived, allowed: NDArray[np.bool_], low: Cuts) -> Cuts | None:
    cuts = np.empty(derived.devices, dtype=np.int64)
    for n in range(derived.devices):
        inside = np.flatnonzero(allowed[low[n] : derived.cut_high[n] + 1])
        if len(inside) == 0:
            return None
        cuts[n] = low[n] + inside[-1]
    return cuts


def _offered(derived: Derived) -> Iterator[tuple[int, Reach]]:
    """Every cut with the best that each kind of option reaches there: all whole ones, or tokens.

    What options cost the server's memory differs by S' alone.
    """
    kinds = dict.fromkeys(option.tokens for option in derived.options)
    for level in range(derived.blocks):
        cuts = np.full(derived.devices, level, dtype=np.int64)
        for kind in kinds:
            members = [o for o, option in enumerate(derived.options) if option.tokens == kind]
            part = replace(
                derived,
                options=tuple(derived.options[o] for o in members),
                option_cut_low=derived.option_cut_low[:, members],
            )
            found = reach(part, cuts)
            yield level, replace(found, choice=np.array(members)[found.choice])


def _within_server_memory(derived: Derived) -> Reach | None:
    """Cuts and options of least mean loss within the server's memory.

    A small MILP (HiGHS): one binary per device, allowed cut and number of tokens. Under scope
    ``each`` (and for the floor of every device) what loses too much is not offered.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    device, cut, choice, keep, loss = [], [], [], [], []
    for level, best in _offered(derived):
        inside = (derived.lowest_cuts(best.choice) <= level) & (level <= derived.cut_high)
        for n in np.flatnonzero(inside & (best.loss <= derived.loss_budget_each)):
            device.append(int(n))
            cut.append(level)
            choice.append(int(best.choice[n]))
            keep.append(float(best.keep[n]))
            loss.append(float(best.loss[n]))
    columns = np.arange(len(device))
    if len(set(device)) < derived.devices:
        return None
    pick = csr_array((np.ones(len(device)), (device, columns)))
    cost = derived.weight[device] * np.array(loss)
    saved = derived.option_server_activation_bytes[device, choice]
    held = saved * (derived.blocks - np.array(cut))
    scale = float(saved.min())  # whole numbers: HiGHS errs by 1e-6
    answer = milp(
        cost * (_MILP_COST / max(*cost, 1e-300)),
        constraints=[
            LinearConstraint(pick, 1.0, 1.0),
            LinearConstraint(csr_array(held[None, :] / scale), -np.inf,
                             derived.server_activation_budget_bytes / scale),
        ],
        bounds=Bounds(0.0, 1.0),
        integrality=np.ones(len(device), dtype=np.int64),
        options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if answer.x is None:
        return None
    columns = np.flatnonzero(answer.x > 0.5)
    order = columns[np.argsort(np.array(device)[columns])]
    return Reach(
        np.array(cut)[order], np.array(choice)[order], np.array(keep)[order], np.array(loss)[order]
    )


def elementary_bound_s(derived: Derived) -> float:
    """Return a proven lower bound on problem (13) in seconds: each term of (9) at its least value.

    Each device alone needs at least its cheapest option within its own accuracy floor and the
    time of its lowest cut; barriers, server and adapters are monotone in those. Weak, but proven
    in microseconds. Requires a feasible instance.
    """
    up = np.full(derived.devices, np.inf)
    down = np.full(derived.devices, np.inf)
    for index, option in enumerate(derived.options):
        cuts = best_cuts(derived) if derived.plain else option_best_cuts(derived, index)
        budget = np.full(derived.devices, derived.loss_budget_each)
        keep = least_keep(derived, option, budget, cuts)
        possible = ~np.isnan(keep)
        filled = np.where(possible, keep, option.keep_low)
        bits_up = derived.elements * derived.beta_up(option, filled)
        bits_down = derived.elements * derived.beta_down(option, filled)
        up = np.where(possible, np.minimum(up, bits_up), up)
        down = np.where(possible, np.minimum(down, bits_down), down)
    low, high = derived.cut_low, derived.cut_high
    s1, s3, s5 = least_times_s(derived, low, high)
    tau_up, _ = least_time(s1, up, derived.uplink_law)
    tau_down, _ = least_time(s5, down, derived.downlink_law)
    still = np.zeros(derived.devices)
    adapters_up, _ = least_time(still, derived.adapter_bits(low), derived.uplink_law)
    served = s3.sum() if derived.server_order is ServerOrder.IN_TURN else s3.max()
    total = derived.steps * (tau_up + float(served) + tau_down)
    total += adapters_up + derived.adapter_down_s(low)
    return total * (1.0 - 1e-12) * derived.shortest


def most_times_s(derived: Derived, low: Cuts, high: Cuts) -> tuple[Array, Array, Array]:
    """Return s1 at ``high``, s3 at ``low`` and s5 at ``high`` in seconds, (N,) each.

    Where they depend on the option, the greatest over all options.
    """
    every = np.arange(len(derived.options))[:, None]
    forward, served, backward = (
        np.atleast_2d(time(cuts, every)).max(axis=0)
        for time, cuts in ((derived.s1_s, high), (derived.s3_s, low), (derived.s5_s, high))
    )
    return forward, served, backward


def least_times_s(derived: Derived, low: Cuts, high: Cuts) -> tuple[Array, Array, Array]:
    """Return s1 at ``low``, s3 at ``high`` and s5 at ``low`` in seconds, (N,) each.

    Where they depend on the option, the least over all options.
    """
    if derived.plain:
        return derived.s1_s(low), derived.s3_s(high), derived.s5_s(low)
    every = np.arange(len(derived.options))[:, None]
    forward, served, backward = (
        time(cuts, every).min(axis=0)
        for time, cuts in ((derived.s1_s, low), (derived.s3_s, high), (derived.s5_s, low))
    )
    return forward, served, backward
