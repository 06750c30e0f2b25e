"""A speed that people set takes its range and its energy along; what they set beside it stands."""

from __future__ import annotations

import pytest

import sftopt
from sftopt.core.carried import carried, carried_note
from sftopt.core.sense import sense_warnings

CELL = sftopt.load("jetson-vit-b")
SPEED = "server.compute_flops_per_s"
LEAST, MOST = "server.compute_min_flops_per_s", "server.compute_max_flops_per_s"
KAPPA = "server.energy_coefficient_j_s2_per_flop3"


def test_the_server_draws_the_power_that_it_drew_and_keeps_its_range() -> None:
    moved = carried(CELL, {SPEED: 4e13})
    cell = CELL.replace(**{SPEED: 4e13}, **moved)
    before, after = CELL.server, cell.server
    for name in ("compute_min_flops_per_s", "compute_max_flops_per_s"):
        ratio = getattr(before, name) / before.compute_flops_per_s
        assert getattr(after, name) / 4e13 == pytest.approx(ratio)
    watts = [
        one.energy_coefficient_j_s2_per_flop3 * one.compute_flops_per_s**3
        for one in (before, after)
    ]
    assert watts[1] == pytest.approx(watts[0])
    assert list(sense_warnings(cell)) == []
    assert "compute_max_flops_per_s" in carried_note(moved)


def test_what_is_set_beside_the_speed_stands() -> None:
    moved = carried(CELL, {SPEED: 4e13, MOST: 8e13, KAPPA: 1e-38})
    assert set(moved) == {LEAST}


def test_a_device_draws_what_it_drew() -> None:
    device = CELL.devices[2]
    path = f"devices[{device.id}].compute_flops_per_s"
    moved = carried(CELL, {path: 2.0 * device.compute_flops_per_s})
    kappa = f"devices[{device.id}].energy_coefficient_j_s2_per_flop3"
    assert moved == {kappa: pytest.approx(device.energy_coefficient_j_s2_per_flop3 / 8.0)}


@pytest.mark.parametrize(
    "edits",
    [
        {"server.memory_bytes": 1e10},
        {SPEED: CELL.server.compute_flops_per_s},
        {"devices[nobody].compute_flops_per_s": 1e12},
        {SPEED: "fast"},
        {SPEED: -1.0},
    ],
)
def test_nothing_else_moves(edits) -> None:
    assert carried(CELL, edits) == {}
    assert carried_note({}) is None


def test_a_cell_without_a_range_gets_none() -> None:
    cell = sftopt.load("gpt2-e2e")
    assert carried(cell, {SPEED: 1e15}) == {}
