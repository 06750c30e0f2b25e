"""What becomes of a node that is not closed: its box is halved, or a device or tau_s is parted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import ServerOrder
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import Cell, Region
from sftopt.solvers.certify.bound.boxes import device_split
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.nodes import Found, Node

Array = NDArray[np.float64]

_LOSSLESS = 0.02
"""Where tangents lose less than this part of what is missing, halving gains next to nothing."""
_LOPSIDED = 4.0
"""A side this many times the other is halved first, whatever the tangents lose."""


@dataclass(frozen=True)
class Levels:
    """The values that the longest server time can take; a single zero where it does not couple."""

    values: Array
    server: Array
    """(N, L) server time of a device."""
    first: int
    """The least value that leaves every device a cut."""

    @classmethod
    def of(cls, derived: Derived) -> Levels:
        """All server times of cuts in the devices' ranges; Statement 10."""
        if derived.server_order is not ServerOrder.PARALLEL:
            return cls(np.zeros(1), np.zeros((derived.devices, derived.blocks)), 0)
        cuts = np.arange(derived.blocks)
        server = derived.s3_base_s[:, None] - cuts * derived.s3_block_s[:, None]
        inside = (derived.cut_low[:, None] <= cuts) & (cuts <= derived.cut_high[:, None])
        values = np.unique(server[inside])
        least = server[np.arange(derived.devices), derived.cut_high].max()
        return cls(values, server, int(np.searchsorted(values, least)))

    def span(self, node: Node) -> float:
        """Seconds between the first and the last value that a node allows."""
        first, last = node.levels
        return float(self.values[last] - self.values[first])

    def within(self, region: Region, last: int) -> Region:
        """Only cuts whose server time is at most the level."""
        fits = self.server <= self.values[last]
        least = np.argmax(fits, axis=1)
        return region._replace(cut_low=np.maximum(region.cut_low, least))

    def halves(self, node: Node) -> list[Node]:
        """The node with the lower and with the upper half of the values it allows."""
        first, last = node.levels
        value = 0.5 * (self.values[first] + self.values[last])
        middle = int(np.searchsorted(self.values, value, side="right")) - 1
        middle = min(max(middle, first), last - 1)
        parts = []
        for low, high in ((first, middle), (middle + 1, last)):
            box = node.box.copy()
            box[4] = self.values[low]
            region = self.within(node.region, high)
            parts.append(_part(node, box=box, levels=(low, high), region=region))
        return parts


def branch(
    bounding: Bounding, levels: Levels, node: Node, cell: Cell, found: Found, state: Array | None
) -> list[Node]:
    """Two nodes that hold all points of ``node``; ``state`` as for :class:`Bounding`."""
    if found.items.shape[1] and _box_is_small(bounding, levels, node, cell, found.answer, state):
        regions = device_split(
            cell, node.region, node.multipliers, found.items, found.keeps, found.weights
        )
        if regions is not None:
            return [_part(node, region=region) for region in regions]
    missing = bounding.incumbent.value_s - node.bound
    node.exact = (
        len(cell.weight) <= thresholds.BRANCHED and found.answer[7:9].sum() <= _LOSSLESS * missing
    )
    if cell.steps * levels.span(node) > max(found.answer[5:7].max(), 0.0):
        return levels.halves(node)
    return _halves(node, found.answer, missing)


def _part(node: Node, **changes: Any) -> Node:
    return replace(node, depth=node.depth + 1, **changes)


def _halves(node: Node, answer: Array, missing: float) -> list[Node]:
    """The box halved along the axis whose tangents lose more."""
    errors = answer[5:7]
    widths = np.array([node.box[1] - node.box[0], node.box[3] - node.box[2]])
    if errors.max() < 0.3 * missing:
        # not the tangents lose here, but which items may be had across so wide a box
        errors = widths
    axis = 0 if errors[0] >= errors[1] else 2
    if widths[1 - axis // 2] > _LOPSIDED * widths[axis // 2]:
        axis = 2 - axis
    middle = 0.5 * (node.box[axis] + node.box[axis + 1])
    parts = []
    for half in range(2):
        box = node.box.copy()
        box[axis + 1 - half] = middle
        parts.append(_part(node, box=box))
    return parts


def _box_is_small(
    bounding: Bounding, levels: Levels, node: Node, cell: Cell, answer: Array, state: Array | None
) -> bool:
    """Whether a point box in the middle would hardly have a better bound."""
    missing = bounding.incumbent.value_s - node.bound
    several = node.levels[0] < node.levels[1]
    if several and answer[7:9].max() >= 0.0 and cell.steps * levels.span(node) > 0.3 * missing:
        return False
    if len(cell.weight) > thresholds.BRANCHED or answer[7:9].sum() > 0.5 * missing:
        return False
    if node.depth % 2 and node.multipliers[3] * cell.memory > missing:
        # a knapsack that binds: no box, however small, closes what mixing cuts gains
        return True
    box = node.box.copy()
    box[:2] = 0.5 * (box[0] + box[1])
    box[2:4] = 0.5 * (box[2] + box[3])
    enough = node.bound + 0.3 * missing
    if bounding.bound_at(cell, node.region, node.alive, box, node.multipliers) >= enough:
        return False
    # the box's multipliers suit its least corner: the middle may want others
    return bounding.dual_at(node, cell, box, enough, state) < enough
