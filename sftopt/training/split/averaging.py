"""The averaging of adapters at the end of a round: equation (8).

Block k's new adapter is the weighted sum over the devices that hold the block of their copies, plus
the weight of all other devices times the server's copy, for the factors A and B apart.

The mean of the factors is **not** the factor of the mean update: mean(B) mean(A) differs from
mean(B A) as soon as the copies differ, by the covariance of the factors, SUM w (B - mean B)
(A - mean A). This is what SplitLoRA and federated averaging of LoRA do; an exact sum (hsplitlora's
concatenation) costs rank. The difference vanishes with the step size and the number of local steps.

Copies of unequal rank: direction i (row i of A, column i of B) is averaged over the copies that
have it, their weights scaled to sum to 1; with equal ranks this is equation (8) itself. A device of
smaller rank takes the first directions of the result, which drops part of the update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

Adapters = Mapping[str, torch.Tensor]
"""``3.attn.c_attn.lora_A`` -> (rank, inputs), ``...lora_B`` -> (outputs, rank)."""


def average_adapters(
    server: Adapters, copies: Sequence[tuple[float, Adapters]]
) -> dict[str, torch.Tensor]:
    """Average the adapters of all blocks, equation (8).

    ``server`` holds every block; ``copies`` are (w_n, adapters of the blocks it holds) of the
    devices that take part, also those that hold none. The weights are scaled to sum to 1, so that a
    round without some device averages over the rest. Nothing given is changed or aliased.
    """
    total = sum(weight for weight, _ in copies)
    if not total > 0:
        raise ValueError("averaging needs at least one device with a positive weight")
    result = {}
    for name, own in server.items():
        held = [(weight / total, copy[name]) for weight, copy in copies if name in copy]
        others = sum(weight for weight, copy in copies if name not in copy) / total
        result[name] = _average_factor(name, own, held, others)
    return result


def fit_rank(name: str, value: torch.Tensor, rank: int) -> torch.Tensor:
    """Copy the first ``rank`` directions of a factor; a vector of norms whole."""
    if is_vector(name):
        return value.clone()
    return value.narrow(_rank_axis(name), 0, rank).clone()


def first_directions(name: str, value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a view of as many first directions of a factor as ``like`` has."""
    axis = _rank_axis(name)
    return value.narrow(axis, 0, like.shape[axis])


def fits(name: str, copy: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether a copy is like the server's factor, but for a rank that may be smaller."""
    if is_vector(name):
        return copy.shape == own.shape and copy.dtype == own.dtype
    axis = _rank_axis(name)
    return (
        copy.ndim == 2
        and copy.dtype == own.dtype
        and copy.shape[1 - axis] == own.shape[1 - axis]
        and 1 <= copy.shape[axis] <= own.shape[axis]
    )


def is_vector(name: str) -> bool:
    """Return whether an adapter's tensor is DoRA's vector of norms, which has no rank."""
    return name.endswith("lora_magnitude_vector")


def _average_factor(
    name: str, own: torch.Tensor, held: list[tuple[float, torch.Tensor]], others: float
) -> torch.Tensor:
    if is_vector(name):
        mean = own.double() * others
        for weight, copy in held:
            mean.add_(copy.to(own.device).double(), alpha=weight)
        return mean.to(own.dtype)
    axis = _rank_axis(name)
    rank = own.shape[axis]
    shape = [1, 1]
    shape[axis] = rank
    # sums in 64 bits: the order of the devices does not show in 32
    value = own.double() * others
    mass = torch.full(shape, others, dtype=torch.float64, device=own.device)
    for weight, copy in held:
        size = copy.shape[axis]
        value.narrow(axis, 0, size).add_(copy.to(own.device).double(), alpha=weight)
        mass.narrow(axis, 0, size).add_(weight)
    averaged = torch.where(mass > 0, value / mass.clamp(min=torch.finfo(mass.dtype).tiny), own)
    return averaged.to(own.dtype)


def _rank_axis(name: str) -> int:
    return 0 if name.endswith("lora_A") else 1
