"""Texts of the user's own for language modelling: documents joined to streams, cut into windows.

Tokens are those of the model's tokenizer; for a model of 256 words, and without a model, they are
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sftopt.training.data.of_model import ModelName, TextInput
from sftopt.training.data.task import TaskKind, TrainingDefaults
from sftopt.training.data.tokens import Streams, TokenArray, TokenTask, joined


def load(
    data: str,
    documents: Mapping[str, Sequence[str]],
    tokens: int | None = None,
    model: ModelName | None = None,
) -> TokenTask:
    """Make the task of the documents of all parts. Raises InputError for little text."""
    given = TextInput.of(model, tokens, bytes_allowed=True)
    streams = Streams(
        *(_stream(documents[part], given) for part in ("train", "validation", "test"))
    )
    task = TokenTask(
        name=data,
        kind=TaskKind.LANGUAGE_MODELLING,
        metric=TaskKind.LANGUAGE_MODELLING.metric,
        labels=None,
        fingerprint=streams.fingerprint(),
        training=TrainingDefaults(batch=8, steps=1000, cut=2, learning_rate=1e-3),
        tokens=given.tokens,
        words=given.words,
        streams=streams,
    )
    task.check()
    return task


def _stream(documents: Sequence[str], given: TextInput) -> TokenArray:
    """All documents, an end-of-text token behind each."""
    if given.tokenizer is None:
        return joined([text.encode().replace(b"\0", b"") for text in documents])
    end = given.tokenizer.eos_token_id
    ids: list[int] = []
    for text in documents:
        ids += given.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        ids += [] if end is None else [end]
    given.check([ids])
    return np.array(ids, dtype=np.int32)
