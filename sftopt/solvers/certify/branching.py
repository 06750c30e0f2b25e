"""What becomes of a node that is not closed: its box is halved, or a device or tau_s is parted.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import ServerOrder
from sftopt.solvers.certify import thresholds
from sftopt.solvers.certify.bound.arrays import (
    BoundData,
    LivePlaces,
    Region,
    TangentLoss,
    middle_box,
    with_every_place,
)
from sftopt.solvers.certify.bound.boxes import device_split
from sftopt.solvers.certify.bound.halving import NARROW, halved_side
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.nodes import Node, NodeBound
from sftopt.solvers.certify.guidance import TimesAndPrices

Array = NDArray[np.float64]

_LOSSLESS = 0.02
"""Where tangents lose less than this part of what is missing, halving gains next to nothing."""
_SPANNING = 0.3
"""Server times that span more than this part of what is missing are parted before devices."""
_GAINING = 0.3
"""A middle whose bound gains this part of what is missing says that the box is not small."""


@dataclass(frozen=True)
class Levels:
    """The values that the longest server time can take; a single zero where it does not couple."""

    values: Array
    server: Array
    """(N, P) server time of a device."""
    first: int
    """The least value that leaves every device a cut."""

    @classmethod
    def of(cls, derived: Derived, data: BoundData) -> Levels:
        """List all server times of places in the devices' ranges; Statement 10."""
        if derived.server_order is not ServerOrder.PARALLEL:
            return cls(np.zeros(1), np.zeros((derived.devices, len(data.blocks))), 0)
        server, high = data.server, derived.cut_high
        low = data.cut_low
        inside = (low[:, data.group] <= data.blocks) & (data.blocks <= high[:, None])
        values = np.unique(server[inside])
        groups = server.reshape(derived.devices, low.shape[1], -1)
        least = groups[np.arange(derived.devices), :, high]
        least = np.where(low <= high[:, None], least, np.inf).min(axis=1)
        return cls(values, server, int(np.searchsorted(values, least.max())))

    def span(self, node: Node) -> float:
        """Return the seconds between the first and the last value that a node allows."""
        first, last = node.levels
        return float(self.values[last] - self.values[first])

    def within(self, region: Region, last: int) -> Region:
        """Return the region without places whose server time is above the level; Statement 10."""
        fits = (self.server <= self.values[last]).reshape(*region.cut_low.shape, -1)
        least = np.where(fits.any(axis=2), np.argmax(fits, axis=2), fits.shape[2])
        return region._replace(cut_low=np.maximum(region.cut_low, least))

    def halves(self, node: Node, every: LivePlaces) -> list[Node]:
        """Split a node into the lower and the upper half of the values it allows; Statement 10.

        ``every``: the places of its root.
        """
        first, last = node.levels
        value = 0.5 * (self.values[first] + self.values[last])
        middle = int(np.searchsorted(self.values, value, side="right")) - 1
        middle = min(max(middle, first), last - 1)
        parts = []
        for low, high in ((first, middle), (middle + 1, last)):
            box = node.box._replace(server=float(self.values[low]))
            part = in_region(node, self.within(node.region, high), every)
            parts.append(replace(part, box=box, levels=(low, high)))
        return parts


def all_levels(derived: Derived, cells: list[BoundData]) -> list[Levels]:
    """List the server times of each cell; alike where no option has figures of its own."""
    if derived.plain:
        return [Levels.of(derived, cells[0])] * len(cells)
    return [Levels.of(derived, data) for data in cells]


def branch(
    bounding: Bounding, levels: Levels, node: Node, data: BoundData, found: NodeBound,
    guide: TimesAndPrices | None,
) -> list[Node]:  # fmt: skip
    """Return two nodes that hold all points of ``node``; ``guide`` as for :class:`Bounding`."""
    lost, every = found.lost, bounding.roots[node.root].alive.items
    if found.record.items.shape[1] and _box_is_small(bounding, levels, node, data, lost, guide):
        regions = device_split(data, node.region, node.multipliers, found.record)
        if regions is not None:
            return [in_region(node, region, every) for region in regions]
    missing = bounding.incumbent.value_s - node.bound
    few = len(data.weight) <= thresholds.BRANCHED
    node.exact = few and lost.most_up + lost.most_down <= _LOSSLESS * missing
    if data.steps * levels.span(node) > max(lost.up, lost.down, 0.0):
        return levels.halves(node, every)
    return _halves(node, lost, missing)


def in_region(node: Node, region: Region, every: LivePlaces) -> Node:
    """Return the part of a node that a smaller region allows; Statement 13.

    A list of live places may rest on an item that the region no longer allows: devices whose region
    has changed get all places of ``every`` back.
    """
    alive = node.alive
    if alive.items is not every:
        changed = np.zeros(len(region.options), dtype=np.bool_)
        for before, after in zip(node.region, region, strict=True):
            moved = before != after
            changed |= moved.any(axis=1) if moved.ndim > 1 else moved
        alive = replace(alive, items=with_every_place(alive.items, every, changed))
    return _part(node, region=region, alive=alive)


def _part(node: Node, **changes: Any) -> Node:
    """Return a part of a node: one deeper, with some fields changed."""
    return replace(node, depth=node.depth + 1, **changes)


def _halves(node: Node, lost: TangentLoss, missing: float) -> list[Node]:
    """Halve the box along the time whose tangents lose more."""
    box = node.box
    up, down = box.up_high - box.up_low, box.down_high - box.down_low
    if halved_side(up, down, lost.up, lost.down, missing) == 0:
        middle = 0.5 * (box.up_low + box.up_high)
        parts = box._replace(up_high=middle), box._replace(up_low=middle)
    else:
        middle = 0.5 * (box.down_low + box.down_high)
        parts = box._replace(down_high=middle), box._replace(down_low=middle)
    return [_part(node, box=part, final=False) for part in parts]


def _box_is_small(
    bounding: Bounding, levels: Levels, node: Node, data: BoundData, lost: TangentLoss,
    guide: TimesAndPrices | None,
) -> bool:  # fmt: skip
    """Tell whether a point box in the middle would hardly have a better bound."""
    missing = bounding.incumbent.value_s - node.bound
    several = node.levels[0] < node.levels[1]
    if several and data.steps * levels.span(node) > _SPANNING * missing:
        return False
    if len(data.weight) > thresholds.BRANCHED:
        return False
    if lost.most_up + lost.most_down > NARROW * missing:
        return False
    if node.depth % 2 and node.multipliers.memory * data.memory > missing:
        # a knapsack that binds: no box, however small, closes what mixing cuts gains
        return True
    box = middle_box(node.box)
    enough = node.bound + _GAINING * missing
    if bounding.may_choose(node, data, lost, missing):
        m = node.chosen_at or node.multipliers
        answer = bounding.choices_bound(node, data, box, m, enough)[0]
        if answer.bound >= enough:
            node.chosen_at = answer.multipliers  # its parts begin where the middle gains
        return answer.bound < enough
    if bounding.bound_at(data, node.region, node.alive, box, node.multipliers) >= enough:
        return False
    # the box's multipliers suit its least corner: the middle may want others
    return bounding.dual_at(node, data, box, enough, guide) < enough
