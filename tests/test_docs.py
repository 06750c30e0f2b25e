"""The examples in the documentation run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sftopt.face.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "sftopt/formulations/MODEL.md",
    "sftopt/solvers/certify/DERIVATION.md",
]

CONFIG = """{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6,
"num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522,
"max_position_embeddings": 512}"""
"""A model of 6 blocks, as Hugging Face writes one."""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_readme_commands_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ``sftopt ...`` line of the README's bash blocks, in one folder, as a newcomer would."""
    whole = [block.replace("\\\n", " ") for block in blocks("README.md", "bash")]
    lines = [line for block in whole for line in block.splitlines() if line]
    assert len(lines) >= 8
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(CONFIG)  # the reader's own model
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "sftopt", line
        code = main(words[1:])
        captured = capsys.readouterr()
        assert code == 0, f"{line}\n{captured.out}\n{captured.err}"


def test_readme_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("README.md", "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_backticks_exist(page: str) -> None:
    """Paths of this repository that a page mentions are there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:sftopt|tests|benchmarks)/[\w/.]+\.\w+)`", text):
        assert (ROOT / path).exists(), f"{page}: {path}"


def test_every_benchmark_and_every_result_is_explained() -> None:
    """benchmarks/README.md names all of them."""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    code = [
        path
        for part in ("timings", "studies")
        for path in (ROOT / "benchmarks" / part).glob("*.py")
    ]
    pages = list((ROOT / "benchmarks" / "results").glob("*.md"))
    assert len(code) > 10
    assert len(pages) > 5
    named = [*(path.stem for path in code), *(path.name for path in pages)]
    assert [name for name in named if name not in text] == []
