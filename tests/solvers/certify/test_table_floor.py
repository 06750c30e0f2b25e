"""The bound by tables alone: never above the exact one, and near it."""

from __future__ import annotations

import numpy as np
import pytest

from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.solvers.certify.bound.arrays import (
    Box,
    empty_bounds,
    every_place,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.bound_data import build_bound_data
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.table_floor import table_floor
from sftopt.solvers.certify.bound.tables import with_tables
from sftopt.solvers.certify.first_nodes import whole_region
from sftopt.solvers.certify.guidance import Multipliers


@pytest.mark.parametrize("family", ["jetson-vit-b", "llama-1b", "strong-server", "tight-memory"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_below_the_exact_bound_and_near_it(family: str, seed: int) -> None:
    """At boxes and multipliers from sensible to absurd, tables ranged for others."""
    draw = np.random.default_rng(seed)
    derived = derive(generate(family, 2 + seed, seed))
    data = build_bound_data(derived)
    region = whole_region(derived, data)
    live = every_place(data, region)
    top = 2.0 * float(max(data.s1.max(), data.s5.max()))
    prices = Multipliers(*(10.0 ** draw.uniform(-1.0, 2.0, 3)).tolist(), 0.0)
    tabled = with_tables(data, 3, prices, top, top)
    assert len(tabled.tables)
    near = 0
    for _ in range(60):
        wide = 10.0 ** draw.uniform(-4.0, 0.0)
        up, down = top * draw.uniform(0.3, 1.5, 2)
        box = Box(up, up * (1.0 + wide), down, down * (1.0 + wide), 0.1)
        spread = draw.choice([0.2, 3.0])
        m = Multipliers(*(np.array(prices) * np.exp(draw.normal(0.0, spread, 4))).tolist())
        out = empty_bounds()
        box_bounds(tabled, region, live, box, m, out, no_record(), 0, no_listing())
        exact = float(out.values.min())
        found = table_floor(tabled, region, live, box, m)
        size = abs(exact) + sum(m) if np.isfinite(exact) else np.inf
        assert found <= exact + 1e-11 * size
        near += bool(found >= exact - 0.02 * size)
    assert near >= 15


@pytest.mark.parametrize("family", ["jetson-vit-b", "weichen"])
def test_it_says_nothing_where_it_is_not_proven(family: str) -> None:
    """Without tables, and where shares are no multiple of the rate."""
    derived = derive(generate(family, 4, 1))
    data = build_bound_data(derived)
    assert data.total == (family == "weichen")
    region, m = whole_region(derived, data), Multipliers(1.0, 1.0, 10.0, 0.0)
    top = 2.0 * float(data.s1.max() + data.s5.max())
    box = Box(top, top, top, top, 0.0)
    assert table_floor(data, region, every_place(data, region), box, m) == -np.inf
