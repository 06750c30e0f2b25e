"""Plans of the choices that boxes with an exact mean loss leave, and the bounds they lead to.

Between the two sides: the bound says which items, the plan side settles them, and what comes of it
guides the bound of these items alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.nodes import Node
from sftopt.solvers.certify.guidance import TimesAndPrices
from sftopt.solvers.certify.plan.plans import Primal

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 10
"""Rounds of exchanges after a choice that gave a better plan; set by hand, as are those below."""
_ALONE = 6
"""Turns in which the plan of a least choice is settled."""
_OFFERED = 8
_TRIED = 32
"""So many of those that the best plan's prices leave are settled as plans, least bound first."""
_APART = 2, 20
"""Turns in which each of several is: roughly, as most are far from the best plan."""


class ChoicePlans:
    """What was made of single choices so far."""

    def __init__(self, bounding: Bounding) -> None:
        self._bounding = bounding
        self._offered: set[bytes] = set()
        self._settled: dict[tuple[bytes, int], tuple[TimesAndPrices, Array]] = {}
        """Times, prices and keeps of the plans settled for single choices, by their items."""

    def offer(
        self, primal: Primal, node: Node, items: Integers, keep: Array, stop: Callable[[], bool]
    ) -> None:
        """Settle the plan of a box's least choice, once; ``items`` (N,): place * O + option."""
        key = items.tobytes()
        if key in self._offered:
            return
        self._offered.add(key)
        if self._give(primal, node, items, keep, _ALONE, node.multipliers.loss):
            primal.improve(stop, rounds=_ROUNDS)

    def apart(
        self, primal: Primal, node: Node, items: Integers, keep: Array, take: Callable[[], None]
    ) -> float:
        """Return the least bound in seconds of all choices left in a box, (S, N), one by one.

        Each is offered as a plan, whose times and prices suit its own bound; Statement 18.
        ``take`` keeps a better plan before bounds are taken, as it may change the data.
        """
        choosing, incumbent = self._bounding.choosing, self._bounding.incumbent
        assert choosing is not None and primal.best is not None
        guides = np.tile(np.array(primal.best.guide), (len(items), 1))
        data, keeps = self._bounding.cells[node.root], keep.copy()
        bounds = choosing.apart(node, data, items, keeps, guides)
        order = np.argsort(bounds, kind="stable")
        left = int((bounds < incumbent.target()).sum())
        tried = order[: max(_OFFERED, min(left, _TRIED))]
        for rounds in _APART:
            for s in tried:
                key = items[s].tobytes(), rounds
                if key not in self._settled:
                    self._give(primal, node, items[s], keeps[s], rounds, guides[s, 2])
                    self._settled[key] = primal.tried_guide, primal.tried_keep
                guides[s], keeps[s] = self._settled[key]
            take()
            data = self._bounding.cells[node.root]
            again = choosing.apart(node, data, items[tried], keeps[tried], guides[tried])
            bounds[tried] = np.maximum(bounds[tried], again)
            tried = tried[bounds[tried] < incumbent.target()]
            if len(tried) == 0:
                break
        return float(bounds.min())

    def _give(
        self, primal: Primal, node: Node, items: Integers, keep: Array, rounds: int, price: float
    ) -> bool:
        """Offer the plan of a choice; True if it is the best."""
        options = len(self._bounding.derived.options)
        blocks = self._bounding.cells[node.root].blocks
        cuts, choice = blocks[items // options], items % options
        return primal.offer(
            cuts, choice, keep, rounds=rounds, loss_price=price, patient=rounds > _ALONE
        )
