"""The boxes that earlier searches ended with, kept in process: where one with their plan begins.

Guidance only. The boxes fill the first box of the search they come from; moved to the first box of
another cell they fill that, and each is bounded there anew. At what multipliers that is done is
free (Statement 5), so nothing that was proven before is believed.

Constants that do not say otherwise were set by hand on the families of the timing suite: validity
does not depend on them, speed does.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.plan import Plan
from sftopt.core.point import IntegralPoint, from_plan
from sftopt.solvers.certify.bound.arrays import Box
from sftopt.solvers.certify.bound.halving import ClosedBoxes
from sftopt.solvers.certify.bound.nodes import Node
from sftopt.solvers.certify.guidance import TimesAndPrices
from sftopt.solvers.certify.plan.plans import SettledPlan

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LAST = 32
"""Searches whose boxes are kept."""
MOST = 2048
"""Boxes of one search, 64 bytes each: with more it is not kept."""
GROWN = 1.6
"""A search that began with boxes kept and ended with so many times those of the search they first
came from is not kept: boxes are halved and never put together again."""
_SAME_KEEP = 1e-6
"""By what keep fractions of a plan and of the point it was made of may differ: last digits are
settled in between."""


@dataclass(frozen=True, eq=False)
class Proof:
    """How one search closed its first box."""

    structure: tuple[object, ...]
    point: IntegralPoint
    """Of the best plan."""
    guide: TimesAndPrices
    whole: Box
    """The first box."""
    boxes: ClosedBoxes
    """They fill it."""
    first: int
    """Boxes of the search that began with one: this or an earlier one."""

    def moved(self, whole: Box, guide: TimesAndPrices) -> ClosedBoxes:
        """Return the boxes moved so that they fill ``whole``; prices follow those of ``guide``."""
        old, new = self.guide, guide
        ends, own = self.whole, whole
        here = np.array([[ends.up_low, old.tau_up, ends.up_high],
                         [ends.down_low, old.tau_down, ends.down_high]])  # fmt: skip
        there = np.array([[own.up_low, new.tau_up, own.up_high],
                          [own.down_low, new.tau_down, own.down_high]])  # fmt: skip
        sides = _moved(self.boxes.sides.reshape(-1, 2, 2), here, there).reshape(-1, 4)
        price = np.array([old.up_price, old.down_price, old.loss_price, 0.0])
        now = np.array([new.up_price, new.down_price, new.loss_price, 0.0])
        known = (price > 0.0) & (now > 0.0)
        scale = np.where(known, now, 1.0) / np.where(known, price, 1.0)
        return ClosedBoxes(sides, self.boxes.multipliers * scale)


def _moved(limits: Array, here: Array, there: Array) -> Array:
    """Return limits of boxes, (B, 2, 2) by link and end, moved from ``here`` to ``there``.

    Both (2, 3): low end, best plan's time and high end of each link. What is moved by keeps the
    order of limits and takes ends to ends, rounding included: parts that met still meet.
    """
    for link in range(2):
        if not (np.all(np.diff(here[link]) > 0.0) and np.all(np.diff(there[link]) > 0.0)):
            here[link, 1], there[link, 1] = here[link, 0], there[link, 0]  # one line for all
    low, middle, high = (there[:, k, None] for k in range(3))
    width = np.diff(here)
    slope = np.diff(there) / np.where(width > 0.0, width, 1.0)
    left = low + (limits - here[:, 0, None]) * slope[:, 0, None]
    right = middle + (limits - here[:, 1, None]) * slope[:, 1, None]
    moved = np.where(
        limits < here[:, 1, None], np.clip(left, low, middle), np.clip(right, middle, high)
    )
    return np.where(limits >= here[:, 2, None], high, moved)


def fills(sides: Array, whole: Box) -> bool:
    """Tell whether boxes, (B, 4), leave nothing of ``whole`` out; exact, as limits are compared.

    Their limits part ``whole`` into cells; each box counts in the cells it holds.
    """
    up, at_up = np.unique(sides[:, :2], return_inverse=True)
    down, at_down = np.unique(sides[:, 2:], return_inverse=True)
    if (up[0], up[-1], down[0], down[-1]) != tuple(whole[:4]):
        return False
    left, right = at_up.reshape(-1, 2).T
    low, high = at_down.reshape(-1, 2).T
    count = np.zeros((len(up), len(down)))
    for add, rows, columns in (
        (1, left, low),
        (1, right, high),
        (-1, left, high),
        (-1, right, low),
    ):
        np.add.at(count, (rows, columns), add)
    return bool(np.all(count.cumsum(0).cumsum(1)[:-1, :-1] > 0.0))


def structure_of(derived: Derived) -> tuple[object, ...]:
    """Return what cells must have in common for the boxes of one to serve the other."""
    return (
        derived.ids, derived.blocks, derived.options, derived.power, derived.downlink,
        derived.server_order, derived.adapter_downlink, derived.scope,
    )  # fmt: skip


_KEPT: deque[Proof] = deque(maxlen=LAST)
"""The last proofs, latest used last."""
_LOCK = threading.Lock()
"""Held while they are looked at or changed."""


def keep_proof(proof: Proof) -> None:
    """Keep a proof in the place of an earlier one of the same plan; drop the one unused longest."""
    if len(proof.boxes.sides) > min(MOST, GROWN * proof.first):
        return
    with _LOCK:
        old = _found(proof.structure, proof.point)
        if old is not None:
            _KEPT.remove(old)
        _KEPT.append(proof)


def proof_of(derived: Derived, point: IntegralPoint) -> Proof | None:
    """Return the proof of a plan with these decisions, None where none is kept."""
    with _LOCK:
        found = _found(structure_of(derived), point)
        if found is not None:
            _KEPT.remove(found)
            _KEPT.append(found)
    return found


def _found(structure: tuple[object, ...], point: IntegralPoint) -> Proof | None:
    """Return the proof of the same decisions in a cell of this structure."""
    cuts, first = point.cuts.tobytes(), float(point.keep[0])
    for proof in reversed(_KEPT):
        own = proof.point
        if own.cuts.tobytes() != cuts or abs(float(own.keep[0]) - first) > _SAME_KEEP:
            continue
        same = own.choice.tobytes() == point.choice.tobytes() and proof.structure == structure
        if same and bool(np.all(np.abs(own.keep - point.keep) <= _SAME_KEEP)):
            return proof
    return None


class Tiling:
    """The boxes that fill the first box of one search: those it begins and those it ends with.

    Does nothing where :meth:`start` was not called.
    """

    def __init__(self, derived: Derived) -> None:
        self._derived = derived
        self._earlier: Proof | None = None
        self._first: Node | None = None
        self._parts: list[ClosedBoxes] = []

    def start(self, first: Node, plan: Plan | None) -> None:
        """Note what is closed of ``first`` from now on, and find an earlier proof of ``plan``."""
        self._first = first
        if plan is not None:
            self._earlier = proof_of(self._derived, from_plan(self._derived, plan))

    def begun(self, node: Node, guide: TimesAndPrices | None) -> ClosedBoxes | None:
        """Return the boxes to begin with in place of ``node``, None for the node itself."""
        if self._earlier is None or node is not self._first or guide is None:
            return None
        return self._earlier.moved(node.box, guide)

    def close(self, node: Node, boxes: list[ClosedBoxes] | None = None) -> None:
        """Note that ``boxes`` of a node need no halving any more: itself, unless they are given."""
        if self._first is None or node.region is not self._first.region:
            return  # part of a box that was noted when its device was parted
        if boxes is None:
            boxes = [ClosedBoxes(np.array([node.box[:4]]), np.array([node.multipliers]))]
        self._parts += boxes

    def keep(self, best: SettledPlan, left: list[Node]) -> None:
        """Keep the boxes closed and those ``left`` for searches that begin with the best plan."""
        if self._first is None:
            return
        for node in left:
            self.close(node)
        point = IntegralPoint(best.cuts, best.choice, best.keep)
        boxes = ClosedBoxes(*(np.concatenate(each) for each in zip(*self._parts, strict=True)))
        if len(boxes.sides) > MOST or not fills(boxes.sides, self._first.box):
            return  # a hole would be a bound that is not proven: no search may begin with one
        count = len(boxes.sides) if self._earlier is None else self._earlier.first
        structure = structure_of(self._derived)
        keep_proof(Proof(structure, point, best.guide, self._first.box, boxes, count))
