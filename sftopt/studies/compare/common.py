"""One decision for all devices: the best common cut, mode and keep fraction, found exactly.

At one cut and one option (a mode and an interval of its mask's factor) the round depends on the
keep fraction alone. On an option's interval the payloads of equations (1) and (2) rise with it and
the loss of equation (12) falls until its best keep fraction, so the least keep fraction within the
accuracy limit is the best one: no search is left but the root of the limit. The least round over
all cuts and options, each at its best shares (14), is the optimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import Mode
from sftopt.core.limits import best_keep, choice_fits, least_keep
from sftopt.core.point import IntegralPoint, best_delay

Integers = NDArray[np.int64]


def best_common(derived: Derived, mode: Mode | None) -> IntegralPoint:
    """Return the best point with one cut and one option for all devices; equations (9)-(12).

    ``mode`` None: any mode on offer. Where no common decision is within the limits, the nearest:
    the highest cut that all devices can hold, or the option of least loss; the judge says what it
    misses.
    """
    label = None if mode is None else mode.label
    options = [i for i, o in enumerate(derived.options) if label in (None, o.label)]
    # with one decision for all the mean loss is everybody's
    budget = np.array([min(derived.loss_budget, derived.loss_budget_each)])
    within: list[IntegralPoint] = []
    beyond: list[tuple[float, IntegralPoint]] = []
    for cut, index in _choices(derived, options):
        option, at = derived.options[index], np.array([cut])
        keep = float(least_keep(derived, option, budget, at)[0])
        if not np.isnan(keep):
            within.append(_point(derived, cut, index, keep))
            continue
        keep = float(best_keep(derived, option, at)[0])
        loss = float(derived.loss(option, keep, cut))
        beyond.append((loss, _point(derived, cut, index, keep)))
    if within:
        return min(within, key=lambda point: best_delay(derived, point).round_s)
    return min(beyond, key=lambda pair: pair[0])[1]


def _choices(derived: Derived, options: list[int]) -> list[tuple[int, int]]:
    """Pairs of a cut and an option that suit all devices; where none does, the highest cut."""
    pairs = [
        (cut, index)
        for cut in range(derived.blocks)
        for index in options
        if choice_fits(derived, _all(derived, cut), _all(derived, index))
    ]
    highest = max(int(derived.cut_high.min()), 0)
    return pairs or [(highest, index) for index in options]


def _all(derived: Derived, value: int) -> Integers:
    return np.full(derived.devices, value, dtype=np.int64)


def _point(derived: Derived, cut: int, index: int, keep: float) -> IntegralPoint:
    return IntegralPoint(_all(derived, cut), _all(derived, index), np.full(derived.devices, keep))
