"""Every code and shell block of the documentation runs as it stands, page by page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CELL = "{code-cell} ipython3"
"""A block of Python of a tutorial that is a notebook: `make docs` shows what comes of it."""
BLOCK = re.compile(
    rf"^```(bash|python|{re.escape(CELL)})\n(.*?)^```", flags=re.MULTILINE | re.DOTALL
)
"""What is run: set-up commands that a reader types once stand in blocks called ``sh``."""
FENCE = re.compile(r"^```+([^\n`]*)$", flags=re.MULTILINE)
SHOWN = {"sh", "text", "json", "toml", "csv", "mermaid", ""}
"""Kinds of blocks that are read, not run; directives stand in braces."""
OWN_TEST = {"tutorials/own-model.md"}
"""Pages that a test of their own runs."""
LIMIT_S = 120
"""Seconds of wall time after which a page hangs."""


def pages() -> list[str]:
    """The pages that hold a block to run."""
    found = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))]
    return [
        page
        for page in found
        if page not in OWN_TEST and BLOCK.search((DOCS / page).read_text(encoding="utf-8"))
    ]


def script_of(page: str) -> str:
    """One Python program of all blocks: Python as it is, bash by bash; variables live on."""
    lines = ["import subprocess as _subprocess"]
    for language, code in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if language == "bash":
            lines.append(
                f"_subprocess.run(['bash', '-eu', '-o', 'pipefail', '-c', {code!r}], check=True)"
            )
        else:
            lines.append(code)
    return "\n".join(lines)


@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("page", pages())
def test_page_runs(page: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    command = tools / "sftopt"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sftopt "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script_of(page)],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join(
                [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
        },
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_no_block_escapes_its_test() -> None:
    """A block of another language is shown only; a new kind is added here on purpose."""
    odd = {}
    for path in sorted(DOCS.rglob("*.md")):
        fences = FENCE.findall(path.read_text(encoding="utf-8"))
        kinds = {kind.strip() for kind in fences if not kind.strip().startswith("{")}
        if kinds - SHOWN - {"bash", "python"}:
            odd[path.name] = kinds - SHOWN - {"bash", "python"}
    assert odd == {}


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            there = (path.parent / target).resolve()
            assert there.exists(), f"{path.name}: {target}"
            # the site has docs/ alone; links of paper-map.md are mended while it is read
            inside = there.is_relative_to(DOCS) or path.name == "paper-map.md"
            assert inside, f"{path.name}: {target} is outside"


NOTEBOOKS = ("compare-schemes", "pyomo-model", "sweep-figure")
"""Tutorials whose cells are executed while the site is built."""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_read_by_jupytext(name: str) -> None:
    """By their front matter: whoever has jupytext opens a tutorial as a notebook."""
    text = (DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["file_format"] == "mystnb"
    assert head["kernelspec"]["name"] == "python3"
    cells = [code for kind, code in BLOCK.findall(text) if kind == CELL]
    assert cells
    assert "```python\n" not in text
    for code in cells:
        compile(code, name, "exec")
