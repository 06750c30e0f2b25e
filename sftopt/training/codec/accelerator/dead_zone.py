"""The dead-zone quantiser's arithmetic where the tensor is; ``codec.dead_zone`` has the host's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.accelerator.transfer import fetched, sent
from sftopt.training.codec.base import FloatArray
from sftopt.training.codec.channels import Channels
from sftopt.training.codec.contexts import MOST_CLASSES, ClassArray, SymbolRows
from sftopt.training.codec.dead_zone import (
    HALVINGS,
    MAX_LEVEL,
    STEP_RANGE,
    Offsets,
    offsets_of,
    sampled_rows,
)
from sftopt.training.codec.entropy import symbols_together


class AcceleratorRows:
    """Rows in a float32 tensor (rows, channels) that stays where it is."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the channels' means and mean squares, shape (channels,) each."""
        wide = self._rows.double()
        means, squares = fetched(wide.mean(0), wide.square().mean(0))
        return means, squares

    def step_search(
        self, channels: Channels, classes: ClassArray, dead_zone: float
    ) -> Callable[[float], float]:
        """Return what gives the step at which a sample's symbols have so many bits of entropy,
        classes known.

        The range is halved on the device: the host waits once, for the result.
        """
        device = self._rows.device
        sample = self._rows[sent(sampled_rows(*self._rows.shape), device)]
        distance = self._normalised(sample, channels).abs()
        first_bin = sent(classes, device) * (MAX_LEVEL + 1)
        ones = torch.ones(distance.numel(), dtype=torch.int64, device=device)

        def found(bits: float) -> float:
            low, high = (
                torch.full((), end, dtype=torch.float64, device=device) for end in STEP_RANGE
            )
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                scaled = distance / middle.exp().float() + (1.0 - dead_zone)
                levels = scaled.clamp_max(MAX_LEVEL).long()
                counts = ones.new_zeros(MOST_CLASSES * (MAX_LEVEL + 1))
                counts.scatter_add_(0, (first_bin + levels).flatten(), ones)
                too_many = _entropy(counts) + (levels > 0).double().mean() > bits
                low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
            return math.exp(float(fetched(high)[0][0]))

        return found

    def quantised(
        self, channels: Channels, step: float, dead_zone: float
    ) -> tuple[SymbolRows, Offsets]:
        """Quantise to symbols (0, then 2 j - 1 + negative); return them with the offsets."""
        scaled = self._normalised(self._rows, channels)
        negative = torch.signbit(scaled)
        distance = scaled.abs() * float(np.float32(1.0 / step))
        levels = (distance + (1.0 - dead_zone)).int().clamp_max(MAX_LEVEL)
        distance -= levels
        kinds = [(levels == 1), (levels == 2), (levels >= 3)]
        counts = torch.stack([kind.sum() for kind in kinds])
        sums = torch.stack([(distance * kind).sum(dtype=torch.float64) for kind in kinds])
        symbols = (2 * levels + negative - 1).clamp_min(0)
        count, total, highest = fetched(counts, sums, symbols.max())
        first = np.zeros(1)  # of level 0 nothing is told
        offsets = offsets_of(np.append(first, count), np.append(first, total))
        return AcceleratorSymbols(symbols, int(highest[0])), offsets

    def _normalised(self, rows: torch.Tensor, channels: Channels) -> torch.Tensor:
        device = rows.device
        return (rows - sent(channels.centre, device)) * sent(channels.inverse, device)


class AcceleratorSymbols:
    """Symbols in an integer tensor (rows, channels); what the coder takes is made there."""

    def __init__(self, symbols: torch.Tensor, highest: int) -> None:
        self._symbols = symbols
        self._highest = highest

    @property
    def highest(self) -> int:
        """Return the largest symbol's index."""
        return self._highest

    def counts(self, classes: ClassArray, alphabet: int) -> NDArray[np.int64]:
        """Return the numbers of each symbol in each class, shape (classes, alphabet)."""
        number = int(classes.max()) + 1
        places = sent(classes, self._symbols.device) * alphabet + self._symbols
        (found,) = fetched(torch.bincount(places.flatten(), minlength=number * alphabet))
        return found.reshape(number, alphabet)

    def joint(self, groups: list[ClassArray], alphabet: int) -> list[NDArray[np.integer]]:
        """Return each group of channels, row after row, as the joint symbols that are coded."""
        together = symbols_together(alphabet)
        device = self._symbols.device
        powers = alphabet ** torch.arange(together - 1, -1, -1, dtype=torch.int32, device=device)
        joined = []
        by_group = self._symbols
        if len(groups) > 1:
            by_group = by_group[:, sent(np.concatenate(groups), device)]
        for columns in torch.split_with_sizes(by_group, [group.size for group in groups], dim=1):
            flat = columns.reshape(-1)
            missing = -flat.numel() % together
            if missing:
                flat = torch.cat([flat, flat.new_zeros(missing)])
            joined.append((flat.view(-1, together) * powers).sum(1).to(torch.int16))
        return list(fetched(*joined))


def _entropy(counts: torch.Tensor) -> torch.Tensor:
    """Mean entropy in bits of symbols counted by class, shape (classes x levels,)."""
    by_class = counts.view(MOST_CLASSES, -1).double()
    totals = by_class.sum(1, keepdim=True).clamp_min(1.0)
    logarithms = (by_class.clamp_min(1.0) / totals).log2()
    return -(by_class * logarithms).sum() / by_class.sum()


def restored(
    parts: list[NDArray[np.int32]],
    groups: list[ClassArray],
    levels: FloatArray,
    channels: Channels,
    device: torch.device,
) -> torch.Tensor:
    """Return the values of symbols (rows, channels of a group) on ``device``, float32."""
    flat = sent(np.concatenate([part.ravel() for part in parts]).astype(np.int16), device)
    pieces = torch.split_with_sizes(flat, [part.size for part in parts])
    by_group = torch.cat(
        [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)], dim=1
    )
    values = torch.empty(by_group.shape, device=device)
    values[:, sent(np.concatenate(groups), device)] = sent(levels, device)[by_group.long()]
    return values * sent(channels.spread, device) + sent(channels.centre, device)
