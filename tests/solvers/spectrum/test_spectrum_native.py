"""``native-spectrum`` on rounds of known gains: verified, best, and honest about outages."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sftopt.core.candidate import Shares
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import derive
from sftopt.core.instance import Instance
from sftopt.core.least_time import least_times
from sftopt.core.point import from_plan
from sftopt.core.round import round_problem, round_s
from sftopt.core.status import Point, Termination
from sftopt.solvers.registry import formulations_for, get_solver
from sftopt.solvers.run import solve
from tests.samples import sample_instance


def gains_of(instance: Instance, seed: int) -> RoundChannel:
    """One round's gains: four blocks of Rayleigh power around the statistics."""
    draw = np.random.default_rng(seed)
    mean = np.array([device.uplink_gain for device in instance.devices])[:, None]
    up: NDArray[np.float64] = mean * draw.exponential(1.0, (len(mean), 4))
    return RoundChannel(up, mean * draw.exponential(1.0, (len(mean), 4)))


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("devices", [1, 2, 12])
def test_a_round_is_verified_and_no_other_shares_are_better(power: str, devices: int) -> None:
    instance = sample_instance(devices, 3, radio={"power": power})
    for seed in range(2):
        channel = gains_of(instance, seed)
        result = solve(instance, solver="native-spectrum", channel=channel)
        assert (result.termination, result.point) == (
            Termination.CONVERGED_GLOBAL,
            Point.FEASIBLE,
        ), result.message
        assert result.plan is not None
        assert result.objective_s == pytest.approx(result.objective_claimed_s, rel=1e-12)
        derived = derive(instance, channel)
        candidate = from_plan(derived, result.plan).candidate(derived)
        problem = round_problem(derived, candidate)
        draw = np.random.default_rng(seed)
        for _ in range(20):
            up, down, adapter = (
                draw.dirichlet(np.ones(devices) * draw.choice([0.5, 5.0])) for _ in range(3)
            )
            tried = round_s(problem, Shares(up, down, adapter))
            assert result.objective_s <= tried * (1.0 + 1e-12)


def test_x0_keeps_its_cuts_and_its_shares_are_a_start() -> None:
    instance = sample_instance(5, 4, radio={"power": "total"})
    nominal = solve(instance, solver="native-spectrum")
    assert nominal.plan is not None
    channel = gains_of(instance, 9)
    again = solve(instance, solver="native-spectrum", channel=channel, x0=nominal.plan)
    assert again.plan is not None
    for before, after in zip(nominal.plan.devices, again.plan.devices, strict=True):
        assert (after.blocks, after.mode, after.bits) == (before.blocks, before.mode, before.bits)
        assert after.keep_fraction == pytest.approx(before.keep_fraction, rel=1e-9)
        assert after.uplink_share != before.uplink_share
    assert again.start_used == "x0"


def test_an_outage_is_named_and_proven() -> None:
    instance = sample_instance(4, 5)
    channel = gains_of(instance, 1)
    channel.uplink_gain[2] = 0.0
    result = solve(instance, solver="native-spectrum", channel=channel)
    assert result.termination is Termination.INFEASIBLE_PROVEN
    assert result.plan is None
    assert "dev2" in result.message


@pytest.mark.parametrize("power", ["psd", "total"])
def test_many_rounds_at_once_are_the_rounds_one_by_one(power: str) -> None:
    """What a simulation does in one call against ``solve`` round by round."""
    instance = sample_instance(6, 8, radio={"power": power})
    nominal = solve(instance, solver="native-spectrum").plan
    assert nominal is not None
    rounds = [derive(instance, gains_of(instance, seed)) for seed in range(4)]
    problems = [round_problem(d, from_plan(d, nominal).candidate(d)) for d in rounds]
    laws = [problem.uplink.law for problem in problems]
    stacked = type(laws[0])(
        **{
            name: np.stack([getattr(law, name) for law in laws])
            if isinstance(value, np.ndarray)
            else value
            for name, value in vars(laws[0]).items()
        }
    )
    tau, shares = least_times(problems[0].uplink.fixed_s, problems[0].uplink.payload_bits, stacked)
    for t, problem in enumerate(problems):
        assert problem.uplink.barrier_s(shares[t]) == pytest.approx(tau[t], rel=1e-13)
        result = solve(
            instance, solver="native-spectrum", channel=gains_of(instance, t), x0=nominal
        )
        assert result.breakdown is not None
        assert result.breakdown.tau_u_s == pytest.approx(tau[t], rel=1e-12)


def test_the_solver_says_what_it_is() -> None:
    solver = get_solver("native-spectrum")
    assert solver.available()
    assert formulations_for(solver) == ["spectrum-native"]
