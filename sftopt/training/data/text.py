"""Text of the user's own: ``jsonl:PATH``, one ``{"text": ...}`` per line.

PATH is a folder with ``train.jsonl``, ``test.jsonl`` and, if wanted, ``validation.jsonl``; or one
file, of whose documents every 20th is for testing and the one after it for validation. Tokens are
those of the model's tokenizer; for a model of 256 words, and without a model, they are bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.files import has_lone_surrogate, refuse_lfs_pointer
from sftopt.training.data.of_model import ModelName, config_of, tokenizer_of
from sftopt.training.data.task import TaskKind, TrainingDefaults
from sftopt.training.data.tokens import BYTE_WORDS, Streams, TokenArray, TokenTask, joined

_TOKENS = 128
"""Default window in tokens."""
_HELD_OUT_EVERY = 20
"""Of the lines every so many-th is held out where no file does."""


def load(place: str, tokens: int | None = None, model: ModelName | None = None) -> TokenTask:
    """Load the task. Raises InputError for a missing file, a bad line or little text."""
    path = Path(place).expanduser()
    if path.is_dir():
        train, test = _read(path / "train.jsonl"), _read(path / "test.jsonl")
        apart = path / "validation.jsonl"
        held = _read(apart) if apart.is_file() else train[::_HELD_OUT_EVERY]
        if not apart.is_file():
            del train[::_HELD_OUT_EVERY]
        texts = [train, held, test]
    else:
        texts = _divided(_read(path))
    reader = _Reader(model)
    streams = Streams(*(reader.stream(documents) for documents in texts))
    task = TokenTask(
        name=f"jsonl:{place}",
        kind=TaskKind.LANGUAGE_MODELLING,
        metric="negative_loss_nats",
        labels=None,
        fingerprint=streams.fingerprint(),
        training=TrainingDefaults(batch=8, steps=1000, cut=2, learning_rate=1e-3),
        tokens=tokens or min(_TOKENS, reader.positions or _TOKENS),
        words=reader.words,
        streams=streams,
    )
    if reader.positions is not None and task.tokens > reader.positions:
        raise InputError(
            f"windows of {task.tokens} tokens; model '{model}' has {reader.positions} positions."
        )
    task.check()
    return task


def _divided(documents: list[str]) -> list[list[str]]:
    """Training, validation and test documents."""
    parts: list[list[str]] = [[], [], []]
    for number, document in enumerate(documents):
        place = number % _HELD_OUT_EVERY
        parts[2 if place == 0 else 1 if place == 1 else 0].append(document)
    return parts


class _Reader:
    """Text to tokens, as the model wants them."""

    def __init__(self, model: ModelName | None) -> None:
        self.tokenizer: Any | None = None
        self.words = BYTE_WORDS
        self.positions: int | None = None
        if model is None:
            return
        config = config_of(model)
        config = config.get("text_config", config)
        self.words = int(config.get("vocab_size", 0))
        positions = config.get("n_positions", config.get("max_position_embeddings"))
        self.positions = positions if isinstance(positions, int) else None
        if self.words == BYTE_WORDS:
            return
        self.tokenizer = tokenizer_of(model)
        if self.tokenizer is None:
            raise InputError(
                f"model '{model}' has {self.words} words but no tokenizer stands beside it; put "
                "its tokenizer files into the model's folder."
            )

    def stream(self, documents: list[str]) -> TokenArray:
        """All documents, an end-of-text token behind each."""
        if self.tokenizer is None:
            return joined([text.encode().replace(b"\0", b"") for text in documents])
        end = self.tokenizer.eos_token_id
        ids: list[int] = []
        for text in documents:
            ids += self.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += [] if end is None else [end]
        stream = np.array(ids, dtype=np.int32)
        if stream.size and int(stream.max()) >= self.words:
            raise InputError(
                f"the tokenizer gives token {int(stream.max())}, but the model has {self.words} "
                "words; they do not belong together."
            )
        return stream


def _read(path: Path) -> list[str]:
    refuse_lfs_pointer(path, "text file")
    try:
        # some editors put a mark before the text; split lines but at U+2028
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError:
        raise InputError(
            f"text file '{path}' does not exist or cannot be read. Give jsonl:FILE with one "
            '{"text": ...} per line, or a folder with train.jsonl and test.jsonl.'
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"text file '{path}' is not UTF-8.") from None
    return [_text(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _text(path: Path, number: int, line: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"'{path}' line {number} is not JSON: {told}.") from None
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise InputError(f"'{path}' line {number}: an object with a text under 'text' expected.")
    text: str = entry["text"]
    if has_lone_surrogate(line, text):
        raise InputError(
            f"'{path}' line {number}: 'text' holds half a character (a surrogate without its other "
            "half); write it out as UTF-8 again."
        )
    return text
