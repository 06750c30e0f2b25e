"""Operating points in certify: tokens, measured losses, codec factors and side bits as modes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.certify_study import instance_of, verified_s
from sftopt.core.derived import Derived, derive
from sftopt.core.families import generate
from sftopt.core.instance import Instance
from sftopt.core.status import Termination
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.certify.bound.arrays import Box, Listing, LivePlaces, every_place
from sftopt.solvers.certify.bound.bound_data import build_bound_data, with_share_tangents
from sftopt.solvers.certify.bound.places import places_of
from sftopt.solvers.certify.bound.tables import merge, with_tables
from sftopt.solvers.certify.guidance import Multipliers
from sftopt.solvers.certify.search import Search
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from tests.samples import sample_instance
from tests.solvers.certify.test_certify_bound import (
    NEAR,
    drawn_box,
    evaluated,
    outcome_of,
    truth_of,
    whole_region,
)
from tests.token_cells import VIT_B, with_points, with_token_modes


def with_modes(instance: Instance, *modes: dict[str, object]) -> Instance:
    """The cell with these modes beside its own."""
    data = instance.to_dict()
    data["workload"].update(VIT_B)
    data["compression"]["modes"] += modes
    return Instance.model_validate(data)


@pytest.mark.parametrize("first", range(0, 66, 11))
def test_bounds_hold_and_close_with_points(first: int) -> None:
    """66 drawn cells, all kinds: the bound is not above the optimum, and the gap closes."""
    compared = 0
    for seed in range(first, first + 11):
        _, instance = instance_of(seed, points=True)
        derived = derive(instance)
        if EXHAUSTIVE.refusal(derived) is not None:
            continue
        truth, found = truth_of(derived), outcome_of(derived, limit_s=20.0)
        if truth.claimed_s is None:
            assert found.candidate is None
            continue
        assert found.bound_s is not None
        assert found.termination is Termination.GAP_LIMIT, seed
        assert found.bound_s <= truth.claimed_s * (1.0 + 1e-9), seed
        assert verified_s(instance, derived, found) <= truth.claimed_s * (1.0 + 1.1e-4), seed
        compared += 1
    assert compared >= 9


def many(seed: int, *, power: str = "psd", devices: int = 6) -> Derived:
    """A cell whose points of every sort have places of their own."""
    instance = sample_instance(devices, seed, modes=(2, 4), radio={"power": power})
    return derive(with_points(with_token_modes(instance), np.random.default_rng(seed)))


@pytest.mark.parametrize("power", ["psd", "total"])
def test_both_bounds_say_the_same_of_points(power: str) -> None:
    """Statement 14: tables with points beside them against items taken one by one."""
    derived = many(1, power=power)
    data, region = with_share_tangents(build_bound_data(derived), derived), whole_region(derived)
    assert len(places_of(derived).members) >= 4
    merged, draw, compared = merge(data, 4, NEAR, 2.0, 2.0), np.random.default_rng(2), 0
    assert merged.table.size
    live = every_place(data, region)
    for _ in range(30):
        box, _, m, _ = drawn_box(draw)
        exact = evaluated(data, region, live, box, m).values
        coarse = evaluated(data, region, live, box, m, merged=merged).values
        if not np.all(np.isfinite(exact)):
            continue
        compared += 1
        slack = 1e-9 if power == "psd" else 1e-3  # tangents touch elsewhere
        assert np.all(coarse <= exact + slack * np.abs(exact))
        assert np.all(coarse >= exact - 0.02 * np.abs(exact))
    assert compared > 10


def test_dropped_places_cannot_win() -> None:
    """Statement 13 by places: in a part of the box, at multipliers in range, D is the same."""
    derived = many(1)
    data, region = build_bound_data(derived), whole_region(derived)
    data = with_tables(data, 3, NEAR, 2.0, 2.0)
    merged = merge(data, 4, NEAR, 2.0, 2.0)
    live, draw, dropped = every_place(data, region), np.random.default_rng(5), 0
    for turn in range(40):
        box, point, m, other = drawn_box(draw)
        kept = LivePlaces(np.zeros(7, dtype=np.int64), np.empty(len(live.places), dtype=np.int32))
        out = evaluated(
            data, region, live, box, m, merged=merged if turn % 2 else None,
            listing=Listing(kept, 1.05),
        )  # fmt: skip
        if not np.all(np.isfinite(out.values)):
            continue
        fewer = LivePlaces(kept.first, kept.places[: kept.first[-1]].copy())
        dropped += len(live.places) - len(fewer.places)
        found = [
            evaluated(data, region, chosen, point, other).values.min() for chosen in (live, fewer)
        ]
        assert found[1] == pytest.approx(found[0], rel=1e-11)
    assert dropped > 100


@pytest.mark.parametrize("power", ["psd", "total"])
def test_mutated_multipliers_still_bound_points(power: str) -> None:
    """Statement 1 with points: any multipliers give a valid bound, merged or not."""
    instance = sample_instance(2, 5, blocks=4, modes=(2,), radio={"power": power})
    tokens = {"kind": "tokens", "tokens": 51, "bits": 8, "loss": [0.0, 0.02, 0.01, 0.03]}
    dense = {"kind": "dense", "bits": 3, "loss": 0.01, "gradient_bits": 2.0}
    derived = derive(with_modes(instance, tokens, dense))
    optimum = truth_of(derived).claimed_s
    assert optimum is not None
    data, region = with_share_tangents(build_bound_data(derived), derived), whole_region(derived)
    top, draw = optimum / derived.steps, np.random.default_rng(3)
    box, near = Box(1e-3, top, 1e-3, top, 0.0), Multipliers(10.0, 1.0, 100.0, 0.0)
    tabled, merged = with_tables(data, 3, near, top, top), merge(data, 3, near, top, top)
    live = every_place(data, region)
    for _ in range(300):
        m = Multipliers(*(10 ** draw.uniform(-6.0, 4.0, 3)).tolist(), 0.0)
        for chosen, table in ((data, None), (tabled, None), (data, merged)):
            found = evaluated(chosen, region, live, box, m, merged=table)
            assert found.values.min() <= optimum


@pytest.mark.parametrize("scope", ["mean", "each", "common"])
@pytest.mark.parametrize("order", ["in_turn", "parallel"])
def test_a_cell_of_points_alone(scope: str, order: str) -> None:
    """No curve at all: nothing may be divided by a_1, which is 0."""
    instance = sample_instance(
        3, 2, blocks=4, modes=({"kind": "dense", "bits": 8, "loss": 0.001},), server_order=order,
        accuracy={"scope": scope, "keep_loss": 0.0, "quantisation_loss": 0.0},
    )  # fmt: skip
    derived = derive(with_token_modes(instance))
    found, truth = outcome_of(derived), truth_of(derived)
    assert truth.claimed_s is not None
    assert found.bound_s is not None
    assert found.termination is Termination.GAP_LIMIT
    assert truth.claimed_s * (1.0 - 1.1e-4) <= found.bound_s <= truth.claimed_s * (1.0 + 1e-9)


def test_figures_of_their_own_that_change_nothing_change_nothing() -> None:
    """A point that says what equation (12) says of a dense mode is that mode."""
    dense = {"kind": "dense", "bits": 6}
    plain = derive(sample_instance(5, 4, blocks=6, modes=(2, 4, dense)))
    loss = float(plain.loss(plain.options[2], 1.0))
    own = derive(sample_instance(5, 4, blocks=6, modes=(2, 4, {**dense, "loss": loss})))
    assert not own.plain
    found, alike = outcome_of(own), outcome_of(plain)
    assert found.claimed_s == pytest.approx(alike.claimed_s, rel=1e-9)
    for one in (found, alike):  # points alone have their mean loss kept exactly
        assert one.claimed_s is not None
        assert one.bound_s is not None
        assert one.claimed_s * (1.0 - 1.1e-4) <= one.bound_s <= one.claimed_s


def test_boxes_that_leave_a_device_its_points_alone() -> None:
    """Some boxes are too short for a device's Top-K cuts and leave it the shorter tokens."""
    derived = derive(with_token_modes(generate("jetson-vit-b", 100, 1)))
    found = outcome_of(derived, limit_s=30.0)
    assert found.termination is Termination.GAP_LIMIT
    assert found.bound_s is not None
    assert found.claimed_s is not None
    assert found.bound_s <= found.claimed_s <= found.bound_s * (1.0 + 1.1e-4)


@pytest.mark.parametrize("family", ["weichen", "weak-server"])
def test_plans_of_many_devices_spend_the_mean_loss(family: str) -> None:
    """Items that are least at one price of loss waste a part of it: 0.4 and 0.1 % of the delay."""
    instance = with_token_modes(generate(family, 100, 1))
    derived = derive(instance)
    task = Task(
        derived, get_formulation("native"), None, None, Options(rel_gap=1e-4), Deadline(600.0)
    )
    found = Search(task, most_nodes=150).run()
    assert found.claimed_s is not None
    assert found.bound_s is not None
    below = {"weichen": 4.4030, "weak-server": 41.660}[family]
    assert found.bound_s <= found.claimed_s < below
    assert verified_s(instance, derived, found) == pytest.approx(found.claimed_s, rel=1e-9)
