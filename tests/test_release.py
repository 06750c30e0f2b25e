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


def test_the_wheel_is_tried_on_every_python_that_is_named() -> None:
    """By the gate, on the oldest supported one and the two after it."""
    assert ".ci/wheels" in (ROOT / ".ci/run").read_text(encoding="utf-8").split()
    script = (ROOT / ".ci/wheels").read_text(encoding="utf-8")
    assert "set -- 3.11 3.12 3.13" in script
    assert '[ "$bytes" -lt 5000000 ]' in script  # what the weights' 16 bits are for
    assert PROJECT["requires-python"] == ">=3.11"


def test_what_weighs_in_the_wheel_is_known() -> None:
    """Weights and bases hardly shrink: only what runs need is shipped, once, and of the larger
    model 16 bits of each weight. With the code, a megabyte packed, the wheel stays below 5 MB.
    """
    from safetensors import safe_open

    models = ROOT / "sftopt/data/models"
    files = sorted(models.rglob("*.safetensors"))
    assert [file.relative_to(models).as_posix() for file in files] == [
        "digit-scenes/boundary_bases.safetensors",
        "digit-scenes/model.safetensors",
        "stdlib-bytes/boundary_bases.safetensors",
        "stdlib-bytes/model.safetensors",
    ]
    contents: list[bytes] = []
    for file in files:
        with safe_open(file, framework="np") as tensors:
            contents += [tensors.get_tensor(name).tobytes() for name in tensors.keys()]  # noqa: SIM118
    large = [content for content in contents if len(content) > 4_096]
    assert len(set(large)) == len(large)  # no matrix twice, as of tied embeddings
    others = sum(
        file.stat().st_size
        for file in (ROOT / "sftopt").rglob("*")
        if file.is_file() and file.suffix in {".json", ".toml", ".md", ".html", ".css", ".js"}
    )
    assert sum(map(len, contents)) < 3.4e6
    assert others < 0.6e6
