"""What a solver says is believed only as far as the judge can confirm it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import derive
from sftopt.core.errors import VerificationError
from sftopt.core.instance import Instance
from sftopt.core.result import Result
from sftopt.core.status import Point, Termination
from sftopt.core.verify import Family, verify_plan
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.bound import GLOBAL_CLAIMS
from sftopt.solvers.registry import get_solver, is_built_in
from sftopt.solvers.run import solve
from tests.samples import VARIANTS, sample_instance
from tests.solvers.fakes import (
    Fake,
    FakeGlobal,
    FakeHere,
    FakeRestricted,
    answer,
    install,
    install_ours,
    lowest_keep,
    start_of,
    tiny,
)


def solved_by(patch: pytest.MonkeyPatch, action: Any, instance: Instance, **how: Any) -> Result:
    install(patch, how.pop("kind", FakeHere)(action))
    result = solve(instance, solver="fake", **how)
    result.to_json()  # whatever came of it can be written
    return result


def refuted(result: Result) -> bool:
    """An error, and nothing in the result calls the point feasible."""
    return (
        result.termination is Termination.ERROR
        and result.point is Point.INFEASIBLE
        and not result.ok
        and bool(result.violations)
        and result.gap_rel is None
    )


def test_a_true_local_optimum_is_feasible_not_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = tiny()
    result = solved_by(monkeypatch, answer, instance)
    assert (result.termination, result.point) == (Termination.CONVERGED_LOCAL, Point.FEASIBLE)
    assert result.plan is not None
    assert result.plan.instance_hash == instance.hash
    assert result.objective_s == verify_plan(instance, result.plan).objective_s
    assert result.bound_source == "elementary"
    assert result.gap_rel is not None
    assert result.gap_rel > 1e-4
    assert result.plan.breakdown == result.breakdown


@pytest.fixture(scope="module")
def optimum() -> Result:
    """The optimum of :func:`tiny`, enumerated."""
    result = solve(tiny(), solver="exhaustive")
    assert result.point is Point.OPTIMAL
    assert (result.proven_for, result.point_from) == ("problem", "solver")
    return result


def bounded(optimum: Result, gap: float) -> Any:
    """Answers the optimum it is started from, with a bound ``gap`` (relative) below it."""
    assert optimum.objective_s is not None
    bound = optimum.objective_s * (1.0 - gap)

    def run(task: Task) -> Outcome:
        return answer(
            task, termination=Termination.GAP_LIMIT, bound_s=bound, bound_source="the fake"
        )

    return run


@pytest.mark.parametrize(
    ("gap", "asked", "expected"),
    [
        (0.5e-4, {}, Point.OPTIMAL),
        (0.5e-4, {"rel_gap": 1e-5}, Point.FEASIBLE),
        (0.5e-4, {"rel_gap": 0.0, "abs_gap": 0.01}, Point.OPTIMAL),
        (0.9e-3, {"rel_gap": 0.9}, Point.OPTIMAL),
        (0.5, {"rel_gap": 0.9}, Point.FEASIBLE),
        (0.01, {"abs_gap": 10.0}, Point.FEASIBLE),
    ],
)
def test_optimal_takes_a_gap_as_asked_for_and_never_a_wide_one(
    monkeypatch: pytest.MonkeyPatch,
    optimum: Result,
    gap: float,
    asked: dict[str, float],
    expected: Point,
) -> None:
    install_ours(monkeypatch, FakeGlobal(bounded(optimum, gap)))
    result = solve(tiny(), solver="fake", x0=optimum.plan, **asked)
    assert result.point is expected
    assert result.gap_rel == pytest.approx(gap, rel=1e-3)
    assert result.bound_source == "the fake"
    assert result.proven_for == "problem"


def test_optimal_takes_a_prover_that_we_know(
    monkeypatch: pytest.MonkeyPatch, optimum: Result
) -> None:
    """The bound of a plug-in, or of a local solver, is only said."""
    install(monkeypatch, FakeGlobal(bounded(optimum, 0.5e-4)))
    foreign = solve(tiny(), solver="fake", x0=optimum.plan)
    assert foreign.point is Point.FEASIBLE
    assert foreign.proven_for == "none"
    assert foreign.bound_source == "plug-in 'fake', unchecked: the fake"
    assert foreign.gap_rel == pytest.approx(0.5e-4, rel=1e-3)
    install_ours(monkeypatch, Fake(bounded(optimum, 0.5e-4)))
    local = solve(tiny(), solver="fake", x0=optimum.plan)
    assert local.point is Point.FEASIBLE


def test_a_plug_in_cannot_pass_its_bound_off_as_elementary(
    monkeypatch: pytest.MonkeyPatch, optimum: Result
) -> None:
    def run(task: Task) -> Outcome:
        return replace(bounded(optimum, 0.0)(task), bound_source="elementary")

    install(monkeypatch, FakeGlobal(run))
    result = solve(tiny(), solver="fake", x0=optimum.plan)
    assert result.point is Point.FEASIBLE
    assert result.bound_source == "plug-in 'fake', unchecked: elementary"


def test_a_plug_in_called_like_one_of_ours_is_not_one() -> None:
    pretender = FakeGlobal(answer)
    pretender.name = "certify"  # type: ignore[misc]
    assert not is_built_in(pretender)
    assert is_built_in(get_solver("certify"))


@pytest.mark.parametrize(
    ("termination", "bound", "ours", "expected"),
    [
        (Termination.CONVERGED_LOCAL, False, True, "problem"),
        (Termination.CONVERGED_GLOBAL, False, True, "formulation"),
        (Termination.CONVERGED_GLOBAL, True, True, "formulation"),
        (Termination.TIME_LIMIT, True, True, "problem"),
        (Termination.CONVERGED_GLOBAL, False, False, "none"),
        (Termination.CONVERGED_LOCAL, False, False, "problem"),
        (Termination.TIME_LIMIT, True, False, "none"),
    ],
)
def test_a_rounded_plan_is_not_what_was_proven(
    monkeypatch: pytest.MonkeyPatch,
    termination: Termination,
    bound: bool,
    ours: bool,
    expected: str,
) -> None:
    """On a relaxation: its global optimum is not the rounded plan's; its bound is the problem's."""

    def run(task: Task) -> Outcome:
        own = {"bound_s": 1.0, "bound_source": "the fake"} if bound else {}
        return answer(task, termination=termination, **own)

    (install_ours if ours else install)(monkeypatch, FakeGlobal(run))
    result = solve(tiny(), solver="fake", formulation="joint-relaxed")
    assert result.point is Point.FEASIBLE
    assert result.point_from == "polish"
    assert result.proven_for == expected


def low_accuracy_used(task: Task) -> Outcome:
    """The start with keep fractions that hold and are far from the best: a poor answer."""
    start = start_of(task)
    poor = replace(start, keep=np.full_like(start.keep, 0.5))
    return Outcome(Termination.CONVERGED_GLOBAL, poor)


def test_a_restrictions_decisions_stay_as_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeRestricted(low_accuracy_used))
    result = solve(tiny(), solver="fake", formulation="joint-grid-conic")
    assert result.plan is not None
    assert [part.keep_fraction for part in result.plan.devices] == [0.5, 0.5]
    assert (result.point, result.point_from) == (Point.FEASIBLE, "solver")
    assert result.objective_answered_s is None


def test_plans_of_exact_formulations_are_polished_and_the_answer_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = tiny()
    result = solved_by(monkeypatch, low_accuracy_used, instance)
    assert (result.point, result.point_from) == (Point.FEASIBLE, "polish")
    assert result.plan is not None
    assert result.objective_s == verify_plan(instance, result.plan).objective_s
    assert result.objective_answered_s is not None
    assert result.objective_answered_s > 1.01 * result.objective_s
    gains = np.array([[device.uplink_gain] for device in instance.devices])
    channel = RoundChannel(gains, gains)
    kept = solved_by(monkeypatch, low_accuracy_used, instance, channel=channel)
    assert kept.point_from == "solver", "a round with known gains is not changed either"


@pytest.mark.parametrize("keep", [0.4, 0.5])
def test_a_poor_x0_is_kept_by_the_fixed_programme(keep: float) -> None:
    """Modes and keep fractions are the start's there, and what is claimed is what is verified."""
    instance = tiny()
    good = solve(instance, solver="exhaustive").plan
    assert good is not None
    poor = good.model_copy(
        update={
            "devices": tuple(
                part.model_copy(update={"keep_fraction": keep}) for part in good.devices
            )
        }
    )
    result = solve(instance, solver="scip", formulation="joint-fixed-socp", x0=poor)
    assert result.plan is not None
    assert [part.keep_fraction for part in result.plan.devices] == [keep, keep]
    assert result.objective_claimed_s == pytest.approx(result.objective_s, rel=1e-4)
    assert result.termination in GLOBAL_CLAIMS
    assert (result.point_from, result.proven_for) == ("solver", "formulation")


def test_a_claim_better_than_the_truth_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        said = answer(task)
        assert said.claimed_s is not None
        return replace(said, claimed_s=0.99 * said.claimed_s)

    result = solved_by(monkeypatch, run, tiny())
    assert result.termination is Termination.ERROR
    assert result.objective_s is not None
    assert result.objective_claimed_s == pytest.approx(0.99 * result.objective_s, rel=1e-6)
    assert result.point is Point.FEASIBLE, "the plan itself holds; only the claim does not"
    assert "claims" in result.message
    assert "the judge finds" in result.message
    with pytest.raises(VerificationError):
        result.raise_for_status()


def test_a_relaxations_value_may_lie_below_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, claimed_s=1.0)

    result = solved_by(monkeypatch, run, tiny(), formulation="joint-relaxed")
    assert result.termination is Termination.CONVERGED_LOCAL
    assert result.point is Point.FEASIBLE
    assert "heuristic: rounded and repaired" in result.message
    assert result.plan is not None
    assert result.plan.provenance.note == "heuristic: rounded and repaired"


@pytest.mark.parametrize("with_point", [True, False])
def test_a_bound_above_a_feasible_plan_is_withdrawn(
    monkeypatch: pytest.MonkeyPatch, with_point: bool
) -> None:
    def run(task: Task) -> Outcome:
        said = answer(task, termination=Termination.CONVERGED_GLOBAL, bound_source="the fake")
        assert said.claimed_s is not None
        said = replace(said, bound_s=said.claimed_s * 1.001)
        return said if with_point else replace(said, candidate=None, claimed_s=None)

    result = solved_by(monkeypatch, run, tiny())
    assert result.termination is Termination.ERROR
    assert result.bound_source != "the fake"
    assert result.point is (Point.FEASIBLE if with_point else Point.NONE)
    assert "it is withdrawn" in result.message
    assert result.objective_s is None or result.bound_s is None or (
        result.bound_s <= result.objective_s
    )  # fmt: skip


@pytest.mark.parametrize("kind", [Fake, FakeHere])
def test_a_point_that_misses_the_accuracy_is_refuted(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake]
) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, candidate=lowest_keep(task.derived, start_of(task)))

    result = solved_by(monkeypatch, run, tiny(), kind=kind)
    assert refuted(result)
    assert {v.family for v in result.violations} <= {Family.ACCURACY, Family.ACCURACY_EACH}
    assert "the judge refutes the solver's point: accuracy" in result.message
    with pytest.raises(VerificationError):
        result.raise_for_status()


def test_a_point_that_does_not_fit_its_device_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = sample_instance(2, 0, modes=(2, 4))
    smaller = instance.model_copy(
        update={
            "devices": tuple(
                device.model_copy(update={"memory_bytes": 1.2e9}) for device in instance.devices
            )
        }
    )
    assert np.all(derive(smaller).cut_high < 11)

    def run(task: Task) -> Outcome:
        return answer(task, candidate=replace(start_of(task), cuts=np.array([11.0, 11.0])))

    result = solved_by(monkeypatch, run, smaller)
    assert refuted(result)
    assert Family.DEVICE_MEMORY in {v.family for v in result.violations}


def test_a_point_that_does_not_fit_the_server_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, candidate=replace(start_of(task), cuts=np.array([1.0, 1.0])))

    result = solved_by(monkeypatch, run, tiny(server={"memory_bytes": 1.9e9}))
    assert refuted(result)
    assert {v.family for v in result.violations} == {Family.SERVER_MEMORY}


def test_below_the_privacy_floor_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, candidate=replace(start_of(task), cuts=np.array([0.0, 1.0])))

    result = solved_by(monkeypatch, run, tiny())
    assert refuted(result)
    assert {(v.family, v.index) for v in result.violations} == {(Family.DOMAIN, "dev0.blocks")}


@pytest.mark.parametrize("kind", [Fake, FakeHere])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cuts": np.array([1.0, np.nan])}, "cuts holds values that are not finite"),
        ({"cuts": np.array([1.0, 99.0])}, "cuts outside 0..3"),
        ({"cuts": np.array([-1.0, 1.0])}, "cuts outside 0..3"),
        ({"cuts": np.array([1.0])}, "cuts has the shape (1,), not (2,)"),
        ({"keep": np.array([np.inf, 0.3])}, "keep holds values that are not finite"),
        ({"option_weights": np.eye(3)}, "option_weights has the shape (3, 3), not (2, 2)"),
    ],
)
def test_a_garbled_point_is_an_error_without_a_plan(
    monkeypatch: pytest.MonkeyPatch, kind: type[Fake], change: dict[str, Any], said: str
) -> None:
    def run(task: Task) -> Outcome:
        return answer(task, candidate=replace(start_of(task), **change))

    result = solved_by(monkeypatch, run, tiny(), kind=kind)
    assert result.termination is Termination.ERROR
    assert result.point is Point.NONE
    assert result.plan is None
    assert result.objective_s is None
    assert said in result.message


def test_claims_that_are_no_numbers_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        return answer(
            task,
            claimed_s=float("nan"),
            bound_s=float("-inf"),
            duals={"good": 1.0, "bad": float("nan")},
        )

    result = solved_by(monkeypatch, run, tiny())
    assert result.point is Point.FEASIBLE
    assert result.objective_claimed_s is None
    assert result.bound_source == "elementary"
    assert result.duals == {"good": 1.0}


def test_claimed_infeasibility_of_a_feasible_instance_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(task: Task) -> Outcome:
        return Outcome(Termination.INFEASIBLE_PROVEN, message="no nodes left")

    result = solved_by(monkeypatch, run, tiny())
    assert result.termination is Termination.ERROR
    assert result.point is Point.NONE
    assert result.plan is None
    assert "claims infeasibility, but the instance has a feasible plan" in result.message


def test_no_point_at_the_limit_keeps_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        return Outcome(Termination.TIME_LIMIT, bound_s=12.5, bound_source="the fake")

    result = solved_by(monkeypatch, run, tiny())
    assert result.termination is Termination.TIME_LIMIT
    assert (result.point, result.point_from) == (Point.FEASIBLE, "start")
    assert (result.bound_s, result.bound_source) == (12.5 / (1.0 + 1e-9), "the fake")
    assert result.objective_s is not None
    assert result.gap_rel == pytest.approx(1.0 - 12.5 / result.objective_s)


def test_a_fractional_point_of_an_exact_formulation_is_called_repaired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(task: Task) -> Outcome:
        candidate = replace(start_of(task), cuts=np.array([1.4, 2.6]))
        return answer(task, candidate=candidate, claimed_s=None)

    result = solved_by(monkeypatch, run, tiny())
    assert result.termination is Termination.CONVERGED_LOCAL
    assert result.plan is not None
    assert [part.blocks for part in result.plan.devices] == [1, 3]
    assert result.ok
    assert "heuristic: rounded and repaired" in result.message


def test_last_digits_are_settled_not_punished(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point off by less than the feasibility tolerance becomes one that holds exactly."""

    def run(task: Task) -> Outcome:
        start = start_of(task)
        near = Candidate(start.cuts + 1e-7, start.option_weights, start.keep - 1e-8)
        return answer(task, candidate=near)

    instance = tiny()
    result = solved_by(monkeypatch, run, instance)
    assert result.termination is Termination.CONVERGED_LOCAL
    assert result.plan is not None
    assert verify_plan(instance, result.plan).feasible


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variants_point_passes_through_the_judge(
    monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    instance = sample_instance(3, 1, **VARIANTS[variant])
    result = solved_by(monkeypatch, answer, instance)
    assert result.point is Point.FEASIBLE, result.message
    assert result.objective_s == pytest.approx(result.objective_claimed_s, rel=1e-9)
