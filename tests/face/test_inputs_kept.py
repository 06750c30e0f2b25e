"""No command writes over what it reads, whatever that is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from sftopt.face.cli import app
from tests.face.command_line import Run, Write, small_data


@pytest.fixture
def cell(write: Write) -> Path:
    return write("cell.json", small_data())


def linked(path: Path, kind: str) -> str:
    if kind == "dotted":
        return f"{path.parent}/./{path.name}"
    if kind == "same":
        return str(path)
    other = path.with_name(f"other-{path.name}")
    {"symlink": os.symlink, "hard link": os.link}[kind](path, other)
    return str(other)


@pytest.mark.parametrize("kind", ["same", "dotted", "symlink", "hard link"])
@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["plan", "CELL"], "--out"),
        (["plan", "CELL", "--calibration", "OTHER"], "--out"),
        (["plan", "jetson-vit-b", "--x0", "CELL"], "--out"),
        (["export", "CELL", "--formulation", "joint-product"], "--out"),
        (["workload", "--from-config", "CELL"], "--out"),
        (["instance", "show", "CELL"], "--out"),
        (["simulate", "CELL"], "--out"),
        (["simulate", "CELL", "--out", "DIR"], "--write-trace"),
        (["simulate", "jetson-vit-b", "--out", "DIR", "--trace", "CELL"], "--write-trace"),
        (["finetune", "CELL", "--instance", "i", "--model", "m", "--data", "d"], "--out"),
        (["finetune", "p", "--instance", "CELL", "--model", "m", "--data", "d"], "--out"),
        (["closed-loop", "--model", "CELL", "--data", "d"], "--out"),
        (["calibrate", "--model", "CELL", "--data", "digits"], "--out"),
    ],
)
def test_an_input_is_not_written_over(
    run: Run, cell: Path, tmp_path: Path, words: list[str], flag: str, kind: str
) -> None:
    names = {"CELL": str(cell), "OTHER": str(tmp_path / "o.json"), "DIR": str(tmp_path / "d")}
    before = cell.read_bytes()
    ran = run(*[names.get(word, word) for word in words], flag, linked(cell, kind), "--json")
    assert ran.code == 2, ran.err
    assert f"{flag} '" in ran.err
    assert f"is the same file as the input '{cell}', which would be lost" in ran.err
    assert cell.read_bytes() == before
    assert not (tmp_path / "d").exists()


def test_another_place_is_taken(run: Run, cell: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    assert run("instance", "show", cell, "--out", copy).code == 0
    assert run("instance", "show", cell, "--out", copy).code == 0, "what was written may be again"


def test_every_command_with_an_output_is_guarded() -> None:
    """One that is added later as well."""
    found = 0
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for group in groups:
        assert isinstance(group, typer.Typer)
        for command in group.registered_commands:
            body = command.callback
            assert body is not None
            if "out" in body.__annotations__ and command.name not in ("new",):  # new reads nothing
                assert hasattr(body, "__wrapped__"), command.name
                found += 1
    assert found >= 8
