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
    for words in (["--help"], [], ["-h"]):
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
    assert capsys.readouterr().out == f"sftopt {sftopt.__version__}\n"


def test_root_package_exports_what_it_promises() -> None:
    for name in sftopt.__all__:
        assert getattr(sftopt, name) is not None
    assert set(sftopt.__all__) <= set(dir(sftopt))
    from sftopt.core.verify import verify_plan

    assert sftopt.verify_plan is verify_plan


def test_root_package_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'solv'"):
        _ = sftopt.solv  # type: ignore[attr-defined]
