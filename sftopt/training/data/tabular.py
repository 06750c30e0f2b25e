"""Tables of the user's own as tasks: texts, labelled texts and words, answers, chats, images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sftopt.core.errors import InputError
from sftopt.training.data import images, text
from sftopt.training.data.columns import Form, columns_of
from sftopt.training.data.encode import encode, texts_of
from sftopt.training.data.examples import ExampleTask
from sftopt.training.data.of_model import ModelName, TextInput
from sftopt.training.data.tables import Table, read_parts
from sftopt.training.data.task import Task, TaskKind, TrainingDefaults

_KINDS = {
    Form.CHAT: TaskKind.LANGUAGE_MODELLING,
    Form.COMPLETION: TaskKind.LANGUAGE_MODELLING,
    Form.WORD_LABELS: TaskKind.TOKEN_CLASSIFICATION,
    Form.CLASSIFICATION: TaskKind.TEXT_CLASSIFICATION,
}
"""What is learnt from rows that stand for themselves."""


def load(
    kind: str, place: str, tokens: int | None, model: ModelName | None, columns: Mapping[str, str]
) -> Task:
    """Load the task of a table. Raises InputError naming what does not fit and the way out."""
    data = f"{kind}:{place}"
    parts = read_parts(kind, place)
    if parts["train"].size == 0 or parts["test"].size == 0:
        raise InputError(
            f"data '{data}': {parts['train'].size} rows for training and {parts['test'].size} for "
            "testing; give more rows, or files named train and test."
        )
    form, chosen = columns_of(parts["train"].names, columns, data)
    for part in ("validation", "test"):
        missing = [name for name in chosen.values() if name not in parts[part].names]
        if missing:
            raise InputError(f"data '{data}': its {part} part has no column '{missing[0]}'.")
    if form is Form.IMAGE:
        return images.load_table(data, parts, chosen, model)
    if form is Form.TEXT:
        documents = {part: texts_of(table, chosen["text"]) for part, table in parts.items()}
        return text.load(data, documents, tokens, model)
    return _examples(data, form, chosen, parts, tokens, model)


def _examples(
    data: str, form: Form, columns: dict[str, str], parts: dict[str, Table], tokens: int | None,
    model: ModelName | None,
) -> ExampleTask:  # fmt: skip
    if model is None:
        raise InputError(
            f"data '{data}' ({form.value}) needs a model and its tokenizer; give them with --model."
        )
    kind = _KINDS[form]
    given = TextInput.of(model, tokens, causal=kind is TaskKind.LANGUAGE_MODELLING)
    found = encode(form, columns, parts, given, data)
    for part in ("train", "test"):
        if found.parts[part].size == 0:
            raise InputError(
                f"data '{data}': no sample of the {part} part has anything to learn within "
                f"{given.tokens} tokens; give more --tokens."
            )
    digest = hashlib.sha256(f"{kind} {given.tokens} {given.padding} ".encode())
    digest.update("\0".join(found.label_names).encode())
    for examples in found.parts.values():
        examples.feed(digest)
    return ExampleTask(
        name=data,
        kind=kind,
        metric=kind.metric,
        labels=len(found.label_names) or None,
        fingerprint=digest.hexdigest(),
        notes=found.notes,
        training=TrainingDefaults(batch=8, steps=1000, cut=2, learning_rate=1e-3),
        label_names=found.label_names,
        padding_token=given.padding,
        tokens=given.tokens,
        parts=found.parts,
    )
