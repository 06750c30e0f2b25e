"""Symbol tables by channel class: channels of like spread share a table.

Where channels of different spread meet one step width, a channel's spread tells how large its
levels are; one table for all would pay for not knowing it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.container import Reader
from sftopt.training.codec.entropy import (
    Decoder,
    Encoder,
    SymbolTable,
    fitted_tables,
    joint_symbols,
    pop_symbols,
    push_joint,
    symbols_together,
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
    """Return the mean entropy in bits of an array (rows, channels) of known classes."""
    return _entropy(_counted(levels, classes, int(levels.max()) + 1))


def _counted(symbols: NDArray[np.integer], classes: ClassArray, alphabet: int) -> NDArray[np.int64]:
    """How often each symbol occurs in the channels of each class, shape (classes, alphabet)."""
    number = int(classes.max()) + 1
    places = (classes * alphabet + symbols).ravel()
    return np.bincount(places, minlength=alphabet * number).reshape(number, alphabet)


def _entropy(counts: NDArray[np.int64]) -> float:
    """Mean entropy in bits of symbols counted by class."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    logarithms = np.log2(np.maximum(counts, 1) / totals)
    return float(-(counts * logarithms).sum() / counts.sum())


class SymbolRows(Protocol):
    """Symbols of an array (rows, channels), wherever they are."""

    @property
    def highest(self) -> int:
        """Return the largest symbol's index."""

    def counts(self, classes: ClassArray, alphabet: int) -> NDArray[np.int64]:
        """Return the numbers of each symbol in each class, shape (classes, alphabet)."""

    def joint(self, groups: list[ClassArray], alphabet: int) -> list[NDArray[np.integer]]:
        """Return each group of channels, row after row, as the joint symbols that are coded."""


class HostSymbols:
    """Symbols in a NumPy array (rows, channels)."""

    def __init__(self, symbols: IntArray) -> None:
        self._symbols = symbols

    @property
    def highest(self) -> int:
        """Return the largest symbol's index."""
        return int(self._symbols.max())

    def counts(self, classes: ClassArray, alphabet: int) -> NDArray[np.int64]:
        """Return the numbers of each symbol in each class, shape (classes, alphabet)."""
        return _counted(self._symbols, classes, alphabet)

    def joint(self, groups: list[ClassArray], alphabet: int) -> list[NDArray[np.integer]]:
        """Return each group of channels, row after row, as the joint symbols that are coded."""
        if len(groups) == 1:
            return [joint_symbols(self._symbols.ravel(), alphabet)]
        return [joint_symbols(self._symbols[:, group].ravel(), alphabet) for group in groups]


def push_rows(encoder: Encoder, symbols: SymbolRows, alphabet: int, classes: ClassArray) -> bytes:
    """Encode an array (rows, channels) class by class; returns classes and tables.

    All channels are one class where the tables would cost more than they save.
    """
    counts = symbols.counts(classes, alphabet)
    number = counts.shape[0]
    if number > 1:
        saved = (_entropy(counts.sum(axis=0)[None]) - _entropy(counts)) * int(counts.sum())
        if saved < (number - 1) * _TABLE_BITS + 4.0 * classes.size:
            number = 1
    parts = [bytes([number])]
    if number == 1:
        counts, groups = counts.sum(axis=0)[None], [np.arange(classes.size)]
    else:
        nibbles = np.append(classes, 0) if classes.size % 2 else classes
        parts.append((nibbles[0::2] << 4 | nibbles[1::2]).astype(np.uint8).tobytes())
        groups = [np.flatnonzero(classes == index) for index in range(number)]
    together = symbols_together(alphabet)
    counts[:, 0] += -counts.sum(axis=1) % together  # what the last joint symbols were filled with
    tables, shares = fitted_tables(counts)
    for joint, of_group in zip(symbols.joint(groups, alphabet), shares, strict=True):
        push_joint(encoder, joint, of_group)
    parts += [table.to_bytes() for table in tables]
    return b"".join(parts)


class RowsBody:
    """The receiver's side of :func:`push_rows`."""

    def __init__(self, reader: Reader, channels: int, alphabet: int) -> None:
        number = reader.take(1, "the number of channel classes")[0]
        if not 1 <= number <= MOST_CLASSES:
            raise CodecError(f"payload damaged: {number} channel classes")
        classes = np.zeros(channels, dtype=np.int64)
        if number > 1:
            packed = reader.array("u1", -(-channels // 2), "channel classes")
            classes[:] = np.stack([packed >> 4, packed & 15], axis=1).ravel()[:channels]
            if int(classes.max()) >= number:
                raise CodecError("payload damaged: a channel's class has no table")
        self.groups = [np.flatnonzero(classes == index) for index in range(number)]
        """Channels of each class."""
        self._tables = [SymbolTable.read(reader, alphabet) for _ in range(number)]

    def pop(self, decoder: Decoder, rows: int) -> list[IntArray]:
        """Decode the symbols of each group of channels, shape (rows, channels of the group)."""
        return [
            pop_symbols(decoder, table, rows * group.size).reshape(rows, group.size)
            for group, table in zip(self.groups, self._tables, strict=True)
        ]

    def placed(self, parts: list[IntArray]) -> IntArray:
        """Put what :meth:`pop` gave in the channels' order, symbols of shape (rows, channels)."""
        if len(parts) == 1:
            return parts[0]
        symbols = np.empty((parts[0].shape[0], sum(map(len, self.groups))), dtype=np.int32)
        for group, part in zip(self.groups, parts, strict=True):
            symbols[:, group] = part
        return symbols
