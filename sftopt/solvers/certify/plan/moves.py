"""How plans are improved: moves from the best one to a better one. Shares no code with the bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.plan.decode import PlanItems, choose
from sftopt.solvers.certify.plan.plan_data import NOT_ALLOWED
from sftopt.solvers.certify.plan.plans import BestPlan, SettledPlan
from sftopt.solvers.certify.plan.swaps import swap

Integers = NDArray[np.int64]

_KINDS = 3
"""So many of the commonest pairs of cut and option are mixed with their neighbours."""
_WORTH = 1e-7
"""A move of alike devices is repeated if it gained this part."""
_GAINED = 1e-9
"""A move of devices that gain counts if it gained this part."""
_WANTING = 1e-10
"""A device's gain counts from this part of the delay, shared by all devices."""
_LARGE_SWAPS = 100
"""Changes of one or two items at most, made at once, in large cells; set by hand."""
_FALL = 4
"""By what number the count of alike devices that move falls after each move without a gain."""
_LITTLE = 0.05
"""In large cells swapping ends where it gains less than this part of what ends a round."""
_STRETCH = 1.3
"""By what factor barrier times are first stretched; set by hand."""
_STRETCHED = 1e-5
"""Such a step is made again if it gained this part."""


class Primal(BestPlan):
    """Builds and improves plans of one instance (or of one common option and keep fraction)."""

    def mix(self, stop: Callable[[], bool], *, enough: float = 0.0) -> bool:
        """Move parts of the devices that share cut and option to neighbouring ones.

        Where devices are alike, prices move all of them at once and the best plan is a mix.
        Counts fall by factors of four and a move that helped is made again. Ends after a round
        that gained less than the part ``enough``.
        """
        first = self.value_s
        while self.best is not None:
            before = self.value_s
            kinds, counts = np.unique(
                np.stack([self.best.cuts, self.best.choice]), axis=1, return_counts=True
            )
            for place in np.argsort(-counts, kind="stable")[:_KINDS]:
                cut, option = kinds[:, place]
                for other in itertools.product((cut - 1, cut, cut + 1), range(len(self.data.low))):
                    if other != (cut, option) and not stop():
                        self._transfer((cut, option), other, int(counts[place]))
            if stop() or self.value_s >= before * (1.0 - enough):
                break
        return self.value_s < first

    def _transfer(self, kind: tuple[int, int], other: tuple[int, int], count: int) -> None:
        """Move up to ``count`` devices from one cut and option to another, as long as it helps."""
        derived, (cut, option) = self.derived, other
        allowed = (derived.option_cut_low[:, option] <= cut) & (cut <= derived.cut_high)
        if not np.any(allowed) or self.data.low[option, cut] >= NOT_ALLOWED:
            return
        while count >= 1:
            best = self.best
            assert best is not None
            here = (best.cuts == kind[0]) & (best.choice == kind[1]) & allowed
            movers = np.flatnonzero(here)[:count]
            cuts, choice = np.full_like(best.cuts, cut), np.full_like(best.choice, option)
            before = self.value_s
            if len(movers):
                self._move(best, movers, PlanItems(cuts, choice, best.keep), 6)
            if not self.value_s < before * (1.0 - _WORTH):
                count //= _FALL

    def improve(
        self, stop: Callable[[], bool], *, rounds: int = 60, singles: int = 0, enough: float = 0.0
    ) -> bool:
        """Move devices at present prices: all that gain, a half of them, ...; then single ones.

        Ends also after a round that gained less than the part ``enough``.
        """
        improved = False
        for _ in range(rounds):
            before = self.value_s
            if self.best is None or stop():
                break
            moved = self._exchange(singles) or self._refit()
            if not moved or self.value_s > before * (1.0 - enough):
                moved = self._swap(stop, enough) or moved
            if not moved:
                break
            improved = True
            if self.value_s > before * (1.0 - enough):
                break
        return improved

    def _refit(self, up: float = 1.0, down: float = 1.0) -> bool:
        """Choose all items anew at the best plan's prices; True if it helped.

        ``up``, ``down``: multiples of its barrier times to choose them at.
        """
        if not self.fits_loss:
            return False
        best = self.best
        assert best is not None
        guide, before = best.guide, self.value_s
        allowed, prices = self.free_choice(best)
        self.decode(allowed, guide.tau_up * up, guide.tau_down * down, prices)
        return self.value_s < before * (1.0 - _GAINED)

    def stretch(self, stop: Callable[[], bool], *, least: float) -> None:
        """Choose items at longer and at shorter barrier times, while that helps.

        Items suit the times they are chosen at, which then change little: a plan where devices do
        few blocks stays one. Steps shrink from a factor of 1.3 to ``least``.
        """
        step = _STRETCH if self.fits_loss else 1.0
        while step > least and self.best is not None and not stop():
            before = self.value_s
            for up, down in ((1, 1), (-1, -1), (1, 0), (0, 1)):
                if self._refit(step**up, step**down):
                    break
            if not self.value_s < before * (1.0 - _STRETCHED):
                step = math.sqrt(step)

    def _swap(self, stop: Callable[[], bool], enough: float) -> bool:
        """Change items of single devices and of pairs within the mean loss; True if it helped."""
        first, derived = self.value_s, self.derived
        if not self.fits_loss:
            return False
        large = derived.devices > thresholds.LARGE
        most = _LARGE_SWAPS if large else derived.devices
        while self.best is not None and most > 0 and self.best.guide.loss_price > 0.0:
            if stop():
                break
            best, before, guide = self.best, self.value_s, self.best.guide
            items = PlanItems(best.cuts.copy(), best.choice.copy(), best.keep.copy())
            allowed, prices = self.free_choice(best)
            if swap(
                self.data, allowed, guide.tau_up, guide.tau_down, prices, self.linear_rates_now(),
                self.per_block, items, most,
            ) <= 0.0:  # fmt: skip
                break
            self._move(best, np.arange(derived.devices), items, rounds=4)
            if not self.value_s < before * (1.0 - _GAINED):
                most //= _FALL
            if large and self.value_s > before * (1.0 - _LITTLE * enough):
                break
        return self.value_s < first

    def _exchange(self, singles: int) -> bool:
        """Make the first move that helps; False if none does."""
        best = self.best
        assert best is not None
        derived, guide = self.derived, best.guide
        items = PlanItems(best.cuts.copy(), best.choice.copy(), best.keep.copy())
        gains = np.zeros(derived.devices)
        allowed, prices = self.free_choice(best)
        if not choose(
            self.data, allowed, guide.tau_up, guide.tau_down, prices, self.linear_rates_now(),
            self.per_block, items, gains, True,
        ):  # fmt: skip
            return False
        wanting = int((gains > _WANTING * best.value_s / derived.devices).sum())
        order = np.argsort(-gains)
        count = wanting
        before = best.value_s
        while count >= 1:
            self._move(best, order[:count], items)
            if self.value_s < before * (1.0 - _GAINED):
                return True
            count //= 2
        for place in range(1, min(singles, wanting)):
            self._move(best, order[place : place + 1], items)
            if self.value_s < before * (1.0 - _GAINED):
                return True
        return False

    def _move(self, base: SettledPlan, movers: Integers, items: PlanItems, rounds: int = 2) -> None:
        """Offer ``base`` with the items of some devices exchanged for those of ``items``."""
        cuts, choice, keep = base.cuts.copy(), base.choice.copy(), base.keep.copy()
        cuts[movers] = items.cuts[movers]
        choice[movers] = items.choice[movers]
        keep[movers] = items.keep[movers]
        self.offer(
            cuts, choice, keep, rounds=rounds, loss_price=base.guide.loss_price,
            shares=base.shares,
        )  # fmt: skip
