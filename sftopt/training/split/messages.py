"""The adapter message of equation (8): one tensor for each block, so that names cost nothing.

A block's factors lie side by side, A as it is and B transposed: (rank, sum of their widths). Both
ends know the modules of a block and their order; the rank may differ and is told by the shape. The
envelope is then 60 bytes for a block, where a named tensor for each factor would add up to 5 % on
the adapters of a small model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.errors import WireError

Adapters = Mapping[str, torch.Tensor]
"""``3.attn.c_attn.lora_A`` -> (rank, inputs), ``...lora_B`` -> (outputs, rank)."""


def pack_adapters(values: Adapters) -> bytes:
    """Write the message of some blocks' adapters; a block's factors have one rank."""
    return pack(
        {
            number: torch.cat([rank_first(name, values[name]) for name in names], dim=1)
            for number, names in by_block(values).items()
        }
    )


def unpack_adapters(payload: bytes, like: Adapters) -> dict[str, torch.Tensor]:
    """Read adapters out of a message; ``like`` are the receiver's own of the same blocks.

    Raises WireError for bytes that are not such adapters. Ranks are as they came.
    """
    blocks, own = unpack(payload), by_block(like)
    if set(blocks) != set(own):
        raise WireError(
            f"an adapter message holds blocks {_listed(blocks)}; those of {_listed(own)} are needed"
        )
    found = {}
    for number, names in own.items():
        widths = [rank_first(name, like[name]).shape[1] for name in names]
        block = blocks[number]
        if block.ndim != 2 or block.shape[1] != sum(widths):
            raise WireError(
                f"adapters of block {number}: shape {tuple(block.shape)}; (rank, {sum(widths)}) is "
                "needed"
            )
        start = 0
        for name, width in zip(names, widths, strict=True):
            found[name] = rank_first(name, block.narrow(1, start, width)).contiguous()
            start += width
    return found


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
