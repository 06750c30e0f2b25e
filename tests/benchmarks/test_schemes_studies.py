"""The studies of schemes in small: what sft contains never beats it; the grid is fixed."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.studies import schemes_contained, schemes_grid
from benchmarks.studies.schemes_cells import random_cell
from sftopt.core.families import generate
from sftopt.studies.compare import Settings, compare_cell
from sftopt.studies.reproduce.grid import Cell, cells


def test_the_grid_is_fixed() -> None:
    found = cells()
    assert len(found) == len({cell.key for cell in found}) == 75
    assert Counter(cell.family for cell in found) == {
        "jetson-vit-b": 32, "gpt2-e2e": 32, "llama-1b": 6, "weichen": 5
    }  # fmt: skip
    assert {cell.seed for cell in found} == {0}


def test_a_cell_keeps_its_family_s_power_density() -> None:
    plain = generate("jetson-vit-b", 4, 0)
    made = Cell("jetson-vit-b", 4, 5.0, 1.0).instance()
    ratio = made.radio.uplink_bandwidth_hz / plain.radio.uplink_bandwidth_hz
    assert made.radio.uplink_bandwidth_hz == made.radio.downlink_bandwidth_hz == 5e6
    for before, after in zip(plain.devices, made.devices, strict=True):
        assert after.transmit_power_w == pytest.approx(ratio * before.transmit_power_w)
    assert made.server.compute_flops_per_s == 1e12 == 4.0 * made.server.compute_min_flops_per_s
    assert made.server.energy_coefficient_j_s2_per_flop3 == pytest.approx(250e-36)
    assert [mode.label for mode in made.compression.modes][-3:] == ["dense4", "dense8", "none"]
    total = Cell("weichen", 4, 5.0, 1.0).instance()
    given = generate("weichen", 4)
    assert total.devices[0].transmit_power_w == given.devices[0].transmit_power_w
    down = 5e6 / given.radio.downlink_bandwidth_hz
    assert total.server.transmit_power_w == pytest.approx(down * given.server.transmit_power_w)


def test_a_cell_of_the_grid_gives_the_committed_figures() -> None:
    """jetson-vit-b, 4 devices, 5 MHz, 1 TFLOP/s: what a prototype found apart from this code."""
    known = {
        "sft": 69.58373, "int8-best": 190.5433, "splitlora": 690.7871, "sl": 593.883,
        "hsplitlora": 690.4467, "card": 645.9634, "card:w=0.9": 576.4833, "tsflora": 61.39225,
        "device-only": 612.7351, "server-only": 583.542, "int8:shares=best": 201.8475,
    }  # fmt: skip
    rows = compare_cell(Cell("jetson-vit-b", 4, 5.0, 1.0).instance(), list(known), Settings())
    found = {row.scheme: row.round_s for row in rows}
    for name, round_s in known.items():
        assert found[name] == pytest.approx(round_s, rel=2e-4), name
    assert found["one-for-all"] == pytest.approx(95.7515, rel=1e-4)  # the prototype's grid: 96.24


CLOSED = (4, 6, 8, 10, 11, 13, 15, 26, 27, 28, 31, 36)
"""Seeds of 12 random cells of two or three devices whose proof certify closes at once, so that no
clock decides: the study has them all."""


def test_what_sft_contains_never_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemes_contained, "LIMIT_S", 200.0)
    rows = [schemes_contained.row_of(seed) for seed in CLOSED]
    assert len(rows) == len(CLOSED)
    assert all(row["closed"] for row in rows)
    assert schemes_contained.faults(rows) == []
    compared = Counter(name for row in rows for name in row["ratios"])
    assert set(compared) == set(schemes_contained.CONTAINED)
    assert min(compared.values()) >= 2
    assert "Faults: 0." in schemes_contained.page(rows)
    row = next(row for row in rows if row["ratios"])
    name = next(iter(row["ratios"]))
    worse = {**row, "ratios": {name: 0.999}}
    assert schemes_contained.faults([worse]) == [f"seed {row['seed']}: {name} at 0.999 of sft"]
    lacking = {**row, "sft_s": None, "ratios": {}, "refused": []}
    assert len(schemes_contained.faults([lacking])) == 1


def test_tokens_that_are_on_offer_are_contained() -> None:
    """Encoders only; the mode on offer is the scheme's own, with a loss."""
    seeds = [seed for seed in CLOSED if not random_cell(seed).workload.is_decoder][:2]
    rows = [schemes_contained.row_of(seed, tokens=True) for seed in seeds]
    assert schemes_contained.faults(rows) == []
    assert any("tsflora" in row["ratios"] for row in rows)
    assert "| tsflora |" in schemes_contained.page(rows)
    decoder = next(seed for seed in range(50) if random_cell(seed).workload.is_decoder)
    assert random_cell(decoder, tokens=True).hash == random_cell(decoder).hash


def test_random_cells_repeat_and_differ() -> None:
    assert random_cell(3).hash == random_cell(3).hash != random_cell(4).hash


def test_the_page_of_the_grid_counts_what_is_there() -> None:
    base = {"family": "f", "devices": 1, "band_mhz": 5.0, "server_tflops": 1.0, "seed": 0}
    numbers = {"up_bytes": 1.0, "down_bytes": 1.0, "refused": None}
    rows = [
        {**base, "scheme": "sft", "ratio": 1.0, **numbers},
        {**base, "scheme": "splitlora", "ratio": 10.0, **numbers, "up_bytes": 99.0},
        {**base, "scheme": "fedlora", "ratio": 2.0, **numbers, "refused": "device memory"},
    ]
    text = schemes_grid.page(rows)
    assert "| splitlora | 10 | 10 | 10 | 1 | 0 | 1.554 / 18.08 / 162.8 |" in text
    assert "| fedlora | 2 | 2 | 2 | 1 | 1 |" in text
    assert "| 80.2 % less delay | splitlora | 1 of 1 |" in text
    assert "| 93.6 % less traffic | splitlora | 1 of 1 |" in text
