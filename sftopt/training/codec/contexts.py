"""Symbol tables by channel class: channels of like spread share a table.

Where channels of different spread meet one step width, a channel's spread tells how large its
levels are; one table for all would pay for not knowing it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.container import Reader
from sftopt.training.codec.entropy import (
    Decoder,
    Encoder,
    SymbolTable,
    pop_symbols,
    push_symbols,
)
from sftopt.training.codec.errors import CodecError

IntArray = NDArray[np.int32]
ClassArray = NDArray[np.int64]

MOST_CLASSES = 16
"""Most classes of channels."""
_PER_OCTAVE = 2.0
"""Classes per octave of spread."""
_TABLE_BITS = 8.0 * 24
"""What a table costs, about."""


def classes_of(spreads: NDArray[np.float64]) -> ClassArray:
    """Sort channels into classes by the spread of their values, half an octave each, from 0 up."""
    logarithms = np.log2(np.maximum(spreads, 1e-30))
    middle = np.median(logarithms)
    steps = np.rint(_PER_OCTAVE * (logarithms - middle))
    clipped = np.clip(steps, -MOST_CLASSES // 2, MOST_CLASSES // 2 - 1)
    _, classes = np.unique(clipped, return_inverse=True)
    return classes.astype(np.int64)


def entropy_by_class(levels: NDArray[np.integer], classes: ClassArray) -> float:
    """Return the mean entropy in bits of an array (rows, channels) whose channels' classes are
    known.
    """
    size = int(levels.max()) + 1
    counts = np.bincount((classes * size + levels).ravel(), minlength=size * (classes.max() + 1))
    counts = counts.reshape(-1, size)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    logarithms = np.log2(np.maximum(counts, 1) / totals)
    return float(-(counts * logarithms).sum() / levels.size)


def push_rows(encoder: Encoder, symbols: IntArray, alphabet: int, classes: ClassArray) -> bytes:
    """Encode an array (rows, channels) class by class; returns classes and tables.

    All channels are one class where the tables would cost more than they save.
    """
    number = int(classes.max()) + 1
    if number > 1:
        one = entropy_by_class(symbols, np.zeros_like(classes))
        saved = (one - entropy_by_class(symbols, classes)) * symbols.size
        if saved < (number - 1) * _TABLE_BITS + 4.0 * classes.size:
            number = 1
    if number == 1:
        return bytes([1]) + push_symbols(encoder, symbols.ravel(), alphabet)
    nibbles = np.append(classes, 0) if classes.size % 2 else classes
    parts = [bytes([number]), (nibbles[0::2] << 4 | nibbles[1::2]).astype(np.uint8).tobytes()]
    for index in range(number):
        members = np.flatnonzero(classes == index)
        parts.append(push_symbols(encoder, symbols[:, members].ravel(), alphabet))
    return b"".join(parts)


class RowsBody:
    """The receiver's side of :func:`push_rows`."""

    def __init__(self, reader: Reader, channels: int, alphabet: int) -> None:
        number = reader.take(1, "the number of channel classes")[0]
        if not 1 <= number <= MOST_CLASSES:
            raise CodecError(f"payload damaged: {number} channel classes")
        self._classes = np.zeros(channels, dtype=np.int64)
        if number > 1:
            packed = reader.array("u1", -(-channels // 2), "channel classes")
            self._classes[:] = np.stack([packed >> 4, packed & 15], axis=1).ravel()[:channels]
            if int(self._classes.max()) >= number:
                raise CodecError("payload damaged: a channel's class has no table")
        self._tables = [SymbolTable.read(reader, alphabet) for _ in range(number)]

    def pop(self, decoder: Decoder, rows: int) -> IntArray:
        """Decode the array of levels, shape (rows, channels), in units of the step."""
        channels = self._classes.size
        if len(self._tables) == 1:
            return pop_symbols(decoder, self._tables[0], rows * channels).reshape(rows, channels)
        symbols = np.empty((rows, channels), dtype=np.int32)
        for index, table in enumerate(self._tables):
            members = np.flatnonzero(self._classes == index)
            decoded = pop_symbols(decoder, table, rows * members.size)
            symbols[:, members] = decoded.reshape(rows, members.size)
        return symbols
