"""Time to target against brute force, against plans at random, and where there is no answer."""

from __future__ import annotations

import json
import math
import os
import signal
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import sftopt
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.core.status import Point, Termination
from sftopt.core.target_laws import (
    LinearLaw,
    LinearLevel,
    RoundFactor,
    SaturatingLaw,
    TargetLaws,
)
from sftopt.solvers.run import ProgressView
from sftopt.studies.time_to_target import TimeToTarget, search, time_to_target
from sftopt.studies.time_to_target.cells import Ladder
from sftopt.studies.time_to_target.conclude import cell_of
from sftopt.studies.time_to_target.goal import Best, Goal
from tests.samples import VARIANTS, sample_instance

TARGET = 0.85
LINEAR = LinearLaw(levels=(LinearLevel(target=TARGET, rounds=14.0, slope=9.0),))
SATURATING = SaturatingLaw(scale_rounds=6.0, start=0.1)
GAP = 6e-3


def cell(seed: int = 1, variant: str = "plain", **fields: Any) -> Instance:
    """Two devices, three cuts and a loose limit, so that the target decides."""
    kept = dict(VARIANTS[variant])
    if "cut_factor" in kept.get("accuracy", {}):
        kept["accuracy"] = {"cut_factor": (0.7, 0.9, 1.0, 1.2)}
    accuracy = {"minimum": 0.86, "keep_loss": 0.3, "keep_decay": 10.0, **kept.pop("accuracy", {})}
    accuracy |= fields.pop("accuracy", {})
    return sample_instance(2, seed, blocks=4, accuracy=accuracy, **{**kept, **fields})


def rounds_by_hand(law: Any, loss: float, a_0: float, target: float = TARGET) -> float:
    """Section 9, written out once more."""
    if law is LINEAR:
        return 14.0 * (1.0 + 9.0 * loss)
    if a_0 - loss <= target:
        return math.inf
    return 6.0 * math.log((a_0 - loss - 0.1) / (a_0 - loss - target))


def mean_loss(instance: Instance, plan: Plan) -> float:
    """Omega by the judge's accuracies."""
    found = sftopt.verify_plan(instance, plan).breakdown
    assert found is not None
    weights = [device.weight for device in instance.devices]
    values = [device.accuracy for device in found.devices]
    return instance.accuracy.uncompressed - float(np.dot(weights, np.array(values, dtype=float)))


@lru_cache(maxsize=8)
def fastest_plans(variant: str) -> tuple[tuple[float, float], ...]:
    """Loss and round of the fastest plans at many limits on the accuracy."""
    instance, found = cell(3, variant), []
    for limit in np.linspace(instance.accuracy.minimum, 0.92 - 1e-4, 10):
        own = instance.replace(**{"accuracy.minimum": float(limit)})
        result = sftopt.solve(own, solver="exhaustive", rel_gap=1e-6)
        if result.ok and result.plan is not None and result.objective_s is not None:
            found.append((mean_loss(own, result.plan), result.objective_s))
    return tuple(found)


@pytest.mark.parametrize(
    ("law", "variant"),
    [
        (LINEAR, "plain"),
        (SATURATING, "plain"),
        (SATURATING, "each"),
        (SATURATING, "common"),
        (LINEAR, "cut factor"),
        (SATURATING, "total power"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_no_limit_on_accuracy_gives_a_sooner_plan(law: Any, variant: str) -> None:
    instance = cell(3, variant)
    found = time_to_target(instance, TARGET, law, solver="exhaustive", rel_gap=GAP)
    assert found.termination is Termination.GAP_LIMIT
    assert found.time_s is not None
    assert found.bound_s is not None
    least = min(
        rounds_by_hand(law, loss, 0.92) * round_s for loss, round_s in fastest_plans(variant)
    )
    assert found.bound_s <= least * (1.0 + 1e-9)
    assert found.time_s <= least * (1.0 + GAP)
    # and the answer is a plan of the instance as it is, with these very numbers
    assert found.plan is not None
    verdict = sftopt.verify_plan(instance, found.plan)
    assert verdict.feasible
    assert verdict.objective_s == found.round_s
    loss = mean_loss(instance, found.plan)
    assert found.loss == pytest.approx(loss, abs=1e-12)
    assert found.rounds == pytest.approx(rounds_by_hand(law, loss, 0.92), rel=1e-9)
    assert found.time_s == pytest.approx(found.rounds * (found.round_s or 0.0), rel=1e-12)
    assert found.rounds_whole == math.ceil(found.rounds)


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 400),
    loss=st.floats(0.0, 0.06),
    slope=st.floats(0.01, 40.0),
    scope=st.sampled_from(["mean", "each", "common"]),
)
def test_the_bound_is_above_no_plan(seed: int, loss: float, slope: float, scope: str) -> None:
    """Plans with one device far below the other count too: they meet the instance's limits."""
    instance = cell(seed).replace(**{"accuracy.scope": scope})
    law = LinearLaw(levels=(LinearLevel(target=TARGET, rounds=5.0, slope=slope),))
    found = time_to_target(instance, TARGET, law, solver="exhaustive", rel_gap=2e-2)
    limits = {"accuracy.minimum": max(0.92 - loss, 0.86)}
    if scope == "mean":
        limits["accuracy.minimum_each"] = 0.81
    skewed = instance.replace(**limits)
    result = sftopt.solve(skewed, solver="exhaustive", rel_gap=1e-4)
    if result.plan is None:
        return
    plan = result.plan.model_copy(update={"instance_hash": instance.hash})
    assert sftopt.verify_plan(instance, plan).feasible
    assert found.bound_s is not None
    time_s = 5.0 * (1.0 + slope * mean_loss(instance, plan)) * (result.objective_s or 0.0)
    assert found.bound_s <= time_s * (1.0 + 1e-9)


def test_certify_answers_like_exhaustive() -> None:
    one = time_to_target(cell(5), TARGET, SATURATING, rel_gap=0.02)
    other = time_to_target(cell(5), TARGET, SATURATING, solver="exhaustive", rel_gap=0.02)
    assert one.bound_source == "certify"
    assert one.time_s == pytest.approx(other.time_s, rel=0.04)


def test_the_usual_limit_is_not_the_best_one() -> None:
    """A round of least delay loses so much that the target is out of its reach."""
    instance = cell(2, accuracy={"minimum": 0.845})
    fastest = sftopt.solve(instance, solver="exhaustive")
    assert fastest.plan is not None
    assert rounds_by_hand(SATURATING, mean_loss(instance, fastest.plan), 0.92) == math.inf
    found = time_to_target(instance, TARGET, SATURATING, solver="exhaustive", rel_gap=GAP)
    assert found.rounds is not None
    assert found.rounds < 40.0
    assert (found.round_s or 0.0) > (fastest.objective_s or 0.0)


def test_a_free_accuracy_needs_a_cell_of_its_own() -> None:
    instance = cell(2, accuracy={"minimum": 0.915})
    held = time_to_target(instance, TARGET, LINEAR, solver="exhaustive", rel_gap=GAP)
    free = time_to_target(
        instance, TARGET, LINEAR, solver="exhaustive", rel_gap=GAP, free_accuracy=True
    )
    assert held.edits == {}
    assert free.edits["accuracy.minimum"] < 0.915
    assert (free.time_s or 0.0) < (held.time_s or 0.0)
    assert free.plan is not None
    own = instance.replace(**free.edits)
    assert sftopt.verify_plan(own, free.plan).feasible
    assert not sftopt.verify_plan(instance, free.plan).hash_matches


def test_a_free_accuracy_may_need_another_floor_alone() -> None:
    """The mean meets the cell's limit, one device is far below it: the floor is what gives way."""
    instance = cell(2, accuracy={"minimum": 0.9})
    plan = Plan(instance_hash="", devices=())
    best = Best(Ladder(instance, 16, True, 1e-9), 0.01, 1.0, 1.0, 1.0, plan, 0.7)
    goal = Goal(instance, TARGET, LINEAR, TargetLaws(linear=LINEAR), True, 1e-9)
    own, edits = cell_of(goal, best)
    assert edits == {"accuracy.minimum_each": 0.7}
    assert own.accuracy.minimum == 0.9


def test_ranks_are_a_short_list_and_mu_counts() -> None:
    work = {"adapted_matrices": 2, "heads": 12, "head_size": 64, "element_bytes": 4}
    instance = cell(4, workload=work)
    own = time_to_target(instance, TARGET, LINEAR, solver="exhaustive", rel_gap=0.02)
    laws = TargetLaws(linear=LINEAR, factors=(RoundFactor(rank=2, factor=0.5),))
    found = time_to_target(
        instance, TARGET, laws, ranks=[16, 2], solver="exhaustive", rel_gap=0.02
    )  # fmt: skip
    assert own.rank == instance.workload.lora_rank == 16
    assert (found.rank, found.factor, found.factor_measured) == (2, 0.5, True)
    assert found.plan is not None
    assert {part.rank for part in found.plan.devices} == {2}
    verdict = sftopt.verify_plan(instance, found.plan)  # the judge knows what a rank costs
    assert verdict.feasible
    assert verdict.objective_s == found.round_s
    dear = TargetLaws(linear=LINEAR, factors=(RoundFactor(rank=2, factor=3.0),))
    kept = time_to_target(
        instance, TARGET, dear, ranks=[2, 16], solver="exhaustive", rel_gap=0.02
    )  # fmt: skip
    assert kept.rank == 16
    assert kept.time_s == pytest.approx(own.time_s, rel=0.04)


def test_out_of_reach_says_the_nearest_target_which_is_in_reach() -> None:
    instance = cell(3, modes=(2, 4))
    found = time_to_target(instance, 0.9199, SATURATING, solver="exhaustive", rel_gap=GAP)
    assert found.termination is Termination.INFEASIBLE_PROVEN
    assert found.point is Point.NONE
    assert found.plan is None
    assert "out of reach" in found.message
    assert found.nearest_target is not None
    assert found.nearest_target < 0.9199
    again = time_to_target(
        instance, found.nearest_target, SATURATING, solver="exhaustive", rel_gap=GAP
    )
    assert again.ok


def test_a_cell_without_plans_says_so() -> None:
    instance = cell(3).replace(**{"server.memory_bytes": 1e6})
    found = time_to_target(instance, TARGET, SATURATING)
    assert found.termination is Termination.INFEASIBLE_PROVEN
    assert found.nearest_target is None
    assert "no plan exists" in found.message


def test_the_limit_keeps_what_was_found_with_a_bound_that_holds() -> None:
    instance = cell(7)
    best = time_to_target(instance, TARGET, SATURATING, solver="exhaustive", rel_gap=2e-2)
    stops = iter(range(100))

    def after_three(_: ProgressView) -> None:
        if next(stops) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    short = time_to_target(
        instance, TARGET, SATURATING, solver="exhaustive", rel_gap=1e-6, on_progress=after_three
    )
    assert short.termination is Termination.INTERRUPTED
    assert short.ok
    assert short.bound_s is not None
    assert short.bound_s <= (best.time_s or 0.0) * (1.0 + 1e-9)
    assert len(short.levels) == 3
    timed = time_to_target(instance, TARGET, SATURATING, solver="exhaustive", time_limit=0.0)
    assert timed.termination is Termination.TIME_LIMIT
    assert not timed.ok
    assert timed.bound_s is None


def test_a_signal_while_a_planning_runs_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    plannings = iter(range(100))

    def interrupted(*given: Any, **named: Any) -> Result:
        if next(plannings) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return sftopt.solve(*given, **named)

    monkeypatch.setattr(search, "solve", interrupted)
    found = time_to_target(cell(7), TARGET, SATURATING, solver="exhaustive", rel_gap=0.0)
    assert found.termination is Termination.INTERRUPTED
    assert next(plannings) == 3


def test_a_planning_that_bounds_no_plan_of_the_cell_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_a_grid(*given: Any, **named: Any) -> Result:
        made = sftopt.solve(*given, **{**named, "solver": "exhaustive"})
        return made.model_copy(update={"proven_for": "formulation"})

    monkeypatch.setattr(search, "solve", on_a_grid)
    found = time_to_target(cell(1), TARGET, LINEAR)
    assert found.termination is Termination.REFUSED
    assert "proves no bound" in found.message
    with pytest.raises(RefusedError):
        TimeToTarget.model_validate({**found.to_dict(), "point": "none"}).raise_for_status()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": 0.7}, "nearest is 0.85"),
        ({"target": math.nan}, "target is nan"),
        ({"laws": None}, "needs laws, not a NoneType"),
        ({"law": "cubic"}, "unknown law 'cubic'"),
        ({"law": "saturating"}, "there is: linear"),
        ({"ranks": [0]}, "0 is no rank"),
        ({"ranks": [5000]}, "above the hidden size of 768"),
        ({"rel_gap": -1.0}, "rel_gap is -1"),
        ({"laws": SATURATING, "target": 0.05}, "met before the first round"),
        ({"laws": TargetLaws(metric="negative_loss_nats", linear=LINEAR)}, "of the metric"),
        ({"solver": "cplex"}, "unknown solver"),
    ],
)
def test_what_makes_no_sense_is_said(change: dict[str, Any], words: str) -> None:
    asked = {"target": TARGET, "laws": LINEAR, **change}
    with pytest.raises(InputError, match=words):
        time_to_target(cell(1), **asked)


def test_the_answer_reads_back_and_names_the_law() -> None:
    found = time_to_target(cell(1), TARGET, LINEAR, solver="exhaustive", rel_gap=1e-2)
    again = TimeToTarget.model_validate(json.loads(found.to_json()))
    assert again == found
    assert again.law == LINEAR
    assert "is declared" in found.message
    assert "after" in repr(found)


def test_laws_between_levels_and_at_their_ends() -> None:
    law = LinearLaw(
        levels=(
            LinearLevel(target=0.7, rounds=4.0, slope=5.0),
            LinearLevel(target=0.8, rounds=9.0, slope=10.0),
        )
    )
    assert law.rounds(0.1, 0.7, 0.9) == 6.0
    assert law.rounds(0.1, 0.8, 0.9) == 18.0
    assert law.rounds(0.1, 0.75, 0.9) == pytest.approx(math.sqrt(6.0 * 18.0))
    assert SATURATING.rounds(0.0, 0.5, 0.9) == pytest.approx(6.0 * math.log(0.8 / 0.4))
    assert SATURATING.rounds(0.4, 0.5, 0.9) == math.inf
    with pytest.raises(ValidationError, match="ascend"):
        LinearLaw(levels=law.levels[::-1])
    with pytest.raises(ValidationError, match="no law"):
        TargetLaws()
    both = TargetLaws(linear=law, saturating=SATURATING)
    assert both.chosen(None, 0.75) is law
    assert both.chosen(None, 0.85) is SATURATING
    assert both.chosen("saturating", 0.75) is SATURATING
