"""Measured terms of equations (1) and (2): eta_q, omega, sigma, so that they predict bytes.

With rate = ``levels`` the entropy of a kept value falls by up to a quarter from keep 0.05 to 0.5
(the higher the threshold, the less the tail resembles the group's maximum), while equation (1)
has one eta_q per mode. :func:`calibrated_mode` takes the middle of the range, so that equation
(2) errs least, and lets omega carry the rest by intervals of the keep fraction, so that equation
(1) holds on each. With rate = ``entropy`` eta_q is the same everywhere and omega is the mask
coder's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sftopt.core.errors import InputError
from sftopt.core.instance import MaskOverhead, Mode, ModeKind
from sftopt.core.payload import binary_entropy_bits
from sftopt.training.codec.base import Codec, Encoded, codec_from
from sftopt.training.codec.ecsq import EcsqConfig
from sftopt.training.codec.sparse import QuantiseConfig, TopKConfig


def compression_ratio(elements: int, payload_bytes: int, reference_bits: int = 32) -> float:
    """Return the ratio of raw to compressed: elements at ``reference_bits`` against
    ``len(payload)``.
    """
    return elements * reference_bits / (8.0 * payload_bytes)


@dataclass(frozen=True)
class PayloadStatistics:
    """One payload in the terms of equation (1)."""

    elements: int
    keep: float
    """rho: values sent per element."""
    payload_bytes: int
    value_bits: float
    """eta_q: bits per value sent, sign and table included."""
    mask_factor: float
    """omega: the mask's bits against H2(keep), its model included; 1 where there is no mask."""
    side_bits_per_element: float
    """sigma: scales and header over all elements."""

    @property
    def bits_per_element(self) -> float:
        """Return beta in bits per element."""
        return 8.0 * self.payload_bytes / self.elements


def statistics_of(encoded: Encoded) -> PayloadStatistics:
    """Split a payload into its terms; they sum up to its length exactly."""
    parts = encoded.parts
    keep = parts.kept / parts.elements
    entropy = parts.elements * binary_entropy_bits(keep)
    # a full mask has no entropy: its few bits count as side information
    mask_bits = parts.mask_bits if entropy > 0.0 else 0.0
    side = 8.0 * len(encoded.payload) - parts.value_bits - mask_bits
    return PayloadStatistics(
        elements=parts.elements,
        keep=keep,
        payload_bytes=len(encoded.payload),
        value_bits=parts.value_bits / parts.kept,
        mask_factor=mask_bits / entropy if mask_bits else 1.0,
        side_bits_per_element=side / parts.elements,
    )


def measure(
    codec: Codec[Any], tensors: Sequence[torch.Tensor], *, seed: int = 0
) -> PayloadStatistics:
    """Measure the mean terms over several tensors of one shape."""
    if not tensors:
        raise InputError("no tensor to measure on")
    measured = [
        statistics_of(codec.compress(tensor, seed=seed + index))
        for index, tensor in enumerate(tensors)
    ]
    return replace(
        measured[0],
        payload_bytes=round(np.mean([one.payload_bytes for one in measured])),
        value_bits=float(np.mean([one.value_bits for one in measured])),
        mask_factor=float(np.mean([one.mask_factor for one in measured])),
        side_bits_per_element=float(np.mean([one.side_bits_per_element for one in measured])),
    )


def calibrated_mode(
    config: TopKConfig | QuantiseConfig | EcsqConfig,
    tensors: Sequence[torch.Tensor],
    keeps: Sequence[float] = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5),
    *,
    seed: int = 0,
) -> Mode:
    """Fit the mode of an instance that predicts this codec's payloads on such tensors.

    For Top-K, ``keeps`` replaces the configuration's keep fraction; between them the nearest
    one's omega holds (nearest in ratio).
    """
    if not isinstance(config, TopKConfig):
        dense = measure(codec_from(config), tensors, seed=seed)
        bits = config.bits if isinstance(config, QuantiseConfig) else round(dense.value_bits)
        return Mode(
            kind=ModeKind.DENSE,
            bits=max(bits, 1),
            value_bits=dense.value_bits,
            side_bits_per_element=dense.side_bits_per_element,
        )
    keeps = sorted(set(keeps))
    if not keeps:
        raise InputError("no keep fraction to measure at")
    measured = [
        measure(codec_from(replace(config, keep=keep)), tensors, seed=seed) for keep in keeps
    ]
    entropies = [one.value_bits for one in measured]
    value_bits = 0.5 * (min(entropies) + max(entropies))
    side = float(np.mean([one.side_bits_per_element for one in measured]))
    factors = [_effective_factor(one, value_bits, side) for one in measured]
    edges = [
        0.0,
        *(math.sqrt(left * right) for left, right in pairwise(keeps)),
        1.0,
    ]
    return Mode(
        kind=ModeKind.TOPK,
        bits=config.bits,
        value_bits=value_bits,
        side_bits_per_element=side,
        mask_overhead=tuple(
            MaskOverhead(keep_from=low, keep_to=high, factor=factor)
            for (low, high), factor in zip(pairwise(edges), factors, strict=True)
        ),
    )


def _effective_factor(measured: PayloadStatistics, value_bits: float, side: float) -> float:
    """omega with which equation (1) gives the measured bits at this keep fraction."""
    entropy = binary_entropy_bits(measured.keep)
    if entropy == 0.0:
        return 1.0
    rest = (
        measured.keep * (measured.value_bits - value_bits)
        + measured.mask_factor * entropy
        + measured.side_bits_per_element
        - side
    )
    return min(max(rest / entropy, 0.0), 10.0)
