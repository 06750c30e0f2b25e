"""The boundary inside one process: forward and backward both go through real payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sftopt.training.codec.base import Codec, Support
from sftopt.training.codec.container import Direction

Record = Callable[[Direction, int], None]
"""Called with the direction and the payload's length in bytes."""


class _Boundary(torch.autograd.Function):
    """Straight through what was sent; the gradient is coded and zero where nothing was sent."""

    @staticmethod
    def forward(
        ctx: Any,
        tensor: torch.Tensor,
        codec: Codec[Any],
        seed: int,
        record: Record | None,
        scores: torch.Tensor | None,
    ) -> torch.Tensor:
        encoded = codec.compress(tensor, seed=seed, scores=scores)
        decoded = codec.expand(encoded.payload, device=tensor.device)
        if record is not None:
            record(Direction.FORWARD, len(encoded.payload))
        ctx.coding = (codec, seed, record, encoded.support, decoded.support)
        return decoded.tensor

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (gradient,) = gradients
        sent: Support
        received: Support
        codec, seed, record, sent, received = ctx.coding
        payload = codec.encode_gradient(gradient, received, seed=seed)
        if record is not None:
            record(Direction.GRADIENT, len(payload))
        return codec.decode_gradient(payload, sent, device=gradient.device), None, None, None, None


def through_boundary(
    codec: Codec[Any],
    tensor: torch.Tensor,
    *,
    seed: int = 0,
    record: Record | None = None,
    scores: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``tensor`` as the server receives it; its gradient comes back through the codec.

    The gradient at dropped positions is zero (a merged token's gradient goes to the tokens it was
    made of). Quantisation itself is passed straight through: on the kept values it is unbiased.
    """
    result: torch.Tensor = _Boundary.apply(tensor, codec, seed, record, scores)  # type: ignore[no-untyped-call]
    return result
