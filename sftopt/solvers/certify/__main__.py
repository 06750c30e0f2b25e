"""``python -m sftopt.solvers.certify``: compile its code once, so that no run waits for it."""

from __future__ import annotations

import time

import numpy as np

from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.solvers.certify.bound.analytic_centre import analytic_centre
from sftopt.solvers.certify.bound.apart import bound_apart
from sftopt.solvers.certify.bound.arrays import (
    MULTIPLIERS,
    Box,
    empty_bounds,
    every_place,
    with_every_place,
)
from sftopt.solvers.certify.bound.bound_data import build_bound_data
from sftopt.solvers.certify.bound.knapsack import knapsack_bounds, new_room
from sftopt.solvers.certify.first_nodes import whole_region
from sftopt.solvers.certify.guidance import Multipliers, TimesAndPrices
from sftopt.solvers.run import solve

FAMILIES = ("jetson-vit-b", "weichen", "llama-1b", "tight-accuracy", "strong-server")
"""Between them: both power laws, both server orders, scopes mean and each, both adapter roads."""

MODE = {"kind": "topk", "bits": 4}
"""A mode with a free keep fraction."""
POINTS = [
    {"kind": "dense", "bits": 8, "name": "fine", "loss": 0.004},
    {"kind": "dense", "bits": 2, "name": "rough", "loss": 0.03},
]
"""Operating points beside it."""


def compile_all() -> float:
    """Solve one small cell of every variant; the seconds it took."""
    began = time.monotonic()
    cells = [generate(name, 4, 0) for name in FAMILIES]
    cells.append(generate(FAMILIES[0], 320, 0))  # from 250 devices on options are merged
    common = cells[0].accuracy.model_copy(update={"scope": AccuracyScope.COMMON})
    cells.append(Instance.model_validate(cells[0].model_copy(update={"accuracy": common})))
    for family in FAMILIES[1::-1]:  # both power laws; bounds of choices without tangents come last
        cells.append(generate(family, 4, 0).replace(**{"compression.modes": [MODE, *POINTS]}))
    for cell in cells:
        solve(cell, solver="certify", time_limit=None, rel_gap=1e-2)
    _compile_choices(cells[-1])
    return time.monotonic() - began


def _compile_choices(cell: Instance) -> None:
    """Bound one box with the mean loss kept exactly, and do what its branching does.

    A search of so small a cell may end without.
    """
    derived = derive(cell)
    data = build_bound_data(derived)
    region, top = whole_region(derived, data), 2.0 * float(data.s1.max() + data.s5.max())
    places = every_place(data, region)
    with_every_place(places, places, np.ones(len(cell.devices), dtype=np.bool_))
    n, box = len(cell.devices), Box(top, top, top, top, 0.0)
    knapsack_bounds(
        data, region, places, box,
        Multipliers(1.0, 1.0, 1.0, 0.0), np.inf, False, empty_bounds(), new_room(data, 1, 1, 1),
    )  # fmt: skip
    bound_apart(
        data, region, box, False, np.zeros((1, n), dtype=np.int64), np.ones((1, n)),
        np.ones((1, len(TimesAndPrices._fields))), np.empty(1),
    )  # fmt: skip
    planes, one = np.ones((1, MULTIPLIERS + 1)), np.ones(1)
    analytic_centre(planes, 0.5 * one, 2.0 * one, one, 0.0, np.empty(1), np.zeros(1))


if __name__ == "__main__":
    print(f"certify: compiled in {compile_all():.0f} s")
