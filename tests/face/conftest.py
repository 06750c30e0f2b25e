"""Fixtures: a small instance on disk and a way to run one command line in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftopt.face.cli import main
from tests.face.command_line import Ran, Run, Write, small_data


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*words: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return go


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def go(name: str, data: Any) -> Path:
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return path

    return go


@pytest.fixture
def small(write: Write) -> Path:
    """A feasible instance file."""
    return write("small.json", small_data())


@pytest.fixture
def infeasible(write: Write) -> Path:
    """An instance whose accuracy no mode reaches."""
    data = small_data()
    data["accuracy"]["minimum"] = 0.95
    return write("infeasible.json", data)


@pytest.fixture
def planned(run: Run, small: Path, tmp_path: Path) -> Path:
    """A verified plan file for ``small``."""
    path = tmp_path / "plan.json"
    ran = run("plan", small, "--solver", "constructive", "--out", path, "--quiet")
    assert ran.code == 0, ran.err
    return path
