"""Keeps compiled code honest: Numba's file cache looks at one source file, not at its callees.

A function that calls one of another file would be reused after only that other file changed.
Importing this module, before any compiled function, drops cached code that is older than the newest
of these files.
"""

from __future__ import annotations

from pathlib import Path

from sftopt.core.kernel_cache import prepare_cache

FOLDERS = ("bound", "plan")
"""The folders whose files hold compiled functions, and their caches."""
SHARED = Path(__file__).parents[2] / "core" / "least_time_compiled.py"
"""Compiled functions outside this folder that they call."""
GUIDANCE = "guidance.py"
"""The file of the named tuples that both folders share: their order of fields is compiled in."""


def drop_stale(root: Path) -> int:
    """Remove cached code below ``root`` older than the newest source; return how many files."""
    folders = [root / name for name in FOLDERS]
    sources = [
        SHARED,
        root / GUIDANCE,
        *(file for folder in folders for file in folder.glob("*.py")),
    ]
    newest = max(source.stat().st_mtime for source in sources)
    dropped = 0
    for index in (file for folder in folders for file in (folder / "__pycache__").glob("*.nb[ic]")):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
                dropped += 1
        except OSError:
            continue  # another process was faster, or the folder is read-only and never changes
    return dropped


drop_stale(Path(__file__).parent)
prepare_cache()
