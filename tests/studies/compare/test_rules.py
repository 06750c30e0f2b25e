"""What each scheme decides on small cells, against rules written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.verify import verify_plan
from sftopt.studies.compare import SchemeRow, compare_cell
from sftopt.studies.compare.common import best_common
from tests.samples import VARIANTS, sample_instance

NONE = {"kind": "none", "bits": 32}
DENSE8 = {"kind": "dense", "bits": 8, "side_bits_per_element": 16 / 768}


def cell(**changes: Any) -> Instance:
    """Three devices, twelve blocks, everything on offer, a head and attention that are known."""
    workload = {
        "heads": 12, "key_value_heads": 12, "head_size": 64, "element_bytes": 4,
        "adapted_matrices": 2, "is_decoder": False, "head_parameters": 7.7e4, "head_bytes": 1e6,
        "side_bits": 7.0, **changes.pop("workload", {}),
    }  # fmt: skip
    return sample_instance(3, 1, modes=(2, 4, DENSE8, NONE), workload=workload, **changes)


def rows_of(instance: Instance, *schemes: str) -> dict[str, SchemeRow]:
    return {row.scheme: row for row in compare_cell(instance, schemes)}


def plan_in(row: SchemeRow) -> Plan:
    assert row.plan is not None, row.refused
    return row.plan


@pytest.fixture(scope="module")
def everything() -> dict[str, SchemeRow]:
    """Every scheme on the plain cell."""
    return {row.scheme: row for row in compare_cell(cell())}


def test_sft_first_and_every_round_is_the_sum_of_its_parts(
    everything: dict[str, SchemeRow],
) -> None:
    assert next(iter(everything)) == "sft"
    assert everything["sft"].ratio_to_sft == 1.0
    assert {"card:power=share", "sl:power=share"} <= set(everything)
    for name, row in everything.items():
        assert row.round_s is not None, name
        assert row.parts is not None, name
        assert sum(dict(row.parts).values()) == pytest.approx(row.round_s, rel=1e-9), name
        assert row.plan is not None, name
        assert row.instance_hash == row.plan.instance_hash, name


def test_what_is_printed_is_what_the_judge_says_of_the_plan(
    everything: dict[str, SchemeRow],
) -> None:
    instance = cell()
    judged = 0
    for row in everything.values():
        if row.instance_hash == instance.hash:
            judged += 1
            assert verify_plan(instance, plan_in(row)).objective_s == row.round_s
    assert judged >= 10
    assert everything["splitlora"].changes == ()


def test_fixed_cuts_and_equal_shares(everything: dict[str, SchemeRow]) -> None:
    for name in ("splitlora", "int8", "fp16", "tsflora"):
        for part in plan_in(everything[name]).devices:
            assert part.blocks == 3
            assert part.uplink_share == part.downlink_share == pytest.approx(1 / 3)
            assert part.adapter_uplink_share == pytest.approx(1 / 3)
    assert rows_of(cell(), "splitlora:cut=5")["splitlora:cut=5"].cuts == (5, 5, 5)


def test_traffic_by_hand(everything: dict[str, SchemeRow]) -> None:
    instance = cell()
    elements = 10 * sum(device.batch for device in instance.devices) * 197 * 768
    wanted = {"splitlora": 32.0, "fp16": 16.0, "int8": 8.0 + 16 / 768, "tsflora": 8.0 * 41 / 197}
    for name, bits in wanted.items():
        sent = everything[name].bytes
        assert sent is not None
        assert sent.up == pytest.approx(elements * bits / 8.0)
        assert sent.down == pytest.approx(elements * bits / 8.0)
        assert sent.side == pytest.approx(elements / 197 / 768 * 7.0 / 8.0)
    assert everything["fp16"].changes == ("b_ref 16 bits, mode none alone",)
    reference = rows_of(instance, "tsflora:gradient=reference")["tsflora:gradient=reference"]
    assert reference.bytes is not None
    assert reference.bytes.down == pytest.approx(elements * 32.0 * 41 / 197 / 8.0)


def test_a_mode_that_is_not_on_offer_is_added_and_said() -> None:
    instance = sample_instance(2, 0, modes=(4,))
    row = rows_of(instance, "int8")["int8"]
    assert row.changes == ("mode dense8 added",)
    assert row.instance_hash != instance.hash
    assert row.refused is None


def test_a_measured_mode_on_offer_is_taken_as_it_is() -> None:
    measured = {"kind": "dense", "bits": 8, "name": "calibrated", "value_bits": 6.5}
    instance = sample_instance(2, 0, modes=(4, measured))
    row = rows_of(instance, "int8")["int8"]
    assert (row.changes, row.instance_hash) == ((), instance.hash)
    assert {part.mode_name for part in plan_in(row).devices} == {"calibrated"}


def test_tokens_have_an_unknown_accuracy_and_are_not_refused_for_it(
    everything: dict[str, SchemeRow],
) -> None:
    row = everything["tsflora"]
    assert (row.tokens, row.accuracy, row.accuracy_slack) == ((41, 41), None, None)
    assert row.refused is None
    few = rows_of(cell(), "tsflora:kept_tokens=2:bits=4")["tsflora:bits=4:kept_tokens=2"]
    assert few.tokens == (3, 3)


def test_cuts_and_ranks_of_hsplitlora() -> None:
    instance = cell().replace(
        **{
            "devices[dev0].compute_flops_per_s": 1e12,
            "devices[dev1].compute_flops_per_s": 2e12,
            "devices[dev2].compute_flops_per_s": 8e12,
            **{f"devices[dev{n}].memory_bytes": 1e11 for n in range(3)},
        }
    )
    row = rows_of(instance, "hsplitlora")["hsplitlora"]
    parts = plan_in(row).devices
    assert [part.blocks for part in parts] == [2, 3, 11]  # 1.5 -> 2; 12 -> L - 1
    assert [part.rank for part in parts] == [2, 4, 16]
    assert plan_in(row).aggregation == "concatenation"
    label = "hsplitlora:cuts=memory"
    assert rows_of(instance, label)[label].cuts == (11, 11, 11)


def test_a_scheme_that_does_not_fit_is_refused_with_the_amount_and_keeps_its_numbers() -> None:
    instance = cell()
    used = rows_of(instance, "splitlora")["splitlora"]
    need = plan_in(used).breakdown
    assert need is not None
    short = need.devices[1].memory_bytes - 5e8
    smaller = instance.replace(**{"devices[dev1].memory_bytes": short})
    row = rows_of(smaller, "splitlora")["splitlora"]
    (refusal,) = row.refusals
    assert (refusal.family, refusal.worst, refusal.count) == ("device_memory", "dev1", 1)
    assert refusal.amount == pytest.approx(5e8)
    assert row.refused == "device memory of dev1 over by 0.5 GB"
    assert (row.devices_over, row.round_s) == (1, used.round_s)
    floor = instance.replace(**{"devices[dev2].blocks_min": 5})
    told = rows_of(floor, "splitlora")["splitlora"].refused
    assert told == "domain of dev2.blocks missed by 2 blocks"


def test_fedlora_with_those_who_fit() -> None:
    roomy = cell().replace(**{f"devices[dev{n}].memory_bytes": 1e11 for n in range(3)})
    tight = roomy.replace(**{"devices[dev0].memory_bytes": 1e9})
    rows = rows_of(tight, "fedlora", "fedlora:participants=fitting")
    assert rows["fedlora"].refused is not None
    assert "dev0" in rows["fedlora"].refused
    fitting = rows["fedlora:participants=fitting"]
    assert fitting.refused is None
    assert [part.id for part in plan_in(fitting).devices] == ["dev1", "dev2"]
    assert fitting.changes == ("1 of 3 devices left out",)


SEARCHED = ("plain", "total power", "each", "common", "cut factor", "omega intervals",
            "dense and none", "parallel server")  # fmt: skip
"""Variants of the model under which the common search is held against a grid."""


@pytest.mark.parametrize("variant", SEARCHED)
def test_one_for_all_is_the_best_of_a_fine_grid(variant: str) -> None:
    derived = derive(sample_instance(3, 2, **VARIANTS[variant]))
    found = best_delay(derived, best_common(derived, None)).round_s
    budget = min(derived.loss_budget, derived.loss_budget_each)
    best = np.inf
    for cut in range(int(derived.cut_low.max()), int(derived.cut_high.min()) + 1):
        for index, option in enumerate(derived.options):
            for keep in np.linspace(option.keep_low, option.keep_high, 60):
                if float(derived.loss(option, float(keep), cut)) <= budget:
                    point = IntegralPoint(
                        np.full(3, cut), np.full(3, index), np.full(3, float(keep))
                    )
                    best = min(best, best_delay(derived, point).round_s)
                    break  # more is sent the more is kept
    assert np.isfinite(best)
    assert found <= best * (1.0 + 1e-12)
    assert found >= best * 0.9


@pytest.mark.parametrize("power", ["psd", "total"])
def test_best_shares_cannot_be_improved(power: str) -> None:
    instance = cell(radio={"power": power})
    label = "tsflora:shares=best"
    row = rows_of(instance, label)[label]
    plan, random = plan_in(row), np.random.default_rng(0)
    added = instance.model_copy(
        update={"compression": instance.compression.model_copy(update={
            "modes": (*instance.compression.modes, {"kind": "tokens", "bits": 8, "tokens": 41})
        })}
    )  # fmt: skip
    assert added.hash == row.instance_hash
    assert row.round_s is not None
    for _ in range(30):
        shifts = {}
        for name in ("uplink_share", "downlink_share", "adapter_uplink_share"):
            given = np.array([getattr(part, name) for part in plan.devices])
            moved = given * np.exp(0.05 * random.standard_normal(3))
            shifts[name] = moved / moved.sum()
        parts = [
            part.model_copy(update={name: float(values[n]) for name, values in shifts.items()})
            for n, part in enumerate(plan.devices)
        ]
        tried = verify_plan(added, plan.model_copy(update={"devices": tuple(parts)}))
        assert tried.objective_s is not None
        assert tried.objective_s >= row.round_s * (1.0 - 1e-9)
