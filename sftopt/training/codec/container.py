"""The envelope of every payload: a versioned, self-describing header and a checksum.

Layout, little-endian: magic ``SFTC``, version, codec id, dtype id, direction, number of
dimensions (one byte each), CRC-32 of all other bytes, the dimensions (4 bytes each), then the
codec's own body. A receiver needs nothing but the bytes to decode a forward payload.

:class:`Reader` trusts nothing: every read is checked against what is there, and the number of
elements against the number of bytes, before anything of that size is allocated.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.errors import CodecError

MAGIC = b"SFTC"
"""First bytes of every payload."""
VERSION = 1
"""Version of the payload format."""
MAX_DIMENSIONS = 8
"""Most dimensions of a tensor that can be coded."""
MAX_ELEMENTS = 2**28
"""Elements a payload may claim unless the receiver allows more; 1 GiB at 32 bit."""
MAX_ELEMENTS_PER_BYTE = 6144
"""Our coders never go below 1.4e-3 bits per element (see ``entropy``): more is a decompression
bomb."""

_FIXED = struct.Struct("<4sBBBBB")
"""Layout of the header before the shape: magic, version and four numbers of one byte."""
_CHECKSUM = struct.Struct("<I")
"""Layout of the CRC-32 behind the header."""
_DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
"""Types of tensors that can be coded; their place here is their number in a payload."""


class Direction(IntEnum):
    """Which way the payload travels."""

    FORWARD = 0
    """An activation, device to server; equation (1)."""
    GRADIENT = 1
    """Its gradient, server to device; equation (2)."""


@dataclass(frozen=True)
class Header:
    """What every payload says about itself."""

    codec_id: int
    dtype: torch.dtype
    direction: Direction
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Return the number of elements of the tensor."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Return the bytes of this header in a payload, checksum included."""
        return _FIXED.size + _CHECKSUM.size + 4 * len(self.shape)


def check_tensor(tensor: torch.Tensor) -> None:
    """Refuse what no payload can carry; raises :class:`CodecError`."""
    if tensor.dtype not in _DTYPES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise CodecError(f"cannot code a tensor of {tensor.dtype}; known: {known}")
    if not 1 <= tensor.dim() <= MAX_DIMENSIONS:
        raise CodecError(f"cannot code {tensor.dim()} dimensions; 1 to {MAX_DIMENSIONS} are known")
    if not 0 < tensor.numel() < 2**31:
        raise CodecError(f"cannot code a tensor of {tensor.numel()} elements; 1 to 2^31 - 1")


def seal(header: Header, parts: Sequence[bytes]) -> bytes:
    """Join header, checksum and ``parts``, one after the other, to the payload."""
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        header.codec_id,
        _DTYPES.index(header.dtype),
        header.direction,
        len(header.shape),
    )
    rest = b"".join([struct.pack(f"<{len(header.shape)}I", *header.shape), *parts])
    return b"".join([fixed, _CHECKSUM.pack(zlib.crc32(rest, zlib.crc32(fixed))), rest])


class Reader:
    """Reads a payload's body in order; every shortfall is a :class:`CodecError`."""

    def __init__(self, payload: bytes, start: int) -> None:
        self._bytes = payload
        self._at = start

    @property
    def left(self) -> int:
        """Return the number of bytes not read yet."""
        return len(self._bytes) - self._at

    def take(self, count: int, what: str) -> bytes:
        """Read the next ``count`` bytes."""
        if count < 0 or count > self.left:
            raise CodecError(f"payload truncated: {what} needs {count} bytes, {self.left} left")
        self._at += count
        return self._bytes[self._at - count : self._at]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        """Read the next fields of a fixed layout."""
        return layout.unpack(self.take(layout.size, what))

    def array(self, dtype: str, count: int, what: str) -> NDArray[Any]:
        """Read the next ``count`` numbers of a little-endian NumPy ``dtype``, read-only."""
        kind = np.dtype(dtype)
        return np.frombuffer(self.take(count * kind.itemsize, what), dtype=kind)

    def end(self) -> None:
        """Raise when bytes are left over."""
        if self.left:
            raise CodecError(f"payload has {self.left} bytes too many")


def unseal(payload: bytes, *, max_elements: int = MAX_ELEMENTS) -> tuple[Header, Reader]:
    """Check a payload; return its header and a reader of the body. Raises :class:`CodecError`
    unless everything adds up.
    """
    payload = bytes(payload)
    if len(payload) < _FIXED.size + _CHECKSUM.size:
        raise CodecError(f"payload truncated: {len(payload)} bytes hold no header")
    magic, version, codec_id, dtype_id, direction, dimensions = _FIXED.unpack_from(payload)
    if magic != MAGIC:
        raise CodecError(f"not a codec payload: it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise CodecError(f"payload version {version}; this release reads version {VERSION}")
    rest = memoryview(payload)[_FIXED.size + _CHECKSUM.size :]
    (stated,) = _CHECKSUM.unpack_from(payload, _FIXED.size)
    if zlib.crc32(rest, zlib.crc32(payload[: _FIXED.size])) != stated:
        raise CodecError("payload corrupt: the checksum does not match")
    if dtype_id >= len(_DTYPES) or direction not in tuple(Direction):
        raise CodecError(f"payload names dtype {dtype_id}, direction {direction}: unknown")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise CodecError(f"payload claims {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are known")
    reader = Reader(payload, _FIXED.size + _CHECKSUM.size)
    shape = reader.unpack(struct.Struct(f"<{dimensions}I"), "the shape")
    elements = math.prod(shape)
    if not 0 < elements <= max_elements:
        raise CodecError(f"payload claims {elements} elements; 1 to {max_elements} are allowed")
    if elements > MAX_ELEMENTS_PER_BYTE * len(payload):
        raise CodecError(f"payload claims {elements} elements in {len(payload)} bytes: impossible")
    return Header(codec_id, _DTYPES[dtype_id], Direction(direction), shape), reader
