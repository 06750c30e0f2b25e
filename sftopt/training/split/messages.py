"""The adapter message of equation (8): one tensor for each block, so that names cost nothing.

A block's factors lie side by side, A as it is and B transposed: (rank, sum of their widths). Both
ends know the modules of a block and their order; the rank may differ and is told by the shape. The
envelope is then 60 bytes for a block, where a named tensor for each factor would add up to 5 % on
the adapters of a small model. DoRA's vectors of norms lie in one more tensor for each block. Values
may travel in 16 bits; they come out in the receiver's own type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from sftopt.core.errors import InputError
from sftopt.training.split.averaging import is_vector
from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.errors import WireError

_VECTORS = "m"
"""Behind a block's number: the tensor of its vectors of norms."""

Adapters = Mapping[str, torch.Tensor]
"""``3.attn.c_attn.lora_A`` -> (rank, inputs), ``...lora_B`` -> (outputs, rank)."""


def pack_adapters(values: Adapters, dtype: torch.dtype | None = None) -> bytes:
    """Write the message of some blocks' adapters; a block's factors have one rank.

    ``dtype`` None: as they are. Raises InputError for values beyond a type's range.
    """
    return pack(_narrowed(_joined(values), dtype))


def rounding_error(values: Adapters, dtype: torch.dtype) -> float:
    """Return the norm of what ``dtype`` loses of all values, as a fraction of theirs."""
    kept = [value.double() for value in values.values()]
    lost = [value - value.to(dtype).double() for value in kept]
    whole = math.sqrt(sum(float(value.square().sum()) for value in kept))
    return math.sqrt(sum(float(value.square().sum()) for value in lost)) / whole if whole else 0.0


def _joined(values: Adapters) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for number, names in by_block(values).items():
        factors = [rank_first(name, values[name]) for name in names if not is_vector(name)]
        vectors = [values[name] for name in names if is_vector(name)]
        found[number] = torch.cat(factors, dim=1)
        if vectors:
            found[number + _VECTORS] = torch.cat(vectors)
    return found


def _narrowed(
    tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    if dtype is None:
        return dict(tensors)
    found = {name: value.to(dtype) for name, value in tensors.items()}
    beyond = [n for n, v in found.items() if not v.isfinite().all() and tensors[n].isfinite().all()]
    if beyond:
        raise InputError(
            f"adapters of block {beyond[0]} hold values that {str(dtype).removeprefix('torch.')} "
            "does not reach; let adapters travel in bfloat16 or float32."
        )
    return found


def unpack_adapters(
    payload: bytes, like: Adapters, dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Read adapters out of a message; ``like`` are the receiver's own of the same blocks.

    They come in ``dtype``, None: that of the receiver's. Raises WireError for bytes that are not
    such adapters. Ranks are as they came.
    """
    tensors, own = unpack(payload), by_block(like)
    blocks = {name: one for name, one in tensors.items() if not name.endswith(_VECTORS)}
    if set(blocks) != set(own):
        raise WireError(
            f"an adapter message holds blocks {_listed(blocks)}; those of {_listed(own)} are needed"
        )
    found: dict[str, torch.Tensor] = {}
    for number, names in own.items():
        vectors = [name for name in names if is_vector(name)]
        found |= _vectors(number, tensors.get(number + _VECTORS), vectors, like)
        names = [name for name in names if not is_vector(name)]
        widths = [rank_first(name, like[name]).shape[1] for name in names]
        block, wanted = blocks[number], dtype or like[names[0]].dtype
        if block.dtype is not wanted:
            raise WireError(f"adapters of block {number} come as {block.dtype}, not {wanted}")
        if block.ndim != 2 or block.shape[1] != sum(widths):
            raise WireError(
                f"adapters of block {number}: shape {tuple(block.shape)}; (rank, {sum(widths)}) is "
                "needed"
            )
        start = 0
        for name, width in zip(names, widths, strict=True):
            value = rank_first(name, block.narrow(1, start, width))
            found[name] = value.to(like[name].dtype).contiguous()
            start += width
    return found


def _vectors(
    number: str, joined: torch.Tensor | None, names: list[str], like: Adapters
) -> dict[str, torch.Tensor]:
    """The vectors of norms of one block. Raises WireError where they do not fit."""
    sizes = [like[name].numel() for name in names]
    if (0 if joined is None else joined.numel()) != sum(sizes):
        raise WireError(f"adapters of block {number}: {sum(sizes)} norms of weights are needed")
    if joined is None:
        return {}
    parts = torch.split(joined.reshape(-1), sizes)
    return {n: part.to(like[n].dtype).clone() for n, part in zip(names, parts, strict=True)}


def by_block(values: Adapters) -> dict[str, list[str]]:
    """Return names by block number, in an order both ends share."""
    found: dict[str, list[str]] = {}
    for name in sorted(values):
        found.setdefault(name.split(".", 1)[0], []).append(name)
    return found


def rank_first(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return A as it is, B transposed; its own inverse."""
    return value if name.endswith("lora_A") else value.transpose(0, 1)


def _listed(blocks: Mapping[str, object]) -> str:
    return ", ".join(sorted(blocks, key=lambda number: (len(number), number))[:8]) or "none"
