"""What the exhaustive solver refuses, and what a run that is stopped still says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.base import Progress
from sftopt.solvers.exhaustive import COMBINATION_LIMIT, SOLVER
from tests.samples import sample_instance
from tests.solvers.exhaustive.dense_grid import (
    GAP,
    OUTSIDE,
    assert_proved,
    merged,
    plan_of,
    settle,
    tiny,
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory_bytes": 1.0}, "memory"),
        ({"uplink_gain": 0.0}, "outage"),
    ],
)
def test_a_hopeless_device_is_named(change: dict[str, float], word: str) -> None:
    instance = tiny(2, 1)
    broken = instance.devices[1].model_copy(update=change)
    outcome = settle(instance.model_copy(update={"devices": (instance.devices[0], broken)}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert word in outcome.message
    assert "dev1" in outcome.message
    assert outcome.bound_s is None


def test_too_many_combinations_are_refused_with_the_count() -> None:
    derived = derive(sample_instance(8, 1, blocks=12, modes=(2, 4, 8)))
    text = SOLVER.refusal(derived)
    assert text is not None
    assert f"{COMBINATION_LIMIT:,}" in text
    assert "another solver" in text
    assert SOLVER.refusal(derive(sample_instance(2, 1))) is None


def test_a_crowd_is_refused_without_writing_out_its_count_of_thousands_of_digits() -> None:
    text = SOLVER.refusal(derive(sample_instance(6000, 1, server={"memory_bytes": 1e13})))
    assert text is not None
    assert len(text) < 400


@pytest.mark.parametrize("power", ["psd", "total"])
def test_a_deadline_of_zero_gives_nothing_and_claims_nothing(power: str) -> None:
    outcome = settle(sample_instance(3, 1, radio={"power": power}), seconds=0.0)
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.candidate is None
    assert outcome.claimed_s is None
    assert outcome.bound_s is None


def test_stopping_at_any_time_leaves_a_valid_bound_and_incumbent() -> None:
    instance = tiny(3, 2, **merged(OUTSIDE, {"blocks": 4}))
    whole = settle(instance)
    value = assert_proved(instance, whole)
    bounds = []
    for limit in (1, 2, 3, 5, 8, 12, 20, 40, 80):
        calls = itertools.count()
        outcome = settle(instance, stop=lambda calls=calls, limit=limit: next(calls) >= limit)
        assert outcome.termination in (Termination.INTERRUPTED, Termination.CONVERGED_GLOBAL)
        if outcome.bound_s is not None:
            assert outcome.bound_s <= value * (1.0 + 1e-12)
            bounds.append(outcome.bound_s)
        if outcome.candidate is not None:
            found = verify_plan(instance, plan_of(instance, outcome.candidate))
            assert found.feasible
            assert found.objective_s == pytest.approx(outcome.claimed_s, rel=1e-11)
            assert found.objective_s >= value * (1.0 - GAP)
    assert bounds


def test_progress_tells_incumbents_that_fall_and_bounds_that_hold() -> None:
    news: list[Progress] = []
    instance = sample_instance(3, 7, blocks=6, modes=(2, 3, 4))
    value = assert_proved(instance, settle(instance, report=news.append))
    incumbents = [n.incumbent_s for n in news if n.incumbent_s is not None]
    assert incumbents
    assert incumbents == sorted(incumbents, reverse=True)
    assert incumbents[-1] == value
    assert all(n.candidate is not None for n in news if n.incumbent_s is not None)
    assert all(n.bound_s <= value for n in news if n.bound_s is not None)


def test_the_message_accounts_for_every_combination() -> None:
    instance = sample_instance(2, 3, blocks=6, modes=(2, 4, 8), accuracy={"minimum": 0.915})
    outcome = settle(instance)
    derived = derive(instance)
    spans = derived.cut_high - derived.cut_low + 1
    total = int(np.prod(spans)) * len(derived.options) ** 2
    assert outcome.message.startswith(f"{total:,} combinations of cuts and options")


def test_the_probe_passes() -> None:
    assert SOLVER.available()
