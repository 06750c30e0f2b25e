"""``solve``: names, options, starts, limits and refusals, for every registered solver."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InfeasibleError, InputError, RefusedError, UnknownNameError
from sftopt.core.families import generate
from sftopt.core.plan import Plan
from sftopt.core.status import Point, Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations import registry as formulation_registry
from sftopt.formulations.registry import get_formulation
from sftopt.solvers import registry
from sftopt.solvers.base import Availability, Outcome, Task
from sftopt.solvers.catalogue import list_solvers
from sftopt.solvers.choose import choose
from sftopt.solvers.registry import get_solver, solver_names, solvers_for
from sftopt.solvers.run import build, solve
from tests.samples import plan_with, sample_instance
from tests.solvers.conformance import running
from tests.solvers.fakes import Fake, FakeHere, answer, install, start_of, tiny


@pytest.fixture(scope="module")
def good_plan() -> Plan:
    """The optimal plan of :func:`tiny`."""
    plan = solve(tiny(), solver="exhaustive").plan
    assert plan is not None
    return plan


# --- every registered solver ---------------------------------------------------------------


@pytest.mark.parametrize("name", running())
def test_without_time_there_is_no_point_but_a_bound(name: str) -> None:
    result = solve(tiny(), solver=name, time_limit=0.0)
    assert result.termination is Termination.TIME_LIMIT
    assert result.point is Point.NONE
    assert result.plan is None
    assert result.objective_s is None
    assert result.objective_claimed_s is None
    assert result.breakdown is None
    assert result.gap_rel is None
    assert result.bound_s is not None
    assert 0.0 < result.bound_s < math.inf
    assert result.bound_source == "elementary"


@pytest.mark.parametrize("name", running())
def test_an_infeasible_instance_is_proven_so_with_reasons(name: str) -> None:
    result = solve(generate("infeasible", 3, 0), solver=name)
    assert result.termination is Termination.INFEASIBLE_PROVEN
    assert result.point is Point.NONE
    assert result.plan is None
    assert result.bound_s is None
    for reason in ("memory_bytes", "server: memory_bytes", "accuracy: minimum"):
        assert reason in result.message
    with pytest.raises(InfeasibleError):
        result.raise_for_status()


# --- names and refusals --------------------------------------------------------------------


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown solver 'scipp'\. Did you mean 'scip'"):
        solve(tiny(), solver="scipp")
    with pytest.raises(UnknownNameError, match="Did you mean 'joint-product'"):
        solve(tiny(), solver="scip", formulation="joint-produkt")
    with pytest.raises(UnknownNameError, match="Did you mean 'joint-product'"):
        solve(tiny(), formulation="joint-produkt")


@pytest.mark.parametrize(
    ("solver", "formulation"), [("ipopt", "joint-product"), ("exhaustive", "joint-relaxed")]
)
def test_a_mismatch_names_who_could_do_it(solver: str, formulation: str) -> None:
    result = solve(tiny(), solver=solver, formulation=formulation)
    assert result.termination is Termination.REFUSED
    assert result.point is Point.NONE
    assert result.plan is None
    assert get_solver(solver).default in result.message
    able = result.message.split("is taken by:")[1]
    wanted = set(solvers_for(get_formulation(formulation))) & set(running())
    assert wanted
    assert set(able.strip(" .").split(", ")) == wanted
    with pytest.raises(RefusedError):
        result.raise_for_status()


def test_a_missing_engine_is_refused_with_the_line_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Availability(False, reason="cannot be imported: no module", fix="pip install it")
    for missing in ("scip", "maingo"):  # maingo is an extra: here or not, it is not the choice
        monkeypatch.setattr(type(get_solver(missing)), "available", lambda self: gone)
    result = solve(tiny(), solver="scip")
    assert result.termination is Termination.REFUSED
    assert "cannot be imported: no module" in result.message
    assert "Mend it with: pip install it" in result.message
    name, why = choose_for(tiny(), "joint-product")
    assert name == "bonmin"
    assert "bonmin" in why


def choose_for(instance: Any, formulation: str | None) -> tuple[str, str]:
    from sftopt.core.derived import derive

    return choose(derive(instance), formulation)


def test_a_probe_that_raises_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Fake):
        def available(self) -> Availability:
            raise OSError("libengine.so is missing")

    install(monkeypatch, Broken(answer))
    result = solve(tiny(), solver="fake")
    assert result.termination is Termination.REFUSED
    assert "libengine.so is missing" in result.message
    row = next(row for row in list_solvers()["solvers"] if row["name"] == "fake")
    assert row["available"] is False
    assert "libengine.so is missing" in row["reason"]


def test_too_large_for_enumeration_is_refused() -> None:
    result = solve(sample_instance(12, 0), solver="exhaustive")
    assert result.termination is Termination.REFUSED
    assert "another solver" in result.message


def test_a_refusal_from_inside_the_run_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: Task) -> Outcome:
        raise RefusedError("this engine takes no integers")

    for kind in (Fake, FakeHere):
        install(monkeypatch, kind(run))
        result = solve(tiny(), solver="fake")
        assert result.termination is Termination.REFUSED
        assert "takes no integers" in result.message


def test_a_formulation_that_cannot_build_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def build_it(self: Any, derived: Any, start: Any) -> None:
        raise ArithmeticError("a bound crossed another")

    monkeypatch.setattr(type(get_formulation("joint-product")), "build", build_it)
    result = solve(tiny(), solver="scip")
    assert result.termination is Termination.ERROR
    assert "building 'joint-product' failed: ArithmeticError: a bound crossed" in result.message
    assert result.plan is None


# --- plug-ins ------------------------------------------------------------------------------


@pytest.fixture
def plugin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution with one good and two broken solvers."""
    (tmp_path / "sftopt_plugin.py").write_text(
        "from tests.solvers.fakes import Fake, answer\n"
        "class Mine(Fake):\n"
        "    name = 'mine'\n"
        "    def __init__(self):\n"
        "        super().__init__(answer)\n"
        "NOT_A_SOLVER = 3\n"
    )
    (tmp_path / "sftopt_broken_plugin.py").write_text("raise ValueError('half installed')\n")
    metadata = tmp_path / "sftopt_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sftopt-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[sftopt.solvers]\nmine = sftopt_plugin:Mine\nodd = sftopt_plugin:NOT_A_SOLVER\n"
        "broken = sftopt_broken_plugin:SOLVER\n"
        "[sftopt.formulations]\nbroken-form = sftopt_broken_plugin:FORMULATION\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._third_party.cache_clear()
    formulation_registry._third_party.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    registry._third_party.cache_clear()
    formulation_registry._third_party.cache_clear()
    for name in ("sftopt_plugin", "sftopt_broken_plugin"):
        sys.modules.pop(name, None)


def test_a_third_partys_solver_runs_like_ours(plugin_folder: Path) -> None:
    assert "mine" in solver_names()
    result = solve(tiny(), solver="mine")
    assert result.point is Point.FEASIBLE
    assert result.solver.name == "mine"
    assert result.solver.wrapper_version == "fake 1"
    assert result.solver.engine_version == "engine 2"


def test_a_broken_plugin_is_a_row_and_breaks_nothing_else(plugin_folder: Path) -> None:
    catalogue = list_solvers()
    rows = {row["name"]: row for row in catalogue["solvers"]}
    assert rows["mine"]["available"] is True
    assert rows["broken"]["available"] is False
    assert "ValueError: half installed" in rows["broken"]["reason"]
    assert "'odd' (a plug-in) lacks name, kind, honours, summary" in rows["odd"]["reason"]
    assert rows["exhaustive"]["available"] is True
    forms = {row["name"]: row for row in catalogue["formulations"]}
    assert "half installed" in forms["broken-form"]["summary"]
    with pytest.raises(RefusedError, match="half installed"):
        solve(tiny(), solver="broken")
    late = solve(tiny(), formulation="joint-relaxed", time_limit=0.0)
    assert late.solver.name in ("cyipopt", "ipopt")


# --- options -------------------------------------------------------------------------------


def test_ignored_options_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Fake(answer))
    plain = solve(tiny(), solver="fake", time_limit=30.0)
    assert plain.options_ignored == ()
    odd = solve(tiny(), solver="fake", threads=2, seed=7, rel_gap=1e-3, tee=True)
    assert odd.options_ignored == ("rel_gap", "seed", "tee", "threads")
    assert odd.seed == 7
    assert odd.options_used["threads"] == 2


def test_senseless_options_are_refused_all_at_once() -> None:
    with pytest.raises(InputError) as refused:
        solve(tiny(), time_limit=-1.0, rel_gap=float("nan"), threads=0, feas_tol=1.0)
    for name in ("time_limit", "rel_gap", "threads", "feas_tol"):
        assert name in str(refused.value)


def test_native_options_go_to_the_engine_or_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'constructive' has no options of its own"):
        solve(tiny(), solver="constructive", options={"depth": 3})

    def run(task: Task) -> Outcome:
        return answer(task, message=f"depth {task.options.native['depth']}")

    install(monkeypatch, Fake(run))
    result = solve(tiny(), solver="fake", options={"depth": 3})
    assert "depth 3" in result.message
    assert result.options_used["depth"] == 3


@pytest.mark.parametrize("name", [n for n in running() if get_solver(n).native_options])
def test_an_option_no_engine_knows_is_bad_input(name: str) -> None:
    with pytest.raises(InputError, match="no_such_option"):
        solve(tiny(), solver=name, options={"no_such_option": 1}, time_limit=20.0)


# --- starts --------------------------------------------------------------------------------


def echo(task: Task) -> Outcome:
    return answer(task, start_used="x0")


def test_a_plan_given_as_start_reaches_the_solver(
    monkeypatch: pytest.MonkeyPatch, good_plan: Plan
) -> None:
    install(monkeypatch, FakeHere(echo))
    result = solve(tiny(), solver="fake", x0=good_plan)
    assert result.plan is not None
    assert [p.blocks for p in result.plan.devices] == [p.blocks for p in good_plan.devices]
    assert [p.bits for p in result.plan.devices] == [p.bits for p in good_plan.devices]
    assert result.objective_s == pytest.approx(solve(tiny(), solver="exhaustive").objective_s)
    assert result.options_used["x0"] == "plan"
    assert result.options_ignored == ("x0",)


def test_a_start_for_other_devices_is_refused_with_their_names(good_plan: Plan) -> None:
    other = tiny().replace(**{"devices[dev1].id": "roof"})
    with pytest.raises(InputError, match=r"no entry for device 'roof', .* unknown device 'dev1'"):
        solve(other, solver="constructive", x0=good_plan)
    twice = good_plan.model_copy(update={"devices": good_plan.devices * 2})
    with pytest.raises(InputError, match="several entries for device 'dev0', 'dev1'"):
        solve(tiny(), solver="constructive", x0=twice)


def test_a_start_without_one_of_the_devices_is_refused(good_plan: Plan) -> None:
    short = good_plan.model_copy(update={"devices": good_plan.devices[:1]})
    with pytest.raises(InputError, match="x0 has no entry for device 'dev1'"):
        solve(tiny(), solver="constructive", x0=short)


@pytest.mark.parametrize(
    "change",
    [{"keep_fraction": 0.0}, {"keep_fraction": 7.0}, {"blocks": 99}, {"blocks": -4}, {"bits": 5}],
)
def test_a_bad_start_is_repaired(
    monkeypatch: pytest.MonkeyPatch, good_plan: Plan, change: dict[str, Any]
) -> None:
    install(monkeypatch, FakeHere(echo))
    instance = tiny()
    result = solve(instance, solver="fake", x0=plan_with(good_plan, 0, **change))
    assert result.point is Point.FEASIBLE
    assert result.plan is not None
    assert verify_plan(instance, result.plan).feasible


def test_a_better_start_gives_no_worse_an_end(good_plan: Plan) -> None:
    instance = tiny()
    alone = solve(instance, solver="constructive").objective_s
    helped = solve(instance, solver="constructive", x0=good_plan).objective_s
    assert alone is not None
    assert helped is not None
    assert helped <= alone * (1.0 + 1e-9)


# --- the default, the clock, the model -----------------------------------------------------


def test_the_default_solver_is_named_and_sound() -> None:
    small = solve(tiny())
    assert small.solver.name == "certify"
    assert "No solver was named: certify" in small.message
    assert small.point is Point.OPTIMAL
    for formulation in ("joint-product", "joint-ratio", "joint-relaxed"):
        name, _ = choose_for(tiny(), formulation)
        assert get_solver(name).accepts(get_formulation(formulation))


def test_the_default_where_certify_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_solver("certify")), "refusal", lambda self, derived: "not today")
    assert choose_for(sample_instance(8, 0), None)[0] == "bonmin"
    assert choose_for(sample_instance(8, 0), "native")[0] == "constructive"
    assert choose_for(sample_instance(60, 0), None)[0] == "ipopt"
    assert choose_for(sample_instance(8, 0, radio={"power": "total"}), None)[0] == "ipopt"
    assert choose_for(sample_instance(1_001, 0), None)[0] == "constructive"


def test_times_are_stated_by_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    def run(task: Task) -> Outcome:
        time.sleep(0.3)
        return answer(task)

    install(monkeypatch, FakeHere(run))
    times = solve(tiny(), solver="fake").times_s
    assert 0.3 <= times.solve < 10.0
    assert times.total >= times.build + times.solve + times.verify


def test_the_solver_gets_one_deadline_and_a_feasible_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []

    def run(task: Task) -> Outcome:
        seen.append(task.deadline.left())
        assert start_of(task).is_integral()
        return answer(task)

    install(monkeypatch, FakeHere(run))
    solve(tiny(), solver="fake", time_limit=10.0)
    solve(tiny(), solver="fake", time_limit=None)
    assert 5.0 < seen[0] < 10.0
    assert seen[1] == math.inf


def test_the_model_is_handed_out_or_refused() -> None:
    model = build(tiny(), "joint-product")
    assert model.objective_unit_s > 0.0
    with pytest.raises(RefusedError, match="no algebraic model"):
        build(tiny(), "native")
    with pytest.raises(UnknownNameError):
        build(tiny(), "joint")
