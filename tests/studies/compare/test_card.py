"""CARD's choice: its closed form against a numerical solver, and the judge by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from sftopt.core.instance import Instance
from sftopt.core.schemes.registry import get_scheme
from sftopt.core.verify import verify_plan
from sftopt.studies.compare import compare_cell
from sftopt.studies.compare.plans import plan_of
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.turns import Speeds, Turn, best_choice, best_speed
from sftopt.studies.compare.variant import variant_of
from tests.samples import sample_instance

KAPPA = 3e-35


def costs(turns: list[Turn], weight: float, speeds: Speeds, turn: Turn, speed: float) -> float:
    """The weighted cost, written out from the paper's objective."""

    def both(one: Turn, f: float) -> tuple[float, float]:
        work = one.server_s * speeds.most
        return one.delay_s - one.server_s + work / f, f * f * work

    ends = [both(one, f) for one in turns for f in (speeds.least, speeds.most)]
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    terms = [
        (value - lo) / (hi - lo) if hi > lo else 0.0
        for value, lo, hi in zip(both(turn, speed), low, high, strict=True)
    ]
    return weight * terms[0] + (1.0 - weight) * terms[1]


turn_lists = st.lists(
    st.tuples(st.floats(0.1, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=6
).map(lambda rows: [Turn(n, a + s, s, True) for n, (a, s) in enumerate(rows)])


@given(turn_lists, st.floats(0.0, 1.0), st.floats(1e11, 1e13), st.floats(1.0, 10.0))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_closed_form_is_the_numerical_optimum(
    turns: list[Turn], weight: float, most: float, ratio: float
) -> None:
    speeds = Speeds(most / ratio, most)
    chosen = best_choice(turns, weight, speeds)
    value = costs(turns, weight, speeds, turns[chosen.cut], chosen.flops_per_s)
    for turn in turns:
        found = minimize_scalar(
            lambda f, turn=turn: costs(turns, weight, speeds, turn, f),
            bounds=(speeds.least, speeds.most), method="bounded", options={"xatol": most * 1e-10},
        )  # fmt: skip
        tried = [found.fun, *(costs(turns, weight, speeds, turn, f) for f in vars(speeds).values())]
        assert value <= min(tried) + 1e-9


def test_ends_of_the_weight_and_ties() -> None:
    speeds = Speeds(1e12, 4e12)
    turns = [Turn(2, 10.0, 4.0, True), Turn(1, 10.0, 4.0, True)]
    assert best_choice(turns, 1.0, speeds).flops_per_s == speeds.most
    assert best_choice(turns, 0.0, speeds).flops_per_s == speeds.least
    assert best_choice(turns, 0.3, speeds).cut == 1  # equal cost: the smaller cut
    assert best_speed(0.5, 0.0, 1.0, speeds) == speeds.least  # a zero range drops its term
    assert best_speed(0.5, 1.0, 0.0, speeds) == speeds.most


def cell(**server: float) -> Instance:
    return sample_instance(
        3, 4, blocks=5, modes=(4, {"kind": "none", "bits": 32}),
        server={"energy_coefficient_j_s2_per_flop3": KAPPA, **server},
    )  # fmt: skip


@pytest.mark.parametrize("weight", [0.2, 0.6])
def test_no_cut_and_speed_is_better_by_the_judge(weight: float) -> None:
    """Every cut and 40 speeds of one device, judged as a round of its own."""
    instance = cell()
    card = get_scheme("card")
    row = next(r for r in compare_cell(instance, [f"card:w={weight}"]) if "card" in r.scheme)
    assert row.plan is not None
    assert row.refused is None
    mode = variant_of(instance, Request(card)).mode
    assert mode is not None
    speeds = Speeds.of(instance)
    grid = np.geomspace(speeds.least, speeds.most, 40)
    for device, part in zip(instance.devices, row.plan.devices, strict=True):
        alone = instance.model_copy(
            update={"devices": (device.model_copy(update={"weight": 1.0}),)}
        )

        def judged(cut: int, speed: float, alone: Instance = alone) -> tuple[float, float]:
            plan = plan_of(alone, card, mode, [cut], [None], [float(speed)])
            found = verify_plan(alone, plan)
            assert found.feasible, found.violations
            assert found.breakdown is not None
            assert found.breakdown.energy_server_j is not None
            return found.breakdown.round_s, found.breakdown.energy_server_j

        values = np.array([[judged(cut, f) for f in grid] for cut in range(1, 5)])
        low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
        weights = np.array([weight, 1.0 - weight])
        best = (((values - low) / (high - low)) @ weights).min()
        assert part.server_flops_per_s is not None
        chosen = np.array(judged(part.blocks, part.server_flops_per_s))
        assert ((chosen - low) / (high - low)) @ weights <= best + 1e-9


def test_the_choice_needs_no_coefficient() -> None:
    """kappa_s cancels: without it the same plan, and an energy that is not known."""
    with_kappa = next(r for r in compare_cell(cell(), ["card"]) if r.scheme == "card")
    bare = cell().replace(**{"server.energy_coefficient_j_s2_per_flop3": None})
    without = next(r for r in compare_cell(bare, ["card"]) if r.scheme == "card")
    assert with_kappa.plan is not None
    assert without.plan is not None
    assert with_kappa.plan.devices == without.plan.devices
    assert with_kappa.energy is not None
    assert without.energy is not None
    assert (with_kappa.energy.server_j or 0.0) > 0.0
    assert without.energy.server_j is None


def test_both_powers_of_sequential_schemes() -> None:
    rows = {r.scheme: r for r in compare_cell(cell(), ["sl", "sl:power=share"])}
    band, share = rows["sl"], rows["sl:power=share"]
    assert band.radiated_w_max == pytest.approx(0.2)
    assert share.radiated_w_max == pytest.approx(0.2 / 3)
    assert band.parts is not None
    assert share.parts is not None
    assert share.parts.uplink_s > band.parts.uplink_s
    assert share.parts.downlink_s == band.parts.downlink_s
