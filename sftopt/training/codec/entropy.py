"""Lossless coding of symbols: constriction's range coder with compact tables of our own.

One coder serves a whole payload, first in, first out.

A table costs one byte per bin: counts are kept to an eighth of a bit (2^(1/8)), which costs less
than 0.001 bits per symbol. Alphabets longer than the data can pay for share bins. Short alphabets
are coded several symbols at a time: the coder's time goes by calls, not by bits.

No symbol is taken to be likelier than 1 - 1/1024, and a marker follows the last symbol.
So every symbol costs at least 1.4e-3 bits, which bounds how many elements a payload of a given
length can hold, and a receiver that reads on past the end finds the marker gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import constriction
import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.container import Reader
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.range_decoder import RangeDecoder

LEAST_DOUBT = 1.0 / 1024.0
"""No symbol's probability exceeds 1 - LEAST_DOUBT."""
MAX_ALPHABET = 8192
"""Most symbols one table describes."""

_MARKER = np.array([0xC0, 0xDE], dtype=np.int32)
"""Symbols behind the last one: a decoder that went astray does not find them."""
_MARKER_ODDS = np.full(256, 1.0 / 256.0)
"""Probabilities of the marker's symbols."""
_PACKED_ALPHABET = 2048
"""Largest alphabet to which several symbols are joined."""
_SINGLE_BINS = 16
"""Leading symbols that have a bin of their own in a table."""
_EIGHTHS = (
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)
"""Powers of 2 by eighths. Sender and receiver must agree to the last bit on any platform: literals
instead of powers, and whole numbers, whose sums are exact in any order."""
_WEIGHTS = np.array(
    [0.0, *(round(16.0 * step) * 2.0**octave for octave in range(32) for step in _EIGHTHS)][:256]
)
"""The 256 weights that a bin of a table may have, by code."""

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float64]


class Encoder:
    """A queue of symbols; the first pushed is the first popped."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def push(self, symbols: NDArray[np.integer], probabilities: FloatArray) -> None:
        """Encode symbols 0 .. n-1, all under one table of n >= 2 probabilities."""
        self._coder.encode(np.asarray(symbols, dtype=np.int32), _model(probabilities))

    @property
    def bits(self) -> float:
        """Return the length so far in bits, whole words."""
        return float(self._coder.num_bits())

    def to_bytes(self) -> bytes:
        """Add the end marker and return little-endian 32-bit words."""
        self.push(_MARKER, _MARKER_ODDS)
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Decoder:
    """Pops what an :class:`Encoder` pushed; raises :class:`CodecError` for other words."""

    def __init__(self, reader: Reader) -> None:
        if reader.left % 4:
            raise CodecError(f"payload damaged: {reader.left} bytes of coded words, not 4 n")
        words = reader.array("<u4", reader.left // 4, "coded words").astype(np.uint32)
        self._coder = RangeDecoder(words)

    def pop(self, count: int, probabilities: FloatArray) -> IntArray:
        """Decode the next ``count`` symbols."""
        return self._coder.pop(count, probabilities)

    def end(self) -> None:
        """Raise unless exactly what was pushed has been popped."""
        marker = self.pop(_MARKER.size, _MARKER_ODDS)
        if not (np.array_equal(marker, _MARKER) and self._coder.may_be_at_the_end()):
            raise CodecError("payload damaged: its coded words do not end where they should")


def _model(probabilities: FloatArray) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(probabilities, perfect=False)


@dataclass(frozen=True)
class SymbolTable:
    """Probabilities of an alphabet by bins: 16 single symbols, then bins of equal width."""

    alphabet: int
    width: int
    codes: bytes

    @classmethod
    def fitted(cls, counts: NDArray[np.integer]) -> SymbolTable:
        """Fit the table that makes ``counts`` plus itself shortest. ``counts`` is per symbol."""
        return fitted_tables(counts[None])[0][0]

    def probabilities(self) -> FloatArray:
        """Return the probability of each symbol, shape (alphabet,)."""
        codes = np.frombuffer(self.codes, dtype=np.uint8)[None]
        shares: FloatArray = _shares(codes, self.alphabet, self.width)[0]
        return shares

    def to_bytes(self) -> bytes:
        """Write the width (as a power of two), then one byte per bin."""
        return bytes([self.width.bit_length() - 1]) + self.codes

    @classmethod
    def read(cls, reader: Reader, alphabet: int) -> SymbolTable:
        """Read the next table of a payload."""
        power = reader.take(1, "a table's bin width")[0]
        if power > 13:
            raise CodecError(f"payload damaged: bins of 2^{power} symbols")
        width = 1 << power
        return cls(alphabet, width, reader.take(_bin_starts(alphabet, width).size, "a table"))


def fitted_tables(counts: NDArray[np.integer]) -> tuple[list[SymbolTable], FloatArray]:
    """Fit to each row of ``counts``, (tables, alphabet), the table that makes it shortest; return
    the tables and their probabilities, of the same shape.
    """
    number, alphabet = counts.shape
    best: list[SymbolTable | None] = [None] * number
    least, found = np.full(number, np.inf), np.empty((number, alphabet))
    for power in range(14):
        width = 1 << power
        codes = _codes(counts, width)
        shares = _shares(codes, alphabet, width)
        logarithms = np.log2(np.maximum(shares, 2.0**-24))
        bits = 8.0 * codes.shape[1] - (counts * logarithms).sum(axis=1)
        for index in np.flatnonzero(bits < least):
            best[index] = SymbolTable(alphabet, width, codes[index].tobytes())
            found[index], least[index] = shares[index], bits[index]
        if alphabet <= _SINGLE_BINS + width:
            break
    return [table for table in best if table is not None], found  # the first width is finite


def _codes(counts: NDArray[np.integer], width: int) -> NDArray[np.uint8]:
    """The codes of the bins of each row of counts."""
    starts, sizes = _bin_starts(counts.shape[1], width), _bin_sizes(counts.shape[1], width)
    means = np.add.reduceat(counts, starts, axis=1) / sizes
    # mean count 1/16 is the least that is told from none: code 1
    codes = np.where(means > 0, np.rint(8.0 * np.log2(np.maximum(16.0 * means, 1.0))) + 1, 0)
    return np.clip(codes, 0, 255).astype(np.uint8)


def _shares(codes: NDArray[np.uint8], alphabet: int, width: int) -> FloatArray:
    """The probabilities that rows of codes stand for, (tables, alphabet)."""
    weights = np.repeat(_WEIGHTS[codes], _bin_sizes(alphabet, width), axis=1)
    totals = weights.sum(axis=1)
    if not totals.all():
        weights[totals == 0.0] = 1.0
        totals[totals == 0.0] = alphabet
    shares: FloatArray = weights / totals[:, None]
    most = shares.max(axis=1)
    sure = most > 1.0 - LEAST_DOUBT
    if sure.any():
        even = 1.0 / alphabet
        mixed = ((most[sure] - (1.0 - LEAST_DOUBT)) / (most[sure] - even))[:, None]
        shares[sure] = shares[sure] * (1.0 - mixed) + mixed * even
    return shares


@lru_cache(maxsize=256)
def _bin_starts(alphabet: int, width: int) -> NDArray[np.int64]:
    singles = np.arange(min(alphabet, _SINGLE_BINS))
    return np.concatenate([singles, np.arange(_SINGLE_BINS, alphabet, width)])


@lru_cache(maxsize=256)
def _bin_sizes(alphabet: int, width: int) -> NDArray[np.int64]:
    return np.diff(_bin_starts(alphabet, width), append=alphabet)


def push_symbols(encoder: Encoder, symbols: NDArray[np.integer], alphabet: int) -> bytes:
    """Encode ``symbols`` (0 .. alphabet-1, flat); returns the table the receiver needs."""
    joint = joint_symbols(symbols, alphabet)
    tables, shares = fitted_tables(_counts(joint, alphabet, symbols_together(alphabet))[None])
    push_joint(encoder, joint, shares[0])
    return tables[0].to_bytes()


def push_joint(encoder: Encoder, joint: NDArray[np.integer], probabilities: FloatArray) -> None:
    """Encode what :func:`joint_symbols` made of symbols of these probabilities, (alphabet,)."""
    together = symbols_together(probabilities.size)
    encoder.push(joint, _joint_probabilities(probabilities, together))


def pop_symbols(decoder: Decoder, table: SymbolTable, count: int) -> IntArray:
    """Decode ``count`` symbols written by :func:`push_symbols`."""
    together = symbols_together(table.alphabet)
    joint = decoder.pop(
        -(-count // together), _joint_probabilities(table.probabilities(), together)
    )
    if together == 1:
        return joint
    symbols: IntArray = _split(table.alphabet, together).take(joint, axis=0).ravel()[:count]
    return symbols


@lru_cache(maxsize=256)
def _split(alphabet: int, together: int) -> IntArray:
    """The single symbols of each joint one, (joint symbols, together)."""
    powers = alphabet ** np.arange(together - 1, -1, -1)
    split = np.arange(alphabet**together)[:, None] // powers % alphabet
    return split.astype(np.int32)


@lru_cache(maxsize=256)
def symbols_together(alphabet: int) -> int:
    """Return the number of symbols that are coded at a time."""
    together = 1
    while alphabet ** (together + 1) <= _PACKED_ALPHABET:
        together += 1
    return together


def joint_symbols(symbols: NDArray[np.integer], alphabet: int) -> IntArray:
    """Join flat symbols that are coded at a time to one symbol each, zeros appended to the last."""
    together = symbols_together(alphabet)
    missing = -symbols.size % together
    if missing:
        symbols = np.concatenate([symbols, np.zeros(missing, dtype=symbols.dtype)])
    columns = symbols.reshape(-1, together)
    joint = columns[:, 0].astype(np.int32)
    for column in range(1, columns.shape[1]):
        joint *= alphabet
        joint += columns[:, column]
    return joint


def _counts(joint: IntArray, alphabet: int, together: int) -> NDArray[np.int64]:
    """How often each single symbol occurs, padding included."""
    table = np.bincount(joint, minlength=alphabet**together).reshape([alphabet] * together)
    counts = np.zeros(alphabet, dtype=np.int64)
    for axis in range(together):
        counts += table.sum(axis=tuple(other for other in range(together) if other != axis))
    return counts


def _joint_probabilities(probabilities: FloatArray, together: int) -> FloatArray:
    joint = probabilities
    for _ in range(together - 1):
        joint = np.multiply.outer(joint, probabilities).ravel()
    return joint
