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
from sftopt.solvers.certify.cell import build_cell, common_cells, multicast_cost
from sftopt.solvers.certify.kernels import CORNERS, MULTIPLIERS, Cell, Region, evaluate
from sftopt.solvers.certify.laws import adapter_prices, touch, touch_items
from sftopt.solvers.certify.planes import maximise
from sftopt.solvers.certify.primal import Primal

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 16
_BRANCHED = 400
"""Single devices are branched on up to this many: beyond, duality leaves next to no gap."""
_SAMPLED, _SAMPLE = 700, 300
"""From so many devices on, first multipliers come from a sample of so many."""
_WIDE = 8
"""Up to this depth a box far below the best plan gets a single evaluation."""
_LOPSIDED = 4.0
"""A side this many times the other is halved first, whatever the tangents lose."""
_PRUNE = 0.999
"""Boxes are dropped at this part of the gap asked for, so that the end is not a hair short."""


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


class Search:
    """The state of one run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.derived = task.derived
        self.gap = task.options.rel_gap
        self.abs_gap = task.options.abs_gap
        self.cells: list[Cell] = []
        self.primals: list[Primal] = []
        self.heap: list[tuple[float, int, Node]] = []
        self.count = itertools.count()
        self.nodes = 0
        self.evaluations = 0
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
        for primal in self.primals:
            primal.improve(self._stopped, rounds=40 if self.derived.devices <= 300 else 12)
            primal.finish(8)
            self._take(primal)
        if self.winner is None:
            return Outcome(Termination.ERROR, message="no plan was found; nothing is proven")
        self._roots()
        closed = False
        while self.heap:
            if self._missing() <= 0.0:
                closed = True
                break
            if self._stopped():
                break
            self._step(heapq.heappop(self.heap)[2])
        closed = closed or not self.heap or self._missing() <= 0.0
        return self._outcome(closed)

    def _stopped(self) -> bool:
        return self.task.deadline.passed() or self.task.stop_requested()

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
        parts = -1 if n < 4 else (2 if n < 50 else (3 if n < 700 else 4))
        cell = build_cell(self.derived, parts=parts)
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
                cuts, float(derived.adapter_bits_per_block), derived.snr_terms,
                float(derived.uplink_bandwidth_hz), float(derived.efficiency_cap),
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
                keeps = best.keep
                middle = np.array([best.state[0], best.state[0]])
                band, cap = float(derived.uplink_bandwidth_hz), float(derived.efficiency_cap)
                touch(cell, region, middle, keeps, derived.snr_terms, band, cap, 0.02)
            m = np.array([best.state[3], best.state[4], best.state[2], 0.0])
            if cell.mean and m[2] <= 0.0:
                m[2] = 0.01 * self.best / max(abs(cell.budget), 1e-6)
            low = derived.cut_low
            if float(cell.held[np.arange(derived.devices), low].sum()) > cell.memory:
                m[3] = 0.02 * self.best / max(abs(cell.memory), 1e-3)
            self._push(Node(-np.inf, index, box, (first, last), region, m, 0))

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
        answer = np.zeros(9)
        n = self.derived.devices
        record = n <= 2000 or cell.total
        rows = CORNERS * _ROUNDS if record else CORNERS
        items = np.zeros((rows, n), dtype=np.int64)
        keeps = np.zeros((rows, n))
        weights = np.zeros(CORNERS * _ROUNDS)
        free = np.array([True, True, cell.mean, node.multipliers[3] > 0.0])
        start, rounds = self._sampled_start(node, cell, free)
        bound, used = maximise(
            cell, node.region, node.box, start, self._prices(node), free, target,
            rounds, 3.0, answer, record, items, keeps, weights,
        )  # fmt: skip
        self.evaluations += used
        if cell.total and bound < target and record:
            derived = self.derived
            touch_items(
                cell, items[: CORNERS * used], keeps[: CORNERS * used], node.box,
                derived.snr_terms, float(derived.uplink_bandwidth_hz),
                float(derived.efficiency_cap),
            )  # fmt: skip
            bound, used = maximise(
                cell, node.region, node.box, answer[:MULTIPLIERS].copy(), self._prices(node), free,
                target, _ROUNDS, 3.0, answer, record, items, keeps, weights,
            )  # fmt: skip
            self.evaluations += used
        node.bound = max(node.bound, float(bound))
        node.multipliers = answer[:MULTIPLIERS].copy()
        if node.bound >= target:
            self.floor = min(self.floor, node.bound)
            return
        self._decode(node)
        count = CORNERS * used
        split = None
        if record and self._box_is_small(node, cell, answer):
            split = device_split(
                cell, node.region, node.multipliers, items[:count], keeps[:count], weights[:count]
            )
        if split is None:
            self._split(node, answer)
        else:
            for region in split:
                self._push(
                    Node(node.bound, node.root, node.box, node.levels, region, node.multipliers,
                         node.depth + 1)
                )  # fmt: skip
        if self.bound() > self.reported:
            self.reported = self.bound()
            self._report()

    def _sampled_start(self, node: Node, cell: Cell, free: Array) -> tuple[Array, int]:
        """First multipliers, and how many evaluations they are worth.

        In a large cell they are those of a scaled-up sample of devices: any multipliers are
        valid, and a wide box, which will be halved anyway, is worth one look.
        """
        if cell.total or self.derived.devices < _SAMPLED:
            return node.multipliers, _ROUNDS
        part = sampled(cell, self.sample)
        region = Region(
            node.region.cut_low[self.sample],
            node.region.cut_high[self.sample],
            node.region.options[self.sample],
            node.region.keep_low[self.sample],
            node.region.keep_high[self.sample],
        )
        answer = np.zeros(9)
        none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
        bound, _ = maximise(
            part, region, node.box, node.multipliers, self._prices(node), free, np.inf,
            _ROUNDS, 3.0, answer, False, *none, np.zeros(CORNERS * _ROUNDS),
        )  # fmt: skip
        if not np.isfinite(bound):
            return node.multipliers, _ROUNDS
        wide = node.depth <= _WIDE and node.bound < self.best - 20.0 * self.allowed()
        return answer[:MULTIPLIERS].copy(), 1 if wide else _ROUNDS

    def _prices(self, node: Node) -> Array:
        """Multipliers as the best plan suggests them: a second start."""
        found = self.primals[node.root].best
        m = node.multipliers.copy()
        if found is not None:
            m[:2] = found.state[3:5]
            if found.state[2] > 0.0:
                m[2] = found.state[2]
        return m

    def _decode(self, node: Node) -> None:
        primal = self.primals[node.root]
        n = self.derived.devices
        every = 1 if n <= 300 else 4
        if self.nodes % every:
            return
        box = node.box
        changed = primal.decode(
            node.region.cut_low, node.region.cut_high, 0.5 * (box[0] + box[1]),
            0.5 * (box[2] + box[3]), node.multipliers,
        )  # fmt: skip
        if changed:
            primal.improve(self._stopped, rounds=10)
            self._take(primal)

    def _box_is_small(self, node: Node, cell: Cell, answer: Array) -> bool:
        """Whether a point box in the middle would hardly have a better bound."""
        missing = self.best - node.bound
        if node.levels[0] < node.levels[1] and answer[7:9].max() >= 0.0:
            span = float(self.levels[node.levels[1]] - self.levels[node.levels[0]])
            if cell.steps * span > 0.3 * missing:
                return False
        if self.derived.devices > _BRANCHED or answer[7:9].sum() > 0.5 * missing:
            return False
        box = node.box.copy()
        box[:2] = 0.5 * (box[0] + box[1])
        box[2:4] = 0.5 * (box[2] + box[3])
        middle = self._bound_at(cell, node.region, box, node.multipliers)
        return middle - node.bound < 0.3 * missing

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
                     node.depth + 1)
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
                     node.depth + 1)
            )  # fmt: skip

    def _bound_at(self, cell: Cell, region: Region, box: Array, m: Array) -> float:
        values = np.empty(CORNERS)
        evaluate(cell, region, box, m, values, self._cuts, self._spread, False, *self._none)
        self.evaluations += 1
        return float(values.min())
