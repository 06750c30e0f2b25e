"""A small batch made to find differences: padding on both sides, the padding token as a word."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from sftopt.training.split.forward_keys import ForwardKeys
from sftopt.training.split.side import IGNORED_LABEL

_TOKENS = 12
"""Of each text."""
_ROWS = 3
"""Texts of a batch."""
_PADDED = 4
"""Tokens of padding, on the right of the second row and on the left of the third."""
_MARKS = ("cls", "bos", "sep", "mask", "question", "eos")
"""Special tokens, as configurations call them, that a head may look for; as texts really have."""
_BOX = 1000
"""Coordinates on a page of a document's model go from 0 to this."""


def crafted_batch(model: PreTrainedModel, keys: ForwardKeys, seed: int = 0) -> dict[str, Any]:
    """Make a batch with labels for the head of ``model``.

    A text has padding on the right in one row and on the left in another, the padding token as a
    word in the first, special tokens where the model has them, some labels that are not counted,
    and token types.
    """
    generator = torch.Generator().manual_seed(seed)
    if keys.main == "pixel_values":
        batch = _images(model, generator)
    else:
        batch = _texts(model, keys, generator)
    batch |= _labels(model, keys, batch, generator)
    return {name: value.to(model.device) for name, value in batch.items()}


def _images(model: PreTrainedModel, generator: torch.Generator) -> dict[str, Any]:
    config = model.config
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return {"pixel_values": torch.randn(2, config.num_channels, height, width, generator=generator)}


def _texts(model: PreTrainedModel, keys: ForwardKeys, generator: torch.Generator) -> dict[str, Any]:
    config = model.config.get_text_config()
    words = _words(config)
    padding = keys.padding_id
    # without a padding token, a decoder that classifies takes one text at a time
    single = padding is None and _label_shape(model) == "text"
    rows = 1 if single else _ROWS
    ids = words[torch.randint(0, len(words), (rows, _TOKENS), generator=generator)]
    mask = torch.ones(rows, _TOKENS, dtype=torch.long)
    if not single:
        mask[1, -_PADDED:] = 0
        mask[2, :_PADDED] = 0
        ids = ids.masked_fill(mask == 0, words[0] if padding is None else padding)
    for number, mark in enumerate(_marks(config)):
        ids[: _ROWS - 1, 2 + number] = mark  # the rows that have words there
    if padding is not None:
        ids[0, 3] = ids[0, -1] = ids[1, 2] = padding
    batch = {"input_ids": ids, "attention_mask": mask}
    kinds = getattr(config, "type_vocab_size", None) or 0
    if "token_type_ids" in keys.base and kinds > 1:
        batch["token_type_ids"] = torch.randint(0, kinds, ids.shape, generator=generator)
    if "bbox" in keys.base:
        boxes = torch.randint(0, _BOX // 2, (*ids.shape, 4), generator=generator)
        boxes[..., 2:] += boxes[..., :2]  # a right lower corner lies right of and below the left
        batch["bbox"] = boxes
    for name in keys.side_keys:
        if name not in batch and name.endswith("attention_mask"):
            batch[name] = torch.randint(0, 2, ids.shape, generator=generator) * mask
            batch[name][:, 0] = mask[:, 0]
    return batch


def _marks(config: Any) -> list[int]:
    """The special tokens of a model, each once: at most as many as a row has words for."""
    found = [getattr(config, f"{name}_token_id", None) for name in _MARKS]
    known = [one for one in found if isinstance(one, int) and 0 <= one < config.vocab_size]
    return list(dict.fromkeys(known))


def _words(config: Any) -> torch.Tensor:
    """Token ids that no configuration key gives a meaning."""
    special = set()
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") or name.endswith("_token_index"):
            special |= set(value) if isinstance(value, list) else {value}
    plain = [number for number in range(min(config.vocab_size, 200)) if number not in special]
    return torch.tensor(plain or [0])


def _labels(
    model: PreTrainedModel, keys: ForwardKeys, batch: dict[str, Any], generator: torch.Generator
) -> dict[str, Any]:
    main = batch[keys.main]
    rows, classes = main.shape[0], getattr(model.config, "num_labels", 2) or 1
    shape = _label_shape(model)
    if shape == "span":
        return {
            name: torch.randint(1, _TOKENS - 1, (rows,), generator=generator)
            for name in keys.labels
        }
    if shape == "text":
        problem = getattr(model.config, "problem_type", None)
        if problem == "multi_label_classification":
            made = torch.randint(0, 2, (rows, classes), generator=generator).float()
        elif problem == "regression" or (problem is None and classes == 1):
            drawn = torch.randn(rows, classes, generator=generator)
            made = drawn.squeeze(-1) if classes == 1 else drawn
        else:
            made = torch.randint(0, classes, (rows,), generator=generator)
        return {"labels": made}
    if shape == "token":
        made = torch.randint(0, classes, main.shape, generator=generator)
    else:
        made = main.clone()
    ignored = batch["attention_mask"] == 0
    ignored[:, 1] = True
    found = {"labels": made.masked_fill(ignored, IGNORED_LABEL)}
    if "next_sentence_label" in keys.labels:
        found["next_sentence_label"] = torch.randint(0, 2, (rows,), generator=generator)
    return found


def _label_shape(model: PreTrainedModel) -> str:
    """What a label belongs to: a ``span``, a whole ``text`` or image, a ``token``, a ``word``."""
    name = type(model).__name__
    if "QuestionAnswering" in name:
        return "span"
    if "TokenClassification" in name:
        return "token"
    if "Classification" in name or "NextSentence" in name or model.main_input_name != "input_ids":
        return "text"
    return "word"
