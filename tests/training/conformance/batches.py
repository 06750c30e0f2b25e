"""Plain batches for the rows of the conformance table; other values than the check at the start."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from tests.training.conformance.architectures import CLASSES, VOCABULARY

Batch = dict[str, Any]
ROWS_OF_BATCH = 3
TOKENS = 10


def plain_batch(model: PreTrainedModel, head: str, seed: int = 1) -> Batch:
    """Texts of 10, 7 and 5 tokens, padded on the right, or three images, with labels."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    if head == "image":
        size = model.config.image_size
        return {
            "pixel_values": torch.randn(ROWS_OF_BATCH, 3, size, size, generator=generator),
            "labels": whole(0, CLASSES, ROWS_OF_BATCH),
        }
    padding = model.config.pad_token_id
    ids = whole(6, VOCABULARY, ROWS_OF_BATCH, TOKENS)
    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS], [7], [5]])
    ids = ids.masked_fill(~mask, padding)
    batch: Batch = {"input_ids": ids, "attention_mask": mask.long()}
    if head == "span":
        return {**batch, "start_positions": whole(0, 3, 3), "end_positions": whole(2, 5, 3)}
    if head == "text":
        return {**batch, "labels": whole(0, CLASSES, ROWS_OF_BATCH)}
    labels = whole(0, CLASSES, *ids.shape) if head == "token" else ids.clone()
    return {**batch, "labels": labels.masked_fill(~mask, -100)}
