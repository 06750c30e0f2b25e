"""What the model to be tuned wants its data like: its image processor, or its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from sftopt.core.errors import InputError
from sftopt.core.files import read_json

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files of which one shows that a folder holds a tokenizer."""

ModelName = str | os.PathLike[str]


_OFFSET_TYPES = ("roberta", "xlm-roberta", "camembert", "xmod", "longformer", "data2vec-text")
"""Model types whose positions begin behind the padding token's number."""
_NO_LIMIT = 10**6
"""Lengths from here on stand for none, as tokenizers have them."""
TOKENS = 128
"""Default length of a sample in tokens."""
BYTE_WORDS = 256
"""Number of tokens where each byte is one."""


@dataclass(frozen=True)
class ImageInput:
    """Square images with three channels, as a model wants them."""

    side: int = 32
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    processor: Any = None
    """The model's own image processor of transformers, which then decides on all."""
    processing: str = ""
    """Its settings as text: they are part of what the data is."""

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Shift and scale pixels in [0, 1], shape (images, 3, side, side), to lie around 0."""
        shape = (1, -1, 1, 1)
        mean, deviation = torch.tensor(self.mean), torch.tensor(self.deviation)
        return (pixels - mean.view(shape)) / deviation.view(shape)

    def processed(self, pictures: Sequence[Any]) -> torch.Tensor:
        """Return what the model's processor makes of pictures, (images, 3, side, side).

        Raises InputError where it cannot.
        """
        try:
            values = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"the model's image processor refuses a picture: {str(error).splitlines()[0][:200]}"
            ) from None
        return cast(torch.Tensor, values)

    @classmethod
    def of(cls, model: ModelName | None, side: int) -> ImageInput:
        """Read the input from what stands with a model; without a model, from ``side``.

        Where the model names its image processor, that one resizes, crops and rescales. Raises
        InputError for a model that takes no square images.
        """
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
        if "image_processor_type" in found:
            return _of_processor(cls(size), model)
        mean, deviation = found.get("image_mean", cls.mean), found.get("image_std", cls.deviation)
        return cls(size, tuple(map(float, mean)), tuple(map(float, deviation)))


def _of_processor(plain: ImageInput, model: ModelName) -> ImageInput:
    """What the model's image processor makes of images; its Pillow version needs nothing else."""
    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            os.fspath(model), local_files_only=True, trust_remote_code=False, backend="pil"
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise InputError(
            f"model '{model}': its image processor cannot be loaded: "
            f"{str(error).splitlines()[0][:200]}"
        ) from None
    return replace(plain, processor=processor, processing=processor.to_json_string())


@dataclass(frozen=True)
class TextInput:
    """How texts become tokens for a model, and how many of them."""

    model: str = ""
    tokenizer: Any = None
    """None: tokens are bytes."""
    words: int = BYTE_WORDS
    tokens: int = TOKENS
    padding: int = 0
    """The token that fills up."""
    causal: bool = True
    """Whether each token is predicted from those before it."""
    label_names: tuple[str, ...] | None = None
    """Classes that the model's head was trained on; None: it was not, or does not tell."""

    @classmethod
    def of(
        cls, model: ModelName | None, tokens: int | None = None, *, causal: bool = True,
        bytes_allowed: bool = False,
    ) -> TextInput:  # fmt: skip
        """Read a model's configuration and tokenizer; ``tokens`` defaults to what it has, at most
        :data:`TOKENS`.

        Raises InputError for more tokens than positions, and where no tokenizer stands beside it.
        """
        if model is None:
            return cls(tokens=tokens or TOKENS)
        whole = config_of(model)
        config = whole.get("text_config", whole)
        words = int(config.get("vocab_size") or 0)
        tokenizer = None
        if words != BYTE_WORDS or not bytes_allowed:
            tokenizer = tokenizer_of(model)
            if tokenizer is None:
                raise InputError(
                    f"model '{model}' has {words} words but no tokenizer stands beside it; put "
                    "its tokenizer files into the model's folder."
                )
        positions = positions_of(config, tokenizer)
        wanted = tokens or min(TOKENS, positions or TOKENS)
        if positions is not None and wanted > positions:
            raise InputError(
                f"windows of {wanted} tokens; model '{model}' has {positions} positions."
            )
        padding = _padding(config, tokenizer)
        return cls(str(model), tokenizer, words, wanted, padding, causal, _label_names(whole))

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Raise InputError for a token that the model does not have."""
        largest = max((max(one) for one in ids if one), default=0)
        if largest >= self.words:
            raise InputError(
                f"the tokenizer gives token {largest}, but the model has {self.words} words; they "
                "do not belong together."
            )


def positions_of(config: Mapping[str, Any], tokenizer: Any | None) -> int | None:
    """Return how many tokens a model takes at most; None where nothing limits them."""
    found = config.get("n_positions", config.get("max_position_embeddings"))
    positions = found if isinstance(found, int) else None
    if positions is not None and config.get("model_type") in _OFFSET_TYPES:
        positions -= int(config.get("pad_token_id") or 0) + 1
    limit = getattr(tokenizer, "model_max_length", None)
    if isinstance(limit, int) and 1 < limit < _NO_LIMIT:
        return limit if positions is None else min(limit, positions)
    return positions


def _padding(config: Mapping[str, Any], tokenizer: Any | None) -> int:
    """The model's padding token, else its tokenizer's, else the end of text."""
    known = (
        config.get("pad_token_id"),
        getattr(tokenizer, "pad_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
        config.get("eos_token_id"),
    )
    return next((int(one) for one in known if isinstance(one, int) and one >= 0), 0)


def _label_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of a head's classes, but for those that transformers makes up."""
    named = config.get("id2label")
    if not isinstance(named, Mapping):
        return None
    names = tuple(str(named[key]) for key in sorted(named, key=int))
    if not names or all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return None
    return names


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
