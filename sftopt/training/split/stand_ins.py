"""What the server gives its own forward in place of the tokens or the image it never sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from sftopt.training.split.forward_keys import ForwardKeys
from sftopt.training.split.side import IMAGE_SIZE, PADDING, TOKENS

NO_LOSS = (
    "{name} gives no loss for labels; use a model with a task head (causal or masked language "
    "model, classification of texts, tokens or images, question answering)."
)
"""Says what is missing of a base model without a head."""


def server_inputs(
    model: PreTrainedModel, keys: ForwardKeys, hidden: torch.Tensor, side: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the server's forward is given: what was sent, and stand-ins of the right shape.

    ``hidden`` is the activation (batch, tokens, hidden) that came.
    """
    given = to_device(side, model.device)
    padding, size = given.pop(PADDING, None), given.pop(IMAGE_SIZE, None)
    tokens = given.pop(TOKENS, hidden.shape[1])
    if keys.main in given:
        return given
    mask = given.get("attention_mask")
    if keys.reads_padding and padding is None and mask is not None and mask.ndim == 2:
        padding = mask == 0
    return {**stand_in_inputs(model, hidden.shape[0], tokens, padding, size), **given}


def to_device(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the values with tensors on ``device``, all else as it is."""
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


def logits_of(output: Any) -> torch.Tensor:
    """Return the logits of a model's output; of question answering (batch, tokens, 2)."""
    if hasattr(output, "start_logits"):
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    found = getattr(output, "logits", None)
    return cast(torch.Tensor, output.prediction_logits if found is None else found)


def stand_in_inputs(
    model: PreTrainedModel,
    batch: int,
    tokens: int,
    padding: torch.Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Make inputs of the right shape that say nothing about the data.

    The server runs the model's own forward on them so that masks and positions are made as ever;
    what its embedding makes of them is thrown away at the cut. ``padding`` says which tokens are
    the padding token: decoders that classify look for it. ``image_size``: (height, width), where
    it is not the configuration's.
    """
    config = model.config
    if model.main_input_name == "pixel_values":
        height, width = image_size or configured_image_size(model) or (0, 0)
        return {
            "pixel_values": torch.zeros(
                batch, config.num_channels, height, width, dtype=model.dtype, device=model.device
            )
        }
    pad = getattr(config.get_text_config(), "pad_token_id", None)
    filler = 1 if pad == 0 else 0
    ids = torch.full((batch, tokens), filler, dtype=torch.long, device=model.device)
    if pad is not None and padding is not None:
        ids = ids.masked_fill(padding.to(torch.bool), pad)
    return {"input_ids": ids}


def configured_image_size(model: PreTrainedModel) -> tuple[int, int] | None:
    """Return the size (height, width) of the configuration's images; None for a text model."""
    if model.main_input_name != "pixel_values":
        return None
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
