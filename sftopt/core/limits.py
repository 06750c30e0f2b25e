"""What the limits alone imply: least keep fractions, a feasible point, a simple proven bound.

Delay is never a limit in problem (13), so feasibility is a question of memory, accuracy and
reachability only, and is decided exactly here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, Option
from sftopt.core.instance import AccuracyScope, ServerOrder
from sftopt.core.round import server_s
from sftopt.core.spectrum import least_time

Array = NDArray[np.float64]
Cuts = NDArray[np.int64]

_BISECTIONS = 80
"""Halvings of a keep fraction's range: down to the last digit."""
_MILP_COST = 1e4
"""The dearest choice in the small MILP: HiGHS stops at an absolute gap of 1e-6."""


def least_loss_candidate(derived: Derived) -> Candidate:
    """Return least cuts with, for all devices, the option of least loss: a start without a plan."""
    losses = [float(derived.loss(option, option.keep_high)) for option in derived.options]
    best = int(np.argmin(losses))
    count = derived.devices
    keep = np.full(count, derived.options[best].keep_high)
    return Candidate.of(derived.cut_low, np.full(count, best), keep, len(derived.options))


def best_keep(derived: Derived, option: Option, factor: Array) -> Array:
    """Return the keep fraction of least loss on ``option`` for each factor on a_1; equation (12).

    Accuracy is concave in rho, so this is where its slope vanishes, clipped to the domain.
    """
    if not option.has_mask:
        return np.full_like(factor, option.keep_high)
    if not derived.noise_scales or option.noise <= 0.0:
        return np.full_like(factor, option.keep_high)
    gain = np.maximum(factor * derived.loss_keep * derived.decay / option.noise, 1e-300)
    return np.clip(np.log(gain) / derived.decay, option.keep_low, option.keep_high)


def least_keep(derived: Derived, option: Option, budget: Array, factor: Array) -> Array:
    """Return the least keep fraction whose loss is within ``budget``; NaN where none is.

    Shapes as ``factor``. The loss falls up to :func:`best_keep`, so bisection finds the root; the
    returned end is the one that satisfies the budget.
    """
    top = best_keep(derived, option, factor)
    possible = derived.loss_at(option, top, factor) <= budget
    low = np.full_like(top, option.keep_low)
    at_low = derived.loss_at(option, low, factor) <= budget
    high = top.copy()
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        good = derived.loss_at(option, middle, factor) <= budget
        high = np.where(good, middle, high)
        low = np.where(good, low, middle)
    value = np.where(at_low, option.keep_low, high)
    return np.where(possible, value, np.nan)


@dataclass(frozen=True)
class Reach:
    """The best accuracy the modes can reach, per device; shapes (N,)."""

    cut: Cuts
    """The allowed cut of least loss, the highest where several tie (it spares the server)."""
    choice: NDArray[np.int64]
    keep: Array
    loss: Array


def reach(derived: Derived, cuts: Cuts | None = None) -> Reach:
    """Find the least loss per device over options, keep fractions and, unless given, cuts."""
    if cuts is None:
        cuts = best_cuts(derived)
    factor = derived.cut_factor[cuts]
    keeps = np.array([best_keep(derived, option, factor) for option in derived.options])
    losses = np.array(
        [
            derived.loss_at(option, keep, factor)
            for option, keep in zip(derived.options, keeps, strict=True)
        ]
    )
    choice = np.argmin(losses, axis=0)
    index = np.arange(derived.devices)
    return Reach(cuts, choice, keeps[choice, index], losses[choice, index])


def best_cuts(derived: Derived) -> Cuts:
    """Return per device the allowed cut (N,) of the least factor on a_1, the highest of equals.

    Where memory allows no cut, the highest one that its device could hold once that is mended.
    """
    highest = np.maximum(derived.cut_high, derived.cut_floor)
    if not derived.cuts_interact:
        return highest
    best = highest.copy()
    for n in np.flatnonzero(derived.cut_low <= derived.cut_high):
        cuts = np.arange(derived.cut_low[n], derived.cut_high[n] + 1)
        factors = derived.cut_factor[cuts]
        best[n] = cuts[len(cuts) - 1 - int(np.argmin(factors[::-1]))]
    return best


def server_memory_fits(derived: Derived, cuts: Cuts) -> bool:
    """Check equation (11) under ``parallel``; in turn it is part of ``cut_low``."""
    if derived.server_order is ServerOrder.IN_TURN:
        return True
    used = float((derived.server_activation_bytes * (derived.blocks - cuts)).sum())
    budget = derived.server_activation_budget_bytes
    return used <= budget + 1e-12 * abs(budget)


def feasible_point(derived: Derived) -> Candidate | None:
    """Find a point that meets every limit of problem (13); None where there is none."""
    if not derived.options or np.any(derived.outage):
        return None
    if np.any(derived.cut_low > derived.cut_high):
        return None
    if derived.scope is AccuracyScope.COMMON:
        return _common_point(derived)
    best = reach(derived)
    coupled = derived.cuts_interact and not server_memory_fits(derived, best.cut)
    if coupled:
        cuts = _cuts_within_server_memory(derived)
        if cuts is None:
            return None
        best = reach(derived, cuts)
    if not server_memory_fits(derived, best.cut):
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
    factors = np.unique(derived.cut_factor)
    for index, option in enumerate(derived.options):
        ends = least_keep(derived, option, np.full_like(factors, derived.loss_budget), factors)
        for keep in np.unique(ends[~np.isnan(ends)]):
            losses = derived.loss_at(option, np.full(derived.blocks, keep), derived.cut_factor)
            allowed = losses <= derived.loss_budget
            cuts = _highest_allowed(derived, allowed)
            if cuts is not None and server_memory_fits(derived, cuts):
                n = derived.devices
                return Candidate.of(cuts, np.full(n, index), np.full(n, keep), len(derived.options))
    return None


def _highest_allowed(derived: Derived, allowed: NDArray[np.bool_]) -> Cuts | None:
    cuts = np.empty(derived.devices, dtype=np.int64)
    for n in range(derived.devices):
        inside = np.flatnonzero(allowed[derived.cut_low[n] : derived.cut_high[n] + 1])
        if len(inside) == 0:
            return None
        cuts[n] = derived.cut_low[n] + inside[-1]
    return cuts


def _cuts_within_server_memory(derived: Derived) -> Cuts | None:
    """Cuts of least mean loss within the server's memory, where accuracy depends on the cut.

    A small MILP (HiGHS): one binary per device and allowed cut. Under scope ``each`` (and for the
    floor of every device) cuts whose best loss is too high are not offered.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    device, cut, cost = [], [], []
    for level in range(derived.blocks):
        best = reach(derived, np.full(derived.devices, level, dtype=np.int64))
        inside = (derived.cut_low <= level) & (level <= derived.cut_high)
        for n in np.flatnonzero(inside & (best.loss <= derived.loss_budget_each)):
            device.append(int(n))
            cut.append(level)
            cost.append(float(derived.weight[n] * best.loss[n]))
    columns = np.arange(len(device))
    if len(set(device)) < derived.devices:
        return None
    pick = csr_array((np.ones(len(device)), (device, columns)))
    cuts = np.array(cut)
    held = derived.server_activation_bytes[device] * (derived.blocks - cuts)
    scale = float(derived.server_activation_bytes.min())  # whole numbers: HiGHS errs by 1e-6
    memory = csr_array(held[None, :] / scale)
    answer = milp(
        np.array(cost) * (_MILP_COST / max(*cost, 1e-300)),
        constraints=[
            LinearConstraint(pick, 1.0, 1.0),
            LinearConstraint(memory, -np.inf, derived.server_activation_budget_bytes / scale),
        ],
        bounds=Bounds(0.0, 1.0),
        integrality=np.ones(len(device), dtype=np.int64),
        options={"mip_rel_gap": 0.0},
    )
    if answer.x is None:
        return None
    chosen = np.zeros(derived.devices, dtype=np.int64)
    for column in np.flatnonzero(answer.x > 0.5):
        chosen[device[column]] = cut[column]
    return chosen


def elementary_bound_s(derived: Derived) -> float:
    """Return a proven lower bound on problem (13) in seconds: each term of (9) at its least value.

    Each device alone needs at least its cheapest option within its own accuracy floor and the
    time of its lowest cut; barriers, server and adapters are monotone in those. Weak, but proven
    in microseconds. Requires a feasible instance.
    """
    up = np.full(derived.devices, np.inf)
    down = np.full(derived.devices, np.inf)
    factor = derived.cut_factor[best_cuts(derived)]
    for option in derived.options:
        keep = least_keep(derived, option, np.full_like(factor, derived.loss_budget_each), factor)
        possible = ~np.isnan(keep)
        filled = np.where(possible, keep, option.keep_low)
        bits_up = derived.elements * derived.beta_up(option, filled)
        bits_down = derived.elements * derived.beta_down(option, filled)
        up = np.where(possible, np.minimum(up, bits_up), up)
        down = np.where(possible, np.minimum(down, bits_down), down)
    low, high = derived.cut_low, derived.cut_high
    tau_up, _ = least_time(derived.s1_s(low), up, derived.uplink_law)
    tau_down, _ = least_time(derived.s5_s(low), down, derived.downlink_law)
    still = np.zeros(derived.devices)
    adapters_up, _ = least_time(still, derived.adapter_bits(low), derived.uplink_law)
    total = derived.steps * (tau_up + server_s(derived, high) + tau_down)
    total += adapters_up + derived.adapter_down_s(low)
    return total * (1.0 - 1e-12) * derived.shortest
