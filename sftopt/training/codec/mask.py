"""Coding of the Top-K mask: which elements were kept.

Mask bits are coded eight at a time: a byte's probability follows from the keep rate alone, so the
table is one number. Where the last dimension's channels keep at different rates (they do in
transformers: a few channels hold most of the large values) a byte holds eight rows of one
channel, and the channels are sorted into classes by rate: less than H2 of the mean rate, omega
below 1 in equation (1).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.container import Reader
from sftopt.training.codec.entropy import LEAST_DOUBT, Decoder, Encoder
from sftopt.training.codec.errors import CodecError

BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]

_RATE = struct.Struct("<H")
"""Layout of one keep rate."""
_RATE_STEPS = 65536
"""Keep rates are stored in this part of one."""
_CLASSES = 16
"""Number of classes of channels."""
_CLASS_STEP = 0.5
"""Width of a class in log odds: the loss inside a class stays below 0.3 %."""
_PLAIN = 0
"""Kind of a mask with one keep rate."""
_BY_CHANNEL = 1
"""Kind of a mask with keep rates by class of channel."""
_POPULATION = np.bitwise_count(np.arange(256, dtype=np.uint8))
"""Number of ones in each byte."""


@dataclass(frozen=True)
class MaskModel:
    """Keep rates (in 1/65536) of the classes, and each channel's class; no channels: one class."""

    rates: tuple[int, ...]
    classes: ByteArray | None

    def to_bytes(self) -> bytes:
        """Write kind, rates, and two classes per byte."""
        if self.classes is None:
            return bytes([_PLAIN]) + _RATE.pack(self.rates[0])
        nibbles = np.append(self.classes, 0) if self.classes.size % 2 else self.classes
        packed = (nibbles[0::2] << 4 | nibbles[1::2]).astype(np.uint8)
        rates = b"".join(_RATE.pack(rate) for rate in self.rates)
        return bytes([_BY_CHANNEL]) + rates + packed.tobytes()

    @classmethod
    def read(cls, reader: Reader, channels: int) -> MaskModel:
        """Read the model of a payload whose last dimension is ``channels``."""
        kind = reader.take(1, "the mask's kind")[0]
        if kind == _PLAIN:
            return cls(reader.unpack(_RATE, "the keep rate"), None)
        if kind != _BY_CHANNEL or channels % 8:
            raise CodecError(f"payload damaged: mask kind {kind} for {channels} channels")
        rates = tuple(reader.array("<u2", _CLASSES, "keep rates").tolist())
        packed = reader.array("u1", channels // 2, "channel classes")
        classes = np.stack([packed >> 4, packed & 15], axis=1).ravel()
        return cls(rates, classes)


def push_mask(encoder: Encoder, mask: BoolArray, kept: int, channels: int) -> bytes:
    """Encode a flat mask with ``kept`` ones, rows of ``channels``; returns the model's bytes."""
    return push_mask_bits(encoder, np.packbits(mask), mask.size, kept, channels)


def push_mask_bits(
    encoder: Encoder, bits: ByteArray, elements: int, kept: int, channels: int
) -> bytes:
    """Encode a mask of ``elements`` whose bits are packed as ``np.packbits`` does."""
    plain = MaskModel((_rate(kept, elements),), None)
    if channels % 8 or elements < 64 * channels:
        encoder.push(bits, _byte_probabilities(plain.rates[0]))
        return plain.to_bytes()
    columns = _columns_of_eight_rows(bits, channels)
    model = _by_channel(columns, elements // channels)
    if model is None:
        encoder.push(bits, _byte_probabilities(plain.rates[0]))
        return plain.to_bytes()
    assert model.classes is not None
    for index in range(_CLASSES):
        of_class = columns[:, np.flatnonzero(model.classes == index)]
        encoder.push(of_class.ravel(), _byte_probabilities(model.rates[index]))
    return model.to_bytes()


def pop_mask(decoder: Decoder, model: MaskModel, elements: int, channels: int) -> BoolArray:
    """Decode what :func:`push_mask` wrote; flat, length ``elements``."""
    if model.classes is None:
        coded = decoder.pop(-(-elements // 8), _byte_probabilities(model.rates[0]))
        bits = coded.astype(np.uint8)
    else:
        groups = -(-elements // channels // 8)
        columns = np.empty((groups, channels), dtype=np.uint8)
        for index in range(_CLASSES):
            members = np.flatnonzero(model.classes == index)
            coded = decoder.pop(groups * members.size, _byte_probabilities(model.rates[index]))
            columns[:, members] = coded.reshape(groups, members.size)
        bits = _rows_of_bits(columns, elements // channels)
    return np.unpackbits(bits, count=elements).view(np.bool_)


def _rate(kept: int, elements: int) -> int:
    least = int(_RATE_STEPS * LEAST_DOUBT)
    return min(max(round(_RATE_STEPS * kept / elements), least), _RATE_STEPS - least)


def _byte_probabilities(rate: int) -> NDArray[np.float64]:
    """Probability of each byte of eight independent bits."""
    share = min(max(rate / _RATE_STEPS, LEAST_DOUBT), 1.0 - LEAST_DOUBT)
    by_population = [1.0] * 9
    for ones in range(9):
        for bit in range(8):  # products, not powers: the same on any platform
            by_population[ones] *= share if bit < ones else 1.0 - share
    return np.array(by_population)[_POPULATION]


def _by_channel(columns: ByteArray, rows: int) -> MaskModel | None:
    """Classes of channels by keep rate; None where they do not pay for themselves."""
    kept = np.bitwise_count(columns).sum(axis=0, dtype=np.int64)
    odds = np.log((kept + 0.5) / (rows - kept + 0.5))
    mean = kept.sum() / (rows * kept.size)
    middle = math.log((mean + 1e-9) / (1.0 - mean + 1e-9))
    classes = np.clip(np.rint((odds - middle) / _CLASS_STEP) + _CLASSES // 2, 0, _CLASSES - 1)
    classes = classes.astype(np.uint8)
    members = np.bincount(classes, minlength=_CLASSES) * rows
    kept_by_class = np.bincount(classes, weights=kept, minlength=_CLASSES)
    rates = tuple(
        _rate(int(ones), max(int(size), 1))
        for ones, size in zip(kept_by_class, members, strict=True)
    )
    by_class = sum(
        _bits(ones, size, rate)
        for ones, size, rate in zip(kept_by_class, members, rates, strict=True)
    )
    total = kept.sum()
    plain = _bits(total, rows * kept.size, _rate(int(total), rows * kept.size))
    model = MaskModel(rates, classes)
    return model if by_class + 8 * len(model.to_bytes()) < plain - 32 else None


def _bits(ones: float, size: float, rate: int) -> float:
    share = rate / _RATE_STEPS
    return float(-ones * math.log2(share) - (size - ones) * math.log2(1.0 - share))


def _columns_of_eight_rows(bits: ByteArray, channels: int) -> ByteArray:
    """Bits packed along rows -> bytes of eight rows of one channel, shape (rows/8, channels)."""
    row_bytes = channels // 8
    rows = bits.size // row_bytes
    padded = np.zeros((-(-rows // 8) * 8, row_bytes), dtype=np.uint8)
    padded[:rows] = bits.reshape(rows, row_bytes)
    return _transpose_bits(padded.reshape(-1, 8, row_bytes)).reshape(-1, channels)


def _rows_of_bits(columns: ByteArray, rows: int) -> ByteArray:
    """The inverse of :func:`_columns_of_eight_rows`, flat."""
    groups, channels = columns.shape
    blocks = columns.reshape(groups, channels // 8, 8)
    by_row = _transpose_bits(blocks.transpose(0, 2, 1)).transpose(0, 2, 1)
    return by_row.reshape(groups * 8, channels // 8)[:rows].ravel()


def _transpose_bits(blocks: ByteArray) -> ByteArray:
    """Transpose 8 x 8 bits: (n, 8 rows, m bytes) -> (n, m, 8 columns).

    The three swaps of Hacker's Delight 7-3, eight bytes to a word; first byte = least significant.
    """
    words = np.ascontiguousarray(blocks.transpose(0, 2, 1)).view("<u8")
    for shift, select in ((9, 0x0055005500550055), (18, 0x0000333300003333), (36, 0x0F0F0F0F)):
        swapped = words >> np.uint64(shift)
        swapped ^= words
        swapped &= np.uint64(select)
        words = words ^ swapped
        swapped <<= np.uint64(shift)
        words ^= swapped
    return words.view(np.uint8)
