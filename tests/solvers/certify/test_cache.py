"""Compiled code of certify: an edited file drops its own and that of files that import it."""

from __future__ import annotations

import os
from pathlib import Path

from sftopt.solvers.certify.cache import drop_stale

BASE, CALLER, ABOVE, OTHER = "base", "caller", "above", "other"


def made(root: Path) -> dict[str, Path]:
    """Four files, ``above`` importing ``caller`` and that ``base``, each with compiled code."""
    folder = root / "bound"
    (folder / "__pycache__").mkdir(parents=True)
    imports = {CALLER: BASE, ABOVE: CALLER}
    found = {}
    for name in (BASE, CALLER, ABOVE, OTHER):
        text = ""
        if name in imports:
            text = f"from sftopt.solvers.certify.bound.{imports[name]} import function\n"
        source = folder / f"{name}.py"
        source.write_text(text)
        os.utime(source, (1000.0, 1000.0))
        found[name] = folder / "__pycache__" / f"{name}.function-1.py311.nbi"
        found[name].write_text("")
    return found


def test_what_rests_on_an_edited_file_is_dropped_and_no_more(tmp_path: Path) -> None:
    """Also where it rests on it through another file."""
    found = made(tmp_path)
    assert drop_stale(tmp_path) == 0
    newer = found[BASE].stat().st_mtime + 10.0
    os.utime(tmp_path / "bound" / f"{BASE}.py", (newer, newer))
    assert drop_stale(tmp_path) == 3
    assert [name for name, path in found.items() if path.exists()] == [OTHER]
