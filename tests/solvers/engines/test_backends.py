"""The engines: known answers, true statuses, silence, limits, honest availability."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.point import best_delay
from sftopt.core.status import Termination
from sftopt.formulations.base import Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Progress, Task
from sftopt.solvers.engines.engine import probed
from sftopt.solvers.engines.nl_bridge import bridge
from sftopt.solvers.engines.probe import linked_library
from sftopt.solvers.engines.silence import listening, quiet
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.registry import get_solver
from tests.samples import VARIANTS, sample_instance
from tests.solvers.small_models import (
    MIXED_OPTIMUM_S,
    UNIT_S,
    HandmadeRelaxation,
    HandmadeRestriction,
    infeasible_model,
    mixed_model,
    quadratic_model,
    task_for,
)

INTEGER = ["scip", "bonmin"]
CONTINUOUS = ["ipopt", "cyipopt"]
EVERY = INTEGER + CONTINUOUS
PACKAGES = {"scip": "pyscipopt", "bonmin": "casadi", "ipopt": "casadi", "cyipopt": "cyipopt"}


def small_model(name: str) -> Any:
    return mixed_model(integral=name in INTEGER)


def real_task(
    name: str, devices: int, seed: int = 1, variant: str = "plain", **options: Any
) -> Task:
    """A task on a real formulation, started where ``solve`` would start it."""
    derived = derive(sample_instance(devices, seed, **VARIANTS[variant]))
    point = first_point(derived)
    assert point is not None
    start = Start(point.candidate(derived), best_delay(derived, point).round_s)
    chosen = Options(**{"time_limit": 20.0, **options})
    formulation = get_formulation(name)
    model = formulation.build(derived, start)
    return Task(derived, formulation, model, start, chosen, Deadline(chosen.time_limit))


# --- known answers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_the_known_optimum_is_found(name: str) -> None:
    outcome = get_solver(name).run(task_for(small_model(name), rel_gap=0.0))
    solved = Termination.CONVERGED_GLOBAL if name == "scip" else Termination.CONVERGED_LOCAL
    assert outcome.termination is solved
    assert outcome.claimed_s == pytest.approx(MIXED_OPTIMUM_S, rel=1e-5)
    assert outcome.candidate is not None
    assert outcome.candidate.cuts[0] == pytest.approx(0.0, abs=1e-5)
    # the objective is flat there: an error of 1e-6 in it is 1e-3 in b
    assert outcome.candidate.keep[0] == pytest.approx(2.5**0.5, abs=3e-3)
    if name == "scip":
        assert outcome.bound_s == pytest.approx(MIXED_OPTIMUM_S, rel=1e-5)
        assert outcome.bound_source == "SCIP on handmade"
    else:
        assert outcome.bound_s is None


@pytest.mark.parametrize("name", CONTINUOUS)
def test_duals_are_slopes_in_seconds_under_constraint_names(name: str) -> None:
    outcome = get_solver(name).run(task_for(quadratic_model()))
    assert outcome.candidate is not None
    assert outcome.candidate.cuts[0] == pytest.approx(0.5, abs=1e-6)
    assert outcome.candidate.keep[0] == pytest.approx(1.5, abs=1e-6)
    assert outcome.claimed_s == pytest.approx(0.5 * UNIT_S, rel=1e-6)
    assert outcome.duals == pytest.approx({"con_sum": -UNIT_S, "con_far": 0.0}, abs=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_no_point_and_no_proof_beyond_ones_means(name: str) -> None:
    outcome = get_solver(name).run(task_for(infeasible_model(name in INTEGER)))
    proves = name == "scip"
    expected = Termination.INFEASIBLE_PROVEN if proves else Termination.INFEASIBLE_LOCAL
    assert outcome.termination is expected
    assert (outcome.candidate, outcome.claimed_s, outcome.bound_s) == (None, None, None)


@pytest.mark.parametrize("name", EVERY)
def test_a_constant_row_that_fails_is_a_proof_for_everyone(name: str) -> None:
    model = small_model(name)
    model.var_size.fix(0.5)
    model.cut.fix(1)
    outcome = get_solver(name).run(task_for(model))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert "con_cover" in outcome.message


def test_bounds_and_proofs_do_not_leave_a_restriction() -> None:
    scip = get_solver("scip")
    solved = scip.run(task_for(mixed_model(), formulation=HandmadeRestriction()))
    assert solved.candidate is not None
    assert (solved.bound_s, solved.bound_source) == (None, None)
    none = scip.run(task_for(infeasible_model(True), formulation=HandmadeRestriction()))
    assert none.termination is Termination.INFEASIBLE_LOCAL


def test_a_relaxation_gives_scip_its_bound() -> None:
    outcome = get_solver("scip").run(task_for(mixed_model(), formulation=HandmadeRelaxation()))
    assert outcome.bound_s == pytest.approx(MIXED_OPTIMUM_S, rel=2e-4)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_integers_are_refused_by_continuous_solvers(name: str) -> None:
    with pytest.raises(RefusedError, match="integer"):
        get_solver(name).run(task_for(mixed_model()))


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_no_time_no_point(name: str, limit: float) -> None:
    outcome = get_solver(name).run(task_for(small_model(name), time_limit=limit))
    assert outcome.termination is Termination.TIME_LIMIT
    assert (outcome.candidate, outcome.claimed_s) == (None, None)


def test_what_bonmin_returns_after_a_limit_is_no_point() -> None:
    # Bonmin then returns zeros with objective 1.8e308
    task = task_for(mixed_model(), native={"bonmin.time_limit": 0.0})
    outcome = get_solver("bonmin").run(task)
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert (outcome.candidate, outcome.claimed_s) == (None, None)


def test_a_node_limit_keeps_scips_bound_and_point() -> None:
    task = real_task("joint-product", 3, native={"limits/nodes": 1})
    outcome = get_solver("scip").run(task)
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert outcome.nodes == 1
    assert outcome.candidate is not None
    assert outcome.claimed_s is not None
    assert outcome.bound_s is not None
    assert task.start is not None
    assert 0.0 < outcome.bound_s < outcome.claimed_s <= task.start.objective_s * (1 + 1e-6)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_an_iteration_limit_keeps_the_point(name: str) -> None:
    task = real_task("joint-relaxed", 3, native={"max_iter": "2"})
    outcome = get_solver(name).run(task)
    assert outcome.termination is Termination.ITERATION_LIMIT
    assert outcome.iterations == 2
    assert outcome.candidate is not None
    assert np.isfinite(outcome.candidate.keep).all()
    assert outcome.duals == {}


@pytest.mark.parametrize("name", ["scip", *CONTINUOUS])
def test_a_request_to_stop_is_heeded(name: str) -> None:
    form = "joint-product" if name == "scip" else "joint-relaxed"
    plain = real_task(form, 3)
    task = Task(
        plain.derived, plain.formulation, plain.model, plain.start, plain.options,
        plain.deadline, stop_requested=lambda: True,
    )  # fmt: skip
    outcome = get_solver(name).run(task)
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.candidate is not None


def test_the_gap_asked_for_is_ours_when_scip_stops() -> None:
    outcome = get_solver("scip").run(real_task("joint-ratio", 3, rel_gap=0.05))
    assert outcome.termination is Termination.GAP_LIMIT
    assert outcome.claimed_s is not None
    assert outcome.bound_s is not None
    assert 0.0 <= (outcome.claimed_s - outcome.bound_s) / outcome.claimed_s <= 0.05


def test_an_absolute_gap_is_in_seconds() -> None:
    outcome = get_solver("scip").run(real_task("joint-ratio", 3, rel_gap=0.0, abs_gap=1.5))
    assert outcome.termination is Termination.GAP_LIMIT
    assert outcome.claimed_s is not None
    assert outcome.bound_s is not None
    assert 0.0 <= outcome.claimed_s - outcome.bound_s <= 1.5


# --- options, start, progress ---------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_native_option_is_named(name: str) -> None:
    with pytest.raises(InputError, match="no_such_option"):
        get_solver(name).run(task_for(small_model(name), native={"no_such_option": 3}))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("scip", "limits/nodes", "many"),
        ("scip", "limits/nodes", -7),
        ("bonmin", "bonmin.algorithm", "B-Foo"),
        ("bonmin", "max_iter", "many"),
        ("ipopt", "mu_strategy", "bla"),
        ("ipopt", "tol", "small"),
        ("cyipopt", "mu_strategy", "bla"),
        ("cyipopt", "tol", -1),
    ],
)
def test_a_native_value_out_of_range_is_named(
    name: str, option: str, value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=option.removeprefix("bonmin.")) as error:
        get_solver(name).run(task_for(small_model(name), native={option: value}))
    assert str(value) in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # the engine's own complaint is in the message


@pytest.mark.parametrize(
    ("name", "native"),
    [
        ("scip", {"misc/usesymmetry": "0", "limits/gap": "1e-3", "lp/presolving": "FALSE"}),
        ("bonmin", {"bonmin.algorithm": "B-Hyb", "tol": "1e-9"}),
        ("ipopt", {"mu_strategy": "adaptive", "tol": 1, "max_iter": "500"}),
        ("cyipopt", {"mu_strategy": "adaptive", "tol": 1, "max_iter": "500"}),
    ],
)
def test_native_options_reach_the_engine_as_text_or_numbers(
    name: str, native: dict[str, Any]
) -> None:
    outcome = get_solver(name).run(task_for(small_model(name), native=native))
    assert outcome.candidate is not None


def test_scip_takes_a_feasible_start_and_says_so() -> None:
    for form in ("joint-product", "joint-ratio"):
        outcome = get_solver("scip").run(real_task(form, 2, rel_gap=0.1))
        assert outcome.start_used == "yes"
    model = mixed_model()
    model.cut.set_value(0)
    model.var_size.set_value(0.2)
    outcome = get_solver("scip").run(task_for(model))
    assert outcome.start_used == "rejected as infeasible"
    assert outcome.claimed_s == pytest.approx(MIXED_OPTIMUM_S, rel=2e-4)


def test_scip_reports_points_and_bounds_on_its_way() -> None:
    news: list[Progress] = []
    plain = real_task("joint-product", 3)
    task = Task(
        plain.derived, plain.formulation, plain.model, plain.start, plain.options,
        plain.deadline, report=news.append,
    )  # fmt: skip
    outcome = get_solver("scip").run(task)
    assert outcome.claimed_s is not None
    candidates = [item.candidate for item in news if item.candidate is not None]
    assert candidates
    assert all(candidate.is_integral() for candidate in candidates)
    bounds = [item.bound_s for item in news if item.bound_s is not None]
    assert bounds == sorted(bounds)
    assert bounds[-1] <= outcome.claimed_s
    incumbents = [item.incumbent_s for item in news if item.incumbent_s is not None]
    assert incumbents == sorted(incumbents, reverse=True)


@pytest.mark.parametrize("name", ["scip", *CONTINUOUS])
def test_a_fault_in_a_callback_is_not_swallowed(name: str) -> None:
    def broken() -> bool:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        get_solver(name).run(task_for(small_model(name), stop_requested=broken))


# --- silence --------------------------------------------------------------------------------


@pytest.mark.parametrize("tee", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_standard_output_stays_clean(
    name: str, tee: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    get_solver(name).run(task_for(small_model(name), tee=tee))
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) == tee


def test_quiet_catches_c_code_and_python_alike(capfd: pytest.CaptureFixture[str]) -> None:
    import ctypes

    def speak() -> None:
        print("python", flush=False)
        ctypes.CDLL(None).puts(b"c code")

    with quiet():
        speak()
    speak()
    with listening() as heard:
        speak()
    assert sorted(heard.text.split("\n")) == ["", "c code", "python"]
    ctypes.CDLL(None).fflush(None)
    out, err = capfd.readouterr()
    assert sorted(out.split("\n")) == ["", "c code", "python"]
    assert err == ""


# --- availability ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_what_is_here_says_its_versions(name: str) -> None:
    there = get_solver(name).available()
    assert there, there.reason
    assert there.version.startswith(f"{PACKAGES[name]} ")
    engine = {"scip": "SCIP 10.", "bonmin": "Bonmin 1.8", "ipopt": "Ipopt 3."}
    assert there.engine_version.startswith(engine.get(name, "Ipopt 3."))
    library = {"scip": "libscip", "bonmin": "libbonmin"}.get(name, "libipopt")
    if sys.platform == "linux":
        assert there.linked_library.startswith(library)
    assert "/" not in there.linked_library


@pytest.mark.parametrize("name", EVERY)
def test_what_is_missing_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    probed.cache_clear()
    try:
        there = get_solver(name).available()
    finally:
        probed.cache_clear()
    assert not there
    assert PACKAGES[name] in there.reason
    fixes = {"cyipopt": "python -m sftopt.solvers.engines.install_cyipopt"}
    assert there.fix == fixes.get(name, f"pip install {PACKAGES[name]}")


@pytest.mark.parametrize("wrong", ["raises", "lies"])
def test_a_probe_that_goes_wrong_is_told(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import casadi

    def faulty(*arguments: Any) -> Any:
        if wrong == "raises":
            raise RuntimeError("plugin 'ipopt' is not found")
        return lambda **limits: {"x": casadi.DM([7.0, 7.0])}

    monkeypatch.setattr(casadi, "nlpsol", faulty)
    probed.cache_clear()
    try:
        there = get_solver("ipopt").available()
    finally:
        probed.cache_clear()
    assert not there
    assert ("not found" if wrong == "raises" else "7.0") in there.reason


def test_an_unknown_library_has_no_name() -> None:
    assert linked_library("libnosuchthing") == ""


# --- the real formulations ------------------------------------------------------------------


def interval(outcome: Outcome) -> tuple[float, float]:
    assert outcome.bound_s is not None
    assert outcome.claimed_s is not None
    return outcome.bound_s, outcome.claimed_s


@pytest.mark.parametrize(
    ("devices", "variant"),
    [
        (2, "plain"),
        (3, "plain"),
        (2, "total power"),
        (2, "parallel server"),
        # log(0) inside the box of a group's keep fraction made SCIP's LP solver crash
        (2, "omega intervals"),
    ],
)
def test_scip_agrees_with_itself_on_two_algebraic_forms(devices: int, variant: str) -> None:
    intervals = []
    for form in ("joint-product", "joint-ratio"):
        outcome = get_solver("scip").run(real_task(form, devices, variant=variant, rel_gap=2e-5))
        assert outcome.termination in (Termination.GAP_LIMIT, Termination.CONVERGED_GLOBAL)
        intervals.append(interval(outcome))
    (low, high), (other_low, other_high) = intervals
    assert high == pytest.approx(other_high, rel=1e-4)
    assert max(low, other_low) <= min(high, other_high) * (1.0 + 1e-5)


@pytest.mark.parametrize("variant", ["plain", "dense downlink", "total power"])
def test_bonmin_and_the_relaxation_lie_on_either_side_of_scip(variant: str) -> None:
    bound, value = interval(get_solver("scip").run(real_task("joint-product", 2, variant=variant)))
    found = get_solver("bonmin").run(real_task("joint-product", 2, variant=variant))
    assert found.claimed_s is not None
    assert found.claimed_s >= bound * (1.0 - 1e-5)
    relaxed = get_solver("ipopt").run(real_task("joint-relaxed", 2, variant=variant))
    assert relaxed.claimed_s is not None
    assert relaxed.bound_s is None
    assert relaxed.claimed_s <= value * (1.0 + 1e-5)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_two_roads_to_ipopt_agree(variant: str) -> None:
    outcomes = [
        get_solver(name).run(real_task("joint-relaxed", 5, variant=variant)) for name in CONTINUOUS
    ]
    for outcome in outcomes:
        assert outcome.termination is Termination.CONVERGED_LOCAL
        assert outcome.candidate is not None
        assert set(outcome.duals) > {"con_uplink_share", "con_downlink_share"}
    first, second = (outcome.claimed_s for outcome in outcomes)
    assert first == pytest.approx(second, rel=1e-6)


def test_a_passed_on_candidate_is_a_point_of_the_model() -> None:
    task = real_task("joint-product", 2)
    outcome = get_solver("bonmin").run(task)
    assert outcome.candidate is not None
    assert outcome.candidate.is_integral()
    # run leaves the model at the point it returned
    nlp = bridge(task.model)
    assert nlp.violation(nlp.start) <= 1e-5
