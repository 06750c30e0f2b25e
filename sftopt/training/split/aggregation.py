"""Putting adapters together without cross terms: concatenation and corrected averaging.

The mean of a block's factors is not the factor of its mean update: mean(B) mean(A) has cross terms
B_m A_n of different devices (:mod:`sftopt.training.split.averaging`). Two rules have none. Both
send every holder the **terms** of a block: the factors of its holders side by side, A as it is and
B times the device's weight, and the server's copy for the data of those who do not hold the block.

* Concatenation (as HSplitLoRA's): the sum w_1 B_1 A_1 + w_2 B_2 A_2 + .. goes into the frozen
  weights and the adapters begin anew; ranks may differ.
* Corrected averaging (as FedEx-LoRA's): the factors become their means, and what the mean of the
  products is more than the product of the means goes into the frozen weights; ranks are equal.

Where what goes into the frozen weights is smaller written out than as terms, it is sent written
out. Server and devices read the same tensors, so that their weights agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sftopt.core.plan import Aggregation
from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.errors import WireError
from sftopt.training.split.messages import Adapters, by_block, rank_first

DENSE = ".dense"
"""Ends the name of a tensor of frozen weights, flat; before it stands the block's number."""
_A = ".lora_A"
"""Ends the name of a module's factor (rank, inputs)."""
_B = ".lora_B"
"""Ends the name of a module's factor (outputs, rank)."""


@dataclass(frozen=True)
class Merged:
    """What a holder makes of a message."""

    update: dict[str, torch.Tensor]
    """By module, ``3.attn.c_attn``: what is added to B A's place in the frozen weights, (outputs,
    inputs), before the scaling of adapters."""
    adapters: dict[str, torch.Tensor] | None
    """The adapters from here on; None: they begin anew."""


def terms_of(
    rule: Aggregation, server: Adapters, copies: Sequence[tuple[float, Adapters]]
) -> dict[str, torch.Tensor]:
    """Return what is sent of the server's blocks by name: ``3``, or ``3.dense``.

    ``server`` holds the blocks to be put together; ``copies`` are (w_n, adapters of the blocks it
    holds) of the devices that take part, also those that hold none. Their weights are scaled to sum
    to 1, so that a round without some device is put together from the rest.
    """
    total = sum(weight for weight, _ in copies)
    if not total > 0:
        raise ValueError("putting adapters together needs a device with a positive weight")
    tensors: dict[str, torch.Tensor] = {}
    for number, names in by_block(server).items():
        held = [(weight / total, copy) for weight, copy in copies if names[0] in copy]
        others = sum(weight for weight, copy in copies if names[0] not in copy) / total
        held += [(others, server)] if others > 0 else []
        rows = torch.cat([_weighted(names, weight, copy) for weight, copy in held])
        if rule is Aggregation.CORRECTED:
            weights = [rows.new_full((len(copy[_a_of(names)]), 1), w) for w, copy in held]
            rows = torch.cat([rows, torch.cat(weights)], dim=1)
        tensors.update(_shorter(number, names, rows, server))
    return tensors


def part_of(tensors: Mapping[str, torch.Tensor], cut: int) -> bytes:
    """Write the message to a holder of the first ``cut`` blocks."""
    return pack({name: value for name, value in tensors.items() if _number(name) < cut})


def read(payload: bytes, like: Adapters) -> Merged:
    """Read :func:`part_of`'s message; ``like`` are the receiver's own adapters of its blocks.

    Raises WireError for bytes that are no such message, and for other blocks or shapes.
    """
    return merged(unpack(payload), like)


def merged(tensors: Mapping[str, torch.Tensor], like: Adapters) -> Merged:
    """Return what a holder loads: the same on the server and on every device."""
    blocks = by_block(like)
    if {name.removesuffix(DENSE) for name in tensors} != set(blocks):
        raise WireError("a message of put-together adapters is not of the blocks held here.")
    update: dict[str, torch.Tensor] = {}
    adapters: dict[str, torch.Tensor] = {}
    for number, names in blocks.items():
        rows, flat = tensors.get(number), tensors.get(number + DENSE)
        width = sum(rank_first(name, like[name]).shape[1] for name in names)
        if rows is not None and (rows.ndim != 2 or rows.shape[1] not in (width, width + 1)):
            raise WireError(f"put-together adapters of block {number}: shape {tuple(rows.shape)}")
        if flat is None:
            assert rows is not None
            summed = _products(_factors(rows, names, like), names)
            if rows.shape[1] > width:
                mean = _mean(rows, len(like[_a_of(names)]), names, like)
                product = _products(mean, names)
                summed = {name: summed[name] - product[name] for name in summed}
                adapters |= mean
            update |= {name: value.to(rows.dtype) for name, value in summed.items()}
        else:
            update |= _matrices(flat, number, names, like)
            if rows is not None:
                adapters |= _factors(rows, names, like)
    return Merged(update, adapters or None)


def _weighted(names: Sequence[str], weight: float, copy: Adapters) -> torch.Tensor:
    """A term's factors side by side, rank first; B times the weight, in 64 bits on the way."""
    parts = []
    for name in names:
        value = rank_first(name, copy[name])
        parts.append(value if name.endswith(_A) else (weight * value.double()).to(value.dtype))
    return torch.cat([part.cpu() for part in parts], dim=1)


def _shorter(
    number: str, names: Sequence[str], rows: torch.Tensor, server: Adapters
) -> dict[str, torch.Tensor]:
    """The block's terms, or what they come to where that is less."""
    own = {name: server[name] for name in names}
    written = merged({number: rows}, own)
    flat = torch.cat([written.update[module].flatten() for module in _modules(names)])
    if written.adapters is None:
        return {number + DENSE: flat} if flat.numel() < rows.numel() else {number: rows}
    mean = torch.cat([rank_first(name, written.adapters[name]) for name in names], dim=1)
    terms = rows.numel() - len(rows)  # without the column of weights
    if flat.numel() + mean.numel() < terms:
        return {number: mean, number + DENSE: flat}
    return {number: rows}


def _products(factors: Adapters, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """B A of every module of a block, in 64 bits."""
    return {
        module: factors[module + _B].double() @ factors[module + _A].double()
        for module in _modules(names)
    }


def _factors(rows: torch.Tensor, names: Sequence[str], like: Adapters) -> dict[str, torch.Tensor]:
    """A block's factors out of rows that begin with them."""
    found, start = {}, 0
    for name in names:
        width = rank_first(name, like[name]).shape[1]
        found[name] = rank_first(name, rows.narrow(1, start, width)).contiguous()
        start += width
    return found


def _mean(
    rows: torch.Tensor, rank: int, names: Sequence[str], like: Adapters
) -> dict[str, torch.Tensor]:
    """The mean factors of terms of one rank, in 64 bits: A by the weights in the last column, B
    as it is, which has them in it.
    """
    if len(rows) % rank:
        raise WireError(f"put-together adapters: {len(rows)} rows are no terms of rank {rank}")
    found = {}
    for name, stacked in _factors(rows, names, like).items():
        value = rank_first(name, stacked).double()
        if name.endswith(_A):
            value = value * rows[:, -1:].double()
        summed = value.reshape(-1, rank, value.shape[1]).sum(dim=0)
        found[name] = rank_first(name, summed).to(rows.dtype).contiguous()
    return found


def _matrices(
    flat: torch.Tensor, number: str, names: Sequence[str], like: Adapters
) -> dict[str, torch.Tensor]:
    """The modules' updates out of one flat tensor. Raises WireError for another length."""
    shapes = {
        module: (like[module + _B].shape[0], like[module + _A].shape[1])
        for module in _modules(names)
    }
    sizes = [outputs * inputs for outputs, inputs in shapes.values()]
    if flat.ndim != 1 or flat.numel() != sum(sizes):
        raise WireError(f"frozen weights of block {number}: shape {tuple(flat.shape)}")
    parts = torch.split(flat, sizes)
    return {
        module: part.reshape(shapes[module]) for module, part in zip(shapes, parts, strict=True)
    }


def _modules(names: Iterable[str]) -> list[str]:
    return [name.removesuffix(_A) for name in names if name.endswith(_A)]


def _a_of(names: Sequence[str]) -> str:
    return next(name for name in names if name.endswith(_A))


def _number(name: str) -> int:
    return int(name.removesuffix(DENSE))
