"""The bound of one node: which code, multipliers and items, and how many evaluations it is worth.

Used by the bound alone: of plans it is given times and prices, which are guidance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import CORNERS, MULTIPLIERS, Cell, Region, every_cut
from sftopt.solvers.certify.bound.bound_data import merge
from sftopt.solvers.certify.bound.box_bound import evaluate
from sftopt.solvers.certify.bound.boxes import sampled
from sftopt.solvers.certify.bound.cutting_planes import maximise
from sftopt.solvers.certify.bound.merged_bound import skim
from sftopt.solvers.certify.nodes import Alive, Found, Incumbent, Node, Root

Array = NDArray[np.float64]

_ROUNDS = 16
_RANGE = 1.5
"""The multipliers' range around those of a box, as a multiple of its relative width."""
_LEAST_RANGE = 0.03
"""Multipliers may move by this part at least before the items that can win are sought afresh."""
_PARTS, _MORE_PARTS = 4, 5
"""2^_PARTS nodes an octave of a merged table; more for many devices."""
_USUAL_LOSS = 4e-5
"""What a merged table of 16 nodes an octave may lose, relative to the delay."""
_BROAD = 0.15
"""Sides this wide, relative to the time: lists of live cuts would hold all of them."""
_PATIENCE = 2
"""So many evaluations more are spent on a box whose tangents lose all that is missing."""
_VANISHED = 0.03
"""Multipliers start at this part of the best plan's prices at least."""
_CERTAIN = 0.3
"""Where tangents lose less than this part of what is missing, only multipliers can still help."""
_LOOKS = 6
"""Evaluations that the middle of a box is worth before a device is parted."""
_WIDE = 8
"""Up to this depth a box far below the best plan gets a single evaluation."""
_REACH = 3.0
"""How far, as a factor, multipliers are first allowed to go."""


class Bounding:
    """Bounds of nodes, and the cells and roots they are computed from.

    ``state`` is everywhere that of the best plan of the node's cell, as ``decode.settle`` leaves
    it, or None.
    """

    def __init__(self, derived: Derived, incumbent: Incumbent) -> None:
        self.derived = derived
        self.incumbent = incumbent
        self.cells: list[Cell] = []
        self.roots: dict[int, Root] = {}
        self.coarse_loss = np.inf
        """Seconds of bound that the merged table costs."""
        self.evaluations = 0
        self.sample = np.random.default_rng(0).permutation(derived.devices)[: thresholds.SAMPLE]
        self._cuts = np.empty((CORNERS, MULTIPLIERS + 1))
        self._spread = np.zeros(4)
        self._unused = (np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8))
        self._none = (np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0)))

    def add_root(self, index: int, region: Region, alive: Alive, state: Array, m: Array) -> None:
        """The merged table of a cell, and what it loses of a bound near the best plan."""
        cell = self.cells[index]
        parts = -1 if self.derived.devices < thresholds.MERGED else _PARTS
        if self.derived.devices >= thresholds.MANY:
            parts = _MORE_PARTS
        merged = merge(cell, parts, m, float(state[0]), float(state[1]))
        self.coarse_loss = np.inf
        if merged.table.size:
            box = np.array([state[0], state[0], state[1], state[1], 0.0])
            exact, values = self.bound_at(cell, region, alive, box, m), np.empty(CORNERS)
            skim(
                cell, merged, region, alive.items, box, m, values, self._cuts, self._spread,
                self._unused, 0.0,
            )  # fmt: skip
            if np.isfinite(exact):
                usual = _USUAL_LOSS * 0.25 ** (parts - 4) * self.incumbent.value_s
                self.coarse_loss = max(exact - float(values.min()), usual)
        self.roots[index] = Root(region, alive, merged)

    def bounded(self, node: Node, cell: Cell, target: float, state: Array | None) -> Found:
        """The best bound on the node's box that few evaluations give; none beyond ``target``."""
        n = self.derived.devices
        root, rows = self.roots[node.root], CORNERS * _ROUNDS
        free = self._freed(node, cell, state)
        start, rounds = self._sampled_start(node, free, state)
        factor, patience = self._effort(node.box)
        coarse = self.may_skim(node)
        record = n <= thresholds.BRANCHED and not coarse
        items = np.zeros((rows, n if record else 0), dtype=np.int64)
        keeps, weights = np.zeros(items.shape), np.zeros(rows)
        answer, alive, bound = np.zeros(9), node.alive, -np.inf
        prices = _prices(node, state)
        while True:
            start = alive.within(start)
            kept = (
                np.zeros(n + 1, dtype=np.int64), np.empty(len(alive.items[1]), dtype=np.int8)
            )  # fmt: skip
            more, count = maximise(
                cell, root.merged, node.region, alive.items, node.box, start,
                alive.within(prices), free, alive.least, alive.most, target, rounds, patience,
                _REACH, coarse, answer, record, items, keeps, weights, kept, factor,
            )  # fmt: skip
            bound = max(bound, more)
            self.evaluations += count
            m = answer[:MULTIPLIERS].copy()
            elsewhere = np.any((alive.within(prices) != prices) & free)
            narrow = answer[7:9].sum() < _CERTAIN * (target - bound)
            outside = np.any(alive.near_edge(m) & free) or (narrow and elsewhere)
            if bound >= target or alive is root.alive or not outside:
                break
            # the range was too small: afresh from all items
            alive, start = root.alive, m
        if coarse and target - 2.0 * self.coarse_loss <= bound < target:
            bound = max(bound, self.bound_at(cell, node.region, alive, node.box, m))
        if factor > 0.0 and np.isfinite(bound):
            nearer = Alive(
                (kept[0], kept[1][: kept[0][-1]].copy()),
                np.maximum(alive.least, start / factor),
                np.minimum(alive.most, start * factor),
            )
            if not np.any(nearer.near_edge(m) & free):
                alive = nearer
        count *= CORNERS
        return Found(float(bound), answer, items[:count], keeps[:count], weights[:count], alive)

    def _freed(self, node: Node, cell: Cell, state: Array | None) -> NDArray[Any]:
        """Which multipliers may move; sets the node's, where they are zero for no reason."""
        if node.multipliers[3] > 0.0:
            least = node.region.cut_low
            most = float(cell.held[np.arange(self.derived.devices), least].sum())
            if most <= cell.memory:
                node.multipliers = node.multipliers * np.array([1.0, 1.0, 1.0, 0.0])  # all fits
        free = np.array([True, True, cell.mean, node.multipliers[3] > 0.0])
        # multipliers that vanished at the edge of a box find no way back by themselves
        node.multipliers = np.maximum(node.multipliers, _VANISHED * _prices(node, state) * free)
        return free

    def _effort(self, box: Array) -> tuple[float, int]:
        """The multipliers' range for lists of live cuts (0: no list), and the patience."""
        width = max(1.0 - box[0] / box[1], 1.0 - box[2] / box[3])
        if self.derived.devices < thresholds.LISTED:
            return 0.0, _ROUNDS
        if width > _BROAD:
            return 0.0, 1
        return 1.0 + _RANGE * max(width, _LEAST_RANGE), _PATIENCE

    def may_skim(self, node: Node) -> bool:
        """Whether the merged table serves: nothing but cuts parted, and its loss does not show."""
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
        if node.exact or (branched and missing < 5.0 * self.incumbent.allowed()):
            return False
        return bool(missing > 4.0 * self.coarse_loss)

    def _sampled_start(self, node: Node, free: Array, state: Array | None) -> tuple[Array, int]:
        """First multipliers, and how many evaluations they are worth.

        In a large cell they are those of a scaled-up sample of devices: any multipliers are
        valid, and a wide box, which will be halved anyway, is worth one look.
        """
        if self.derived.devices < thresholds.SAMPLED:
            return node.multipliers, _ROUNDS
        part, region = self.sampled_parts(node)
        answer = np.zeros(9)
        alive = node.alive
        bound, _ = maximise(
            part, self.roots[node.root].merged, region, every_cut(part, region), node.box,
            alive.within(node.multipliers), alive.within(_prices(node, state)), free,
            alive.least, alive.most, np.inf, _ROUNDS, _ROUNDS, _REACH, self.may_skim(node),
            answer, False, *self._none, np.zeros(CORNERS * _ROUNDS), self._unused, 0.0,
        )  # fmt: skip
        if not np.isfinite(bound):
            return node.multipliers, _ROUNDS
        far = node.bound < self.incumbent.value_s - 20.0 * self.incumbent.allowed()
        wide = node.depth <= _WIDE and far
        return answer[:MULTIPLIERS].copy(), 1 if wide else _ROUNDS

    def sampled_parts(self, node: Node) -> tuple[Cell, Region]:
        """Cell and region of a sample of the devices, scaled to stand for all."""
        chosen = self.sample
        region = node.region
        return sampled(self.cells[node.root], chosen), Region(
            region.cut_low[chosen],
            region.cut_high[chosen],
            region.options[chosen],
            region.keep_low[chosen],
            region.keep_high[chosen],
        )

    def bound_at(self, cell: Cell, region: Region, alive: Alive, box: Array, m: Array) -> float:
        """The bound at given multipliers."""
        values = np.empty(CORNERS)
        evaluate(
            cell, region, alive.items, box, alive.within(m), values, self._cuts,
            self._spread, False, *self._none, self._unused, 0.0,
        )  # fmt: skip
        self.evaluations += 1
        return float(values.min())

    def dual_at(
        self, node: Node, cell: Cell, box: Array, enough: float, state: Array | None
    ) -> float:
        """About the largest bound at a point, or one of at least ``enough``."""
        root = self.roots[node.root]
        free = np.array([True, True, cell.mean, node.multipliers[3] > 0.0])
        value, used = maximise(
            cell, root.merged, node.region, root.alive.items, box, node.multipliers,
            _prices(node, state), free, root.alive.least, root.alive.most, enough, _LOOKS, _LOOKS,
            _REACH, False, np.zeros(9), False, *self._none, np.zeros(CORNERS * _LOOKS),
            self._unused, 0.0,
        )  # fmt: skip
        self.evaluations += used
        return float(value)


def _prices(node: Node, state: Array | None) -> Array:
    """Multipliers as the best plan suggests them: a second start."""
    m = node.multipliers.copy()
    if state is not None:
        m[:2] = state[3:5]
        if state[2] > 0.0:
            m[2] = state[2]
    return m
