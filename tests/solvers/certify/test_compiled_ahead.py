"""What set-up compiles is all that a search calls: no first run waits within its time limit."""

from __future__ import annotations

import os
import subprocess
import sys

AFTER_SET_UP = """
import sys

from numba.core.dispatcher import Dispatcher

import sftopt
from sftopt.core.families import FAMILIES, generate
from sftopt.solvers.certify.__main__ import compile_all
from tests.point_cells import point_cell
from tests.token_cells import with_token_modes


def compiled():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("sftopt"):
            for each in vars(module).values():
                if isinstance(each, Dispatcher):
                    found[f"{each.py_func.__module__}.{each.py_func.__name__}"] = {
                        str(signature) for signature in each.overloads
                    }
    return found


compile_all()
cells = [generate(family, 3, 1) for family in FAMILIES]
cells += [point_cell(seed) for seed in range(6)]
for family in ("weak-server", "weichen"):
    cells += [with_token_modes(generate(family, devices, 1)) for devices in (6, 40, 400)]
before = compiled()
assert len(before) > 50
for cell in cells:
    sftopt.solve(cell, solver="certify", time_limit=2.0)
for name, signatures in compiled().items():
    for signature in signatures - before.get(name, set()):
        print(name, signature)
"""
"""A process of its own, as what others have compiled in this one would hide what is missing."""


def test_no_search_calls_what_set_up_did_not_compile() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", AFTER_SET_UP], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
