"""The layout: no file imports itself by way of others."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of files that import one another in a circle."""
    reached = {file: _reached(file, imports) for file in imports}
    found = {
        tuple(sorted(other for other in reached[file] if file in reached[other]))
        for file in imports
        if file in reached[file]
    }
    return [list(group) for group in sorted(found)]


def _reached(file: str, imports: dict[str, set[str]]) -> set[str]:
    """Return every file that ``file`` imports, itself or by way of others."""
    seen: set[str] = set()
    ahead = list(imports[file])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += imports[name]
    return seen


def test_the_package_holds_every_data_file() -> None:
    """What is no Python file is left out of an installation unless pyproject names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = project["tool"]["setuptools"]["package-data"]["sftopt"]
    folder = ROOT / "sftopt"
    data = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert "data/jetson-vit-b.json" in data
    assert [path for path in data if not any(fnmatch(path, name) for name in named)] == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports for types count: what needs a type of its user has the border in the wrong place."""
    graph = grimp.build_graph("sftopt", cache_dir=None)
    imports = {file: graph.find_modules_directly_imported_by(file) for file in graph.modules}
    assert circles(imports) == []


def test_a_circle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}
    assert circles(imports) == [["b", "c"]]
