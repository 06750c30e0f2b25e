"""The exhaustive solver against dense grids, closed forms, chance points and the judge."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.instance import AccuracyScope, ModeKind
from sftopt.core.status import Termination
from sftopt.solvers.exhaustive import SOLVER
from tests.samples import VARIANTS, sample_instance
from tests.solvers.exhaustive.dense_grid import (
    GAP,
    OUTSIDE,
    assert_proved,
    cut_products,
    grid_optimum,
    least_keep,
    loss,
    merged,
    round_s,
    settle,
    tiny,
)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_agrees_with_a_dense_grid(name: str) -> None:
    fields = dict(VARIANTS[name])
    if name == "cut factor":
        fields["accuracy"] = {"cut_factor": (0.6, 0.9, 1.3)}
    instance = tiny(2, 3, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=13)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 2e-4)  # the grid's own error


def test_common_compression_suits_the_device_that_needs_most() -> None:
    factors = (1.0, 0.5, 2.0)
    instance = tiny(2, 3, accuracy={"scope": "common", "cut_factor": factors})
    outcome = settle(instance)
    value = assert_proved(instance, outcome)
    assert outcome.candidate is not None
    assert outcome.candidate.keep[0] == outcome.candidate.keep[1]
    assert value == pytest.approx(grid_optimum(instance), rel=1e-9)


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("variant", [{}, OUTSIDE], ids=["inside (16)", "outside (16)"])
def test_three_devices_agree_with_a_dense_grid(power: str, variant: dict[str, Any]) -> None:
    fields = merged(variant, {"radio": {"power": power}, "blocks": 2, "modes": (3,)})
    instance = tiny(3, 11, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=9, levels=5)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_outside_the_convex_interval_intervals_are_split(seed: int) -> None:
    decay, minimum = [(5.0, 0.8), (5.0, 0.7), (8.0, 0.85)][seed % 3]
    fields = merged(OUTSIDE, {"accuracy": {"keep_decay": decay, "minimum": minimum}})
    fields["radio"] = {"downlink": ["kept", "dense"][seed % 2]}
    instance = tiny(2, seed, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=33, levels=5)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 1e-4)


@pytest.mark.parametrize("power", ["psd", "total"])
def test_inside_the_convex_interval_no_interval_is_split(power: str) -> None:
    """The inner method itself closes every gap; splitting would hide its weakness."""
    for seed in range(6):
        instance = sample_instance(4, seed, blocks=4, modes=(2, 4), radio={"power": power})
        outcome = settle(instance)
        assert_proved(instance, outcome)
        assert "split" not in outcome.message


def test_splitting_really_happens_outside_the_convex_interval() -> None:
    outcomes = [settle(tiny(2, seed, **OUTSIDE)) for seed in range(8)]
    assert any("split" in outcome.message for outcome in outcomes)


@pytest.mark.parametrize("power", ["psd", "total"])
def test_one_device_has_a_closed_form(power: str) -> None:
    instance = sample_instance(
        1, 5, blocks=5, modes=(2, 4, 8), radio={"power": power}, server={"memory_bytes": 1e12}
    )
    derived = derive(instance)
    values = []
    for cut in range(int(derived.cut_low[0]), int(derived.cut_high[0]) + 1):
        for number, option in enumerate(derived.options):
            keep = least_keep(derived, number, cut, derived.loss_budget)
            if keep is None:
                continue
            up = float(derived.beta_up(option, keep)) / derived.uplink_full_bits_per_s[0]
            down = float(derived.beta_down(option, keep)) / derived.downlink_full_bits_per_s[0]
            step = (
                derived.s1_base_s + cut * derived.s1_block_s + derived.elements * (up + down)
                + derived.s3_base_s - cut * derived.s3_block_s
                + derived.s5_base_s + cut * derived.s5_block_s
            )[0]  # fmt: skip
            rates = 1 / derived.uplink_full_bits_per_s + 1 / derived.downlink_full_bits_per_s
            adapters = cut * derived.adapter_bits_per_block * rates[0]
            values.append(derived.steps * step + adapters)
    value = assert_proved(instance, settle(instance))
    assert value == pytest.approx(min(values), rel=GAP)


@pytest.mark.parametrize("name", [*sorted(VARIANTS), "outside (16)"])
def test_no_feasible_point_found_by_chance_beats_the_bound(name: str) -> None:
    fields = OUTSIDE if name == "outside (16)" else dict(VARIANTS[name])
    if name != "cut factor":
        fields = {"blocks": 5, **fields}
    instance = sample_instance(3, 8, **fields)
    derived = derive(instance)
    if SOLVER.refusal(derived) is not None:
        fields["modes"] = (2, 4)
        instance = sample_instance(3, 8, **fields)
        derived = derive(instance)
    outcome = settle(instance)
    value = assert_proved(instance, outcome)
    draw = np.random.default_rng(2)
    products = cut_products(derived)
    assert outcome.candidate is not None
    seen, near = 0, outcome.candidate
    for trial in range(300):
        if trial % 2:  # close to the optimum, where a wrong bound would show
            cuts, options = near.cuts.astype(int), near.choices()
            keep = near.keep * np.exp(draw.normal(0.0, 0.02, derived.devices))
        else:
            cuts = np.array(products[int(draw.integers(len(products)))])
            options = draw.integers(len(derived.options), size=derived.devices)
            if derived.scope is AccuracyScope.COMMON:
                options[:] = options[0]
            keep = np.full(derived.devices, draw.uniform())
            lows = [derived.options[o].keep_low for o in options]
            keep = lows + draw.uniform(size=derived.devices) * (1.0 - np.array(lows))
        chosen = [derived.options[int(o)] for o in options]
        keep = np.clip(keep, [o.keep_low for o in chosen], [o.keep_high for o in chosen])
        if derived.scope is AccuracyScope.COMMON:
            keep[:] = keep.max()
            keep = np.clip(keep, chosen[0].keep_low, chosen[0].keep_high)
        losses = np.array(
            [loss(derived, int(o), int(c), k) for o, c, k in zip(options, cuts, keep, strict=True)]
        )
        if losses.max() > derived.loss_budget_each:
            continue
        if (derived.scope is AccuracyScope.MEAN
                and derived.weight @ losses > derived.loss_budget):  # fmt: skip
            continue
        seen += 1
        assert round_s(derived, cuts, options, keep) >= value * (1.0 - GAP)
    assert seen >= 10


def test_the_order_of_devices_does_not_matter() -> None:
    instance = sample_instance(3, 4, blocks=6, modes=(2, 4))
    turned = instance.model_copy(update={"devices": instance.devices[::-1]})
    first, second = settle(instance), settle(turned)
    assert assert_proved(turned, second) == pytest.approx(assert_proved(instance, first), rel=GAP)


@pytest.mark.parametrize("fields", [{}, OUTSIDE], ids=["inside (16)", "outside (16)"])
def test_a_tighter_accuracy_limit_never_lowers_the_value(fields: dict[str, Any]) -> None:
    values = []
    start = 0.75 if fields else 0.885
    for step in range(6):
        minimum = start + step * (0.02 if fields else 0.005)
        accuracy = merged(fields, {"accuracy": {"minimum": minimum, "minimum_each": 0.5}})
        instance = tiny(3, 6, **accuracy)
        values.append(assert_proved(instance, settle(instance)))
    for easier, harder in itertools.pairwise(values):
        assert harder >= easier * (1.0 - GAP)
    assert values[-1] > values[0] * 1.01


def test_a_limit_that_only_the_largest_keep_fractions_meet() -> None:
    accuracy = {"quantisation_loss": 0.0, "minimum_each": 0.5}
    base = tiny(3, 2, modes=(2,), accuracy=accuracy, compression={"keep_max": 0.3})
    best = 0.92 - 0.25 * math.exp(-22.0 * 0.3)
    for give in (0.0, 1e-15, 1e-12, 1e-8):
        limit = base.accuracy.model_copy(update={"minimum": best - give})
        instance = base.model_copy(update={"accuracy": limit})
        outcome = settle(instance)
        assert_proved(instance, outcome)
        assert outcome.candidate is not None
        assert outcome.candidate.keep == pytest.approx(0.3, abs=1e-3)
    too_much = base.accuracy.model_copy(update={"minimum": best + 1e-8})
    outcome = settle(base.model_copy(update={"accuracy": too_much}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert outcome.candidate is None


def test_uncompressed_accuracy_is_reached_by_mode_none_alone() -> None:
    modes = (2, {"kind": "dense", "bits": 8}, {"kind": "none", "bits": 32})
    instance = tiny(2, 1, modes=modes, accuracy={"minimum": 0.92})
    outcome = settle(instance)
    assert_proved(instance, outcome)
    derived = derive(instance)
    assert outcome.candidate is not None
    kinds = {derived.options[int(o)].kind for o in outcome.candidate.choices()}
    assert kinds == {ModeKind.NONE}


def test_a_parallel_server_rules_out_cuts_that_fill_its_memory() -> None:
    free = tiny(3, 1, server_order="parallel", blocks=5, server={"compute_flops_per_s": 1e14})
    floor = settle(free)
    assert floor.candidate is not None
    work = free.workload
    rest = work.blocks * (work.block_weight_bytes + work.block_adapter_bytes)
    rest += work.server_base_bytes
    rest += sum(d.batch for d in free.devices) * work.sample_base_bytes
    saved = sum(
        d.batch * (work.blocks - c) * work.block_activation_bytes
        for d, c in zip(free.devices, floor.candidate.cuts, strict=True)
    )
    tight = free.server.model_copy(update={"memory_bytes": rest + 0.8 * saved})
    instance = free.model_copy(update={"server": tight})
    value = assert_proved(instance, settle(instance))
    assert floor.claimed_s is not None
    assert value > floor.claimed_s
    none = free.server.model_copy(update={"memory_bytes": rest})
    outcome = settle(free.model_copy(update={"server": none}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
