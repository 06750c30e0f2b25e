"""What the model to be tuned wants its data like: image size and normalisation, or a tokenizer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from sftopt.core.errors import InputError
from sftopt.core.files import read_json

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of which one shows that a folder holds a tokenizer."""

ModelName = str | os.PathLike[str]


@dataclass(frozen=True)
class ImageInput:
    """Square images with three channels, as a model wants them."""

    side: int = 32
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Shift and scale pixels in [0, 1], shape (images, 3, side, side), to lie around 0."""
        shape = (1, -1, 1, 1)
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return (pixels - mean.view(shape)) / deviation.view(shape)

    @classmethod
    def of(cls, model: ModelName | None, side: int) -> ImageInput:
        """Read the input from a model's configuration; without a model, from ``side``."""
        if model is None:
            return cls(side)
        config = config_of(model)
        size = config.get("image_size")
        if not isinstance(size, int):
            raise InputError(f"model '{model}' takes no square images (image_size = {size!r}).")
        path = Path(model) / "preprocessor_config.json"
        if not path.is_file():
            return cls(size)
        found = read_json(path, "preprocessor configuration")
        mean, deviation = found.get("image_mean", cls.mean), found.get("image_std", cls.deviation)
        return cls(size, tuple(map(float, mean)), tuple(map(float, deviation)))


def config_of(model: ModelName) -> dict[str, Any]:
    """Read a model's configuration as plain data: of a config.json, a folder or a hub id.

    Raises InputError where it cannot be read.
    """
    path = Path(model)
    if path.is_file():
        return read_json(path, "model configuration")
    if (path / "config.json").is_file():
        return read_json(path / "config.json", "model configuration")
    try:
        data: dict[str, Any] = AutoConfig.from_pretrained(
            os.fspath(model), trust_remote_code=False
        ).to_dict()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model '{model}' cannot be read: {str(error).splitlines()[0][:200]}"
        ) from None
    return data


def tokenizer_of(model: ModelName) -> Any | None:
    """Load the tokenizer that stands with a model; None where there is none."""
    if Path(model).is_dir() and not any((Path(model) / name).is_file() for name in _TOKENIZERS):
        return None  # transformers would make an empty one that drops all text
    try:
        return AutoTokenizer.from_pretrained(
            os.fspath(model), local_files_only=Path(model).exists(), trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
