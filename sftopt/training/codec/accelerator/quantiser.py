"""Stochastic quantisation where the tensor is; ``codec.quantiser`` says what it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.accelerator.transfer import fetched, sent
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import (
    BINS,
    LARGEST_PATTERN,
    TINY,
    Rate,
    Scale,
    Symbols,
    from_bfloat16,
    sample_stride,
    steps_for_entropy,
)

MAGNITUDE_BITS = 0x7FFFFFFF
"""All but the sign of a float32's bit pattern."""


@dataclass(frozen=True)
class QuantisedTensor:
    """Symbols and their scale, not fetched yet."""

    symbols: torch.Tensor
    sizes: torch.Tensor
    """Values per group, groups with none included, int32."""
    scales: torch.Tensor
    """bfloat16 bit patterns of the groups, int32."""
    floor: torch.Tensor
    steps: float

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return what :meth:`on_host` takes once it is fetched."""
        return self.symbols, self.sizes, self.scales, self.floor

    def on_host(self, arrays: list[NDArray[Any]]) -> Symbols:
        """Return the symbols of fetched :attr:`tensors`.

        Raises :class:`CodecError` for NaN, infinity, and magnitudes above 2^120.
        """
        symbols, sizes, scales, floor = arrays
        if np.any(scales > LARGEST_PATTERN):
            raise CodecError("the tensor holds NaN, infinity or magnitudes above 1.3e36")
        filled = sizes > 0
        scale = Scale(float(floor[0]), self.steps, scales[filled].astype(np.uint16))
        return Symbols(symbols, sizes[filled].astype(np.int64), scale)


def quantised(
    values: torch.Tensor,
    positions: torch.Tensor | None,
    elements: int,
    *,
    group: int,
    bits: int,
    rate: Rate,
    from_threshold: bool,
    generator: np.random.Generator,
) -> QuantisedTensor:
    """Quantise flat float32 ``values``, found at flat ``positions`` (None: all ``elements``)."""
    magnitudes = values.abs()
    groups = -(-elements // group)
    of_group, sizes = _groups(values, positions, elements, group, groups)
    patterns = magnitudes.view(torch.int32)
    largest = torch.zeros(groups, dtype=torch.int32, device=values.device)
    largest.scatter_reduce_(0, of_group, patterns, "amax")
    scales = (largest.long() + 0xFFFF >> 16).int()
    floor = magnitudes.min() if from_threshold else torch.zeros((), device=values.device)
    spans = (scales << 16).view(torch.float32) - floor
    inverse = torch.where(spans > TINY, 1.0 / spans.clamp_min(TINY), 0.0)
    excess = (magnitudes - floor) * inverse[of_group]
    steps = _steps(excess, bits, rate, floor)
    highest = math.ceil(steps)
    excess *= steps
    excess += sent(generator.random(values.numel(), dtype=np.float32), values.device)
    levels = excess.int().clamp_max(highest)
    negative = torch.signbit(values).int()
    signed = 2 * levels + negative
    symbols = torch.where(floor > 0.0, signed, (signed - 1).clamp_min(0))
    kind = torch.uint8 if 2 * highest + 2 <= 256 else torch.int16
    return QuantisedTensor(symbols.to(kind), sizes.int(), scales, floor, steps)


def _groups(
    values: torch.Tensor, positions: torch.Tensor | None, elements: int, group: int, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group of each value, and values per group."""
    ends = torch.arange(1, groups + 1, device=values.device) * group
    if positions is None:
        positions = torch.arange(elements, device=values.device)
        counted = ends.clamp_max(elements)
    else:
        counted = torch.searchsorted(positions, ends)
    return positions // group, torch.diff(counted, prepend=counted.new_zeros(1))


def _steps(excess: torch.Tensor, bits: int, rate: Rate, floor: torch.Tensor) -> float:
    if rate is Rate.LEVELS:
        return float(2 ** (bits - 1) - 1)
    bins = (excess[:: sample_stride(excess.numel())] * float(BINS)).long().clamp(0, BINS)
    histogram, floors = fetched(torch.bincount(bins, minlength=BINS + 1), floor)
    return steps_for_entropy(histogram, float(bits), signed_floor=bool(floors[0] > 0.0))


def dequantised(coded: Symbols, device: torch.device) -> torch.Tensor:
    """Return the values that symbols stand for, flat float32 on ``device``."""
    scale = coded.scale
    spans = from_bfloat16(scale.of_group) - np.float32(scale.floor)
    widths = np.where(spans > TINY, spans, 0.0).astype(np.float32) / np.float32(scale.steps)
    kind = np.uint8 if scale.alphabet <= 256 else np.int16
    symbols = sent(coded.symbols.astype(kind), device).int()
    if scale.floor > 0.0:
        levels, negative = symbols >> 1, symbols & 1
    else:
        levels, negative = (symbols + 1) >> 1, 1 - (symbols & 1)
    of_value = torch.repeat_interleave(
        sent(widths, device), sent(coded.sizes, device), output_size=symbols.numel()
    )
    values = levels.float() * of_value + scale.floor
    # adding zero makes -0.0 of the zero level 0.0
    return torch.where(negative == 1, -values, values) + 0.0
