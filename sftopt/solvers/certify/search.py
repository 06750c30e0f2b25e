"""Best-first search over boxes of the time scalars and, where that is not enough, over devices.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Progress, Task
from sftopt.solvers.certify import first_nodes, thresholds
from sftopt.solvers.certify.bound.arrays import middle_box
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.nodes import Incumbent, Node
from sftopt.solvers.certify.branching import Levels, all_levels, branch
from sftopt.solvers.certify.choice_plans import ChoicePlans
from sftopt.solvers.certify.earlier_proofs import Tiling
from sftopt.solvers.certify.guidance import TimesAndPrices
from sftopt.solvers.certify.many_boxes import ManyBoxes
from sftopt.solvers.certify.plan.decode import AllowedItems
from sftopt.solvers.certify.plan.moves import Primal
from sftopt.solvers.certify.plan.plan_data import mostly_alike

Array = NDArray[np.float64]

_MIXED = 32
"""After so many nodes: trying the mixes takes as long as many bounds, and a bound comes first."""
_NARROW = 1.1
"""Sides up to this ratio make a box narrow enough to try a plan from its middle."""
_EVERY = 16
"""Up to so many nodes each gives a plan: later ones seldom improve it."""
_DECODED = 6
"""After these one node in so many gives a plan."""
_DECODED_FITTED = 12
"""As few from the first on where the first plan's times were stretched: it is seldom improved."""
_WIDE_SMALL = 64
"""The first so many boxes of a small cell are wide, and seldom lead to a better plan."""
_DECODED_SMALL = 4
"""One in so many of those gives a plan; the later ones all do."""
_DECODINGS = 12
"""In large cells at most one node in so many does."""
_PROMISING = 0.5
"""A middle with a dual value below the best plan by this part of the gap may have a better one."""
_ENOUGH = 0.1
"""Improving ends after a round that gained less than this part of the gap asked for."""
_FIRST_ROUNDS = 40
"""Rounds of exchanges at the start."""
_FIRST_ROUNDS_FEW = 2
"""As few in large cells, which get plans from descents too, and in small ones, from first boxes."""
_LEAST_STRETCH = 1.03
"""The least factor by which the first plan's times are stretched."""
_DESCENT_ROUNDS = 6
"""Rounds of exchanges after a descent."""
_NODE_ROUNDS = 10
"""Rounds of exchanges after a node's decoding."""
_SETTLING = 8
"""Turns of settling before the search."""
_OF_MANY = 2
"""Of the boxes bounded in one call so many give a plan."""


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
        self.base_costs: list[Array] = []
        """The cells' costs in seconds without estimates of the adapters' time, (N, P) each."""
        self.levels: list[Levels] = []
        """One for each cell."""
        self.winner: Primal | None = None
        self.tiling = Tiling(task.derived)
        self.heap: list[tuple[float, int, Node]] = []
        self.count = itertools.count()
        self.nodes = 0
        self.tries = 0
        self.floor = np.inf
        """The least bound of anything dropped."""
        self.at = np.inf
        """The bound of the node that is looked at, which is not in the heap."""
        self.rooted = False
        """Whether the heap holds every plan: before, there is no bound."""
        self.reported = -np.inf
        self.choices = ChoicePlans(self.bounding)

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Search until the gap is closed or a limit is reached, and return plan and bound."""
        if first_nodes.nothing_to_choose(self.derived):
            text = "a device has no cut, no mode or no rate to choose"
            return Outcome(Termination.INFEASIBLE_PROVEN, message=text)
        self._build()
        self._given_start()
        for primal in self.primals:
            if primal.best is None:
                primal.start()
        large = self.derived.devices > thresholds.LARGE
        few = large or self.derived.devices <= thresholds.TOGETHER
        for primal in self.primals:
            rounds = _FIRST_ROUNDS_FEW if few or primal.fits_loss else _FIRST_ROUNDS
            primal.improve(self._stopped, rounds=rounds)
            primal.stretch(self._stopped, least=_LEAST_STRETCH)
            self._take(primal)
        if self.winner is None:
            return Outcome(Termination.ERROR, message="no plan was found; nothing is proven")
        self._roots()
        if large and not self.primals[0].fits_loss:
            for _, _, node in list(self.heap):
                self._descend(node)
        for primal in self.primals:
            primal.finish(_SETTLING)
            if not self.derived.plain:
                primal.improve(self._stopped, rounds=_NODE_ROUNDS)
            self._take(primal)
        closed = False
        unmixed = True
        while self.heap:
            if self._missing() <= 0.0:
                closed = True
                break
            if self._stopped() or self._spent():
                break
            if unmixed and self.nodes >= _MIXED:
                unmixed = False
                for primal in self.primals if mostly_alike(self.derived) else ():
                    primal.mix(self._stopped, enough=_ENOUGH * self.incumbent.rel_gap)
                    self._take(primal)
            node = heapq.heappop(self.heap)[2]
            self.at = node.bound
            self._step(node)
            self.at = np.inf
            self._tell()
        closed = closed or not self.heap or self._missing() <= 0.0
        return self._outcome(closed)

    def _stopped(self) -> bool:
        """Tell whether time is up or a stop was asked for."""
        return self.task.deadline.passed() or self.task.stop_requested()

    def _spent(self) -> bool:
        """Tell whether all the boxes allowed have been looked at."""
        return self.most_nodes is not None and self.nodes >= self.most_nodes

    def bound(self) -> float:
        """Return the proven bound in seconds: the least over what is open and what was dropped."""
        opened = self.heap[0][0] if self.heap else np.inf
        return float(min(opened, self.at, self.floor, self.incumbent.value_s))

    def _known_bound(self) -> float | None:
        """Return the bound on the optimum in seconds, None before there is one."""
        bound = self.bound() if self.rooted else np.inf
        return bound if np.isfinite(bound) else None

    def _missing(self) -> float:
        """Return the seconds by which the gap is too large."""
        return self.incumbent.value_s - self.incumbent.allowed() - self.bound()

    def _outcome(self, closed: bool) -> Outcome:
        """Return the best plan, the bound and why the search ended."""
        assert self.winner is not None
        ended = Termination.TIME_LIMIT if self.task.deadline.passed() else Termination.INTERRUPTED
        if self._spent() and not self._stopped():
            ended = Termination.ITERATION_LIMIT
        self.winner.finish()
        self.incumbent.value_s = min(self.incumbent.value_s, self.winner.value_s)
        if closed and self.winner.best is not None:
            self.tiling.keep(self.winner.best, [node for _, _, node in self.heap])
        return replace(
            self.so_far(), termination=Termination.GAP_LIMIT if closed else ended, settled=True
        )

    def so_far(self) -> Outcome:
        """Return the best plan and the bound of a search that was broken off."""
        best = self.winner
        bound = self._known_bound()
        return Outcome(
            termination=Termination.INTERRUPTED,
            candidate=None if best is None else best.candidate(),
            claimed_s=None if best is None else self.incumbent.value_s,
            bound_s=bound,
            bound_source=None if bound is None else "certify",
            nodes=self.nodes,
            iterations=self.bounding.evaluations,
        )

    # --- set-up -----------------------------------------------------------------------------------

    def _build(self) -> None:
        """Make the bound's data and the builders of plans."""
        for common, data in first_nodes.first_cells(self.derived):
            self.bounding.cells.append(data)
            self.primals.append(Primal(self.derived, common))
            self.base_costs.append(data.cost)

    def _given_start(self) -> None:
        """Offer the plan that the task starts from."""
        start = self.task.start
        if start is None:
            return
        cuts = np.rint(start.candidate.cuts).astype(np.int64)
        choice = start.candidate.choices().astype(np.int64)
        for primal in self.primals:
            primal.offer(cuts, choice, start.candidate.keep)

    def _take(self, primal: Primal) -> None:
        """Keep a builder's plan if it is the best of all."""
        if primal.value_s < self.incumbent.value_s:
            self.incumbent.value_s = primal.value_s
            self.winner = primal
            self._charge_adapters(primal)
            self._report(candidate=primal.candidate())

    def _report(self, candidate: Candidate | None = None) -> None:
        """Report plan and bound; no bound before there is one."""
        bound = self._known_bound()
        source = None if bound is None else "certify"
        self.task.report(Progress(self.incumbent.value_s, bound, candidate, source))

    def _charge_adapters(self, primal: Primal) -> None:
        """Charge lower estimates of the adapters' time, tight at the best plan's cuts.

        Statements 11 and 12.
        """
        assert primal.best is not None
        cells = self.bounding.cells
        extra = first_nodes.adapter_estimate(self.derived, cells[0], primal.best.cuts)
        if extra is not None:
            self.bounding.cells = [
                data._replace(cost=cost + extra[:, data.blocks])
                for data, cost in zip(cells, self.base_costs, strict=True)
            ]
            for _, _, node in self.heap:
                # what could not win at the old costs may win at the new ones
                node.alive = self.bounding.roots[node.root].alive

    def _roots(self) -> None:
        """Put the first node of each cell on the heap."""
        assert self.winner is not None
        self.levels = all_levels(self.derived, self.bounding.cells)
        for index, primal in enumerate(self.primals):
            best = primal.best or self.winner.best
            assert best is not None
            levels = self.levels[index]
            node = first_nodes.first_node(
                self.bounding, index, levels, best.guide, best.choice, best.keep
            )
            if node is None:
                self.floor = min(self.floor, self.incumbent.value_s)
            else:
                self._push(node)
                if len(self.primals) == 1 and self.bounding.may_halve(node):
                    self.tiling.start(node, self.task.options.x0)
        self.rooted = True

    def _push(self, node: Node) -> None:
        """Put a node on the heap."""
        heapq.heappush(self.heap, (node.bound, next(self.count), node))

    # --- one node ---------------------------------------------------------------------------------

    def _step(self, node: Node) -> None:
        """Bound a node, seek a plan there, and split it."""
        data = self.bounding.cells[node.root]
        if self._is_closed(node):
            return
        if self.bounding.may_halve(node):
            self._halve(node)
            return
        self.nodes += 1
        target = self.incumbent.target()
        found = self.bounding.bounded(node, data, target, self._guide(node))
        node.bound = self.at = max(node.bound, found.bound)
        node.multipliers = found.multipliers
        primal = self.primals[node.root]
        if found.apart is not None and node.bound < target:
            apart = self.choices.apart(primal, node, *found.apart, lambda: self._take(primal))
            node.bound = self.at = max(node.bound, min(apart, target))
        if self._is_closed(node):
            return
        node.alive = found.alive
        if found.chosen is not None:
            self.choices.offer(primal, node, *found.chosen, self._stopped)
            self._take(primal)
        self._decode(node)
        if self.bounding.cells[node.root] is not data:
            # a better plan's cuts changed the adapters' costs
            data, node.alive = self.bounding.cells[node.root], self.bounding.roots[node.root].alive
        levels = self.levels[node.root]
        parts = branch(self.bounding, levels, node, data, found, self._guide(node))
        if parts[0].region is not node.region:
            self.tiling.close(node)
        for part in parts:
            self._push(part)

    def _is_closed(self, node: Node) -> bool:
        """Tell whether a node's bound is enough; it is noted then."""
        if node.bound < self.incumbent.target():
            return False
        self.floor = min(self.floor, node.bound)
        self.tiling.close(node)
        return True

    def _halve(self, node: Node) -> None:
        """Bound and halve many boxes at once, and seek plans in the least of those left."""
        first = self.task.start is None and self.nodes == 0
        boxes = ManyBoxes(node, self.tiling.begun(node, self._guide(node)), first)
        more = True
        while more and boxes.bound() < self.incumbent.target():
            self.nodes += boxes.halve(self.bounding, self._guide(node))
            self.at = max(self.at, boxes.bound())
            for least in boxes.least(_OF_MANY):
                self._decode(least)
            self._tell()
            more = boxes.more and not (self._stopped() or self._spent())
        self.floor = min(self.floor, boxes.floor)
        self.tiling.close(node, boxes.closed)
        for part in boxes.nodes():
            self._push(part)

    def _tell(self) -> None:
        """Report a bound that has risen."""
        if (self.heap or self.at < np.inf) and self.bound() > self.reported:
            self.reported = self.bound()
            self._report()

    def _guide(self, node: Node) -> TimesAndPrices | None:
        """Return times and prices of the best plan of the node's cell."""
        best = self.primals[node.root].best
        return None if best is None else best.guide

    def _allowed(self, node: Node) -> AllowedItems:
        """Return what a node allows, as plans are told it."""
        low = first_nodes.least_cuts(self.derived, node.region)
        return self.primals[node.root].allowed(low, node.region.cut_high, node.region.options)

    def _descend(self, node: Node) -> None:
        """Seek a plan where a sample of devices has the least dual downhill of the best plan."""
        primal = self.primals[node.root]
        if primal.best is None:
            return
        up, down = first_nodes.least_dual(self.bounding, node, primal.best.guide)
        primal.decode(self._allowed(node), up, down, node.multipliers)
        primal.improve(
            self._stopped, rounds=_DESCENT_ROUNDS, enough=_ENOUGH * self.incumbent.rel_gap
        )
        self._take(primal)

    def _decode(self, node: Node) -> None:
        """Seek a plan at a node's multipliers."""
        primal = self.primals[node.root]
        large = self.derived.devices > thresholds.LARGE
        if large and not self._promising(node):
            return
        some = self.nodes <= _EVERY or self.nodes % _DECODED == 0
        if primal.fits_loss:
            some = self.nodes % _DECODED_FITTED == 1
        if self.derived.devices < thresholds.LISTED:
            some = self.nodes > _WIDE_SMALL or self.nodes % _DECODED_SMALL == 1
        if not large and not some:
            return
        middle = middle_box(node.box)
        changed = primal.decode(
            self._allowed(node), middle.up_low, middle.down_low, node.multipliers
        )
        if changed:
            enough = _ENOUGH * self.incumbent.rel_gap if large else 0.0
            primal.improve(self._stopped, rounds=_NODE_ROUNDS, enough=enough)
            self._take(primal)

    def _promising(self, node: Node) -> bool:
        """Tell whether the middle of the box, by its dual value, may have a plan worth having."""
        if self.nodes & (self.nodes - 1) == 0:
            return True
        box = node.box
        side = max(box.up_high / box.up_low, box.down_high / box.down_low)
        if self.tries * _DECODINGS > self.nodes or side > _NARROW:
            return False
        data, middle = self.bounding.cells[node.root], middle_box(box)
        value = self.bounding.bound_at(data, node.region, node.alive, middle, node.multipliers)
        if value > self.incumbent.value_s - _PROMISING * self.incumbent.allowed():
            return False
        self.tries += 1
        return True
