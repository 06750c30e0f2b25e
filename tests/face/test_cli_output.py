"""Standard output holds one answer; a gone reader, a full disk and loud engines change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sftopt.core.errors import ExitCode, InputError, NoPointError
from sftopt.face import cli
from sftopt.face.output import Answer, deliver, ensure_writable, failure
from tests.face.command_line import Run

LOUD = """
import ctypes, os, sys
from sftopt.face.output import engines_on_stderr
sys.stdout.write("before\\n")
with engines_on_stderr():
    print("from python")
    ctypes.CDLL(None).puts(b"from C")
    os.write(1, b"from the descriptor\\n")
    os.system("echo from a child")
print("after")
"""


def test_engines_cannot_write_to_standard_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOUD], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n") == ["before", "after", ""]
    for source in ("python", "C", "the descriptor", "a child"):
        assert f"from {source}\n" in done.stderr


@pytest.mark.parametrize("solver", ["scip", "ipopt"])
def test_an_engine_log_and_the_json_do_not_mix(small: Path, solver: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sftopt", "plan", str(small), "--solver", solver, "--tee", "--json",
         "--time-limit", "20"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["point"] in ("feasible", "optimal")
    assert len(done.stderr.splitlines()) > 5


def test_a_reader_that_went_away_keeps_the_exit_code(infeasible: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "sftopt", "check", str(infeasible), "--json"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_closed_streams(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    command = f"{sys.executable} -m sftopt plan {small} --solver scip --out {out} <&- >&- 2>&-"
    assert os.waitstatus_to_exitcode(os.system(command)) == 0
    assert json.loads(out.read_text())["devices"]


@pytest.mark.parametrize("words", [["--help"], ["schema", "plan"], ["solvers", "--json"]])
def test_standard_output_on_a_full_disk(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sftopt", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot write to standard output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_internal_errors_are_one_line_and_traced_only_on_request(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(instance: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.delenv("SFTOPT_DEBUG", raising=False)
    monkeypatch.setattr("sftopt.core.check.check", broken)
    ran = run("check", small)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err == (
        "error: internal error: ZeroDivisionError: first line; "
        "please report it with --debug output\n"
    )
    ran = run("check", small, "--json")
    assert ran.data["error"]["exit_code"] == 1
    assert ran.data["command"] == "check"
    for words in (["--debug", "check", small], ["check", small, "--debug"]):
        assert "Traceback" in run(*words).err
    monkeypatch.setenv("SFTOPT_DEBUG", "1")
    assert "Traceback" in run("check", small).err


def test_memory_that_runs_out_anywhere_is_no_internal_error(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cli, "_answer", short)
    ran = run("check", small, "--json")
    assert ran.code == ExitCode.NO_POINT
    assert "out of memory" in ran.data["error"]["message"]


def test_ctrl_c_outside_a_solver(run: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(instance: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sftopt.core.check.check", stopped)
    ran = run("check", small, "--json")
    assert ran.code == 130
    assert ran.data["error"] == {"message": "interrupted", "exit_code": 130, "faults": []}


def test_expected_errors_keep_their_exit_code(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(instance: object) -> None:
        raise NoPointError("nothing found")

    monkeypatch.setattr("sftopt.core.check.check", empty)
    ran = run("check", small)
    assert (ran.code, ran.err) == (4, "error: nothing found\n")


def test_numbers_json_cannot_hold_are_an_internal_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answer({"value": float("nan")}, "")
    monkeypatch.setattr(cli, "_answer", lambda words: answer)
    ran = run("doctor", "--json")
    assert ran.code == 1
    assert ran.data["error"]["message"].startswith("internal error: ValueError")


def test_deliver_prints_tables_without_colour_codes_when_not_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def show(console: Console) -> None:
        console.print("[not markup] d[1]", style="bold red")

    assert deliver(Answer({}, show, ExitCode.NO_POINT, "no plan"), "plan", as_json=False) == 4
    captured = capsys.readouterr()
    assert captured.out == "[not markup] d[1]\n"
    assert captured.err == "error: no plan\n"


def test_failure_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert deliver(failure("why", ExitCode.BAD_INPUT), "instance new", as_json=True) == 2
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": 2,
        "command": "instance new",
        "error": {"message": "why", "exit_code": 2, "faults": []},
    }


def test_ensure_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    ensure_writable(old)
    ensure_writable(tmp_path / "new" / "deeper" / "plan.json")
    ensure_writable(Path("/dev/null"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert old.read_text() == "old"
    for bad in (tmp_path, old / "below.json"):
        with pytest.raises(InputError, match="cannot write"):
            ensure_writable(bad)
