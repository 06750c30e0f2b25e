"""The dead-zone quantiser's compiled loops against the same in plain NumPy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sftopt.training.codec.channels import Channels
from sftopt.training.codec.contexts import entropy_by_class
from sftopt.training.codec.dead_zone import MAX_LEVEL, HostRows, offsets_of, sampled_rows
from sftopt.training.codec.dead_zone_kernels import level_bits, places_of
from sftopt.training.codec.ecsq import Ecsq, EcsqConfig
from sftopt.training.codec.entropy import SymbolTable, fitted_tables

DEAD_ZONE = 0.6
"""Half the zero level's width in steps."""


def rows_of(seed: int, rows: int = 600, channels: int = 40) -> NDArray[np.float32]:
    """Heavy tails, channels of spreads from 1 to a thousand; one is constant."""
    random = np.random.default_rng(seed)
    spreads = np.geomspace(1e-3, 1.0, channels)
    found = random.standard_t(4, (rows, channels)) * spreads + random.normal(size=channels) / 9
    found[:, 3] = 0.25
    return found.astype(np.float32)


def plain_bits(distance: NDArray[np.float32], step: float, classes: NDArray[np.int64]) -> float:
    scaled = distance / np.float32(step) + np.float32(1.0 - DEAD_ZONE)
    levels = np.minimum(scaled, MAX_LEVEL).astype(np.int32)
    return entropy_by_class(levels, classes) + float(np.mean(levels > 0))


@pytest.mark.parametrize("step", [0.002, 0.05, 0.7, 30.0])
def test_bits_are_those_of_numpy_and_nothing_is_left_of_them(step: float) -> None:
    rows = rows_of(0)
    channels, classes = Channels.from_moments(*HostRows(rows).moments(), 0.0)
    distance = np.abs((rows - channels.centre) * channels.inverse)
    first, counts = places_of(classes, MAX_LEVEL)
    shift, most = np.float32(1.0 - DEAD_ZONE), np.float32(MAX_LEVEL)
    found = level_bits(distance, np.float32(step), shift, most, first, counts)
    assert found == pytest.approx(plain_bits(distance, step, classes), rel=1e-12)
    assert not counts.any()


@pytest.mark.parametrize("scaling", [0.0, 1.0])
def test_the_step_is_the_one_that_plain_halving_finds(scaling: float) -> None:
    """Also of a second search, which reuses what the first one counted, and of many rows, of which
    a sample is searched.
    """
    for rows in (rows_of(1), rows_of(2, rows=3000)):
        channels, classes = Channels.from_moments(*HostRows(rows).moments(), scaling)
        sample = rows[sampled_rows(*rows.shape)]
        distance = np.abs((sample - channels.centre) * channels.inverse)
        search = HostRows(rows).step_search(channels, classes, DEAD_ZONE)
        for bits in (1.0, 1.03, 0.3, 3.0):
            low, high = np.log(0.002), np.log(100.0)
            for _ in range(18):
                middle = 0.5 * (low + high)
                if plain_bits(distance, float(np.exp(middle)), classes) > bits:
                    low = middle
                else:
                    high = middle
            assert search(bits) == pytest.approx(float(np.exp(high)), rel=1e-12)


@pytest.mark.parametrize("step", [0.01, 0.4, 5.0])
def test_symbols_and_offsets_are_those_of_plain_numpy(step: float) -> None:
    rows = rows_of(3)
    channels, _ = Channels.from_moments(*HostRows(rows).moments(), 0.0)
    scaled = (rows - channels.centre) * channels.inverse
    distance = np.abs(scaled) * np.float32(1.0 / step)
    levels = np.minimum((distance + np.float32(1.0 - DEAD_ZONE)).astype(np.int32), MAX_LEVEL)
    expected = np.maximum(2 * levels - 1 + (scaled < 0), 0)
    kinds = np.minimum(levels, 3).ravel()
    above = (distance.astype(np.float64) - levels).ravel()
    offsets = offsets_of(
        np.bincount(kinds, minlength=4).astype(np.float64),
        np.bincount(kinds, weights=above, minlength=4).astype(np.float64),
    )
    host = HostRows(rows)
    symbols, found = host.quantised(channels, step, DEAD_ZONE)
    again, _ = host.quantised(channels, step, DEAD_ZONE)  # nothing is used up
    places = np.arange(rows.shape[1])
    alphabet = symbols.highest + 1
    assert symbols.highest == expected.max()
    expected_counts = [np.bincount(expected[:, at], minlength=alphabet) for at in places]
    assert np.array_equal(symbols.counts(places, alphabet), expected_counts)
    assert np.array_equal(again.counts(places, alphabet), expected_counts)
    assert found == pytest.approx(offsets, abs=1)


def test_many_tables_are_fitted_as_one_by_one() -> None:
    """Rows that hold nothing, one symbol alone, few and many."""
    random = np.random.default_rng(4)
    counts = random.poisson(np.geomspace(900.0, 0.01, 70), (5, 70))
    counts[1], counts[2] = 0, 0
    counts[2, 5] = 4000
    tables, shares = fitted_tables(counts)
    for table, of_row, row in zip(tables, shares, counts, strict=True):
        assert table == SymbolTable.fitted(row)
        assert np.array_equal(of_row, table.probabilities())
        assert of_row.sum() == pytest.approx(1.0)
    assert np.all(shares[1] == 1.0 / 70)
    assert shares[2, 5] == pytest.approx(1.0 - 1.0 / 1024.0)


def test_a_payload_does_not_depend_on_what_was_coded_before() -> None:
    """What is kept within one tensor is not kept for the next."""
    first, second = (torch.from_numpy(rows_of(seed)) for seed in (5, 6))
    codec = Ecsq(EcsqConfig(bits=1.0, scaling=0.0))
    alone = codec.encode(second)
    codec.encode(first)
    assert codec.encode(second) == alone
