"""Arrays between host and accelerator: few transfers, from and into pinned memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def is_on_host(place: torch.Tensor | torch.device) -> bool:
    """Return whether a tensor, or whatever is on a device, is in the host's memory."""
    device = place.device if isinstance(place, torch.Tensor) else place
    return device.type == "cpu"


def fetched(*tensors: torch.Tensor) -> list[NDArray[Any]]:
    """Copy tensors to the host as flat arrays, all in one transfer."""
    # the widest numbers first: then each lies at a multiple of its own size
    order = sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size())
    parts = [tensors[index].detach().reshape(-1).contiguous().view(torch.uint8) for index in order]
    joined = torch.cat(parts)
    if is_on_host(joined):
        raw = joined
    else:
        raw = torch.empty(joined.shape, dtype=torch.uint8, pin_memory=True)
        raw.copy_(joined, non_blocking=True)
        torch.cuda.current_stream(joined.device).synchronize()
    arrays: dict[int, NDArray[Any]] = {}
    start = 0
    for index, part in zip(order, parts, strict=True):
        kind = torch.empty(0, dtype=tensors[index].dtype).numpy().dtype
        arrays[index] = raw[start : start + part.numel()].numpy().view(kind)
        start += part.numel()
    return [arrays[index] for index in range(len(tensors))]


def sent(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array to ``device``, without waiting for it to arrive."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if is_on_host(device):
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
