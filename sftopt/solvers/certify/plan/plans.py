"""Plans for the search: start, settling, decoding. Shares no code with the bound.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import AdapterDownlink, ServerOrder
from sftopt.core.limits import feasible_point, server_memory_fits
from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices
from sftopt.solvers.certify.plan.decode import (
    AllowedItems,
    BlockCosts,
    PlanItems,
    UplinkRates,
    choose,
)
from sftopt.solvers.certify.plan.links import linear_rates, more_rates
from sftopt.solvers.certify.plan.plan_data import NOT_ALLOWED, option_groups, plan_data
from sftopt.solvers.certify.plan.settle import settle
from sftopt.solvers.certify.plan.within_loss import choose_within_loss

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_STARTS = (0.0, 0.35, 1.0)
"""Uniform cuts to start from, as parts of each device's range; set by hand."""
_OTHER_SHARES = np.array([0.15, 0.25, 0.4, 0.6, 0.8, 1.25, 1.6, 2.2, 3.0, 4.5])
"""Multiples of a device's share at which rates are made linear too, for items that send more bits
or fewer; set by hand."""
_REFITS = 3
"""Times that items are chosen at most, each at the prices of the plan before; set by hand."""
_LOSS_PART = 0.3
"""The first price of the mean loss where none is known: this part of the delay for all of it."""
_LEAST_LOSS = 1e-6
"""A limit on the mean loss counts as at least this there."""
_NEAR = 1e-4
"""How far above the best plan one may be to go on from, relative; set by hand."""
_LEAST_SHARE = 1e-9
"""Shares at which rates are made linear are at least this."""
_UNSETTLED = TimesAndPrices(0.0, 0.0, 0.0, 0.0, 0.0)
"""Stands for the times and prices of a point that could not be settled."""
_LONGEST = 1e-12
"""What the longest server time is raised by for its rounding, relative."""


@dataclass
class SettledPlan:
    """A plan at its least delay for its cuts and options, and the prices there; arrays (N,)."""

    value_s: float
    cuts: Integers
    choice: Integers
    keep: Array
    guide: TimesAndPrices
    shares: Array
    """Of the uplink."""


class BestPlan:
    """Settles plans of one instance (or of one common option and keep), and keeps the best."""

    def __init__(self, derived: Derived, common: tuple[int, Array] | None = None) -> None:
        self.derived = derived
        self.data = plan_data(derived, common)
        heads = [group[0] for group in option_groups(derived)]
        self._low = np.ascontiguousarray(derived.option_cut_low[:, heads])
        """(N, G) least cuts."""
        self.common = common
        self.best: SettledPlan | None = None
        self.tried_s = np.inf
        """The delay of the point offered last."""
        self.tried_guide = _UNSETTLED
        """Times and prices of that point, as far as it was settled."""
        self.tried_keep = np.zeros(0)
        """Its keep fractions, (N,)."""
        n = derived.devices
        per_block = derived.adapter_bits_per_block * (
            1.0 / derived.uplink_full_bits_per_s + 1.0 / derived.downlink_full_bits_per_s
        )
        if derived.adapter_downlink is AdapterDownlink.MULTICAST:
            per_block = derived.adapter_bits_per_block / derived.uplink_full_bits_per_s
        saved = derived.option_server_activation_bytes
        scale = max(float(saved.max(axis=1).sum()) * derived.blocks, 1e-300)
        self.per_block = BlockCosts(per_block, np.ascontiguousarray(saved[:, heads] / scale))
        self._zeros = np.zeros(n)
        self._known_rates: tuple[SettledPlan | None, UplinkRates, Array] | None = None
        """Estimates of uplink shares and the plan they are made at."""
        self._every = np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64)

    @property
    def value_s(self) -> float:
        """Return the best delay so far, in seconds."""
        return np.inf if self.best is None else self.best.value_s

    def candidate(self) -> Candidate | None:
        """Return the best plan so far, as the solvers' contract wants it."""
        if self.best is None:
            return None
        return Candidate.of(
            self.best.cuts, self.best.choice, self.best.keep, len(self.derived.options)
        )

    def start(self) -> None:
        """Try low, middle and high cuts with each option; the most accurate plan if none fits."""
        derived, own, n = self.derived, self.common, self.derived.devices
        options = range(len(derived.options)) if own is None else (own[0],)
        for part in _STARTS:
            for o in options:
                low = derived.option_cut_low[:, o]
                if np.any(low > derived.cut_high):
                    continue
                cuts = low + np.rint(part * (derived.cut_high - low))
                keep = np.full(n, self.data.low[o].min())
                self.offer(cuts.astype(np.int64), np.full(n, o, dtype=np.int64), keep, rounds=0)
        if self.best is None and own is not None:
            self._offer_highest(*own)
        elif self.best is None:
            point = feasible_point(derived)
            if point is not None:
                cuts = np.rint(point.cuts).astype(np.int64)
                self.offer(cuts, point.choices().astype(np.int64), point.keep, rounds=2)

    def _offer_highest(self, option: int, keeps: Array) -> None:
        """Offer every device's highest cut that a common option and keep fraction allow."""
        d, cuts = self.derived, np.arange(self.derived.blocks)
        low = d.option_cut_low[:, option]
        inside = (low[:, None] <= cuts) & (cuts <= d.cut_high[:, None])
        highest = np.where(inside & (keeps < NOT_ALLOWED), cuts, -1).max(axis=1)
        if np.all(highest >= 0):
            self.offer(highest, np.full_like(highest, option), self._zeros + keeps.min(), rounds=0)

    def offer(
        self,
        cuts: Integers,
        choice: Integers,
        keep: Array,
        *,
        rounds: int = 6,
        loss_price: float = 0.0,
        shares: Array | None = None,
        patient: bool = False,
    ) -> bool:
        """Settle a plan and keep it if it is the best; True if it is.

        ``loss_price`` and ``shares`` (N,) of the uplink are guesses. ``patient``: it is settled to
        the end where it will not be the best.
        """
        derived = self.derived
        self.tried_guide, self.tried_keep = _UNSETTLED, keep
        if not server_memory_fits(derived, cuts, choice):
            cuts = self._lifted(cuts, choice)
            if not server_memory_fits(derived, cuts, choice):
                return False
        up = np.zeros(len(cuts)) if shares is None else shares.copy()
        keep = keep.copy()
        value, guide = settle(
            self.data, PlanItems(cuts, choice, keep), rounds, np.inf if patient else self.value_s,
            loss_price, up,
        )  # fmt: skip
        self.tried_s, self.tried_guide, self.tried_keep = float(value), guide, keep
        if not value < self.value_s:
            return False
        self.best = SettledPlan(float(value), cuts.copy(), choice.copy(), keep, guide, up)
        return True

    def allowed(self, low: Integers, high: Integers, options: Integers) -> AllowedItems:
        """Return what devices may take: cuts from ``low`` (N, O) or (N, 1) to ``high`` (N,)."""
        if low.shape[1] == 1:
            low = np.repeat(low, len(self._low.T), axis=1)
        else:
            heads = [group[0] for group in option_groups(self.derived)]
            low = np.ascontiguousarray(low[:, heads])
        return AllowedItems(low, high, options)

    def decode(
        self, allowed: AllowedItems, tau_up: float, tau_down: float, prices: Multipliers
    ) -> bool:
        """Settle every device's best item at these prices and barrier times in seconds.

        Where operating points leave no keep fraction to take up the mean loss, items meet it by
        steps. True if the plan is the best.
        """
        n, data = self.derived.devices, self.data
        items = PlanItems(np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n))
        rates, more = self.rates_now()
        if not self.fits_loss:
            found = choose(
                data, allowed, tau_up, tau_down, prices, rates, self.per_block, items,
                np.zeros(n), False,
            )  # fmt: skip
            return bool(found) and self.offer(
                items.cuts, items.choice, items.keep, loss_price=prices.loss
            )
        best, loss = False, prices.loss
        for _ in range(_REFITS):
            if self.best is None and not loss > 0.0:
                break
            if not loss > 0.0:
                loss = _LOSS_PART * self.value_s / max(data.budget, _LEAST_LOSS)
            loss = choose_within_loss(
                data, allowed, tau_up, tau_down, prices._replace(loss=loss), rates, more,
                self.per_block, items,
            )  # fmt: skip
            if loss < 0.0:
                break
            if self.offer(items.cuts, items.choice, items.keep, loss_price=loss):
                best = True
            elif not self.tried_s < self.value_s * (1.0 + _NEAR):
                break
            tau_up, tau_down, loss, up, down = self.tried_guide
            prices = Multipliers(up, down, loss, prices.memory)
        return best

    def finish(self, rounds: int = 30) -> None:
        """Settle the best plan to the last digits."""
        if self.best is not None:
            best = self.best
            self.offer(
                best.cuts, best.choice, best.keep, rounds=rounds,
                loss_price=best.guide.loss_price, shares=best.shares,
            )  # fmt: skip

    def free_choice(self, best: SettledPlan) -> tuple[AllowedItems, Multipliers]:
        """Return all that devices may take without prolonging the longest server time, and the
        prices of a plan."""
        guide, low = best.guide, self._low
        if self.derived.server_order is ServerOrder.PARALLEL:
            low = self._cuts_within(best.cuts, best.choice)
        prices = Multipliers(guide.up_price, guide.down_price, guide.loss_price, 0.0)
        return AllowedItems(low, self.derived.cut_high, self._every), prices

    @property
    def fits_loss(self) -> bool:
        """Return whether operating points may leave no keep fraction to meet the mean loss by."""
        return not self.derived.plain and self.data.mean

    def linear_rates_now(self) -> UplinkRates:
        """Return uplink shares as linear functions of the rate, at the best plan's shares."""
        return self.rates_now()[0]

    def rates_now(self) -> tuple[UplinkRates, Array]:
        """Return linear estimates of uplink shares at the best plan's, and others, (N, F, 2).

        None of the latter where the first is exact.
        """
        data, none = self.data, np.empty((len(self.data.weight), 0, 2))
        if not data.total:
            return UplinkRates(1.0 / data.rate_up, self._zeros), none
        if self._known_rates is None or self._known_rates[0] is not self.best:
            shares = self._shares()
            rates = UplinkRates(*linear_rates(data, shares))
            more = none if self.derived.plain else more_rates(data, shares, _OTHER_SHARES)
            self._known_rates = self.best, rates, more
        return self._known_rates[1:]

    def _shares(self) -> Array:
        """Return the best plan's uplink shares, (N,), or even ones."""
        if self.best is None:
            return np.full(len(self.data.weight), 1.0 / len(self.data.weight))
        return np.maximum(self.best.shares, _LEAST_SHARE)

    def _cuts_within(self, cuts: Integers, choice: Integers) -> Integers:
        """Return the least cuts, (N, G), that do not prolong the longest server time."""
        data, low = self.data, self._low
        longest = float(self.derived.s3_s(cuts, choice).max()) * (1.0 + _LONGEST)
        with np.errstate(divide="ignore", invalid="ignore"):
            need = np.ceil((data.s3_base - longest) / data.s3_block)
        need = np.maximum(low, np.where(np.isfinite(need), need, 0.0).astype(np.int64))
        rows, own = np.arange(len(cuts)), data.group[choice]
        need[rows, own] = np.minimum(need[rows, own], np.maximum(cuts, low[rows, own]))
        return need

    def _lifted(self, cuts: Integers, choice: Integers) -> Integers:
        """Raise cuts until the server's memory holds, cheapest device seconds per byte first."""
        derived = self.derived
        each = derived.activation_bytes(choice)
        cuts = cuts.copy()
        order = np.argsort((derived.s1_block_s + derived.s5_block_s) / each)
        over = float((each * (derived.blocks - cuts)).sum())
        over -= derived.server_activation_budget_bytes
        for _ in range(derived.blocks):
            room = order[cuts[order] < derived.cut_high[order]]
            if over <= 0.0 or len(room) == 0:
                break
            freed = np.cumsum(each[room])
            count = int(np.searchsorted(freed, over)) + 1
            cuts[room[:count]] += 1
            over -= float(freed[min(count, len(room)) - 1])
        return cuts
