"""``sftopt plan``: from a file to a verified plan, and an exit code for every other ending."""

from __future__ import annotations

import inspect
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.files import read_json
from sftopt.core.instance import Instance
from sftopt.core.library import load
from sftopt.core.plan import Plan
from sftopt.core.result import Result, SolverVersion
from sftopt.core.status import Point, Promise, Termination
from sftopt.face.commands.plan import native_options, plan
from sftopt.face.progress import News, Progress
from sftopt.solvers.options import Options
from sftopt.solvers.run import solve
from tests.face.command_line import Run, Write, small_data


def test_a_verified_plan_comes_out(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "plan.json"
    ran = run("plan", small, "--solver", "constructive", "--out", out)
    assert ran.code == 0
    for words in ("feasible (verified)", "uplink", "server", "adapter exchange", "dev0", "dev1"):
        assert words in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert f"plan written to {out}" in ran.err
    assert [path.name for path in out.parent.iterdir()] == ["plan.json"]
    verified = run("verify", small, out, "--json")
    assert verified.code == 0
    assert verified.data["feasible"] is True
    stored = Plan.load(out).breakdown
    assert stored is not None
    assert verified.data["objective_s"] == pytest.approx(stored.round_s, rel=1e-12)


def test_json_holds_the_result_and_the_plan(run: Run, small: Path) -> None:
    ran = run("plan", small, "--solver", "constructive", "--json")
    assert ran.code == 0
    data = ran.data
    assert data["command"] == "plan"
    for field in ("termination", "point", "objective_s", "objective_claimed_s", "bound_s",
                  "bound_source", "gap_rel", "breakdown", "violations", "formulation", "promise",
                  "solver", "options_used", "options_ignored", "seed", "times_s", "plan",
                  "message"):  # fmt: skip
        assert field in data
    assert "error" not in data
    assert data["plan_file"] is None
    assert Plan.model_validate(data["plan"]).instance_hash == data["instance_hash"]
    shares = [device["uplink_share"] for device in data["plan"]["devices"]]
    assert 0.999 < sum(shares) <= 1.0 + 1e-9


def test_without_options_the_choice_is_named(run: Run, small: Path) -> None:
    ran = run("plan", small, "--json", "--time-limit", "20")
    assert ran.code == 0
    assert ran.data["solver"]["name"] in ran.data["message"]


def test_a_proven_infeasible_instance(run: Run, infeasible: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    ran = run("plan", infeasible, "--out", out, "--json")
    assert ran.code == 3
    assert ran.data["termination"] == "infeasible_proven"
    assert ran.data["objective_s"] is None
    assert ran.data["plan"] is None
    assert ran.data["error"]["exit_code"] == 3
    assert ran.data["error"]["faults"]
    assert "sftopt check" in ran.err
    assert "Traceback" not in ran.err
    assert not out.exists()


def test_no_point_within_the_limit(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    out.write_text("an older plan")
    ran = run("plan", small, "--time-limit", "0", "--out", out, "--json")
    assert ran.code == 4
    data = ran.data
    assert (data["termination"], data["point"]) == ("time_limit", "none")
    assert data["objective_s"] is None
    assert data["plan"] is None
    assert data["bound_s"] > 0.0
    assert data["plan_file"] is None
    assert out.read_text() == "an older plan"
    assert "left as it was" in ran.err


def _result(instance: Instance, plan: Plan | None, **more: Any) -> Result:
    fields: dict[str, Any] = {
        "termination": Termination.HEURISTIC_DONE,
        "point": Point.FEASIBLE if plan else Point.NONE,
        "formulation": "native",
        "promise": Promise.EXACT,
        "solver": SolverVersion(name="fake"),
        "plan": plan,
        "objective_s": 1.0 if plan else None,
        "bound_s": 0.5,
        **more,
    }
    return Result(instance_name=instance.name, instance_hash=instance.hash, **fields)


ENDINGS = {
    "refused": (Termination.REFUSED, Point.NONE, 6),
    "numbers": (Termination.NUMERICAL_ERROR, Point.NONE, 4),
    "locally infeasible": (Termination.INFEASIBLE_LOCAL, Point.NONE, 4),
    "crashed": (Termination.ERROR, Point.NONE, 4),
    "refuted": (Termination.ERROR, Point.INFEASIBLE, 5),
    "contradicted": (Termination.ERROR, Point.FEASIBLE, 5),
    "interrupted early": (Termination.INTERRUPTED, Point.NONE, 130),
    "interrupted": (Termination.INTERRUPTED, Point.FEASIBLE, 130),
    "limit with a plan": (Termination.TIME_LIMIT, Point.FEASIBLE, 0),
    "optimal": (Termination.CONVERGED_GLOBAL, Point.OPTIMAL, 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_codes_and_files(
    run: Run,
    small: Path,
    planned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    termination, point, code = ENDINGS[ending]
    instance = load(small)
    made = None if point is Point.NONE else Plan.load(planned)
    result = _result(instance, made, termination=termination, point=point, message="said so")
    monkeypatch.setattr("sftopt.solvers.run.solve", lambda *given, **named: result)
    out = tmp_path / "out.json"
    ran = run("plan", small, "--out", out, "--json")
    assert ran.code == code
    assert ran.data["bound_s"] == 0.5
    assert ("error" in ran.data) == (code != 0)
    good = point in (Point.FEASIBLE, Point.OPTIMAL)
    assert out.exists() == good
    assert ran.data["plan_file"] == (str(out) if good else None)
    assert run("plan", small).code == code  # and as tables


def test_a_rounded_plan_does_not_read_as_the_optimum(run: Run, small: Path) -> None:
    words = ("plan", small, "--solver", "clarabel", "--formulation", "joint-grid-relaxed")
    told = run(*words, "--json").data
    assert told["termination"] == "converged_global"
    assert (told["proven_for"], told["point_from"]) == ("formulation", "polish")
    assert told["point"] == "feasible"
    shown = run(*words).out
    assert "for the formulation alone, not for the plan" in " ".join(shown.split())
    assert "made of the solver's answer" in shown


def test_a_wide_gap_does_not_make_a_plan_optimal(run: Run, small: Path) -> None:
    ran = run("plan", small, "--solver", "certify", "--rel-gap", "0.9", "--json")
    assert ran.code == 0
    assert (ran.data["point"] == "optimal") == (ran.data["gap_rel"] <= 1e-3)


def test_the_answers_own_delay_is_shown_beside_the_polished_one(
    run: Run, small: Path, planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _result(
        load(small), Plan.load(planned), termination=Termination.CONVERGED_LOCAL,
        point=Point.FEASIBLE, point_from="polish", objective_answered_s=87.67,
    )  # fmt: skip
    monkeypatch.setattr("sftopt.solvers.run.solve", lambda *given, **named: result)
    shown = run("plan", small).out
    assert "as answered" in shown
    assert "87.67" in shown


def test_ctrl_c_keeps_the_best_plan_so_far(
    run: Run, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real engine, a real signal: sent at the first report, well before the end."""

    def press(progress: Progress, news: News) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "__call__", press)
    path, out = write("ten.json", json.dumps(small_data(devices=10))), tmp_path / "plan.json"
    ran = run("plan", path, "--solver", "scip", "--out", out, "--json", "--rel-gap", "0")
    assert ran.code == 130
    assert ran.data["termination"] == "interrupted"
    assert ran.data["point"] == "feasible"
    assert ran.data["error"]["message"] == "interrupted; the best plan so far is kept"
    assert run("verify", path, out).code == 0


def test_a_disk_that_fills_up_loses_nothing(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ran = run("plan", small, "--solver", "constructive", "--out", "/dev/full", "--json")
    assert ran.code == 2
    assert "No space left on device" in ran.err
    assert "nothing is lost" in ran.err
    assert "Traceback" not in ran.err
    saved = Path(ran.data["plan_file"])
    assert saved.parent == tmp_path
    assert run("verify", small, saved).code == 0


def test_no_place_at_all_still_prints_the_plan(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    ran = run("plan", small, "--solver", "constructive", "--out", "/dev/full", "--json")
    assert ran.code == 2
    assert "the plan is not saved" in ran.err
    assert ran.data["plan_file"] is None
    assert ran.data["plan"]["devices"]


def test_options_reach_the_solver(
    run: Run, small: Path, planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def spy(instance: Instance, **named: Any) -> Result:
        seen.update(named)
        return _result(instance, None)

    monkeypatch.setattr("sftopt.solvers.run.solve", spy)
    words = ["--solver", "scip", "--formulation", "joint-ratio", "--time-limit", "inf",
             "--rel-gap", "0.01", "--abs-gap", "2", "--threads", "3", "--seed", "4",
             "--feas-tol", "1e-7", "--x0", planned, "--tee", "--option", "limits/nodes=7",
             "--option", "a=true", "--option", "b=1e-3", "--option", "c=x=y"]  # fmt: skip
    run("plan", small, *words)
    assert callable(seen.pop("on_progress"))
    assert seen.pop("x0") == Plan.load(planned)
    assert seen == {
        "solver": "scip", "formulation": "joint-ratio", "time_limit": None, "rel_gap": 0.01,
        "abs_gap": 2.0, "threads": 3, "seed": 4, "feas_tol": 1e-7, "tee": True,
        "options": {"limits/nodes": 7, "a": True, "b": 1e-3, "c": "x=y"},
    }  # fmt: skip


def test_defaults_are_those_of_the_python_interface() -> None:
    usual, here = Options(), inspect.signature(plan).parameters
    there = inspect.signature(solve).parameters
    for name in ("time_limit", "abs_gap", "threads", "seed", "feas_tol", "tee"):
        assert here[name].default == getattr(usual, name) == there[name].default
    assert here["rel_gap"].default is None, "solve's own, or the objective's"
    assert there["rel_gap"].default == usual.rel_gap


def test_native_options_are_typed() -> None:
    found = native_options(["n=3", "f=.5", "t=True", "s=adaptive", "e="])
    assert found == {"n": 3, "f": 0.5, "t": True, "s": "adaptive", "e": ""}
    assert type(found["n"]) is int


def test_many_devices_are_summed_up(run: Run, write: Write) -> None:
    path = write("many.json", json.dumps(small_data(devices=60)))
    ran = run("plan", path, "--solver", "constructive")
    assert ran.code == 0
    assert "40 of 60 devices left out" in ran.out
    assert "fullest memory" in ran.out
    assert "dev19" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert (
        len(run("plan", path, "--solver", "constructive", "--json").data["plan"]["devices"]) == 60
    )


def test_a_start_from_another_cell_is_said(
    run: Run, write: Write, small: Path, planned: Path
) -> None:
    data = read_json(small, "instance")
    data["devices"][0]["uplink_gain"] *= 0.9
    cell, whose = write("moved.json", data), Plan.load(planned).instance_hash
    said = f"x0: repaired: plan was made for cell {whose}."
    shown = run("plan", cell, "--x0", planned, "--solver", "constructive")
    assert shown.code == 0
    assert said in " ".join(shown.err.split())
    told = run("plan", cell, "--x0", planned, "--solver", "constructive", "--json")
    assert said in json.loads(told.out)["message"]
    own = run("plan", small, "--x0", planned, "--solver", "constructive")
    assert "made for cell" not in own.err
