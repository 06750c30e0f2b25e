"""What a release needs beside the code: a forge that calls the gate, versions that agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_forge_runs_the_gate_and_nothing_else() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["gate"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["sh .ci/run"]


def test_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    for hook in hooks["repos"][0]["hooks"]:
        assert hook["entry"].startswith(".venv/bin/")


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+)", changes, flags=re.MULTILINE)
    assert released[0] == PROJECT["version"]


def test_every_dependency_says_why_it_is_there() -> None:
    """Each line of a dependency in pyproject.toml has a comment, or is a tool of development."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    part = text.partition("dependencies = [")[2].partition("]\n")[0]
    lines = [line.strip() for line in part.splitlines() if line.strip().startswith('"')]
    assert len(lines) > 10
    assert [line for line in lines if "# " not in line] == []
