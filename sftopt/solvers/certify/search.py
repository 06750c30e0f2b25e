"""Best-first search over boxes of the time scalars and, where that is not enough, over devices."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Progress, Task
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import MULTIPLIERS
from sftopt.solvers.certify.bound.dual_descent import downhill
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.branching import Levels, branch
from sftopt.solvers.certify.first_nodes import adapter_time, first_cells, first_node
from sftopt.solvers.certify.nodes import Incumbent, Node
from sftopt.solvers.certify.plan.plans import Primal

Array = NDArray[np.float64]

_ALIKE = 0.1
"""With fewer kinds of devices than this part of their number the best plan mixes equal ones."""
_MIXED = 32
"""After so many nodes: trying the mixes takes as long as many bounds, and a bound comes first."""
_NARROW = 1.1
"""Sides up to this ratio make a box narrow enough to try a plan from its middle."""
_EVERY, _DECODED = 16, 6
"""Up to so many nodes each gives a plan, then one in so many: later ones seldom improve it."""
_PRUNE = 0.999
"""Boxes are dropped at this part of the gap asked for, so that the end is not a hair short."""


class Search:
    """The state of one run."""

    def __init__(self, task: Task, most_nodes: int | None = None) -> None:
        self.task = task
        self.most_nodes = most_nodes
        """Boxes looked at before the search ends with an iteration limit."""
        self.derived = task.derived
        self.incumbent = Incumbent(task.options.rel_gap, task.options.abs_gap)
        self.bounding = Bounding(task.derived, self.incumbent)
        self.primals: list[Primal] = []
        """One for each cell of ``bounding``."""
        self.winner: Primal | None = None
        self.heap: list[tuple[float, int, Node]] = []
        self.count = itertools.count()
        self.nodes = 0
        self.tries = 0
        self.floor = np.inf
        """The least bound of anything dropped."""
        self.at = np.inf
        """The bound of the node that is looked at, which is not in the heap."""
        self.reported = -np.inf

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
        large = self.derived.devices > thresholds.LARGE
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
        unmixed = self._devices_alike()
        while self.heap:
            if self._missing() <= 0.0:
                closed = True
                break
            if self._stopped() or self._spent():
                break
            if unmixed and self.nodes >= _MIXED:
                unmixed = False
                for primal in self.primals:
                    primal.mix(self._stopped, enough=0.1 * self.incumbent.rel_gap)
                    self._take(primal)
            node = heapq.heappop(self.heap)[2]
            self.at = node.bound
            self._step(node)
            self.at = np.inf
            self._tell()
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
        return float(min(opened, self.at, self.floor, self.incumbent.value_s))

    def _missing(self) -> float:
        return self.incumbent.value_s - self.incumbent.allowed() - self.bound()

    def _outcome(self, closed: bool) -> Outcome:
        assert self.winner is not None
        ended = Termination.TIME_LIMIT if self.task.deadline.passed() else Termination.INTERRUPTED
        if self._spent() and not self._stopped():
            ended = Termination.ITERATION_LIMIT
        self.winner.finish()
        self.incumbent.value_s = min(self.incumbent.value_s, self.winner.value_s)
        return Outcome(
            termination=Termination.GAP_LIMIT if closed else ended,
            candidate=self.winner.candidate(),
            claimed_s=self.incumbent.value_s,
            bound_s=self.bound() if np.isfinite(self.bound()) else None,
            bound_source="certify" if np.isfinite(self.bound()) else None,
            nodes=self.nodes,
            iterations=self.bounding.evaluations,
        )

    # --- set-up -----------------------------------------------------------------------------------

    def _build(self) -> None:
        for common, cell in first_cells(self.derived):
            self.bounding.cells.append(cell)
            self.primals.append(Primal(self.derived, common))
            self.base_cost = cell.cost  # of all cells alike

    def _given_start(self) -> None:
        start = self.task.start
        if start is None:
            return
        cuts = np.rint(start.candidate.cuts).astype(np.int64)
        choice = start.candidate.choices().astype(np.int64)
        for primal in self.primals:
            primal.offer(cuts, choice, start.candidate.keep)

    def _take(self, primal: Primal) -> None:
        if primal.value_s < self.incumbent.value_s:
            self.incumbent.value_s = primal.value_s
            self.winner = primal
            self._charge_adapters(primal)
            self._report(candidate=primal.candidate())

    def _report(self, candidate: Candidate | None = None) -> None:
        bound = self.bound() if self.heap or np.isfinite(self.at) else None
        self.task.report(
            Progress(
                incumbent_s=self.incumbent.value_s,
                bound_s=bound,
                candidate=candidate,
                bound_source=None if bound is None else "certify",
            )
        )

    def _charge_adapters(self, primal: Primal) -> None:
        """Lower estimates of the adapters' time, tight at the best plan's cuts, in all cells."""
        assert primal.best is not None
        cells = self.bounding.cells
        extra = adapter_time(self.derived, cells[0], primal.best.cuts)
        if extra is not None:
            cost = self.base_cost + extra
            self.bounding.cells = [cell._replace(cost=cost) for cell in cells]
            for _, _, node in self.heap:
                # what could not win at the old costs may win at the new ones
                node.alive = self.bounding.roots[node.root].alive

    def _roots(self) -> None:
        assert self.winner is not None
        self.levels = Levels.of(self.derived)
        for index, primal in enumerate(self.primals):
            best = primal.best or self.winner.best
            assert best is not None
            node = first_node(self.bounding, index, self.levels, best.state, best.choice, best.keep)
            if node is None:
                self.floor = min(self.floor, self.incumbent.value_s)
            else:
                self._push(node)

    def _push(self, node: Node) -> None:
        heapq.heappush(self.heap, (node.bound, next(self.count), node))

    # --- one node ---------------------------------------------------------------------------------

    def _step(self, node: Node) -> None:
        cell = self.bounding.cells[node.root]
        target = self.incumbent.value_s - _PRUNE * self.incumbent.allowed()
        if node.bound >= target:
            self.floor = min(self.floor, node.bound)
            return
        self.nodes += 1
        found = self.bounding.bounded(node, cell, target, self._state(node))
        node.bound = self.at = max(node.bound, found.bound)
        node.multipliers = found.answer[:MULTIPLIERS].copy()
        if node.bound >= target:
            self.floor = min(self.floor, node.bound)
            return
        node.alive = found.alive
        self._decode(node)
        if self.bounding.cells[node.root] is not cell:
            # a better plan's cuts changed the adapters' costs
            cell, node.alive = self.bounding.cells[node.root], self.bounding.roots[node.root].alive
        for part in branch(self.bounding, self.levels, node, cell, found, self._state(node)):
            self._push(part)

    def _tell(self) -> None:
        """Report a bound that has risen."""
        if self.heap and self.bound() > self.reported:
            self.reported = self.bound()
            self._report()

    def _state(self, node: Node) -> Array | None:
        """Times and prices of the best plan of the node's cell."""
        best = self.primals[node.root].best
        return None if best is None else best.state

    def _descend(self, node: Node) -> None:
        """A plan from the lowest point downhill of the best plan, as a sample of devices has it."""
        primal = self.primals[node.root]
        if primal.best is None:
            return
        part, region = self.bounding.sampled_parts(node)
        times, m = downhill(
            part,
            self.bounding.roots[node.root].merged,
            region,
            primal.best.state[:2],
            node.multipliers,
            float(node.box[4]),
            np.inf,
        )
        node.multipliers = m
        low, high = node.region.cut_low, node.region.cut_high
        primal.decode(low, high, node.region.options, float(times[0]), float(times[1]), m)
        primal.improve(self._stopped, rounds=6, enough=0.1 * self.incumbent.rel_gap)
        self._take(primal)

    def _decode(self, node: Node) -> None:
        primal = self.primals[node.root]
        box = node.box
        large = self.derived.devices > thresholds.LARGE
        if large and not self._promising(node):
            return
        some = self.nodes <= _EVERY or self.nodes % _DECODED == 0
        if not large and self.derived.devices >= thresholds.LISTED and not some:
            return
        changed = primal.decode(
            node.region.cut_low, node.region.cut_high, node.region.options,
            0.5 * (box[0] + box[1]), 0.5 * (box[2] + box[3]), node.multipliers,
        )  # fmt: skip
        if changed:
            primal.improve(
                self._stopped, rounds=10, enough=0.1 * self.incumbent.rel_gap if large else 0.0
            )
            self._take(primal)

    def _promising(self, node: Node) -> bool:
        """Whether the middle of the box, by its dual value, may have a plan worth having."""
        if self.nodes & (self.nodes - 1) == 0:
            return True
        box = node.box.copy()
        if self.tries * 12 > self.nodes or max(box[1] / box[0], box[3] / box[2]) > _NARROW:
            return False
        box[:2], box[2:4] = 0.5 * (box[0] + box[1]), 0.5 * (box[2] + box[3])
        cell = self.bounding.cells[node.root]
        value = self.bounding.bound_at(cell, node.region, node.alive, box, node.multipliers)
        if value > self.incumbent.value_s - 0.5 * self.incumbent.allowed():
            return False
        self.tries += 1
        return True
