"""The layout: which files a folder may hold, how long they are, and no imports in a circle.

``layout.txt`` lists every file with a clause that says what it is for, under the folder's line that
says what belongs there. Whoever adds a file adds its line: where no folder's line fits, the file
wants another place, or the layout another room.
"""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]

FOLDERS = ("sftopt", "benchmarks", "docs", "examples", "tests")
"""Folders whose files are listed."""

LAYOUT = ROOT / "tests" / "layout.txt"
"""``PATH  CLAUSE``; a folder's path ends in a slash; ``*`` stands for any name of a file."""

MOST_LINES = 400
"""Lines of a Python file; a longer one has more than one job."""

LONGER = {
    "sftopt/studies/prices.py": (410, "prices of five resources at one plan, by one method"),
    "tests/solvers/engines/test_backends.py": (440, "one table of cases for all engines"),
    "tests/solvers/test_judging.py": (443, "every way in which a point is confirmed or refused"),
}
"""Files that may be longer, by how many lines and why. May only shrink."""


def parsed(text: str) -> dict[str, str]:
    """Return the clause of every path."""
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    short = [line for line, pair in zip(lines, pairs, strict=True) if len(pair) < 2]
    assert not short, f"lines without a clause: {short}"
    paths = [path for path, _ in pairs]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    assert not twice, f"listed twice: {twice}"
    return dict(zip(paths, (clause for _, clause in pairs), strict=True))


def files() -> list[str]:
    """Return the path of every file in the listed folders, but for caches."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    caches = {"__pycache__", ".pytest_cache"}
    kept = (
        path
        for path in found
        if path.is_file() and not caches & set(path.parts) and not path.name.startswith(".")
    )
    return sorted(path.relative_to(ROOT).as_posix() for path in kept)


def faults_of(paths: list[str], layout: dict[str, str]) -> list[str]:
    """Return what does not fit: files without a line, lines without a file."""
    names = [name for name in layout if not name.endswith("/")]
    faults = []
    for path in paths:
        if not any(fnmatch(path, name) for name in names):
            folder = path.rsplit("/", 1)[0] + "/"
            holds = layout.get(folder, "a folder without a line")
            faults.append(
                f"{path} has no line in tests/layout.txt. {folder} is for: {holds}. If the file "
                "is that, add its line there; else see which folder's line fits it."
            )
    for name in names:
        if not any(fnmatch(path, name) for path in paths):
            faults.append(f"{name} is in tests/layout.txt, but there is no such file")
    folders = {path.rsplit("/", 1)[0] + "/" for path in paths}
    listed = {name for name in layout if name.endswith("/")}
    faults += [f"{folder} has no line in tests/layout.txt" for folder in sorted(folders - listed)]
    faults += [f"{folder} is listed, but holds no file" for folder in sorted(listed - folders)]
    return faults


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


def test_every_file_is_in_its_place() -> None:
    faults = faults_of(files(), parsed(LAYOUT.read_text(encoding="utf-8")))
    assert not faults, "\n".join(faults)


def test_a_file_out_of_place_is_told_where_it_belongs() -> None:
    layout = {"a/": "models", "a/x.py": "a model", "b/": "engines", "b/y.py": "an engine"}
    (fault,) = faults_of(["a/x.py", "a/z.py", "b/y.py"], layout)
    assert "a/z.py has no line" in fault
    assert "a/ is for: models" in fault
    (fault,) = faults_of(["a/x.py"], {**layout, "b/y.py": "an engine"})[:1]
    assert "b/y.py is in tests/layout.txt, but there is no such file" in fault


def test_files_are_short() -> None:
    lengths = {
        path: len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in files()
        if path.endswith(".py")
    }
    long = [
        f"{path}: {length} lines, at most {LONGER.get(path, (MOST_LINES, ''))[0]}"
        for path, length in lengths.items()
        if length > LONGER.get(path, (MOST_LINES, ""))[0]
    ]
    assert not long, "\n".join(["longer than one job needs; split them:", *long])


@pytest.mark.parametrize("path", sorted(LONGER))
def test_a_longer_file_is_still_longer(path: str) -> None:
    """The exceptions shrink with the files."""
    length = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert length > MOST_LINES


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
