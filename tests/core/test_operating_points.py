"""Operating points and tokens for solvers: derived arrays against the judge, limits, check.

About 15 s on one core.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import sftopt
from sftopt.core.check import check
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError
from sftopt.core.faults import Severity
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.limits import choice_fits, elementary_bound_s, feasible_point
from sftopt.core.plan import Provenance
from sftopt.core.point import IntegralPoint, best_delay, from_plan, to_plan
from sftopt.core.verify import verify_plan
from tests.point_cells import point_cell
from tests.samples import sample_instance


def every_choice(derived: Derived) -> list[tuple[int, ...]]:
    options = range(len(derived.options))
    if derived.scope is AccuracyScope.COMMON:
        return [(option,) * derived.devices for option in options]
    return list(itertools.product(options, repeat=derived.devices))


def fits(derived: Derived, point: IntegralPoint) -> bool:
    """Whether a point of unmasked options meets memory and accuracy, from the derived arrays."""
    pairs = zip(point.choice, point.cuts, strict=True)
    loss = np.array([float(derived.loss(derived.options[o], 1.0, cut)) for o, cut in pairs])
    accurate = bool(np.all(loss <= derived.loss_budget_each))
    if derived.scope is AccuracyScope.MEAN:
        accurate &= float((derived.weight * loss).sum()) <= derived.loss_budget
    return accurate and choice_fits(derived, point.cuts, point.choice)


def plan_of(cell: Instance, derived: Derived, point: IntegralPoint) -> sftopt.Plan:
    return to_plan(derived, point, Provenance(), cell.name)


@pytest.mark.parametrize("seed", range(24))
def test_derived_arrays_and_judge_agree_on_every_choice(seed: int) -> None:
    """Delay, memory and accuracy of random cuts and modes with figures of their own."""
    cell = point_cell(seed, topk=False)
    derived, draw = derive(cell), np.random.default_rng(seed)
    choices = every_choice(derived)
    for _ in range(12):
        choice = np.array(choices[int(draw.integers(len(choices)))])
        least = np.array([int(derived.options[o].tokens is not None) for o in choice])
        cuts = np.minimum(np.maximum(draw.integers(0, 4, len(choice)), least), derived.cut_high)
        cuts = np.maximum(cuts, derived.cut_floor)
        point = IntegralPoint(cuts, choice, np.ones(len(choice)))
        plan = plan_of(cell, derived, point)
        verdict = verify_plan(cell, plan)
        assert verdict.objective_s == pytest.approx(best_delay(derived, point).round_s, rel=1e-12)
        assert verdict.feasible == fits(derived, point), verdict.violations
        assert from_plan(derived, plan).choice.tolist() == choice.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_feasibility_is_decided_exactly_and_the_simple_bound_holds(seed: int) -> None:
    cell = point_cell(seed, devices=2, topk=False)
    derived = derive(cell)
    delays = []
    for choice in every_choice(derived):
        for cuts in itertools.product(range(derived.blocks), repeat=derived.devices):
            point = IntegralPoint(np.array(cuts), np.array(choice), np.ones(derived.devices))
            if fits(derived, point):
                delays.append(best_delay(derived, point).round_s)
    found = feasible_point(derived)
    assert (found is not None) == bool(delays)
    assert check(cell).feasible == bool(delays)
    if found is not None:
        whole = np.rint(found.cuts).astype(np.int64)
        point = IntegralPoint(whole, found.choices(), found.keep)
        assert fits(derived, point)
        assert elementary_bound_s(derived) <= min(delays)


def test_stated_changes_make_infeasible_cells_with_points_feasible() -> None:
    mended = 0
    for seed in range(60):
        cell = point_cell(seed, devices=2)
        faults = [f for f in check(cell).faults if f.severity is Severity.ERROR]
        if not faults:
            continue
        data = cell.to_dict()
        for fault in faults:
            assert fault.needed_change is not None, fault
            section, _, name = fault.field.rpartition(".")
            devices = {entry["id"]: entry for entry in data["devices"]}
            target = data[section] if section else devices[fault.device or ""]
            target[name] += fault.needed_change
        assert check(Instance.model_validate(data)).feasible, (seed, faults)
        mended += 1
    assert mended >= 5


TOKENS = {"kind": "tokens", "bits": 8, "tokens": 41, "loss": 0.003}
KNOWN = {"heads": 12, "head_size": 64, "element_bytes": 4}


def test_tokens_need_what_their_work_is_counted_from() -> None:
    cell = sample_instance(2, 1, modes=(4, TOKENS))
    with pytest.raises(InputError) as caught:
        check(cell)
    assert {"workload.heads", "workload.head_size"} <= {f.field for f in caught.value.faults}


def test_tokens_of_a_decoder_are_refused() -> None:
    cell = sample_instance(2, 1, modes=(4, TOKENS), workload={**KNOWN, "is_decoder": True})
    with pytest.raises(InputError, match=r"compression.modes\[1\].*encoder") as caught:
        derive(cell)
    assert caught.value.faults[0].field == "compression.modes[1]"


def test_tokens_alone_need_one_block_on_every_device() -> None:
    cell = sample_instance(2, 1, modes=(TOKENS,), workload=KNOWN)
    data = cell.to_dict()
    data["devices"][0] |= {"blocks_min": 0, "blocks_max": 0}
    data["devices"][1] |= {"blocks_min": 0}
    short = Instance.model_validate(data)
    (fault,) = [f for f in check(short).faults if f.severity is Severity.ERROR]
    assert (fault.field, fault.device, fault.needed_change) == ("blocks_max", "dev0", 1)
    assert derive(cell).cut_low.min() == 1


def test_a_cell_without_points_is_plain_and_its_tables_repeat_its_arrays() -> None:
    derived = derive(sftopt.load("jetson-vit-b"))
    assert derived.plain
    for plain, table in (
        (derived.s3_block_s, derived.option_s3_block_s),
        (derived.server_activation_bytes, derived.option_server_activation_bytes),
        (derived.elements, derived.option_elements),
        (derived.cut_low, derived.option_cut_low),
    ):
        assert np.array_equal(np.broadcast_to(plain[:, None], table.shape), table)
    points = derive(point_cell(3))
    assert not points.plain
    with pytest.raises(ValueError, match="figures of their own"):
        points.s3_s(points.cut_low)
