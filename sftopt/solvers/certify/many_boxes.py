"""Boxes of the times that are bounded and halved many at a time, without a node for each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    MULTIPLIERS,
    Box,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.cutting_planes import BoxProblem, Effort, MultiplierSearch
from sftopt.solvers.certify.bound.halving import NARROW, ClosedBoxes, OpenBoxes, halve_boxes
from sftopt.solvers.certify.bound.node_bound import REACH, ROUNDS, Bounding, prices_of
from sftopt.solvers.certify.bound.nodes import Node
from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices

AT_ONCE = 32
"""Boxes bounded in one call, which neither reports nor stops: some milliseconds."""
_FIRST = 1
"""The first so many boxes of a search get more effort: their parts begin with their multipliers.
Plans are sought after these, and sooner is better."""
_CHOOSING = 1.0
"""Boxes whose tangents lose less than this part of what is missing are too narrow where the mean
loss can be kept exactly: that gains more."""
_PATIENCE = 1
"""Evaluations more of a box whose tangents lose all that is missing; set by hand, as are the
numbers above."""


class ManyBoxes:
    """What is open of a node's box, in parts that share all but times, bound and multipliers.

    ``begun``: boxes that fill the node's, to begin with in its place. ``first``: the search begins
    here and nothing is known of multipliers.
    """

    def __init__(self, node: Node, begun: ClosedBoxes | None = None, first: bool = False) -> None:
        self.node = node
        self.count = 1 if begun is None else len(begun.sides)
        """Boxes that are open."""
        self.floor = np.inf
        """The least bound of those closed, in seconds."""
        self.closed: list[ClosedBoxes] = []
        """Those closed."""
        self.more = True
        """Whether the last call ended before all boxes were closed or too narrow."""
        self._most = AT_ONCE if begun is None else self.count + AT_ONCE
        self._patience = _PATIENCE
        self._begun = begun is not None
        if first and begun is None:
            self._most, self._patience = _FIRST, ROUNDS
        self._opened = _room(self.count + self._most)
        own = slice(self.count)
        opened = self._opened
        opened.bounds[own], opened.depth[own] = node.bound, node.depth
        opened.sides[own] = node.box[:4] if begun is None else begun.sides
        opened.multipliers[own] = node.multipliers if begun is None else begun.multipliers

    def halve(self, bounding: Bounding, guide: TimesAndPrices | None) -> int:
        """Bound some boxes, halve those that are not closed, and return the number of the former.

        Least bound first, the ones begun with all in the first call. ``guide`` as for
        :class:`Bounding`.
        """
        node, data, best = self.node, bounding.cells[self.node.root], bounding.incumbent
        most, self._most = self._most, AT_ONCE
        patience, self._patience = self._patience, _PATIENCE
        rows = self.count + most
        if rows > len(self._opened.bounds):
            old, self._opened = self._opened, _room(2 * rows)
            for before, after in zip(old, self._opened, strict=True):
                after[: self.count] = before[: self.count]
        closed = ClosedBoxes(np.empty((most, 4)), np.empty((most, MULTIPLIERS)))
        root, free = bounding.roots[node.root], bounding.freed(node, data, guide)
        narrow = NARROW if bounding.choosing is None else _CHOOSING
        found = halve_boxes(
            BoxProblem(data, root.merged, node.region, node.alive.items, node.box),
            MultiplierSearch(
                node.multipliers, prices_of(node, guide), node.alive.least, node.alive.most,
                free, REACH,
            ),
            Effort(best.target(), ROUNDS, patience, False), best.value_s, narrow, self._opened,
            self.count, most, self._begun, closed, no_record(CORNERS * ROUNDS), no_listing(),
        )  # fmt: skip
        self.closed.append(ClosedBoxes(*(each[: found.closed] for each in closed)))
        bounding.evaluations += found.evaluations
        self.more = found.boxes == most
        self.count, self.floor = found.opened, min(self.floor, found.floor)
        return found.boxes

    def bound(self) -> float:
        """Return the least bound of the node's parts in seconds, closed ones included."""
        return min(self.floor, float(self._opened.bounds[: self.count].min(initial=np.inf)))

    def least(self, most: int) -> list[Node]:
        """Return up to ``most`` open boxes as nodes, least bound first."""
        order = np.argsort(self._opened.bounds[: self.count], kind="stable")
        return [self._node(int(row)) for row in order[:most]]

    def nodes(self) -> list[Node]:
        """Return all open boxes as nodes."""
        return [self._node(row) for row in range(self.count)]

    def _node(self, row: int) -> Node:
        opened = self._opened
        return replace(
            self.node,
            bound=float(opened.bounds[row]),
            box=Box._make([*opened.sides[row].tolist(), self.node.box.server]),
            multipliers=Multipliers._make(opened.multipliers[row].tolist()),
            depth=int(opened.depth[row]),
            final=bool(opened.final[row]),
        )


def _room(rows: int) -> OpenBoxes:
    return OpenBoxes(
        np.zeros((rows, 4)), np.zeros(rows), np.zeros((rows, MULTIPLIERS)),
        np.zeros(rows, dtype=np.bool_), np.zeros(rows, dtype=np.int64),
    )  # fmt: skip
