"""Exact Top-K by magnitude where the tensor is; ``codec.selection`` says which it keeps."""

from __future__ import annotations

import torch

from sftopt.training.codec.accelerator.quantiser import MAGNITUDE_BITS


def top_k_mask(samples: torch.Tensor, kept: int) -> torch.Tensor:
    """Return a mask of the ``kept`` elements of largest magnitude of each row of float32 values.

    Among equal magnitudes the first in memory are kept; NaN and infinity count as largest.
    """
    magnitudes = samples.view(torch.int32) & MAGNITUDE_BITS
    threshold = magnitudes.topk(kept, dim=1, sorted=False).values.amin(1, keepdim=True)
    above = magnitudes > threshold
    ties = magnitudes == threshold
    room = kept - above.sum(1, keepdim=True)
    return above | (ties & (ties.cumsum(1) <= room))


def packed(mask: torch.Tensor) -> torch.Tensor:
    """Return the bits of a flat mask, eight to a byte, the first in the highest bit."""
    missing = -mask.numel() % 8
    if missing:
        mask = torch.cat([mask, mask.new_zeros(missing)])
    places = 1 << torch.arange(7, -1, -1, dtype=torch.int32, device=mask.device)
    return (mask.view(-1, 8) * places).sum(1, dtype=torch.int32).to(torch.uint8)


def placed(values: torch.Tensor, positions: torch.Tensor, elements: int) -> torch.Tensor:
    """Return ``values`` at their flat positions, zero elsewhere."""
    full = torch.zeros(elements, dtype=values.dtype, device=values.device)
    full[positions] = values
    return full
