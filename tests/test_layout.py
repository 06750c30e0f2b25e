"""The layout: no file imports itself by way of others."""

from __future__ import annotations

import grimp


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


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports for types count: what needs a type of its user has the border in the wrong place."""
    graph = grimp.build_graph("sftopt", cache_dir=None)
    imports = {file: graph.find_modules_directly_imported_by(file) for file in graph.modules}
    assert circles(imports) == []


def test_a_circle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}
    assert circles(imports) == [["b", "c"]]
