"""Searches that begin with the boxes of an earlier one: nothing that was proven is believed."""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.status import Point
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.certify import earlier_proofs
from sftopt.solvers.certify.bound.arrays import Box
from sftopt.solvers.certify.bound.halving import ClosedBoxes
from sftopt.solvers.certify.earlier_proofs import Proof, Tiling, fills
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from sftopt.solvers.run import solve
from tests.samples import sample_instance

GAP = 1e-4
ROUNDING = 1e-9
Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> deque[Proof]:
    """The proofs of this test alone."""
    own: deque[Proof] = deque(maxlen=earlier_proofs.LAST)
    monkeypatch.setattr(earlier_proofs, "_KEPT", own)
    return own


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of boxes that searches began with: 1 where there was no earlier proof."""
    counts: list[int] = []
    asked = Tiling.begun

    def watched(self: Tiling, *given: object) -> ClosedBoxes | None:
        found = asked(self, *given)  # type: ignore[arg-type]
        counts.append(1 if found is None else len(found.sides))
        return found

    monkeypatch.setattr(Tiling, "begun", watched)
    return counts


def moved(instance: Instance, seed: int, most: float) -> Instance:
    """The cell with gains that differ by up to the part ``most``."""
    draw = random.Random(seed)
    links = itertools.product(range(len(instance.devices)), ("uplink_gain", "downlink_gain"))
    edits = {}
    for n, link in links:
        gain = getattr(instance.devices[n], link)
        if gain is not None:
            edits[f"devices[{n}].{link}"] = gain * draw.uniform(1.0 - most, 1.0 + most)
    return instance.replace(**edits)


def plan_of(instance: Instance, x0: Plan | None = None) -> Plan:
    """The optimal plan."""
    result = solve(instance, solver="certify", rel_gap=GAP, x0=x0)
    assert result.point is Point.OPTIMAL
    assert result.plan is not None
    return result.plan


def least_s(instance: Instance) -> float:
    """The optimum by enumeration."""
    task = Task(derive(instance), get_formulation("native"), None, None, Options(), Deadline(60.0))
    found = EXHAUSTIVE.run(task).claimed_s
    assert found is not None
    return found


def assert_filled(sides: Array, whole: Box) -> None:
    """No two boxes overlap, and together they are as large as the whole, which holds them."""
    width, height = sides[:, 1] - sides[:, 0], sides[:, 3] - sides[:, 2]
    area = (whole.up_high - whole.up_low) * (whole.down_high - whole.down_low)
    assert float((width * height).sum()) == pytest.approx(area, rel=1e-9)
    assert sides[:, 0].min() == whole.up_low
    assert sides[:, 1].max() == whole.up_high
    assert sides[:, 2].min() == whole.down_low
    assert sides[:, 3].max() == whole.down_high
    for one, other in itertools.combinations(sides, 2):
        up = min(one[1], other[1]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[2], other[2])
        assert min(up, down) <= 0.0


CELLS = [
    (seed, power, scope, change)
    for seed, (power, scope, change) in enumerate(
        list(itertools.product(("psd", "total"), ("mean", "each"), (0.01, 0.1, 0.6))) * 4
    )
]
"""48 cells: both power laws, two scopes, changes from small to large."""


@pytest.mark.parametrize(("seed", "power", "scope", "change"), CELLS)
def test_no_bound_from_earlier_boxes_is_above_the_optimum(
    seed: int, power: str, scope: str, change: float, begun: list[int]
) -> None:
    before = sample_instance(
        2 + seed % 2, seed, blocks=4, modes=(2, 4), radio={"power": power},
        accuracy={"scope": scope},
    )  # fmt: skip
    plan = plan_of(before)
    begun.clear()
    for turn in range(2):
        cell = moved(before, 10 * seed + turn, change)
        found = solve(cell, solver="certify", rel_gap=GAP, x0=plan)
        truth = least_s(cell)
        assert found.point is Point.OPTIMAL
        assert found.objective_s is not None
        assert found.bound_s is not None
        assert found.bound_s <= truth * (1.0 + ROUNDING)
        assert truth * (1.0 - ROUNDING) <= found.objective_s <= truth * (1.0 + 1.01 * GAP)
    assert len(begun) >= 2


@pytest.mark.parametrize("seed", range(12))
def test_what_is_kept_need_not_be_true(seed: int, kept: deque[Proof], begun: list[int]) -> None:
    """Multipliers of nowhere and times of another plan: a weaker start, never a wrong bound."""
    draw = np.random.default_rng(seed)
    before = sample_instance(2 + seed % 2, seed, blocks=4, modes=(2, 4))
    plan = plan_of(before)
    proof = kept.pop()
    shape = proof.boxes.multipliers.shape
    wild = proof.boxes.multipliers * np.exp(draw.normal(0.0, 3.0, shape))
    guide = proof.guide._replace(
        tau_up=proof.guide.tau_up * draw.uniform(0.5, 2.0), up_price=draw.uniform(0.0, 100.0)
    )
    kept.append(replace(proof, guide=guide, boxes=proof.boxes._replace(multipliers=wild)))
    begun.clear()
    cell = moved(before, seed, 0.3)
    found = solve(cell, solver="certify", rel_gap=GAP, x0=plan)
    truth = least_s(cell)
    assert begun[0] == shape[0]
    assert found.point is Point.OPTIMAL
    assert found.bound_s is not None
    assert found.objective_s is not None
    assert found.bound_s <= truth * (1.0 + ROUNDING)
    assert found.objective_s >= truth * (1.0 - ROUNDING)


@pytest.mark.parametrize("seed", range(8))
def test_a_chain_of_plans_ends_as_without_them(seed: int, begun: list[int]) -> None:
    plan, cell = plan_of(generate("jetson-vit-b", 6, seed)), generate("jetson-vit-b", 6, seed)
    for turn in range(4):
        cell = moved(cell, turn, 0.05)
        cold = solve(cell, solver="certify", rel_gap=GAP)
        begun.clear()
        warm = solve(cell, solver="certify", rel_gap=GAP, x0=plan)
        assert begun[0] > 1 or turn > 0, "boxes that have become too many are not kept"
        assert warm.point is cold.point is Point.OPTIMAL
        assert warm.objective_s == pytest.approx(cold.objective_s, rel=1.01 * GAP)
        assert warm.plan is not None
        plan = warm.plan


@pytest.mark.parametrize(
    ("family", "devices", "seed"),
    [("jetson-vit-b", 10, 0), ("weichen", 6, 1), ("tight-memory", 3, 2), ("gpt2-e2e", 4, 0),
     ("jetson-vit-b", 3, 5), ("near-infeasible", 4, 3)],
)  # fmt: skip
def test_boxes_kept_fill_the_first_box_and_moved_ones_another(
    family: str, devices: int, seed: int, kept: deque[Proof]
) -> None:
    """Also where devices were parted, whose boxes are kept once."""
    plan_of(generate(family, devices, seed))
    if not kept:  # several server times couple, or there were too many boxes
        assert family in ("tight-memory", "near-infeasible", "gpt2-e2e")
        return
    proof = kept[0]
    assert_filled(proof.boxes.sides, proof.whole)
    draw = np.random.default_rng(seed)
    for _ in range(5):
        up, down = draw.uniform(0.1, 3.0), draw.uniform(1e-6, 1e3)
        other = Box(up, up * draw.uniform(1.0, 3.0), down, down * draw.uniform(1.0, 3.0), 0.0)
        guide = proof.guide._replace(
            tau_up=up * draw.uniform(0.9, 3.0), tau_down=down * draw.uniform(0.9, 3.0)
        )
        assert_filled(proof.moved(other, guide).sides, other)


def test_boxes_that_leave_a_hole_are_not_kept(
    kept: deque[Proof], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small it is: one box of a hundred, and one no wider than a rounding."""
    cell = generate("jetson-vit-b", 10, 0)
    plan_of(cell)
    proof = kept.pop()
    sides, whole = proof.boxes.sides, proof.whole
    assert fills(sides, whole)
    for lost in range(len(sides)):
        assert not fills(np.delete(sides, lost, axis=0), whole)
    narrower = sides.copy()
    narrower[0, 1] = np.nextafter(narrower[0, 1], 0.0)
    assert not fills(narrower, whole)
    monkeypatch.setattr(Tiling, "close", lambda self, node, boxes=None: _lose_one(self, boxes))
    plan_of(cell.replace(name="again"))
    assert not kept


def _lose_one(tiling: Tiling, boxes: list[ClosedBoxes] | None) -> None:
    """What a search closes, but for one box."""
    for one in boxes or []:
        tiling._parts.append(ClosedBoxes(one.sides[1:], one.multipliers[1:]))


def test_an_edited_plan_and_a_cell_of_another_structure_begin_with_one_box(
    begun: list[int],
) -> None:
    before = generate("jetson-vit-b", 5, 1)
    plan = plan_of(before)
    cell = moved(before, 0, 0.1)
    first = plan.devices[0]
    other_cut = first.model_copy(update={"blocks": first.blocks + 1})
    other_keep = first.model_copy(update={"keep_fraction": first.keep_fraction * 0.99})
    modes = [mode.model_dump() for mode in before.compression.modes[1:]]
    named = [{**device.model_dump(), "id": f"other{n}"} for n, device in enumerate(cell.devices)]
    parts = [part.model_copy(update={"id": f"other{n}"}) for n, part in enumerate(plan.devices)]
    tried = [
        (cell, plan.model_copy(update={"devices": (other_cut, *plan.devices[1:])})),
        (cell, plan.model_copy(update={"devices": (other_keep, *plan.devices[1:])})),
        (cell.replace(**{"compression.modes": modes}), plan),
        (cell.replace(devices=named), plan.model_copy(update={"devices": tuple(parts)})),
    ]
    for other, x0 in tried:
        begun.clear()
        plan_of(other, x0)
        assert begun[0] == 1
    begun.clear()
    plan_of(cell, plan)
    assert begun[0] > 1


def test_what_is_kept_is_bounded(kept: deque[Proof], monkeypatch: pytest.MonkeyPatch) -> None:
    before = generate("jetson-vit-b", 4, 1)
    for seed in range(earlier_proofs.LAST + 2):
        plan_of(generate("jetson-vit-b", 4, seed))
    assert len(kept) <= earlier_proofs.LAST
    assert (
        sum(len(proof.boxes.sides) for proof in kept) <= earlier_proofs.LAST * earlier_proofs.MOST
    )
    kept.clear()
    for _ in range(3):
        plan_of(before)
    assert len(kept) == 1, "the same plan has one place"
    kept.clear()
    monkeypatch.setattr(earlier_proofs, "MOST", 3)
    plan_of(before)
    assert not kept
