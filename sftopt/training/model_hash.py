"""The hash that tells a base model from others, whatever folder it lies in."""

from __future__ import annotations

import hashlib
import json

import torch
from transformers import PreTrainedModel

_PLACE_AND_RELEASE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Fields of a configuration that say nothing of what the model computes."""


def model_hash(model: PreTrainedModel) -> str:
    """Return the sha256 of configuration and weights, in hex."""
    digest = hashlib.sha256()
    config = {
        name: value
        for name, value in model.config.to_dict().items()
        if name not in _PLACE_AND_RELEASE
    }
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


__all__ = ["model_hash"]
