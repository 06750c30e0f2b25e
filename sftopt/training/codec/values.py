"""Quantised values with their scales and tables: the body shared by several codecs.

Body: floor and steps, group size and number of groups (16 bytes), the scales, the symbol table;
the coded words come last in the payload.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.base import CodecConfig, FloatArray, is_whole
from sftopt.training.codec.container import Reader
from sftopt.training.codec.entropy import (
    Decoder,
    Encoder,
    SymbolTable,
    pop_symbols,
    push_symbols,
)
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import (
    SCALE_BITS,
    Rate,
    Scale,
    Symbols,
    group_sizes,
    quantise,
)

_LAYOUT = struct.Struct("<ffII")
"""Layout of the head of coded values: floor, steps, size and number of groups."""


@dataclass(frozen=True)
class QuantisedConfig(CodecConfig):
    """Parameters of stochastic quantisation, shared by several codecs."""

    bits: int = 4
    """q: bits per value, sign included, 2 to 8; what they count is said by ``rate``."""
    rate: str = "levels"
    """``levels``: 2^bits levels. ``entropy``: bits is the entropy per value (eta_q = bits)."""
    group: int | None = None
    """Consecutive elements that share a scale; None: the last dimension (one token)."""

    def faults(self) -> list[str]:
        """List the faults of the shared parameters."""
        faults = []
        if not is_whole(self.bits, 2, 8):
            faults.append(f"bits = {self.bits!r}, 2 to 8 expected")
        if self.rate not in tuple(Rate):
            faults.append(f"rate = {self.rate!r}, one of {', '.join(Rate)} expected")
        if self.group is not None and not is_whole(self.group, 1, 2**31):
            faults.append(f"group = {self.group!r}, a positive number of elements expected")
        return faults


@dataclass(frozen=True)
class CodedValues:
    """Bytes of the body before the coded words, and what went where."""

    body: bytes
    value_bits: float
    scale_bits: float


def quantised(
    values: FloatArray,
    positions: NDArray[np.int64] | None,
    shape: tuple[int, ...],
    config: QuantisedConfig,
    generator: np.random.Generator,
    *,
    from_threshold: bool = False,
) -> Symbols:
    """Quantise ``values``, found at flat ``positions`` (None: all) of a tensor of ``shape``."""
    return quantise(
        values,
        group_sizes(positions, math.prod(shape), group_of(config, shape)),
        bits=config.bits,
        rate=Rate(config.rate),
        from_threshold=from_threshold,
        generator=generator,
    )


def group_of(config: QuantisedConfig, shape: tuple[int, ...]) -> int:
    """Return how many consecutive elements of a tensor of ``shape`` share a scale."""
    return shape[-1] if config.group is None else config.group


def push_values(encoder: Encoder, coded: Symbols, group: int) -> CodedValues:
    """Encode quantised values, whose groups are of ``group`` elements of the tensor."""
    scale = coded.scale
    before = encoder.bits
    table = push_symbols(encoder, coded.symbols, scale.alphabet)
    layout = _LAYOUT.pack(scale.floor, scale.steps, group, coded.sizes.size)
    return CodedValues(
        layout + scale.of_group.astype("<u2").tobytes() + table,
        encoder.bits - before + 8 * len(table),
        float(SCALE_BITS * coded.sizes.size),
    )


@dataclass(frozen=True)
class ValuesBody:
    """The receiver's side of :func:`push_values`, before the coded words."""

    scale: Scale
    group: int
    table: SymbolTable

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Check and take the body."""
        floor, steps, group, groups = reader.unpack(_LAYOUT, "floor, steps and groups")
        if group == 0:
            raise CodecError("payload damaged: groups of no element")
        scale = Scale.read(floor, steps, reader.array("<u2", groups, "group scales"))
        return cls(scale, group, SymbolTable.read(reader, scale.alphabet))

    def pop(self, decoder: Decoder, positions: NDArray[np.int64] | None, elements: int) -> Symbols:
        """Decode the values at ``positions`` (None: all ``elements``)."""
        sizes = group_sizes(positions, elements, self.group)
        if sizes.size != self.scale.of_group.size:
            raise CodecError(
                f"payload damaged: {self.scale.of_group.size} scales for {sizes.size} groups"
            )
        count = elements if positions is None else positions.size
        return Symbols(pop_symbols(decoder, self.table, count), sizes, self.scale)
