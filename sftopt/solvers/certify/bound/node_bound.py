"""The bound of one node: which code, multipliers and items, and how many evaluations it is worth.

Used by the bound alone: of plans it is given times and prices, which are guidance.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    Answer,
    BoundData,
    Box,
    Listing,
    LivePlaces,
    Record,
    Region,
    TangentLoss,
    empty_bounds,
    every_place,
    most_memory,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.boxes import sampled
from sftopt.solvers.certify.bound.choosing import Choosing
from sftopt.solvers.certify.bound.cutting_planes import (
    BoxProblem,
    Effort,
    MultiplierSearch,
    best_multipliers,
)
from sftopt.solvers.certify.bound.halving import VANISHED
from sftopt.solvers.certify.bound.merged_bound import merged_bounds
from sftopt.solvers.certify.bound.nodes import Incumbent, LiveItems, Node, NodeBound, Root
from sftopt.solvers.certify.bound.tables import merge
from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices

Flags = NDArray[np.bool_]
Array = NDArray[np.float64]
Integers = NDArray[np.int64]

ROUNDS = 16
"""Evaluations at most for the bound of a node."""
_RANGE = 1.5
"""The multipliers' range around those of a box, as a multiple of its relative width."""
_LEAST_RANGE = 0.03
"""Multipliers may move by this part at least before the items that can win are sought afresh."""
_PARTS = 4
"""2^4 nodes an octave of a merged table."""
_MORE_PARTS = 5
"""2^5 nodes an octave of a merged table for many devices (``thresholds.MANY``)."""
_FEWER_PARTS = 3
"""2^3 for few (``thresholds.COARSE``), and where points, which no table holds, are least mostly."""
_USUAL_LOSS = 4e-5
"""What a merged table of 16 nodes an octave may lose, relative to the delay."""
_BROAD = 0.15
"""Sides this wide, relative to the time: lists of live places would hold all of them."""
_PARTED = 2.0
"""Where so many times what tangents lose is missing, a device may be parted: for that alone the
choices behind the price of loss are recorded too."""
_PARTED_APART = 50.0
"""As above where few choices are left, each bounded by itself: halving serves much longer."""
_PATIENCE = 2
"""So many evaluations more are spent on a box whose tangents lose all that is missing."""
_CERTAIN = 0.3
"""Where tangents lose less than this part of what is missing, only multipliers can still help."""
_LOOKS = 6
"""Evaluations that the middle of a box is worth before a device is parted."""
_WIDE = 8
"""Up to this depth a box far below the best plan gets a single evaluation."""
_FAR = 20.0
"""Gaps allowed that a box's bound lies below the best plan to count as far below it."""
REACH = 3.0
"""How far, as a factor, multipliers are first allowed to go."""
_COARSE_LOSSES = 2.0
"""A bound by the merged table that misses its target by up to so many of the table's losses is
taken again by the tables of single options."""
_SHOWS = 4.0
"""The merged table serves while more than so many of its losses are missing."""
_SHOWS_BRANCHED = 5.0
"""Where single devices are parted it serves while more than so many gaps allowed are missing."""


class Bounding:
    """Bounds of nodes, and the data and roots they are computed from.

    ``guide`` is everywhere what the best plan of the node's cell says, or None.
    """

    def __init__(self, derived: Derived, incumbent: Incumbent) -> None:
        self.derived = derived
        self.incumbent = incumbent
        self.cells: list[BoundData] = []
        self.roots: dict[int, Root] = {}
        self.coarse_loss = np.inf
        """Seconds of bound that the merged table costs."""
        self.evaluations = 0
        self._out = empty_bounds()
        self._no_record, self._no_listing = no_record(), no_listing()
        self.choosing: Choosing | None = None
        """None in cells where the mean loss is not kept exactly."""

    @cached_property
    def sample(self) -> Integers:
        """Return the devices that stand for all, (M,), drawn with a fixed seed."""
        return np.random.default_rng(0).permutation(self.derived.devices)[: thresholds.SAMPLE]

    def add_root(
        self, index: int, region: Region, alive: LiveItems, guide: TimesAndPrices, m: Multipliers
    ) -> None:
        """Build the merged table of a cell, and find what it loses of a bound near the best plan.

        Statement 14.
        """
        data = self.cells[index]
        if not self.derived.plain and data.mean and self.derived.devices <= thresholds.CHOOSING:
            self.choosing = Choosing(self.derived, self.incumbent, data)
        parts = self._table_parts()
        merged = merge(data, parts, m, guide.tau_up, guide.tau_down)
        self.coarse_loss = np.inf
        if merged.table.size:
            box = Box(guide.tau_up, guide.tau_up, guide.tau_down, guide.tau_down, 0.0)
            exact = self.bound_at(data, region, alive, box, m)
            merged_bounds(data, merged, region, alive.items, box, m, self._out, self._no_listing)
            if np.isfinite(exact):
                usual = _USUAL_LOSS * 0.25 ** (parts - 4) * self.incumbent.value_s
                self.coarse_loss = max(exact - float(self._out.values.min()), usual)
        self.roots[index] = Root(region, alive, merged)

    def _table_parts(self) -> int:
        """Return the nodes an octave of a merged table, as a power of two; -1 for no table."""
        devices, plain = self.derived.devices, self.derived.plain
        if devices <= thresholds.TOGETHER:
            return -1
        if devices < thresholds.COARSE or (devices < thresholds.MANY and not plain):
            return _FEWER_PARTS
        return _MORE_PARTS if devices >= thresholds.MANY and plain else _PARTS

    def bounded(
        self, node: Node, data: BoundData, target: float, guide: TimesAndPrices | None
    ) -> NodeBound:
        """Return the best bound on the node's box that few evaluations give; none beyond
        ``target`` seconds; Statements 2, 5 and 13."""
        chosen = self._by_choices(node, data, target)
        if chosen is not None:
            parted = _PARTED if chosen.apart is None else _PARTED_APART
            if target - chosen.bound <= parted * _most(chosen.lost):
                return chosen
        root = self.roots[node.root]
        free = self.freed(node, data, guide)
        start, rounds = self._sampled_start(node, free, guide)
        factor, patience = self._effort(node.box)
        coarse = self.may_merge(node)
        record = self._new_record(coarse)
        effort = Effort(target, rounds, patience, coarse)
        alive, bound, prices = node.alive, -np.inf, prices_of(node, guide)
        while True:
            start, other = alive.within(start), alive.within(prices)
            listing = self._no_listing
            if factor > 0.0:
                listing = _new_listing(alive, self.derived.devices, factor)
            answer = best_multipliers(
                BoxProblem(data, root.merged, node.region, alive.items, node.box),
                MultiplierSearch(start, other, alive.least, alive.most, free, REACH),
                effort, record, listing,
            )  # fmt: skip
            bound = max(bound, answer.bound)
            self.evaluations += answer.evaluations
            m, lost = answer.multipliers, answer.lost
            if bound >= target or alive is root.alive:
                break
            elsewhere = self._held_elsewhere(lost, target - bound, other, prices, free)
            if not (elsewhere or alive.holds_back(m, free)):
                break
            # the range was too small: afresh from all items
            alive, start = root.alive, m
        if coarse and target - _COARSE_LOSSES * self.coarse_loss <= bound < target:
            bound = max(bound, self.bound_at(data, node.region, alive, node.box, m))
        if factor > 0.0 and np.isfinite(bound):
            alive = alive.narrowed(listing.kept, start, factor, m, free)
        if chosen is None and self.may_choose(node, data, lost, target - bound):
            node.chosen_at = m
            chosen = self._by_choices(node, data, target)
        if chosen is not None:
            bound = max(bound, chosen.bound)
        rows = answer.evaluations * CORNERS
        record = Record(record.items[:rows], record.keeps[:rows], record.weights[:rows])
        return NodeBound(
            float(bound), m, lost, record, alive, None if chosen is None else chosen.chosen,
            None if chosen is None else chosen.apart,
        )  # fmt: skip

    def _by_choices(self, node: Node, data: BoundData, target: float) -> NodeBound | None:
        """Return the bound with the mean loss kept exactly, None where it is not sought so far."""
        if self.choosing is None or not self.choosing.begun(node):
            return None
        assert node.chosen_at is not None
        best, chosen = self.choices_bound(node, data, node.box, node.chosen_at, target)
        node.chosen_at = best.multipliers
        apart = self.choosing.listed(node, best.bound < target)
        nothing = self._no_record
        return NodeBound(
            best.bound, node.multipliers, best.lost, nothing, node.alive, chosen, apart
        )  # fmt: skip

    def may_choose(self, node: Node, data: BoundData, lost: TangentLoss, missing: float) -> bool:
        """Tell whether the limit on the mean loss is worth keeping exactly."""
        return self.choosing is not None and self.choosing.may_choose(node, lost, missing)

    def choices_bound(
        self, node: Node, data: BoundData, box: Box, m: Multipliers, target: float
    ) -> tuple[Answer, tuple[Integers, Array] | None]:
        """Return the best bound with the mean loss kept exactly, and the items behind it.

        Statement 17: items as place * O + option, and keeps, (N,) each; None if there are none.
        """
        assert self.choosing is not None
        root = self.roots[node.root]
        problem = BoxProblem(data, root.merged, node.region, root.alive.items, box)
        answer = self.choosing.bound(problem, m, _may_move(node, data), target)
        self.evaluations += answer.evaluations
        return answer, self.choosing.best()

    def _held_elsewhere(
        self, lost: TangentLoss, missing: float, other: Multipliers, prices: Multipliers,
        free: Flags,
    ) -> bool:  # fmt: skip
        """Tell whether the best plan's prices, out of range, may be what a bound wants."""
        if _most(lost) >= _CERTAIN * missing:
            return False
        pairs = zip(other, prices, free, strict=True)
        return any(near != wanted and moves for near, wanted, moves in pairs)

    def _new_record(self, coarse: bool) -> Record:
        """Make room for the choices behind the planes, where a device may be parted for them."""
        rows = CORNERS * ROUNDS
        if coarse or self.derived.devices > thresholds.BRANCHED:
            return no_record(rows)
        shape = rows, self.derived.devices
        return Record(np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(rows))

    def freed(self, node: Node, data: BoundData, guide: TimesAndPrices | None) -> Flags:
        """Tell which multipliers may move; sets the node's, where they are zero for no reason."""
        if node.multipliers.memory > 0.0 and most_memory(data, node.region) <= data.memory:
            node.multipliers = node.multipliers._replace(memory=0.0)  # all fits
        free = _may_move(node, data)
        # multipliers that vanished at the edge of a box find no way back by themselves
        node.multipliers = Multipliers(
            *(
                max(own, VANISHED * price if moves else 0.0)
                for own, price, moves in zip(
                    node.multipliers, prices_of(node, guide), free, strict=True
                )
            )
        )
        return free

    def _effort(self, box: Box) -> tuple[float, int]:
        """Return the multipliers' range for lists of live places (0: no list), and the patience."""
        width = max(1.0 - box.up_low / box.up_high, 1.0 - box.down_low / box.down_high)
        if self.derived.devices < thresholds.LISTED:
            return 0.0, ROUNDS
        if width > _BROAD:
            return 0.0, 1
        return 1.0 + _RANGE * max(width, _LEAST_RANGE), _PATIENCE

    def may_halve(self, node: Node) -> bool:
        """Tell whether a node's box is to be halved with many others in one call."""
        one_level = node.levels[0] == node.levels[1]
        small = self.derived.devices <= thresholds.TOGETHER and node.chosen_at is None
        return small and one_level and not node.final

    def may_merge(self, node: Node) -> bool:
        """Tell whether the merged table serves: only cuts parted, and its loss does not show."""
        root = self.roots[node.root]
        region = node.region
        whole = region.options is root.region.options and region.keep_low is root.region.keep_low
        if (
            root.merged.table.size == 0
            or not whole
            or region.keep_high is not root.region.keep_high
        ):
            return False
        missing = self.incumbent.value_s - node.bound
        branched = self.derived.devices <= thresholds.BRANCHED
        if node.exact or (branched and missing < _SHOWS_BRANCHED * self.incumbent.allowed()):
            return False
        return bool(missing > _SHOWS * self.coarse_loss)

    def _sampled_start(
        self, node: Node, free: Flags, guide: TimesAndPrices | None
    ) -> tuple[Multipliers, int]:
        """Return first multipliers, and how many evaluations they are worth.

        In a large cell they are those of a scaled-up sample of devices: any multipliers are
        valid, and a wide box, which will be halved anyway, is worth one look.
        """
        if self.derived.devices < thresholds.SAMPLED:
            return node.multipliers, ROUNDS
        part, region = self.sampled_parts(node)
        alive, merged = node.alive, self.roots[node.root].merged
        start, other = alive.within(node.multipliers), alive.within(prices_of(node, guide))
        answer = best_multipliers(
            BoxProblem(part, merged, region, every_place(part, region), node.box),
            MultiplierSearch(start, other, alive.least, alive.most, free, REACH),
            Effort(np.inf, ROUNDS, ROUNDS, self.may_merge(node)),
            no_record(CORNERS * ROUNDS), self._no_listing,
        )  # fmt: skip
        if not np.isfinite(answer.bound):
            return node.multipliers, ROUNDS
        far = node.bound < self.incumbent.value_s - _FAR * self.incumbent.allowed()
        wide = node.depth <= _WIDE and far
        return answer.multipliers, 1 if wide else ROUNDS

    def sampled_parts(self, node: Node) -> tuple[BoundData, Region]:
        """Return data and region of a sample of the devices, scaled to stand for all."""
        chosen = self.sample
        region = node.region
        return sampled(self.cells[node.root], chosen), Region(
            region.cut_low[chosen],
            region.cut_high[chosen],
            region.options[chosen],
            region.keep_low[chosen],
            region.keep_high[chosen],
        )

    def bound_at(
        self, data: BoundData, region: Region, alive: LiveItems, box: Box, m: Multipliers
    ) -> float:
        """Return the bound in seconds at given multipliers; Statement 2."""
        box_bounds(
            data, region, alive.items, box, alive.within(m), self._out, self._no_record, 0,
            self._no_listing,
        )  # fmt: skip
        self.evaluations += 1
        return float(self._out.values.min())

    def dual_at(
        self, node: Node, data: BoundData, box: Box, enough: float, guide: TimesAndPrices | None
    ) -> float:
        """Return about the largest bound at a point in seconds, or one of at least ``enough``."""
        root = self.roots[node.root]
        alive = root.alive
        answer = best_multipliers(
            BoxProblem(data, root.merged, node.region, alive.items, box),
            MultiplierSearch(
                node.multipliers, prices_of(node, guide), alive.least, alive.most,
                _may_move(node, data), REACH,
            ),
            Effort(enough, _LOOKS, _LOOKS, False),
            no_record(CORNERS * _LOOKS), self._no_listing,
        )  # fmt: skip
        self.evaluations += answer.evaluations
        return answer.bound


def _most(lost: TangentLoss) -> float:
    """Return what tangents lose at most on both links, in seconds."""
    return lost.most_up + lost.most_down


def _new_listing(alive: LiveItems, devices: int, factor: float) -> Listing:
    """Make room for the places that can still win."""
    room = len(alive.items.places)
    kept = LivePlaces(np.zeros(devices + 1, dtype=np.int64), np.empty(room, dtype=np.int32))
    return Listing(kept, factor)


def _may_move(node: Node, data: BoundData) -> Flags:
    """Tell which multipliers may move, (4,): that of loss under a mean limit, that of memory
    where it is not zero."""
    return np.array([True, True, data.mean, node.multipliers.memory > 0.0])


def prices_of(node: Node, guide: TimesAndPrices | None) -> Multipliers:
    """Return multipliers as the best plan suggests them: a second start."""
    m = node.multipliers
    if guide is None:
        return m
    loss = guide.loss_price if guide.loss_price > 0.0 else m.loss
    return Multipliers(guide.up_price, guide.down_price, loss, m.memory)
