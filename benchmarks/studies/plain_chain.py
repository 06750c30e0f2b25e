"""The plain versions our codecs are measured beside: torch and NumPy on the host, then zlib."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray


def plain_encode(tensor: torch.Tensor, seed: int, keep: float, bits: int) -> tuple[bytes, ...]:
    """Encode by Top-K, stochastic values with a scale per token, packbits and zlib level 1."""
    flat = tensor.flatten()
    kept = round(keep * flat.numel())
    positions = torch.topk(flat.abs(), kept, sorted=False).indices.sort().values
    mask = torch.zeros(flat.numel(), dtype=torch.bool)
    mask[positions] = True
    values = flat[positions].numpy()
    row = (positions // tensor.shape[-1]).numpy()
    scales = np.zeros(flat.numel() // tensor.shape[-1], dtype=np.float32)
    np.maximum.at(scales, row, np.abs(values))
    levels = np.abs(values) / scales[row] * (2 ** (bits - 1) - 1)
    levels = np.floor(levels + np.random.default_rng(seed).random(kept, dtype=np.float32))
    symbols = levels.astype(np.uint8) << 1 | np.signbit(values)
    return (
        zlib.compress(np.packbits(mask.numpy()).tobytes(), 1),
        zlib.compress(_joined(symbols, bits).tobytes(), 1),
        scales.astype(np.float16).tobytes(),
    )


def plain_decode(payload: tuple[bytes, ...], shape: tuple[int, ...], bits: int) -> torch.Tensor:
    """Decode what :func:`plain_encode` wrote."""
    elements = math.prod(shape)
    packed = np.frombuffer(zlib.decompress(payload[0]), dtype=np.uint8)
    positions = np.flatnonzero(np.unpackbits(packed, count=elements))
    joined = np.frombuffer(zlib.decompress(payload[1]), dtype=np.uint8)
    symbols = _parted(joined, bits)[: positions.size]
    scales = np.frombuffer(payload[2], dtype=np.float16).astype(np.float32)
    values = (symbols >> 1) * scales[positions // shape[-1]] / np.float32(2 ** (bits - 1) - 1)
    full = np.zeros(elements, dtype=np.float32)
    full[positions] = np.where(symbols & 1, -values, values)
    return torch.from_numpy(full).reshape(shape)


def plain_dense_encode(
    tensor: torch.Tensor, step: float, basis: NDArray[np.float32] | None = None
) -> tuple[bytes, bytes]:
    """Encode by centring the channels, turning them, rounding to multiples of ``step`` times the
    common spread, and zlib level 1.
    """
    rows = tensor.reshape(-1, tensor.shape[-1]).numpy()
    means = rows.mean(axis=0)
    centred = rows - means
    turned = centred if basis is None else centred @ basis
    unit = np.float32(step * float(turned.std()))
    levels = np.clip(np.rint(turned / unit), -127, 127).astype(np.int8)
    return zlib.compress(levels.tobytes(), 1), np.append(means, unit).astype(np.float32).tobytes()


def plain_dense_decode(
    payload: tuple[bytes, bytes], shape: tuple[int, ...], inverse: NDArray[np.float32] | None = None
) -> torch.Tensor:
    """Decode what :func:`plain_dense_encode` wrote."""
    levels = np.frombuffer(zlib.decompress(payload[0]), dtype=np.int8).reshape(-1, shape[-1])
    side = np.frombuffer(payload[1], dtype=np.float32)
    values = levels * side[-1]
    if inverse is not None:
        values = values @ inverse
    return torch.from_numpy(values + side[:-1]).reshape(shape)


def _joined(symbols: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Symbols of ``bits`` bits, several to a byte, the first in the highest bits."""
    together = max(8 // bits, 1)
    missing = -symbols.size % together
    padded = np.append(symbols, np.zeros(missing, np.uint8)) if missing else symbols
    joined = padded[0::together].copy()
    for place in range(1, together):
        joined = joined << bits | padded[place::together]
    return joined.astype(np.uint8)


def _parted(joined: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The inverse of :func:`_joined`, padding included."""
    together = max(8 // bits, 1)
    shifts = bits * np.arange(together - 1, -1, -1, dtype=np.uint8)
    return (joined[:, None] >> shifts & (2**bits - 1)).astype(np.uint8).ravel()
