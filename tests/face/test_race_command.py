"""``sftopt race`` as a user sees it: exit codes, suites, what is refused, merging, replaying."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sftopt.studies.race import slot
from sftopt.studies.race.folder import open_rows, read_folder, write_plan
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.suite import parse_suite
from tests.face.command_line import Run
from tests.studies.race.made_up import row

STUB = Path(__file__).parents[1] / "studies" / "race" / "stub_agent.py"
SUITE = """
name = "tiny"
limit_s = 20.0
[[instances]]
path = "small.json"
[[entries]]
solver = "constructive"
[[entries]]
solver = "greedy"
"""


def made_up_race(out: Path, *rows: RaceRow, missing: int = 0) -> Path:
    """A folder with these rows and a plan that has some more."""
    data: dict[str, Any] = {
        "name": "made-up",
        "limit_s": 10.0,
        "instances": [{"family": "weichen"}],
        "entries": [{"solver": "greedy"}],
    }
    with open_rows(out, "made-up") as file:
        for one in rows:
            file.append(one.model_dump(mode="json"))
    keys = [one.key for one in rows] + [f"missing-{number}" for number in range(missing)]
    runs = [
        {"key": key, "name": key, "instance": "cell", "entry": "a/x", "seed": 0} for key in keys
    ]
    write_plan(out, parse_suite(data, "made-up"), runs)
    return out


@pytest.mark.parametrize(
    ("rows", "missing", "code", "said"),
    [
        ([row("a/x", objective_s=10.0)], 0, 0, ""),
        ([row("a/x", objective_s=10.0)], 2, 4, "2 of 3 rows are missing"),
        ([row("a/x", verdict="error", refuted=True, message="not so")], 1, 5, "1 rows are wrong"),
    ],
)
def test_exit_codes(
    run: Run, tmp_path: Path, rows: list[RaceRow], missing: int, code: int, said: str
) -> None:
    made_up_race(tmp_path / "a", *rows, missing=missing)
    ran = run("race", "merge", tmp_path / "a", "--out", tmp_path / "all", "--json")
    assert ran.code == code
    assert said in ran.err
    assert ran.data["command"] == "race merge"
    assert ran.data["rows"] == len(rows)
    assert len(ran.data["missing"]) == missing


def test_a_race_of_a_suite_file_and_the_replay_of_a_row(
    run: Run, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE)
    out = tmp_path / "out"
    command = ("race", "--suite", tmp_path / "tiny.toml", "--out", out, "--allow-busy")
    ran = run(*command, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["verdicts"] == {"feasible": 2}
    assert "runs 2/2" in ran.err
    first = read_folder(out).rows[0]
    assert first.context.versions["sftopt"]
    assert first.cost.times_s.start > 0.0, "the shared start is made once and timed apart"
    assert first.cost.times_s.engine > 0.0
    again = run("race", "replay", out, first.key[:12], "--json")
    assert again.code == 0, again.err
    assert again.data["same_verdict"] is True
    now, before = again.data["now"]["outcome"], first.outcome
    assert now["objective_s"] == pytest.approx(before.objective_s, rel=1e-9)
    assert run("race", "replay", out, "zz").code == 2


def test_tables_for_people(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "COMMAND", (sys.executable, "-S", str(STUB)))
    out = tmp_path / "out"
    ran = run("race", "--suite", "smoke", "--solvers", "greedy,constructive", "--out", out,
              "--allow-busy", "--quiet")  # fmt: skip
    assert ran.code == 0
    assert "6 of 6" in ran.out
    assert "6 refused" in ran.out


def test_suites_are_listed(run: Run) -> None:
    ran = run("race", "suites", "--json")
    assert ran.data["command"] == "race suites"
    assert "paper" in [one["name"] for one in ran.data["suites"]]
    assert "ground-truth" in run("race", "suites").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --suite"),
        (("--suite", "smok"), "Did you mean 'smoke'?"),
        (("--suite", "smoke", "--shard", "3/2"), "--shard is '3/2'"),
        (("--suite", "smoke", "--sizes", "few"), "--sizes is 'few'"),
        (("--suite", "nowhere.toml"), "no such file"),
        (("--suite", "smoke", "--jobs", "0"), "--jobs is 0"),
        (("replay", "nowhere", "abc"), "no folder of a race"),
        (("merge", "nowhere", "--out", "there"), "no folder of a race"),
    ],
)
def test_what_is_refused(run: Run, words: tuple[str, ...], said: str) -> None:
    ran = run("race", *words)
    assert ran.code == 2
    assert said in ran.err


def test_the_schema_of_suites_and_rows(run: Run) -> None:
    assert "entries" in run("schema", "suite", "--json").data["properties"]
    assert "outcome" in run("schema", "race-row", "--json").data["properties"]
