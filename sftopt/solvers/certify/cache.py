"""Keeps compiled code honest: Numba's file cache looks at one source file, not at its callees.

A function that calls one of another file would be reused after only that other file changed.
Importing this module, before any compiled function, drops the cached code of every file that is
older than the file itself or than one that it imports, directly or not.
"""

from __future__ import annotations

import re
from pathlib import Path

from sftopt.core.kernel_cache import prepare_cache

FOLDERS = ("bound", "plan")
"""The folders whose files hold compiled functions, and their caches."""
IMPORT = re.compile(r"^from sftopt\.solvers\.certify\.([\w.]+) import", re.MULTILINE)
"""An import of a file below this folder."""
SHARED = Path(__file__).parents[2] / "core" / "least_time_compiled.py"
"""Compiled functions outside this folder that they call."""
GUIDANCE = "guidance.py"
"""The file of the named tuples that both folders share: their order of fields is compiled in."""


def drop_stale(root: Path) -> int:
    """Remove cached code below ``root`` older than what it was made of; return how many files."""
    sources = [file for name in FOLDERS for file in sorted((root / name).glob("*.py"))]
    direct = {file: _imported(root, file) for file in sources}
    dropped = 0
    for file in sources:
        newest = max(path.stat().st_mtime for path in _all_of(file, direct))
        for index in (file.parent / "__pycache__").glob(f"{file.stem}.*.nb[ic]"):
            try:
                if index.stat().st_mtime < newest:
                    index.unlink()
                    dropped += 1
            except OSError:
                continue  # another process was faster, or the folder is read-only for good
    return dropped


def _imported(root: Path, file: Path) -> set[Path]:
    """Return the files below ``root``, and the shared ones, that a file imports."""
    found = {SHARED, root / GUIDANCE}
    for module in IMPORT.findall(file.read_text(encoding="utf-8")):
        found.add(root.joinpath(*module.split(".")).with_suffix(".py"))
    return {path for path in found if path.exists()}


def _all_of(file: Path, direct: dict[Path, set[Path]]) -> set[Path]:
    """Return a file and all that it imports, directly or not."""
    found, todo = {file}, [file]
    while todo:
        for path in direct.get(todo.pop(), set()) - found:
            found.add(path)
            todo.append(path)
    return found


drop_stale(Path(__file__).parent)
prepare_cache()
