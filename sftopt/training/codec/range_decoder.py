"""The decoding half of constriction's range coder, compiled: the same symbols in half the time.

The coder's time goes into finding the symbol of a quantile. constriction searches the cumulative
table by halves; here 4096 buckets of quantiles lead straight to it, or to just before it.

The arithmetic is that of constriction 0.5's ``RangeDecoder`` with a ``Categorical`` that is not
perfect (which writes the payloads), to the last bit: 32-bit words, a 64-bit state, probabilities
in 2^-24. Tests hold one against the other, also on damaged words.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.core.kernel_cache import prepare_cache
from sftopt.training.codec.errors import CodecError

prepare_cache()

_PRECISION = 24
"""Bits of a quantile: probabilities are in 2^-24."""
_BUCKET_BITS = 12
"""Leading bits of a quantile by which symbols are looked up."""
_WORD = np.uint64(32)
"""Bits of one word of a payload."""
_RENORMALISE = np.uint64(1 << 32)
"""Width of the range below which the next word is read."""
_LARGEST_TAIL = np.uint64((1 << 33) - 1)
"""Least distance to the range's end that leaves a further symbol uncertain."""
_EVERYTHING = np.uint64(2**64 - 1)
"""Width of the range before the first symbol."""
_LOWER, _RANGE, _POINT, _PLACE = range(4)
"""Places in the state that the compiled loop keeps between two calls."""

IntArray = NDArray[np.int32]


class RangeDecoder:
    """Pops symbols from coded words, first in, first out."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self._words = np.ascontiguousarray(words)
        first = [int(word) for word in self._words[:2]]
        point = (first[0] << 32 if first else 0) | (first[1] if len(first) > 1 else 0)
        self._state = np.array([0, _EVERYTHING, point, len(first)], dtype=np.uint64)

    def pop(self, count: int, probabilities: NDArray[np.float64]) -> IntArray:
        """Decode the next ``count`` symbols, all under one table; raises CodecError for no
        encoder's words.
        """
        symbols = np.empty(count, dtype=np.int32)
        if not _pop(self._words, self._state, cumulative(probabilities), symbols):
            raise CodecError("payload damaged: its coded words cannot be decoded")
        return symbols

    def may_be_at_the_end(self) -> bool:
        """Return whether all words are read and no further symbol is certain."""
        lower, width, point, place = self._state
        tail = np.subtract(point, lower)  # wraps round as it should
        return bool(place == self._words.size and (width == _EVERYTHING or tail < _LARGEST_TAIL))


def cumulative(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return where each symbol's quantiles begin, in 2^-24, and the end: shape (symbols + 1,).

    Every symbol has at least one quantile.
    """
    sums = np.zeros(probabilities.size + 1)
    np.cumsum(probabilities, out=sums[1:])  # in order, as the encoder adds them
    free = 2**_PRECISION - probabilities.size
    starts: NDArray[np.uint32] = (sums * (free / sums[-1])).astype(np.uint32)
    starts += np.arange(starts.size, dtype=np.uint32)
    starts[-1] = 2**_PRECISION
    return starts


@njit(cache=True, error_model="numpy")
def _pop(
    words: NDArray[np.uint32],
    state: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    symbols: IntArray,
) -> bool:
    """Fill ``symbols`` and move ``state`` on; False where the words are no encoder's."""
    shift = np.uint64(_PRECISION - _BUCKET_BITS)
    bucket = np.empty(1 << _BUCKET_BITS, dtype=np.int32)
    symbol = np.int32(0)
    for number in range(1 << _BUCKET_BITS):
        while starts[symbol + 1] <= number << (_PRECISION - _BUCKET_BITS):
            symbol += 1
        bucket[number] = symbol
    lower, width, point, place = state[_LOWER], state[_RANGE], state[_POINT], state[_PLACE]
    for index in range(symbols.size):
        scale = width >> np.uint64(_PRECISION)
        quantile = (point - lower) // scale
        if quantile >> np.uint64(_PRECISION):
            return False
        symbol = bucket[quantile >> shift]
        while np.uint64(starts[symbol + 1]) <= quantile:
            symbol += 1
        symbols[index] = symbol
        start = np.uint64(starts[symbol])
        lower += scale * start
        width = scale * (np.uint64(starts[symbol + 1]) - start)
        if width < _RENORMALISE:
            lower <<= _WORD
            width <<= _WORD
            point <<= _WORD
            if place < words.size:
                point |= np.uint64(words[place])
                place += np.uint64(1)
    state[_LOWER], state[_RANGE], state[_POINT], state[_PLACE] = lower, width, point, place
    return True
