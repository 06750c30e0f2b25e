"""Where the mean loss is kept exactly, and what few choices a box leaves; Statements 17 and 18.

Used by the bound alone: of plans it is given times and prices, which are guidance. Constants were
set by hand on cells with token modes: validity does not depend on them, speed does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import ServerOrder
from sftopt.solvers.certify.bound.apart import bound_apart
from sftopt.solvers.certify.bound.arrays import Answer, BoundData, TangentLoss, middle_box
from sftopt.solvers.certify.bound.choices import best_of_choices
from sftopt.solvers.certify.bound.cutting_planes import BoxProblem, Effort
from sftopt.solvers.certify.bound.knapsack import new_room
from sftopt.solvers.certify.bound.nodes import Incumbent, Node
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]

_ITEMS = 32
"""Items a device that there is room for, on average."""
_ROUNDS = 16
"""Evaluations at most for such a bound."""
_PATIENCE = 2
"""Of these in a box whose tangents lose all that is missing."""
_CHOOSING = 1.0
"""Where tangents lose less than this part of what is missing, the mean loss is kept exactly."""


class Pace(NamedTuple):
    """How choices are listed, by the number of devices."""

    devices: float
    """Up to so many."""
    choices: int
    """Choices of the first devices listed at most; with more the bound goes without."""
    listed: int
    """With more choices left in a box they are not told apart."""
    near: float
    """They are listed where no more than so many gaps allowed are missing."""
    deeper: int
    """Where they were too many they are listed again in boxes so much deeper."""
    better: bool
    """Whether better multipliers are sought where they are too many."""


_PACES = (
    Pace(20, 1000, 200, np.inf, 1, True),
    Pace(60, 8000, 2000, 100.0, 2, True),
    Pace(np.inf, 4000, 1000, 5.0, 2, False),
)
"""Found by trying, on cells with token modes: some tens of devices leave the longest lists."""


class Choosing:
    """Lists of choices in boxes of one cell."""

    def __init__(self, derived: Derived, incumbent: Incumbent, data: BoundData) -> None:
        self._pace = next(pace for pace in _PACES if derived.devices <= pace.devices)
        self._parallel = derived.server_order is ServerOrder.PARALLEL
        self._incumbent = incumbent
        self._room = new_room(data, self._pace.choices, _ITEMS * derived.devices, self._pace.listed)

    def begun(self, node: Node) -> bool:
        """Tell whether a node begins with choices, as the one it is a part of ended with them."""
        return node.chosen_at is not None and node.depth >= node.unlisted_to

    def may_choose(self, node: Node, lost: TangentLoss, missing: float) -> bool:
        """Tell whether the limit on the mean loss is worth keeping exactly in a node."""
        if not 0.0 < missing < np.inf or node.depth < node.unlisted_to:
            return False
        if missing > self._pace.near * self._incumbent.allowed():
            return False
        return lost.most_up + lost.most_down <= _CHOOSING * missing

    def bound(self, problem: BoxProblem, m: Multipliers, free: Flags, target: float) -> Answer:
        """Return the best bound in seconds with the mean loss kept exactly; Statement 17."""
        self._room.best[0] = -1
        rounds = _ROUNDS if self._pace.better else 1
        effort = Effort(target, rounds, _PATIENCE, False)
        return best_of_choices(problem, m, free, effort, self._room)

    def best(self) -> tuple[Integers, Array] | None:
        """Return the least choice, item indices (place * O + option) and keeps, (N,); or None."""
        if self._room.best[0] < 0:
            return None
        return self._room.best.copy(), self._room.best_keep.copy()

    def listed(self, node: Node, opened: bool) -> tuple[Integers, Array] | None:
        """Return item indices and keeps, (S, N), of all choices below a node's target; or None.

        ``opened``: they do not close it. Notes where they are too many.
        """
        count = int(self._room.number[0])
        if count > 0:
            return self._room.listed[:count].copy(), self._room.listed_keep[:count].copy()
        if opened:
            node.unlisted_to = node.depth + self._pace.deeper
        return None

    def apart(
        self, node: Node, data: BoundData, items: Integers, keeps: Array, guides: Array
    ) -> Array:
        """Return bounds in seconds, (S,), of the plans of single choices in the node's box.

        Statement 18; arrays as in :func:`~sftopt.solvers.certify.bound.apart.bound_apart`.
        """
        out, m, middle = np.empty(len(items)), node.multipliers, middle_box(node.box)
        # plans that could not be settled tell nothing: any times and prices are valid
        guides[~(guides[:, 0] > 0.0)] = (
            middle.up_low, middle.down_low, m.loss, m.uplink, m.downlink
        )  # fmt: skip
        bound_apart(data, node.region, node.box, self._parallel, items, keeps, guides, out)
        return out
