"""What both ends know of a batch besides its boundary, for codecs that make use of it.

Token selection in text encoders asks for scores, too: each token's likeness to the first (CLS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from sftopt.training.codec import Known, Rest, TokenSelection
from sftopt.training.split.boundary import BoundaryCodec, DecodedTensor, EncodedTensor

SAMPLES = "sample_ids"
"""Key of a batch: each sample's number, its own for the whole run, where samples return."""
MASK = "attention_mask"
"""Key of a batch: which tokens count."""


def compress(
    codec: BoundaryCodec, tensor: torch.Tensor, seed: int, batch: Mapping[str, torch.Tensor]
) -> EncodedTensor:
    """Encode a boundary; a codec that knows samples or padding is told of the batch's."""
    if isinstance(codec, Rest):
        return codec.compress(tensor, seed=seed, known=_known(batch))
    if isinstance(codec, TokenSelection):
        return codec.compress(tensor, seed=seed, scores=_scores(tensor, batch.get(MASK)))
    return codec.compress(tensor, seed=seed)


def expand(codec: BoundaryCodec, payload: bytes, side: Mapping[str, torch.Tensor]) -> DecodedTensor:
    """Decode a boundary with what the side message tells."""
    if isinstance(codec, Rest):
        return codec.expand(payload, known=_known(side))
    return codec.expand(payload)


def side_behind(
    codec: BoundaryCodec, side: Mapping[str, torch.Tensor], tokens: int
) -> dict[str, torch.Tensor]:
    """Return the side message as it fits ``tokens`` received of each sample.

    Token selection keeps tokens that count before others, in their order, and merges the rest.
    """
    if not isinstance(codec, TokenSelection) or MASK not in side:
        return dict(side)
    count = (side[MASK] != 0).sum(1, keepdim=True)
    mask = torch.arange(tokens).unsqueeze(0) < count.clamp_max(tokens - 1)
    mask[:, -1:] = count > tokens - 1
    return {**side, MASK: mask.to(side[MASK].dtype)}


def remembers(codec: BoundaryCodec) -> bool:
    """Return whether a codec must be told the numbers of samples."""
    return isinstance(codec, Rest) and codec.config.memory


def commit(codec: BoundaryCodec) -> None:
    """Keep what a step that is done has taught a codec."""
    if isinstance(codec, Rest):
        codec.visits.commit()


def discard(codec: BoundaryCodec) -> None:
    """Forget what a step that failed, or an evaluation, has taught a codec."""
    if isinstance(codec, Rest):
        codec.visits.discard()


def memory_bytes(codec: BoundaryCodec) -> int:
    """Return the bytes that a codec remembers between steps."""
    return codec.visits.size_bytes if isinstance(codec, Rest) else 0


def state_of(codec: BoundaryCodec) -> dict[str, torch.Tensor]:
    """Return what a codec remembers, for a checkpoint."""
    return codec.visits.state() if isinstance(codec, Rest) else {}


def restore(codec: BoundaryCodec, state: Mapping[str, torch.Tensor]) -> None:
    """Put in what :func:`state_of` gave. Raises CodecError for other tensors."""
    if isinstance(codec, Rest):
        codec.visits.restore(state)


def _scores(tensor: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Similarity of each token to the first, (samples, tokens), positive; 0 for padding."""
    rows = tensor.detach().float()
    likeness = (rows * rows[:, :1]).sum(-1) / math.sqrt(rows.shape[-1])
    if mask is not None:
        likeness = likeness.masked_fill(mask.to(rows.device) == 0, -math.inf)
    return likeness.softmax(-1)


def _known(batch: Mapping[str, Any]) -> Known:
    return Known(batch.get(SAMPLES), batch.get(MASK))
