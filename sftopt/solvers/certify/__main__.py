"""``python -m sftopt.solvers.certify``: compile its code once, so that no run waits for it."""

from __future__ import annotations

import time

from sftopt.core.families import generate
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.solvers.run import solve

FAMILIES = ("jetson-vit-b", "weichen", "llama-1b", "tight-accuracy", "strong-server")
"""Between them: both power laws, both server orders, scopes mean and each, both adapter roads."""


def compile_all() -> float:
    """Solve one small cell of every variant; the seconds it took."""
    began = time.monotonic()
    cells = [generate(name, 4, 0) for name in FAMILIES]
    cells.append(generate(FAMILIES[0], 320, 0))  # from 250 devices on options are merged
    common = cells[0].accuracy.model_copy(update={"scope": AccuracyScope.COMMON})
    cells.append(Instance.model_validate(cells[0].model_copy(update={"accuracy": common})))
    for cell in cells:
        solve(cell, solver="certify", time_limit=None, rel_gap=1e-2)
    return time.monotonic() - began


if __name__ == "__main__":
    print(f"certify: compiled in {compile_all():.0f} s")
