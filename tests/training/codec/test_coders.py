"""The lossless coders: exact, and close to the entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.payload import binary_entropy_bits
from sftopt.training.codec import EcsqConfig, QuantiseConfig, TopKConfig, codec_from
from sftopt.training.codec.container import Reader
from sftopt.training.codec.contexts import (
    HostSymbols,
    RowsBody,
    classes_of,
    entropy_by_class,
    push_rows,
)
from sftopt.training.codec.entropy import (
    Decoder,
    Encoder,
    SymbolTable,
    pop_symbols,
    push_symbols,
)
from sftopt.training.codec.mask import MaskModel, pop_mask, push_mask
from sftopt.training.codec.selection import positions_of, top_k


def mask_round_trip(mask: np.ndarray[tuple[int], np.dtype[np.bool_]], channels: int) -> int:
    """Bytes of model and words, after checking that the mask comes back."""
    encoder = Encoder()
    model = push_mask(encoder, mask, int(np.count_nonzero(mask)), channels)
    payload = model + encoder.to_bytes()
    reader = Reader(payload, 0)
    read = MaskModel.read(reader, channels)
    decoder = Decoder(reader)
    received = pop_mask(decoder, read, mask.size, channels)
    decoder.end()
    assert np.array_equal(received, mask)
    return len(payload)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 200),
    channels=st.integers(1, 40),
    keep=st.floats(0.0, 1.0),
    uneven=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_masks_come_back(rows: int, channels: int, keep: float, uneven: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    odds = generator.beta(0.2, 0.2, channels) if uneven else np.full(channels, keep)
    mask = (generator.random((rows, channels)) < odds).ravel()
    mask_round_trip(mask, channels)
    assert np.array_equal(positions_of(mask, np.count_nonzero(mask)), np.flatnonzero(mask))


@pytest.mark.parametrize("keep", [0.02, 0.05, 0.1, 0.3, 0.5])
def test_even_masks_cost_their_entropy(keep: float) -> None:
    mask = np.random.default_rng(1).random(400 * 768) < keep
    bits = 8 * mask_round_trip(mask, 768)
    entropy = mask.size * binary_entropy_bits(mask.mean())
    assert entropy < bits < 1.002 * entropy + 80


def test_uneven_channels_cost_less_than_h2() -> None:
    generator = np.random.default_rng(2)
    odds = 1.0 / (1.0 + np.exp(3.0 - 1.5 * generator.normal(size=768)))
    mask = generator.random((400, 768)) < odds
    bits = 8 * mask_round_trip(mask.ravel(), 768)
    rates = mask.mean(axis=0)
    by_channel = 400 * sum(binary_entropy_bits(rate) for rate in rates)
    assert bits < 0.85 * mask.size * binary_entropy_bits(mask.mean())
    assert bits < 1.01 * by_channel + 768 * 4 + 16 * 16 + 80


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    alphabet=st.integers(2, 3000),
    count=st.integers(1, 500),
    peak=st.floats(0.01, 0.9),
    seed=st.integers(0, 1000),
)
def test_symbols_come_back(alphabet: int, count: int, peak: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    symbols = np.minimum(generator.geometric(peak, count) - 1, alphabet - 1).astype(np.int32)
    encoder = Encoder()
    table = push_symbols(encoder, symbols, alphabet)
    reader = Reader(table + encoder.to_bytes(), 0)
    read = SymbolTable.read(reader, alphabet)
    decoder = Decoder(reader)
    assert np.array_equal(pop_symbols(decoder, read, count), symbols)
    decoder.end()


@pytest.mark.parametrize("alphabet", [3, 4, 16, 61, 256, 1025])
def test_symbols_cost_their_entropy(alphabet: int) -> None:
    generator = np.random.default_rng(alphabet)
    spread = alphabet / 5.0
    symbols = np.minimum(np.abs(generator.normal(0.0, spread, 200_000)), alphabet - 1)
    symbols = symbols.astype(np.int32)
    shares = np.bincount(symbols, minlength=alphabet) / symbols.size
    shares = shares[shares > 0]
    entropy = -symbols.size * float(shares @ np.log2(shares))
    encoder = Encoder()
    table = push_symbols(encoder, symbols, alphabet)
    assert 8 * len(table + encoder.to_bytes()) < 1.003 * entropy + 100


def rows_round_trip(
    symbols: np.ndarray[tuple[int, int], np.dtype[np.int32]],
    alphabet: int,
    classes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> int:
    """Bytes of tables and words, after checking that the symbols come back."""
    encoder = Encoder()
    payload = push_rows(encoder, HostSymbols(symbols), alphabet, classes) + encoder.to_bytes()
    reader = Reader(payload, 0)
    body = RowsBody(reader, symbols.shape[1], alphabet)
    decoder = Decoder(reader)
    assert np.array_equal(body.placed(body.pop(decoder, symbols.shape[0])), symbols)
    decoder.end()
    return len(payload)


def test_channel_classes_cost_the_entropy_of_each_class() -> None:
    generator = np.random.default_rng(4)
    spreads = np.exp(generator.normal(size=95))
    symbols = np.minimum(np.abs(generator.normal(0.0, spreads, (600, 95))), 30).astype(np.int32)
    classes = classes_of(spreads)
    together = rows_round_trip(symbols, 31, np.zeros_like(classes))
    apart = rows_round_trip(symbols, 31, classes)
    ideal = entropy_by_class(symbols, classes) * symbols.size / 8
    assert ideal < apart < 1.02 * ideal + 30 * 16
    assert apart < 0.9 * together


def test_channel_classes_are_dropped_where_they_do_not_pay() -> None:
    symbols = np.random.default_rng(5).integers(0, 9, (40, 16)).astype(np.int32)
    classes = np.arange(16)
    same = rows_round_trip(symbols, 9, np.zeros_like(classes))
    assert rows_round_trip(symbols, 9, classes) == same


def test_a_table_never_costs_more_than_it_saves() -> None:
    symbols = np.random.default_rng(0).integers(0, 1000, 40).astype(np.int32)
    encoder = Encoder()
    table = push_symbols(encoder, symbols, 1000)
    assert len(table) < 30
    assert 8 * len(table + encoder.to_bytes()) < 40 * np.log2(1000) + 8 * 30 + 64


@pytest.mark.parametrize(
    "config",
    [QuantiseConfig(group=2**22), EcsqConfig(bits=1.0), TopKConfig(keep=1e-6, group=2**22)],
    ids=lambda config: config.codec,
)
def test_the_emptiest_tensors_stay_within_what_receivers_accept(
    config: QuantiseConfig | EcsqConfig,
) -> None:
    tensor = torch.zeros(8, 2**18)
    codec = codec_from(config)
    assert not bool(codec.decode(codec.encode(tensor)).any())


@pytest.mark.parametrize("kept", [1, 1000, 150_000, 199_999, 200_000])
@pytest.mark.parametrize("distinct", [1, 3, 10**6])
def test_top_k_is_the_stable_sort_whatever_is_equal(kept: int, distinct: int) -> None:
    """Against a stable sort by magnitude: of equal ones the first in memory are kept."""
    generator = np.random.default_rng(kept + distinct)
    values = generator.integers(-distinct, distinct + 1, 200_000).astype(np.float32) / 7.0
    found = top_k(values, kept)
    expected = np.sort(np.argsort(-np.abs(values), kind="stable")[:kept])
    assert np.array_equal(found.positions, expected)
    assert np.array_equal(found.values, values[expected])
    assert np.array_equal(np.flatnonzero(found.mask), expected)
