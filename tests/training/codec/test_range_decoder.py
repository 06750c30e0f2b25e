"""The compiled decoder against constriction's own: symbols, ends, words that no encoder wrote."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.range_decoder import RangeDecoder, cumulative

Words = NDArray[np.uint32]


def model(probabilities: NDArray[np.float64]) -> constriction.stream.model.Categorical:
    """The table as the encoder takes it."""
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def table(seed: int, alphabet: int, spread: float) -> NDArray[np.float64]:
    """Probabilities over many octaves, some of them zero."""
    generator = np.random.default_rng(seed)
    weights = np.exp2(-spread * generator.random(alphabet))
    weights[generator.random(alphabet) < 0.1] = 0.0
    weights[generator.integers(alphabet)] = 1.0
    found: NDArray[np.float64] = weights / weights.sum()
    return found


def theirs(
    words: Words, tables: list[NDArray[np.float64]], count: int
) -> tuple[list[int], bool] | None:
    """Symbols and whether that may be all; None where constriction finds the words damaged."""
    decoder = constriction.stream.queue.RangeDecoder(words)
    symbols: list[int] = []
    try:
        for one in tables:
            symbols += decoder.decode(model(one), count).tolist()
    except AssertionError:
        return None
    return symbols, decoder.maybe_exhausted()


def ours(
    words: Words, tables: list[NDArray[np.float64]], count: int
) -> tuple[list[int], bool] | None:
    """The same by the compiled decoder."""
    decoder = RangeDecoder(words)
    symbols: list[int] = []
    try:
        for one in tables:
            symbols += decoder.pop(count, one).tolist()
    except CodecError:
        return None
    return symbols, decoder.may_be_at_the_end()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    alphabet=st.sampled_from([2, 3, 16, 256, 2048, 8192]),
    spread=st.floats(0.0, 30.0),
    count=st.integers(0, 3000),
)
def test_what_constriction_writes_is_read(
    seed: int, alphabet: int, spread: float, count: int
) -> None:
    tables = [table(seed, alphabet, spread), table(seed + 1, 5, 3.0)]
    generator = np.random.default_rng(seed)
    encoder = constriction.stream.queue.RangeEncoder()
    written: list[int] = []
    for one in tables:
        # also symbols of probability zero: they are coded, at 24 bits
        symbols = generator.integers(one.size, size=count).astype(np.int32)
        likely = generator.choice(one.size, size=count, p=one).astype(np.int32)
        symbols = np.where(generator.random(count) < 0.9, likely, symbols).astype(np.int32)
        encoder.encode(symbols, model(one))
        written += symbols.tolist()
    assert ours(encoder.get_compressed(), tables, count) == (written, True)


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.integers(0, 2**32 - 1), max_size=40),
    alphabet=st.sampled_from([2, 7, 256, 1025]),
    count=st.integers(0, 60),
)
def test_any_words_give_what_they_give_there(words: list[int], alphabet: int, count: int) -> None:
    tables = [table(1, alphabet, 12.0), table(2, 3, 1.0)]
    given_words = np.array(words, dtype=np.uint32)
    assert ours(given_words, tables, count) == theirs(given_words, tables, count)


@pytest.mark.parametrize("seed", range(5))
def test_tables_have_the_same_edges(seed: int) -> None:
    """The first quantile is the first 24 bits: set to each edge and to just below it."""
    probabilities = table(seed, 300, 16.0)
    first_scale = 2**40 - 1
    edges = cumulative(probabilities).astype(int)
    assert edges[0] == 0
    assert edges[-1] == 2**24
    assert np.all(np.diff(edges) >= 1)
    for edge in edges[1:-1]:
        for quantile in (edge - 1, edge):
            point = int(quantile) * first_scale
            words = np.array([point >> 32, point & 0xFFFFFFFF], dtype=np.uint32)
            assert ours(words, [probabilities], 1) == theirs(words, [probabilities], 1)


def test_there_are_words_that_no_encoder_writes() -> None:
    """Or the tests above would show nothing of them."""
    words = np.full(2, 2**32 - 1, dtype=np.uint32)
    assert theirs(words, [table(0, 4, 1.0)], 1) is None
    with pytest.raises(CodecError, match="cannot be decoded"):
        RangeDecoder(words).pop(1, table(0, 4, 1.0))
