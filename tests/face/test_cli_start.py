"""The command starts quickly, answers for itself, and the root package is lazy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sftopt
from sftopt.face.cli import app, main

HEAVY = ("pyomo", "cvxpy", "casadi", "torch", "scipy", "numpy", "pydantic", "rich", "pyscipopt")


@pytest.mark.parametrize("module", ["sftopt", "sftopt.face.cli"])
def test_importing_pulls_in_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not set(HEAVY) & set(done.stdout.split())


def test_help_names_every_command_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        for name in ("plan", "check", "verify", "instance", "workload", "solvers", "doctor",
                     "schema", "export"):  # fmt: skip
            assert f"\n  {name} " in text
        assert max(map(len, text.splitlines())) <= 80


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    names = [[command.name] for command in app.registered_commands]
    names += [["instance", verb] for verb in ("new", "list", "show")]
    for words in names:
        assert main([*map(str, words), "--help"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert "--json" in captured.out
        assert max(map(len, captured.out.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"sftopt {sftopt.__version__}"
    engines = " ".join(lines[1:])
    for name in ("python 3.", "numba ", "pyomo ", "cvxpy ", "casadi ", "pyscipopt "):
        assert name in engines
    assert max(map(len, lines)) <= 80


def test_without_a_command_it_says_what_people_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    shown = [line.split()[1] for line in text.splitlines() if line.startswith("    sftopt ")]
    assert {"plan", "compare", "instance", "sweep"} == set(shown)
    assert set(shown) <= {*(command.name for command in app.registered_commands), "instance"}
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_SFTOPT_COMPLETE" in capsys.readouterr().out
    assert main(["completion", "bsh"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("sftopt comp", {"compare", "completion"}), ("sftopt plan --rel", {"--rel-gap"}),
     ("sftopt instance f", {"from-csv"})],
)  # fmt: skip
def test_bash_completes(
    typed: str,
    offered: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_SFTOPT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert main([]) == 0
    assert set(capsys.readouterr().out.split()) == offered


def test_root_package_exports_what_it_promises() -> None:
    for name in sftopt.__all__:
        assert getattr(sftopt, name) is not None
    assert set(sftopt.__all__) <= set(dir(sftopt))
    from sftopt.core.verify import verify_plan

    assert sftopt.verify_plan is verify_plan


def test_root_package_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'solv'"):
        _ = sftopt.solv  # type: ignore[attr-defined]
