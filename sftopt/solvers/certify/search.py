"""Best-first search over boxes of the time scalars and, where that is not enough, over devices."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.instance import AccuracyScope, AdapterDownlink, PowerLaw, ServerOrder
from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Progress, Task
from sftopt.solvers.certify.boxes import device_split, first_box, sampled
from sftopt.solvers.certify.cell import (
    build_cell,
    common_cells,
    merge,
    multicast_cost,
    sent_bits,
    with_law,
    with_tables,
)
from sftopt.solvers.certify.kernels import evaluate
from sftopt.solvers.certify.laws import adapter_prices
from sftopt.solvers.certify.locate import downhill
from sftopt.solvers.certify.planes import maximise
from sftopt.solvers.certify.primal import Primal
from sftopt.solvers.certify.shapes import (
    CORNERS,
    MULTIPLIERS,
    Cell,
    Live,
    Merged,
    Region,
    every_cut,
)
from sftopt.solvers.certify.skim import skim

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 16
_BRANCHED = 400
"""Single devices are branched on up to this many: beyond, duality leaves next to no gap."""
_SAMPLED, _SAMPLE = 2000, 300
"""From so many devices on, first multipliers come from a sample of so many."""
_RANGE = 1.5
"""The multipliers' range around those of a box, as a multiple of its relative width."""
_ALIKE = 0.1
"""With fewer kinds of devices than this part of their number the best plan mixes equal ones."""
_MIXED = 32
"""After so many nodes: trying the mixes takes as long as many bounds, and a bound comes first."""
_TABLED = 4
"""With fewer devices tables of single options take longer to fill than they save."""
_PARTS, _MORE_PARTS = 4, 5
"""2^_PARTS nodes an octave of a merged table; more for many devices."""
_MANY = 600
"""From so many devices on a finer merged table is worth its filling."""
_MERGED = 8
"""With fewer devices a merged table takes longer to fill than it saves."""
_USUAL_LOSS = 4e-5
"""What a merged table of 16 nodes an octave may lose, relative to the delay."""
_LISTED = 50
"""With fewer devices lists of live items are not worth their keep."""
_BROAD = 0.15
"""Sides this wide, relative to the time: lists of live cuts would hold all of them."""
_PATIENCE = 2
"""So many evaluations more are spent on a box whose tangents lose all that is missing."""
_NARROW = 1.1
"""Sides up to this ratio make a box narrow enough to try a plan from its middle."""
_EVERY, _DECODED = 16, 6
"""Up to so many nodes each gives a plan, then one in so many: later ones seldom improve it."""
_LARGE = 300
"""With more devices plans come from few decodings."""
_VANISHED = 0.03
"""Multipliers start at this part of the best plan's prices at least."""
_CERTAIN = 0.3
"""Where tangents lose less than this part of what is missing, only multipliers can still help."""
_LOOKS = 6
"""Evaluations that the middle of a box is worth before a device is parted."""
_WIDE = 8
"""Up to this depth a box far below the best plan gets a single evaluation."""
_LOPSIDED = 4.0
"""A side this many times the other is halved first, whatever the tangents lose."""
_EDGE = 0.25
"""This near (in parts of a range, in logarithms) to an edge multipliers are kept in by it."""
_LEAST_RANGE = 0.03
"""Multipliers may move by this part at least before the items that can win are sought afresh."""
_PRUNE = 0.999
"""Boxes are dropped at this part of the gap asked for, so that the end is not a hair short."""


@dataclass(frozen=True)
class Alive:
    """Items that can win in a box while the multipliers stay in a range; Statement 13."""

    items: Live
    least: Array
    """(4,) least multipliers."""
    most: Array

    def within(self, m: Array) -> Array:
        """The nearest multipliers in the range."""
        return np.minimum(np.maximum(m, self.least), self.most)

    def near_edge(self, m: Array) -> NDArray[np.bool_]:
        """Which multipliers may want to leave the range."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.log(m / self.least) / np.log(self.most / self.least)
        return (part < _EDGE) | (part > 1.0 - _EDGE)


@dataclass(frozen=True)
class Root:
    """What all boxes of one cell start from."""

    region: Region
    alive: Alive
    merged: Merged


@dataclass
class Found:
    """What an evaluation of a node gave."""

    bound: float
    answer: Array
    used: int
    items: Integers
    keeps: Array
    weights: Array
    alive: Alive
    """What can win in the box, for the parts it is split into."""


@dataclass
class Node:
    """One box with what is still allowed in it."""

    bound: float
    root: int
    box: Array
    """tau_u low, high, tau_d low, high, tau_s low."""
    levels: tuple[int, int]
    """First and last of the values that tau_s can take."""
    region: Region
    multipliers: Array
    depth: int
    alive: Alive


class Search:
    """The state of one run."""

    def __init__(self, task: Task, most_nodes: int | None = None) -> None:
        self.task = task
        self.most_nodes = most_nodes
        """Boxes looked at before the search ends with an iteration limit."""
        self.derived = task.derived
        self.gap = task.options.rel_gap
        self.abs_gap = task.options.abs_gap
        self.cells: list[Cell] = []
        self.roots: dict[int, Root] = {}
        self.coarse_loss = np.inf
        self.primals: list[Primal] = []
        self.heap: list[tuple[float, int, Node]] = []
        self.count = itertools.count()
        self.nodes = 0
        self.evaluations = 0
        self.tries = 0
        self.floor = np.inf
        """The least bound of anything dropped."""
        self.best = np.inf
        self.winner: Primal | None = None
        self.reported = -np.inf
        self.levels = np.zeros(1)
        n = self.derived.devices
        self.sample = np.random.default_rng(0).permutation(n)[:_SAMPLE]
        self._cuts = np.empty((CORNERS, MULTIPLIERS + 1))
        self._spread = np.zeros(4)
        self._unused = (np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8))
        self._none = (np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0)))

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Search until the gap is closed or a limit is reached."""
        derived = self.derived
        if (
            np.any(derived.outage)
            or np.any(derived.cut_low > derived.cut_high)
            or not derived.options
        ):
            text = "a device has no cut, no mode or no rate to choose"
            return Outcome(Termination.INFEASIBLE_PROVEN, message=text)
        self._build()
        for primal in self.primals:
            primal.start()
        self._given_start()
        large = self.derived.devices > _LARGE
        for primal in self.primals:
            primal.improve(self._stopped, rounds=3 if large else 40)
            self._take(primal)
        if self.winner is None:
            return Outcome(Termination.ERROR, message="no plan was found; nothing is proven")
        self._roots()
        if large:
            for _, _, node in list(self.heap):
                self._descend(node)
        for primal in self.primals:
            primal.finish(8)
            self._take(primal)
        closed = False
        unmixed = large and self._devices_alike()
        while self.heap:
            if self._missing() <= 0.0:
                closed = True
                break
            if self._stopped() or self._spent():
                break
            if unmixed and self.nodes >= _MIXED:
                unmixed = False
                for primal in self.primals:
                    primal.mix(self._stopped, enough=0.1 * self.gap)
                    self._take(primal)
            self._step(heapq.heappop(self.heap)[2])
        closed = closed or not self.heap or self._missing() <= 0.0
        return self._outcome(closed)

    def _devices_alike(self) -> bool:
        """Whether many devices are equal in all that the model knows of them."""
        d = self.derived
        known = (
            d.s1_base_s, d.s1_block_s, d.s3_block_s, d.elements, d.weight,
            d.uplink_full_bits_per_s, d.downlink_full_bits_per_s, d.cut_low, d.cut_high,
        )  # fmt: skip
        return len(np.unique(np.stack(known), axis=1).T) < _ALIKE * d.devices

    def _stopped(self) -> bool:
        return self.task.deadline.passed() or self.task.stop_requested()

    def _spent(self) -> bool:
        return self.most_nodes is not None and self.nodes >= self.most_nodes

    def bound(self) -> float:
        """The proven bound now: the least over what is open and what was dropped."""
        opened = self.heap[0][0] if self.heap else np.inf
        return float(min(opened, self.floor, self.best))

    def allowed(self) -> float:
        """Seconds of gap that may stay."""
        return max(self.gap * self.best, self.abs_gap)

    def _missing(self) -> float:
        return self.best - self.allowed() - self.bound()

    def _outcome(self, closed: bool) -> Outcome:
        assert self.winner is not None
        ended = Termination.TIME_LIMIT if self.task.deadline.passed() else Termination.INTERRUPTED
        if self._spent() and not self._stopped():
            ended = Termination.ITERATION_LIMIT
        self.winner.finish()
        self.best = min(self.best, self.winner.value_s)
        return Outcome(
            termination=Termination.GAP_LIMIT if closed else ended,
            candidate=self.winner.candidate(),
            claimed_s=self.best,
            bound_s=self.bound() if np.isfinite(self.bound()) else None,
            bound_source="certify" if np.isfinite(self.bound()) else None,
            nodes=self.nodes,
            iterations=self.evaluations,
        )

    # --- set-up -----------------------------------------------------------------------------------

    def _build(self) -> None:
        n = self.derived.devices
        self.parts = -1 if n < _TABLED else (3 if n < _LISTED else 4)
        cell = with_law(build_cell(self.derived), self.derived)
        self.base_cost = cell.cost
        if self.derived.scope is not AccuracyScope.COMMON:
            self.cells.append(cell)
            self.primals.append(Primal(self.derived))
            return
        for option, keeps, part in common_cells(self.derived, cell):
            self.cells.append(part)
            self.primals.append(Primal(self.derived, (option, keeps)))

    def _given_start(self) -> None:
        start = self.task.start
        if start is None:
            return
        cuts = np.rint(start.candidate.cuts).astype(np.int64)
        choice = start.candidate.choices().astype(np.int64)
        for primal in self.primals:
            primal.offer(cuts, choice, start.candidate.keep)

    def _take(self, primal: Primal) -> None:
        if primal.value_s < self.best:
            self.best = primal.value_s
            self.winner = primal
            self._charge_adapters()
            self._report(candidate=primal.candidate())

    def _report(self, candidate: Candidate | None = None) -> None:
        bound = self.bound() if self.heap else None
        self.task.report(
            Progress(
                incumbent_s=self.best,
                bound_s=bound,
                candidate=candidate,
                bound_source=None if bound is None else "certify",
            )
        )

    def _charge_adapters(self) -> None:
        """Linear lower estimates of the adapters' time, tight at the best plan's cuts."""
        derived = self.derived
        assert self.winner is not None
        assert self.winner.best is not None
        cuts = self.winner.best.cuts
        extra = np.zeros_like(self.base_cost)
        if derived.adapter_downlink is AdapterDownlink.MULTICAST:
            extra += multicast_cost(derived, cuts)
        if derived.power is PowerLaw.TOTAL:
            prices = adapter_prices(
                cuts, float(derived.adapter_bits_per_block), self.cells[0].law,
                derived.uplink_full_bits_per_s,
            )  # fmt: skip
            extra += np.arange(derived.blocks) * prices[:, None]
        if np.any(extra):
            cost = self.base_cost + extra
            self.cells = [cell._replace(cost=cost) for cell in self.cells]

    def _roots(self) -> None:
        derived = self.derived
        assert self.winner is not None
        assert self.winner.best is not None
        if derived.server_order is ServerOrder.PARALLEL:
            cuts = np.arange(derived.blocks)
            self.server = derived.s3_base_s[:, None] - cuts * derived.s3_block_s[:, None]
            inside = (derived.cut_low[:, None] <= cuts) & (cuts <= derived.cut_high[:, None])
            self.levels = np.unique(self.server[inside])
        for index, cell in enumerate(self.cells):
            best = self.primals[index].best or self.winner.best
            region = self._region()
            first, last = 0, len(self.levels) - 1
            if derived.server_order is ServerOrder.PARALLEL:
                least = self.server[np.arange(derived.devices), derived.cut_high].max()
                first = int(np.searchsorted(self.levels, least))
            box = first_box(cell, region, self.best, float(self.levels[first]))
            if box is None:
                self.floor = min(self.floor, self.best)
                continue
            if cell.total:
                cell.law.bits[:] = sent_bits(derived, best.choice, best.keep)[:, None]
            m = np.array([best.state[3], best.state[4], best.state[2], 0.0])
            if cell.mean and m[2] <= 0.0:
                m[2] = 0.01 * self.best / max(abs(cell.budget), 1e-6)
            low = derived.cut_low
            if float(cell.held[np.arange(derived.devices), low].sum()) > cell.memory:
                m[3] = 0.02 * self.best / max(abs(cell.memory), 1e-3)
            if self.parts >= 0:
                at = best.state[0], best.state[1]
                self.cells[index] = with_tables(cell, self.parts, m, float(at[0]), float(at[1]))
                cell = self.cells[index]
            live = every_cut(cell, region)
            alive = Alive(live, np.zeros(MULTIPLIERS), np.full(MULTIPLIERS, np.inf))
            self._merge(index, region, alive, best.state, m)
            self._push(Node(-np.inf, index, box, (first, last), region, m, 0, alive))

    def _region(self) -> Region:
        derived, n = self.derived, self.derived.devices
        every = np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64)
        return Region(
            derived.cut_low.astype(np.int64),
            derived.cut_high.astype(np.int64),
            every,
            np.zeros(n),
            np.ones(n),
        )

    def _within_level(self, region: Region, last: int) -> Region:
        """Only cuts whose server time is at most the level."""
        fits = self.server <= self.levels[last]
        least = np.argmax(fits, axis=1)
        return region._replace(cut_low=np.maximum(region.cut_low, least))

    def _push(self, node: Node) -> None:
        heapq.heappush(self.heap, (node.bound, next(self.count), node))

    # --- one node ---------------------------------------------------------------------------------

    def _step(self, node: Node) -> None:
        cell = self.cells[node.root]
        target = self.best - _PRUNE * self.allowed()
        if node.bound >= target:
            self.floor = min(self.floor, node.bound)
            return
        self.nodes += 1
        found = self._bounded(node, cell, target)
        self.evaluations += found.used
        node.bound = max(node.bound, found.bound)
        node.multipliers = found.answer[:MULTIPLIERS].copy()
        if node.bound >= target:
            self.floor = min(self.floor, node.bound)
            return
        node.alive = found.alive
        self._decode(node)
        split = None
        if found.items.shape[1] and self._box_is_small(node, cell, found.answer):
            split = device_split(
                cell, node.region, node.multipliers, found.items, found.keeps, found.weights
            )
        if split is None:
            self._split(node, found.answer)
        else:
            for region in split:
                self._push(
                    Node(node.bound, node.root, node.box, node.levels, region, node.multipliers,
                         node.depth + 1, node.alive)
                )  # fmt: skip
        if self.bound() > self.reported:
            self.reported = self.bound()
            self._report()

    def _bounded(self, node: Node, cell: Cell, target: float) -> Found:
        """The best bound on the node's box that few evaluations give."""
        n = self.derived.devices
        root = self.roots[node.root]
        record = n <= _BRANCHED
        box = node.box
        answer = np.zeros(9)
        rows = CORNERS * _ROUNDS
        weights = np.zeros(rows)
        if node.multipliers[3] > 0.0:
            most = float(cell.held[np.arange(n), node.region.cut_low].sum())
            if most <= cell.memory:
                node.multipliers = node.multipliers * np.array([1.0, 1.0, 1.0, 0.0])  # all fits
        free = np.array([True, True, cell.mean, node.multipliers[3] > 0.0])
        # multipliers that vanished at the edge of a box find no way back by themselves
        node.multipliers = np.maximum(node.multipliers, _VANISHED * self._prices(node) * free)
        start, rounds = self._sampled_start(node, cell, free)
        alive = node.alive
        width = max(1.0 - box[0] / box[1], 1.0 - box[2] / box[3])
        factor = 1.0 + _RANGE * max(width, _LEAST_RANGE)
        patience = _ROUNDS
        if n >= _LISTED:
            patience = 1 if width > _BROAD else _PATIENCE
        if n < _LISTED or width > _BROAD:
            factor = 0.0
        coarse = self._may_skim(node)
        record = record and not coarse
        items = np.zeros((rows, n if record else 0), dtype=np.int64)
        keeps = np.zeros(items.shape)
        used = 0
        bound = -np.inf
        while True:
            start = alive.within(start)
            kept = (
                np.zeros(n + 1, dtype=np.int64), np.empty(len(alive.items[1]), dtype=np.int8)
            )  # fmt: skip
            other = alive.within(self._prices(node))
            more, count = maximise(
                cell, root.merged, node.region, alive.items, box, start, other, free,
                alive.least, alive.most, target, rounds, patience, 3.0, coarse, answer, record,
                items, keeps, weights, kept, factor,
            )  # fmt: skip
            bound, used = max(bound, more), used + count
            m = answer[:MULTIPLIERS].copy()
            prices = self._prices(node)
            elsewhere = np.any((alive.within(prices) != prices) & free)
            narrow = answer[7:9].sum() < _CERTAIN * (target - bound)
            outside = np.any(alive.near_edge(m) & free) or (narrow and elsewhere)
            if bound >= target or alive is root.alive or not outside:
                break
            # the range was too small: afresh from all items
            alive, start = root.alive, m
        m = answer[:MULTIPLIERS].copy()
        if coarse and target - 2.0 * self.coarse_loss <= bound < target:
            bound = max(bound, self._bound_at(cell, node.region, alive, box, m))
        if factor > 0.0 and np.isfinite(bound):
            nearer = Alive(
                (kept[0], kept[1][: kept[0][-1]].copy()),
                np.maximum(alive.least, start / factor),
                np.minimum(alive.most, start * factor),
            )
            if not np.any(nearer.near_edge(m) & free):
                alive = nearer
        count *= CORNERS
        return Found(
            float(bound), answer, used, items[:count], keeps[:count], weights[:count], alive
        )

    def _merge(self, index: int, region: Region, alive: Alive, state: Array, m: Array) -> None:
        """The merged table, and what it loses of a bound near the best plan."""
        cell = self.cells[index]
        parts = -1 if self.derived.devices < _MERGED else _PARTS
        if self.derived.devices >= _MANY:
            parts = _MORE_PARTS
        merged = merge(cell, parts, m, float(state[0]), float(state[1]))
        self.coarse_loss = np.inf
        if merged.table.size:
            box = np.array([state[0], state[0], state[1], state[1], 0.0])
            exact, values = self._bound_at(cell, region, alive, box, m), np.empty(CORNERS)
            skim(
                cell, merged, region, alive.items, box, m, values, self._cuts, self._spread,
                self._unused, 0.0,
            )  # fmt: skip
            if np.isfinite(exact):
                usual = _USUAL_LOSS * 0.25 ** (parts - 4) * self.best
                self.coarse_loss = max(exact - float(values.min()), usual)
        self.roots[index] = Root(region, alive, merged)

    def _may_skim(self, node: Node) -> bool:
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
        missing = self.best - node.bound
        if self.derived.devices <= _BRANCHED and missing < 5.0 * self.allowed():
            return False
        return bool(missing > 4.0 * self.coarse_loss)

    def _sampled_start(self, node: Node, cell: Cell, free: Array) -> tuple[Array, int]:
        """First multipliers, and how many evaluations they are worth.

        In a large cell they are those of a scaled-up sample of devices: any multipliers are
        valid, and a wide box, which will be halved anyway, is worth one look.
        """
        if self.derived.devices < _SAMPLED:
            return node.multipliers, _ROUNDS
        part, region = self._sampled_parts(node)
        answer = np.zeros(9)
        none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
        start = node.alive.within(node.multipliers)
        bound, _ = maximise(
            part, self.roots[node.root].merged, region, every_cut(part, region), node.box, start,
            node.alive.within(self._prices(node)), free, node.alive.least, node.alive.most, np.inf,
            _ROUNDS, _ROUNDS, 3.0, self._may_skim(node), answer, False, *none,
            np.zeros(CORNERS * _ROUNDS), self._unused, 0.0,
        )  # fmt: skip
        if not np.isfinite(bound):
            return node.multipliers, _ROUNDS
        wide = node.depth <= _WIDE and node.bound < self.best - 20.0 * self.allowed()
        return answer[:MULTIPLIERS].copy(), 1 if wide else _ROUNDS

    def _sampled_parts(self, node: Node) -> tuple[Cell, Region]:
        chosen = self.sample
        region = node.region
        return sampled(self.cells[node.root], chosen), Region(
            region.cut_low[chosen],
            region.cut_high[chosen],
            region.options[chosen],
            region.keep_low[chosen],
            region.keep_high[chosen],
        )

    def _prices(self, node: Node) -> Array:
        """Multipliers as the best plan suggests them: a second start."""
        found = self.primals[node.root].best
        m = node.multipliers.copy()
        if found is not None:
            m[:2] = found.state[3:5]
            if found.state[2] > 0.0:
                m[2] = found.state[2]
        return m

    def _descend(self, node: Node) -> None:
        """A plan from the lowest point downhill of the best plan, as a sample of devices has it."""
        primal = self.primals[node.root]
        if primal.best is None:
            return
        part, region = self._sampled_parts(node)
        times, m = downhill(
            part,
            self.roots[node.root].merged,
            region,
            primal.best.state[:2],
            node.multipliers,
            float(node.box[4]),
            np.inf,
        )
        node.multipliers = m
        low, high = node.region.cut_low, node.region.cut_high
        primal.decode(low, high, node.region.options, float(times[0]), float(times[1]), m)
        primal.improve(self._stopped, rounds=6, enough=0.1 * self.gap)
        self._take(primal)

    def _decode(self, node: Node) -> None:
        primal = self.primals[node.root]
        box = node.box
        large = self.derived.devices > _LARGE
        if large and not self._promising(node):
            return
        some = self.nodes <= _EVERY or self.nodes % _DECODED == 0
        if not large and self.derived.devices >= _LISTED and not some:
            return
        changed = primal.decode(
            node.region.cut_low, node.region.cut_high, node.region.options,
            0.5 * (box[0] + box[1]), 0.5 * (box[2] + box[3]), node.multipliers,
        )  # fmt: skip
        if changed:
            primal.improve(self._stopped, rounds=10, enough=0.1 * self.gap if large else 0.0)
            self._take(primal)

    def _promising(self, node: Node) -> bool:
        """Whether the middle of the box, by its dual value, may have a plan worth having."""
        if self.nodes & (self.nodes - 1) == 0:
            return True
        box = node.box.copy()
        if self.tries * 12 > self.nodes or max(box[1] / box[0], box[3] / box[2]) > _NARROW:
            return False
        box[:2], box[2:4] = 0.5 * (box[0] + box[1]), 0.5 * (box[2] + box[3])
        cell = self.cells[node.root]
        value = self._bound_at(cell, node.region, node.alive, box, node.multipliers)
        if value > self.best - 0.5 * self.allowed():
            return False
        self.tries += 1
        return True

    def _box_is_small(self, node: Node, cell: Cell, answer: Array) -> bool:
        """Whether a point box in the middle would hardly have a better bound."""
        missing = self.best - node.bound
        if node.levels[0] < node.levels[1] and answer[7:9].max() >= 0.0:
            span = float(self.levels[node.levels[1]] - self.levels[node.levels[0]])
            if cell.steps * span > 0.3 * missing:
                return False
        if self.derived.devices > _BRANCHED or answer[7:9].sum() > 0.5 * missing:
            return False
        if node.depth % 2 and node.multipliers[3] * cell.memory > missing:
            # a knapsack that binds: no box, however small, closes what mixing cuts gains
            return True
        box = node.box.copy()
        box[:2] = 0.5 * (box[0] + box[1])
        box[2:4] = 0.5 * (box[2] + box[3])
        enough = node.bound + 0.3 * missing
        if self._bound_at(cell, node.region, node.alive, box, node.multipliers) >= enough:
            return False
        # the box's multipliers suit its least corner: the middle may want others
        return self._dual_at(node, cell, box, enough) < enough

    def _dual_at(self, node: Node, cell: Cell, box: Array, enough: float) -> float:
        """About the largest bound at a point, or one of at least ``enough``."""
        root = self.roots[node.root]
        free = np.array([True, True, cell.mean, node.multipliers[3] > 0.0])
        value, used = maximise(
            cell, root.merged, node.region, root.alive.items, box, node.multipliers,
            self._prices(node), free, root.alive.least, root.alive.most, enough, _LOOKS, _LOOKS,
            3.0, False, np.zeros(9), False, *self._none, np.zeros(CORNERS * _LOOKS), self._unused,
            0.0,
        )  # fmt: skip
        self.evaluations += used
        return float(value)

    def _split(self, node: Node, answer: Array) -> None:
        """Halve the box along the axis whose tangents lose more."""
        cell_steps = float(self.derived.steps)
        errors = answer[5:7]
        widths = np.array([node.box[1] - node.box[0], node.box[3] - node.box[2]])
        if errors.max() < 0.3 * (self.best - node.bound):
            # not the tangents lose here, but which items may be had across so wide a box
            errors = widths
        axis = 0 if errors[0] >= errors[1] else 2
        if widths[1 - axis // 2] > _LOPSIDED * widths[axis // 2]:
            axis = 2 - axis
        first, last = node.levels
        span = cell_steps * float(self.levels[last] - self.levels[first])
        if span > max(answer[5:7].max(), 0.0):
            self._split_levels(node)
            return
        middle = 0.5 * (node.box[axis] + node.box[axis + 1])
        for part in range(2):
            box = node.box.copy()
            box[axis + 1 - part] = middle
            self._push(
                Node(node.bound, node.root, box, node.levels, node.region, node.multipliers,
                     node.depth + 1, node.alive)
            )  # fmt: skip

    def _split_levels(self, node: Node) -> None:
        """Halve the values the longest server time can take."""
        first, last = node.levels
        value = 0.5 * (self.levels[first] + self.levels[last])
        middle = int(np.searchsorted(self.levels, value, side="right")) - 1
        middle = min(max(middle, first), last - 1)
        for low, high in ((first, middle), (middle + 1, last)):
            region = self._within_level(node.region, high)
            box = node.box.copy()
            box[4] = self.levels[low]
            self._push(
                Node(node.bound, node.root, box, (low, high), region, node.multipliers,
                     node.depth + 1, node.alive)
            )  # fmt: skip

    def _bound_at(self, cell: Cell, region: Region, alive: Alive, box: Array, m: Array) -> float:
        values = np.empty(CORNERS)
        evaluate(
            cell, region, alive.items, box, alive.within(m), values, self._cuts,
            self._spread, False, *self._none, self._unused, 0.0,
        )  # fmt: skip
        self.evaluations += 1
        return float(values.min())
