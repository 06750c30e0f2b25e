"""A race with solvers that misbehave: each is a row with its verdict, and nothing is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sftopt.solvers import isolate, registry
from sftopt.studies.race.checks import find_wrong
from sftopt.studies.race.folder import read_folder
from sftopt.studies.race.plan import Wanted
from sftopt.studies.race.processes import descendants
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.runner import RaceSettings, race
from sftopt.studies.race.suite import Suite, parse_suite
from tests.studies.race.faulty_solvers import PATIENCE, SOLVERS, plugins

pytestmark = (
    pytest.mark.forks
)  # a plug-in that hangs when asked hangs the asker, where none is forked

ROOT = Path(__file__).parents[3]
PROBED_S = 5.0
"""Seconds that a probe gets: the usual 20 would be waited out several times."""


@dataclass(frozen=True)
class Raced:
    """What a race left behind."""

    out: Path
    summary: dict[str, Any]
    rows: dict[str, RaceRow]
    wrong: dict[str, str]


def faulty_suite(names: list[str]) -> Suite:
    entries: list[dict[str, Any]] = [{"solver": name, "formulation": "native"} for name in names]
    for entry in entries:
        if entry["solver"] in ("hang", "hang-here"):
            entry["limit_s"] = 1.0
    return parse_suite(
        {
            "name": "faulty",
            "limit_s": 60.0,
            "rel_gap": 1e-3,
            "memory_mb": 256,
            "instances": [{"family": "jetson-vit-b", "devices": 3}],
            # alternating is better than the start: the one whose plan refutes the others
            "entries": [*entries, {"solver": "alternating"}],
        },
        "faulty",
    )


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The faulty plug-ins installed, here and in the agents."""
    folder = tmp_path_factory.mktemp("plugins")
    plugins(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
        # a probe that hangs is given up sooner, here and in the agents
        patch.setattr(isolate, "PROBE_S", PROBED_S)
        patch.setenv(PATIENCE, str(PROBED_S))
        registry._third_party.cache_clear()
        yield
    registry._third_party.cache_clear()


@pytest.fixture(scope="module")
def raced(plugged: None, tmp_path_factory: pytest.TempPathFactory) -> Raced:
    out = tmp_path_factory.mktemp("race") / "out"
    suite = faulty_suite([kind.name for kind in SOLVERS])
    summary = race(suite, Wanted(), out, RaceSettings(allow_busy=True, keep_plans=True))
    folder = read_folder(out)
    return Raced(
        out,
        summary,
        {row.entry.solver: row for row in folder.rows},
        {one.entry.split("/")[0]: one.reason for one in find_wrong(folder.counting)},
    )


def test_every_planned_run_has_one_row(raced: Raced) -> None:
    assert raced.summary["missing"] == []
    assert raced.summary["rows"] == len(SOLVERS) + 1
    assert len(read_folder(raced.out).rows) == len(SOLVERS) + 1


@pytest.mark.parametrize(
    ("solver", "verdicts"),
    [
        ("quick", {"feasible"}),
        ("segfault", {"crashed"}),
        ("hang", {"hard_killed"}),
        ("hang-here", {"hard_killed"}),
        ("hang-in-probe", {"refused"}),
        ("eater", {"out_of_memory"}),
        ("glutton", {"out_of_memory"}),
        ("chatter", {"feasible"}),
        ("not-a-number", {"feasible"}),
        ("false-value", {"error"}),
        ("false-infeasible", {"error"}),
        ("grandchild", {"feasible"}),
        ("alternating", {"feasible", "optimal"}),
    ],
)
def test_the_verdict(raced: Raced, solver: str, verdicts: set[str]) -> None:
    outcome = raced.rows[solver].outcome
    assert outcome.verdict in verdicts, outcome.message


def test_wrong_are_the_false_claims_alone(raced: Raced) -> None:
    assert set(raced.wrong) == {"false-value", "false-bound", "false-infeasible"}
    assert "the judge finds" in raced.wrong["false-value"]
    assert "feasible plan" in raced.wrong["false-infeasible"]


def test_a_false_bound_is_caught_by_anothers_plan_with_no_oracle(raced: Raced) -> None:
    row, better = raced.rows["false-bound"], raced.rows["alternating"]
    assert row.outcome.bound_s is not None
    assert better.outcome.objective_s is not None
    assert row.outcome.bound_s > better.outcome.objective_s * (1 + 1e-6)
    assert "alternating/native" in raced.wrong["false-bound"]
    alone = [one for one in raced.rows.values() if one.entry.solver == "false-bound"]
    assert find_wrong(alone) == [], "by itself nothing speaks against it"


def test_a_crash_keeps_what_the_signal_was(raced: Raced) -> None:
    assert "SIGSEGV" in raced.rows["segfault"].outcome.message


def test_memory_is_counted_above_what_a_fork_begins_with(raced: Raced) -> None:
    eater, quick = raced.rows["eater"].cost, raced.rows["quick"].cost
    assert eater.peak_bytes is not None
    assert quick.peak_bytes is not None
    assert 256 * 2**20 < eater.peak_bytes < 2 * 256 * 2**20
    assert quick.peak_bytes < 64 * 2**20


def test_of_a_long_log_the_end_is_kept(raced: Raced) -> None:
    tail = raced.rows["chatter"].context.log_tail
    assert tail.endswith("the last words\n")
    assert len(tail) <= 4096


def test_no_process_is_left(raced: Raced) -> None:
    until = time.monotonic() + 10.0
    while descendants(os.getpid()) and time.monotonic() < until:
        time.sleep(0.05)
    assert descendants(os.getpid()) == []


def test_plans_that_were_kept_are_those_of_the_rows(raced: Raced) -> None:
    from sftopt.core.library import load
    from sftopt.core.plan import Plan
    from sftopt.core.verify import verify_plan

    row = raced.rows["alternating"]
    instance = load(str(raced.out / "instances" / f"{row.instance.hash}.json"))
    plan = Plan.model_validate_json((raced.out / "plans" / f"{row.key}.json").read_text())
    assert verify_plan(instance, plan).objective_s == pytest.approx(row.outcome.objective_s)


def test_a_second_race_runs_nothing_anew(raced: Raced) -> None:
    suite = faulty_suite([kind.name for kind in SOLVERS])
    news: list[str] = []
    settings = RaceSettings(allow_busy=True)
    race(suite, Wanted(), raced.out, settings, lambda done, total, row: news.append(row.key))
    assert news == []


def test_a_killed_agent_is_replaced_and_its_run_made_again(
    raced: Raced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--rerun of one key; the first agent is killed with the run in it."""
    import signal

    from sftopt.studies.race.slot import Slot

    asked: list[int] = []
    ask = Slot.ask

    def killed(self: Slot, job: dict[str, Any]) -> dict[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            assert self.process is not None
            os.kill(self.process.pid, signal.SIGKILL)
        return ask(self, job)

    monkeypatch.setattr(Slot, "ask", killed)
    suite = faulty_suite([kind.name for kind in SOLVERS])
    key = raced.rows["quick"].key
    race(suite, Wanted(), raced.out, RaceSettings(allow_busy=True, rerun=key[:12]))
    made = [row for row in read_folder(raced.out).rows if row.key == key]
    assert [row.attempt for row in made] == [0, 1]
    assert made[1].outcome.verdict == "feasible"
    assert len(asked) == 2


if sys.platform != "linux":  # memory is watched through /proc
    pytest.skip("Linux alone", allow_module_level=True)
