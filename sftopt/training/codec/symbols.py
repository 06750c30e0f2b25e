"""From a tensor's values to symbols, by the way that fits where the tensor is."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.accelerator import quantiser as accelerator_quantiser
from sftopt.training.codec.accelerator.transfer import fetched, is_on_host, sent
from sftopt.training.codec.base import to_array
from sftopt.training.codec.quantiser import Rate, Symbols
from sftopt.training.codec.values import QuantisedConfig, group_of, quantised


def symbols_at(
    tensor: torch.Tensor,
    positions: NDArray[np.int64] | None,
    config: QuantisedConfig,
    generator: np.random.Generator,
) -> Symbols:
    """Quantise a tensor's values at flat positions (None: all), wherever the tensor is."""
    shape = tuple(tensor.shape)
    if is_on_host(tensor):
        flat = to_array(tensor).ravel()
        values = flat if positions is None else flat.take(positions)
        return quantised(values, positions, shape, config, generator)
    there = tensor.detach().float().reshape(-1)
    at = None if positions is None else sent(positions, there.device)
    found = quantised_there(there if at is None else there[at], at, shape, config, generator)
    return found.on_host(fetched(*found.tensors))


def quantised_there(
    values: torch.Tensor,
    positions: torch.Tensor | None,
    shape: tuple[int, ...],
    config: QuantisedConfig,
    generator: np.random.Generator,
    *,
    from_threshold: bool = False,
) -> accelerator_quantiser.QuantisedTensor:
    """Quantise values found at flat positions of a tensor of ``shape``, and leave them there."""
    return accelerator_quantiser.quantised(
        values,
        positions,
        math.prod(shape),
        group=group_of(config, shape),
        bits=config.bits,
        rate=Rate(config.rate),
        from_threshold=from_threshold,
        generator=generator,
    )
