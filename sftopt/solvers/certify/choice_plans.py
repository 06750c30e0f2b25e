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
from sftopt.solvers.certify.plan.moves import Primal

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDS = 10
"""Rounds of exchanges after a choice that gave a better plan; set by hand, as are those below."""
_ALONE = 6
"""Turns in which the plan of a least choice is settled."""
_OFFERED = 8
"""So many of them are settled at least, those of least bounds: one may be a better plan."""
_SETTLED = 300
"""So many at most."""
_APART = 2, 20
"""Turns in which several are settled: roughly, as most are far from the best plan; then those that
a rough plan's prices leave open."""
_LOSS_PRICE = TimesAndPrices._fields.index("loss_price")
"""The column of guidance with the price of loss."""


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
        if self._give(primal, items, keep, _ALONE, node.multipliers.loss):
            primal.improve(stop, rounds=_ROUNDS)

    def apart(
        self, primal: Primal, node: Node, items: Integers, keep: Array, take: Callable[[], None]
    ) -> float:
        """Return the least bound in seconds of all choices left in a box, (S, N), one by one.

        First at the best plan's times and prices, which suit most of them. The least few, and those
        that this leaves open, are offered as plans, whose own suit their bounds; Statement 18.
        ``take`` keeps a better plan before bounds are taken, as it may change the data.
        """
        choosing, incumbent = self._bounding.choosing, self._bounding.incumbent
        best = primal.best
        assert choosing is not None
        assert best is not None
        guides, keeps = np.tile(np.array(best.guide), (len(items), 1)), keep.copy()
        bounds = choosing.apart(node, self._bounding.cells[node.root], items, keeps, guides)
        opened = int((bounds < incumbent.target()).sum())
        tried = np.argsort(bounds, kind="stable")[: max(_OFFERED, min(opened, _SETTLED))]
        for rounds in _APART:
            for s in tried:
                self._guide(primal, items[s], keeps[s], guides[s], rounds)
            take()
            data = self._bounding.cells[node.root]
            own = choosing.apart(node, data, items[tried], keeps[tried], guides[tried])
            bounds[tried] = np.maximum(bounds[tried], own)
            tried = tried[bounds[tried] < incumbent.target()]
            if len(tried) == 0:
                break
        return float(bounds.min())

    def _guide(
        self, primal: Primal, choice: Integers, keep: Array, guide: Array, rounds: int
    ) -> None:
        """Offer a choice's plan, once, and write its keeps, (N,), and times and prices, (5,)."""
        key = choice.tobytes(), rounds
        if key not in self._settled:
            self._give(primal, choice, keep, rounds, float(guide[_LOSS_PRICE]))
            self._settled[key] = primal.tried_guide, primal.tried_keep
        guide[:], keep[:] = self._settled[key]

    def _give(
        self, primal: Primal, items: Integers, keep: Array, rounds: int, price: float
    ) -> bool:
        """Offer the plan of a choice; True if it is the best. ``price``: a guess, that of loss."""
        options = len(self._bounding.derived.options)
        blocks = self._bounding.cells[0].blocks
        cuts, choice = blocks[items // options], items % options
        return primal.offer(
            cuts, choice, keep, rounds=rounds, loss_price=price, patient=rounds > _ALONE
        )
