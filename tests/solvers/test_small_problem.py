"""Problem (14) through ``solve``: every method, one answer; outages, spreads, degenerate rounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from sftopt.core.channel import RoundChannel
from sftopt.core.derived import derive
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.point import best_delay, from_plan
from sftopt.core.result import Result
from sftopt.core.status import Point, Promise, Termination
from sftopt.core.verify import verify_plan
from sftopt.solvers.run import solve
from tests.samples import sample_instance
from tests.solvers.conformance import running

METHODS = (
    ("ipopt", "spectrum-nlp"),
    ("cyipopt", "spectrum-nlp"),
    ("slsqp", "spectrum-nlp"),
    ("sqpmethod", "spectrum-nlp"),
    ("uno", "spectrum-nlp"),
    ("clarabel", "spectrum-conic"),
    ("scs", "spectrum-conic"),
)
HERE = [pair for pair in METHODS if pair[0] in running()]
CONVERGED = (Termination.CONVERGED_LOCAL, Termination.CONVERGED_GLOBAL, Termination.ACCEPTABLE)
GAVE_UP = (Termination.NUMERICAL_ERROR, Termination.ITERATION_LIMIT, Termination.TIME_LIMIT)
LAWS = ("psd", "total")


@dataclass(frozen=True)
class Case:
    """A round with the plan whose cuts, modes and keeps it takes over; shares are equal there."""

    instance: Instance
    channel: RoundChannel
    plan: Plan


@lru_cache(maxsize=32)
def case(law: str, devices: int = 3, spread: float = 1.0, **workload: float) -> Case:
    """``spread``: of the uplink gains, the strongest against the weakest."""
    radio = {"power": law, "outage_rate_bits_per_s": 1e-3}
    instance = sample_instance(devices, 4, radio=radio, workload=dict(workload))
    draw = np.random.default_rng(devices)
    gains = 1e-9 * draw.exponential(size=(2, devices, 4)) + 1e-12
    gains[0] *= np.geomspace(1.0, 1.0 / spread, devices)[:, None]
    channel = RoundChannel(gains[0], gains[1])
    frame = solve(instance, solver="constructive", channel=channel).plan
    assert frame is not None
    equal = dict.fromkeys(("uplink_share", "downlink_share", "adapter_uplink_share"), 1.0 / devices)
    parts = tuple(part.model_copy(update=equal) for part in frame.devices)
    return Case(instance, channel, frame.model_copy(update={"devices": parts}))


def answer(pair: tuple[str, str], given: Case, **keywords: Any) -> Result:
    """The pair's result on a round."""
    solver, formulation = pair
    return solve(
        given.instance, solver=solver, formulation=formulation, channel=given.channel,
        x0=given.plan, isolate=False, **keywords,
    )  # fmt: skip


def best_s(given: Case) -> float:
    """The optimum by the core's root searches."""
    derived = derive(given.instance, given.channel)
    return best_delay(derived, from_plan(derived, given.plan)).round_s


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pair", HERE)
def test_every_method_earns_the_optimum_with_shares_of_its_own(
    pair: tuple[str, str], law: str
) -> None:
    given = case(law)
    result = answer(pair, given)
    assert result.termination in CONVERGED, result.message
    assert result.point is Point.FEASIBLE
    assert result.promise is Promise.RESTRICTION
    assert result.plan is not None
    again = verify_plan(given.instance, result.plan, channel=given.channel)
    assert again.feasible
    assert again.objective_s == result.objective_s
    assert result.objective_s == pytest.approx(
        best_s(given), rel=1e-8 if "ipopt" in pair[0] else 1e-6
    )
    for before, after in zip(given.plan.devices, result.plan.devices, strict=True):
        assert (before.blocks, before.bits) == (after.blocks, after.bits)
        assert after.keep_fraction == pytest.approx(before.keep_fraction, rel=1e-12)


def test_shares_are_the_solvers_own_and_not_settled_for_it() -> None:
    given = case("psd")
    result = answer(("slsqp", "spectrum-nlp"), given, options={"maxiter": 1})
    assert result.termination is Termination.ITERATION_LIMIT
    assert result.point is Point.FEASIBLE
    assert result.objective_s is not None
    assert result.objective_s > best_s(given) * (1.0 + 1e-6)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pair", HERE)
def test_without_adapters_their_shares_are_no_matter(pair: tuple[str, str], law: str) -> None:
    given = case(law, adapter_parameters_per_rank=0.0)
    result = answer(pair, given)
    assert result.termination in CONVERGED, result.message
    assert result.objective_s == pytest.approx(best_s(given), rel=1e-6)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pair", HERE)
def test_gains_1e9_apart_are_solved_or_owned_up_to(pair: tuple[str, str], law: str) -> None:
    """The weakest rate lies far below the usual R_min, so that limit is taken away."""
    given = case(law, spread=1e9)
    result = answer(pair, given, time_limit=4.0)
    best = best_s(given)
    assert result.objective_s is None or result.objective_s >= best * (1.0 - 1e-6)
    if result.termination in CONVERGED:
        assert result.objective_s == pytest.approx(best, rel=1e-6)
    else:
        assert result.termination in GAVE_UP


@pytest.mark.parametrize("pair", HERE)
def test_an_outage_names_its_device(pair: tuple[str, str]) -> None:
    given = case("psd")
    up = given.channel.uplink_gain.copy()
    up[1] = 0.0
    dark = Case(given.instance, RoundChannel(up, given.channel.downlink_gain), given.plan)
    result = answer(pair, dark)
    assert result.termination is Termination.INFEASIBLE_PROVEN
    assert (result.point, result.plan) == (Point.NONE, None)
    assert "dev1" in result.message


@pytest.mark.parametrize("pair", [pair for pair in HERE if pair[1] == "spectrum-nlp"])
def test_the_last_rounds_shares_are_a_start_and_said_to_be(pair: tuple[str, str]) -> None:
    given = case("total")
    first = answer(pair, given)
    assert "and its shares" in first.start_used
    assert first.plan is not None
    again = answer(pair, Case(given.instance, given.channel, first.plan))
    # how many iterations that saves depends on the processor's last bits; the value must not
    assert again.start_used == first.start_used
    assert again.objective_s == pytest.approx(best_s(given), rel=1e-6)
