"""Plans of a cell that has changed: another cell's plan as a start, and what is remembered."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import pytest

import sftopt
from sftopt.core import limits, remembered
from sftopt.core.channel import statistical_channel
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.families import generate
from sftopt.core.instance import Instance
from sftopt.core.remembered import Remembered, RememberedByKey, derived_once
from sftopt.core.status import Point
from sftopt.solvers import judge as judging
from sftopt.solvers.run import solve

GAP = 1e-4
FAMILIES = ("jetson-vit-b", "weichen", "tight-memory", "near-infeasible")
"""Both power laws, memory that binds, accuracy that hardly leaves a choice."""


def with_gains(instance: Instance, factors: list[float]) -> Instance:
    """The cell with other gains, one factor for each device."""
    edits = {
        f"devices[{n}].uplink_gain": device.uplink_gain * factor
        for n, (device, factor) in enumerate(zip(instance.devices, factors, strict=True))
    }
    return instance.replace(**edits)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", FAMILIES)
def test_another_cells_plan_leads_to_what_is_found_without_it(family: str, seed: int) -> None:
    """Whatever the first device of the old plan does: cuts and keep fractions are repaired."""
    draw = random.Random(seed)
    factors = [draw.uniform(0.5, 2.0) for _ in range(4)]
    fraction, blocks = draw.choice((0.0, draw.random(), 1.0)), draw.randint(-3, 40)
    before = generate(family, 4, 0)
    plan = solve(before, solver="constructive").plan
    assert plan is not None
    first = plan.devices[0].model_copy(update={"keep_fraction": fraction, "blocks": blocks})
    plan = plan.model_copy(update={"devices": (first, *plan.devices[1:])})
    cell = with_gains(before, factors)
    cold = solve(cell, solver="certify", rel_gap=GAP)
    warm = solve(cell, solver="certify", rel_gap=GAP, x0=plan)
    assert warm.point is cold.point is Point.OPTIMAL
    assert warm.objective_s is not None
    assert warm.objective_s == pytest.approx(cold.objective_s, rel=GAP * 1.01)
    assert warm.plan is not None
    assert warm.plan.instance_hash == cell.hash
    assert f"x0: repaired: plan was made for cell {before.hash}." in warm.message
    assert "made for cell" not in cold.message


def test_shares_are_found_anew_and_decisions_stay() -> None:
    before = generate("jetson-vit-b", 4, 0)
    plan = solve(before, solver="constructive").plan
    assert plan is not None
    cell = with_gains(before, [0.5, 1.0, 1.0, 2.0])
    made = solve(cell, solver="native-spectrum", x0=plan).plan
    assert made is not None
    assert [p.blocks for p in made.devices] == [p.blocks for p in plan.devices]
    assert made.devices[0].uplink_share > plan.devices[0].uplink_share
    assert made.devices[3].uplink_share < plan.devices[3].uplink_share


def test_arrays_and_reports_are_made_once_for_each_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[float] = []

    def counted(instance: Instance, **named: Any) -> Any:
        made.append(instance.radio.uplink_bandwidth_hz)
        return derive(instance, **named)

    monkeypatch.setattr(remembered, "derive", counted)
    instance = generate("jetson-vit-b", 3, 7)
    for _ in range(3):
        assert solve(instance, solver="native-spectrum").ok
        assert sftopt.check(instance).feasible
    band = instance.radio.uplink_bandwidth_hz
    assert made == [band]
    # a copy is another instance, and so is another tolerance
    wider = instance.replace(**{"radio.uplink_bandwidth_hz": 2.0 * band})
    faster, slower = (solve(i, solver="constructive").objective_s for i in (wider, instance))
    assert faster is not None
    assert slower is not None
    assert faster < slower
    assert made == [band, 2.0 * band]
    assert derived_once(instance, 1e-7).feas_tol == 1e-7
    assert made == [band, 2.0 * band, band]
    # the gains of one round are never remembered
    known = statistical_channel(instance)
    assert solve(instance, solver="constructive", channel=known).ok
    assert len(made) == 3


def test_an_error_is_told_each_time() -> None:
    instance = generate("jetson-vit-b", 2, 0)
    for _ in range(2):
        with pytest.raises(InputError, match="feas_tol"):
            sftopt.check(instance, feas_tol=0.5)


class Owner:
    """Something whose values are remembered."""


def test_what_is_remembered_goes_with_its_owner_and_is_bounded() -> None:
    kept: Remembered[list[int]] = Remembered(2)
    owners = [Owner(), Owner(), Owner()]
    first = kept.of(owners[0], "a", lambda: [1])
    assert kept.of(owners[0], "a", lambda: [2]) is first
    assert kept.of(owners[0], "b", lambda: [3]) == [3]
    assert kept.of(owners[1], "a", lambda: [4]) == [4]
    assert kept.of(owners[0], "a", lambda: [5]) == [5], "the oldest of three was dropped"
    assert kept.of(owners[0], "a", lambda: [6]) == [5]
    assert len(kept) == 2
    del owners[:2]
    gc.collect()
    assert len(kept) == 0


ACCURACIES: tuple[dict[str, Any], ...] = (
    {},
    {"accuracy.minimum": 0.70},
    {"accuracy.keep_loss": 0.9},
    {"accuracy.keep_decay": 5.0},
    {"accuracy.quantisation_loss": 0.3},
    {"accuracy.quantisation_scales_with_keep": True},
    {"accuracy.scope": "each"},
    {"accuracy.cut_factor": [1.0 + 0.01 * n for n in range(12)]},
    {"compression.keep_max": 0.5},
    {"compression.modes": [{"kind": "topk", "bits": 3}, {"kind": "none"}]},
    {
        "compression.modes": [
            {"kind": "dense", "bits": 4, "loss": 0.01},
            {"kind": "topk", "bits": 3},
        ]
    },
    {
        "compression.modes": [
            {"kind": "dense", "bits": 4, "loss": 0.02},
            {"kind": "topk", "bits": 3},
        ]
    },
)
"""Edits of what least keep fractions depend on."""


def test_least_keep_fractions_are_shared_by_cells_of_the_same_accuracy_and_modes_alone() -> None:
    """Asked for twice, the second time from what the first left: as found without memory."""
    plain = generate("jetson-vit-b", 3, 1)
    cells = [plain.replace(**edits) for edits in ACCURACIES]
    shared = [limits.least_keeps(derive(cell)) for cell in (*cells, *cells)]
    for found, cell in zip(shared, (*cells, *cells), strict=True):
        derived = derive(cell)
        every = np.arange(derived.blocks)
        budget = np.full(derived.blocks, derived.loss_budget_each)
        for row, option in zip(found, derived.options, strict=True):
            truth = limits.least_keep(derived, option, budget, every)
            assert np.array_equal(row, truth, equal_nan=True)
    other_gains = derive(with_gains(plain, [0.5, 1.0, 2.0]))
    assert limits.least_keeps(other_gains) is limits.least_keeps(derive(plain))


def test_what_is_remembered_by_key_is_bounded() -> None:
    kept: RememberedByKey[list[int]] = RememberedByKey(2)
    first = kept.of("a", lambda: [1])
    assert kept.of("a", lambda: [2]) is first
    assert kept.of("b", lambda: [3]) == [3]
    assert kept.of("a", lambda: [4]) is first
    assert kept.of("c", lambda: [5]) == [5], "b was not used for longest"
    assert kept.of("a", lambda: [6]) is first
    assert kept.of("b", lambda: [7]) == [7]
    assert len(kept) == 2


def test_a_plan_of_certify_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keep fractions are settled already: polishing would change nothing."""
    judged: list[int] = []

    def counted(*given: Any, **named: Any) -> Any:
        judged.append(1)
        return verify(*given, **named)

    verify = judging.verify_plan
    monkeypatch.setattr(judging, "verify_plan", counted)
    result = solve(generate("jetson-vit-b", 5, 1), solver="certify")
    assert result.point is Point.OPTIMAL
    assert len(judged) == 1
