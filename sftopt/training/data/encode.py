"""Rows of a table to samples of tokens and labels, by the model's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftopt.core.errors import InputError
from sftopt.training.data.chat import check_template, encoded_chat, messages_of
from sftopt.training.data.columns import Form
from sftopt.training.data.examples import Examples
from sftopt.training.data.labels import checked_label, classes_of, whole_numbers
from sftopt.training.data.of_model import TextInput
from sftopt.training.data.tables import Table
from sftopt.training.split.side import IGNORED_LABEL

_AT_ONCE = 1000
"""Texts that the tokenizer is given at a time."""


@dataclass(frozen=True)
class Encoded:
    """The samples of all parts, and what is to be said about them."""

    parts: dict[str, Examples]
    label_names: tuple[str, ...]
    """Of a classifier; empty for a language model."""
    notes: tuple[str, ...]


@dataclass
class Cut:
    """Counts what did not fit."""

    shortened: int = 0
    """Samples that lost their end."""
    dropped: int = 0
    """Samples of which no label was left."""
    rows: int = 0

    def notes(self, tokens: int) -> tuple[str, ...]:
        """Return lines for a reader of results."""
        found = []
        if self.shortened:
            found.append(
                f"{self.shortened} of {self.rows} samples are longer than {tokens} tokens and lose "
                "their end; --tokens sets the length"
            )
        if self.dropped:
            found.append(
                f"{self.dropped} of {self.rows} samples have nothing to learn within {tokens} "
                "tokens and are left out"
            )
        return tuple(found)


def encode(
    form: Form, columns: dict[str, str], parts: dict[str, Table], text: TextInput, data: str
) -> Encoded:
    """Encode all parts. Raises InputError naming the row that cannot be."""
    cut = Cut()
    if form is Form.CLASSIFICATION:
        return _classified(columns, parts, text, data, cut)
    if form is Form.WORD_LABELS:
        return _word_labels(columns, parts, text, data, cut)
    found = {}
    for part, table in parts.items():
        rows = _chats if form is Form.CHAT else _answers
        found[part] = _fitted(rows(columns, table, text), text, cut)
    return Encoded(found, (), cut.notes(text.tokens))


def texts_of(table: Table, column: str) -> list[str]:
    """Return a column of texts. Raises InputError naming the row of what is none."""
    values = table.column(column)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            told = "nothing" if value is None else f"a {type(value).__name__}"
            raise InputError(f"{table.where(row)}: a text under '{column}' expected, not {told}.")
    return values


def _classified(
    columns: dict[str, str], parts: dict[str, Table], text: TextInput, data: str, cut: Cut
) -> Encoded:
    column = columns["label"]
    classes = label_classes(parts, column, text.label_names, data)
    found = {}
    for part, table in parts.items():
        ids = _tokens(text, texts_of(table, columns["text"]), table, cut)
        numbers = [classes.numbers[value] for value in classes.values[part]]
        found[part] = Examples.of(ids, numbers)
    return Encoded(found, classes.names, cut.notes(text.tokens))


@dataclass(frozen=True)
class LabelClasses:
    """Labels of all parts with their classes."""

    values: dict[str, list[Any]]
    names: tuple[str, ...]
    numbers: dict[Any, int]


def label_classes(
    parts: Mapping[str, Table], column: str, model_names: Sequence[str] | None, data: str
) -> LabelClasses:
    """Return the classes of a column with one label in each row, numbered. Raises InputError."""
    values = {
        part: [
            checked_label(value, table.where(row))
            for row, value in enumerate(table.column(column))
        ]
        for part, table in parts.items()
    }  # fmt: skip
    return _numbered(values, parts, column, model_names, data)


def _numbered(
    values: dict[str, list[Any]], parts: Mapping[str, Table], column: str,
    model_names: Sequence[str] | None, data: str,
) -> LabelClasses:  # fmt: skip
    together = whole_numbers([value for part in values.values() for value in part])
    start = 0
    for part, each in values.items():
        values[part] = together[start : start + len(each)]
        start += len(each)
    told = parts["train"].classes.get(column)
    found = classes_of(
        {part: (each, parts[part].where) for part, each in values.items()}, told, model_names, data
    )
    return LabelClasses(values, found.names, dict(found.numbers))


def _tokens(text: TextInput, texts: Sequence[str], table: Table, cut: Cut) -> list[list[int]]:
    """Tokens of whole texts, the tokenizer's own marks among them."""
    found: list[list[int]] = []
    for first in range(0, len(texts), _AT_ONCE):
        found += text.tokenizer(list(texts[first : first + _AT_ONCE]), verbose=False)["input_ids"]
    for row, ids in enumerate(found):
        if not ids:
            raise InputError(
                f"{table.where(row)}: its text gives no token; leave out rows without text."
            )
        if len(ids) > text.tokens:
            cut.shortened += 1
            found[row] = _shortened(text, ids)
    cut.rows += len(found)
    text.check(found)
    return found


def _shortened(text: TextInput, ids: list[int]) -> list[int]:
    """The first tokens, with the mark behind the last text where the tokenizer puts one there."""
    ends = ids[-1] in text.tokenizer.all_special_ids
    return [*ids[: text.tokens - 1], ids[-1]] if ends else ids[: text.tokens]


def _word_labels(
    columns: dict[str, str], parts: dict[str, Table], text: TextInput, data: str, cut: Cut
) -> Encoded:
    """Words with labels: the first token of a word has its label, the others none."""
    if not text.tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of model '{text.model}' does not tell words; labels of words need a "
            "tokenizer.json."
        )
    words = {part: _lists(table, columns["words"]) for part, table in parts.items()}
    tags = {part: _lists(table, columns["tags"]) for part, table in parts.items()}
    flat: dict[str, list[Any]] = {}
    for part, table in parts.items():
        for row, (some, labels) in enumerate(zip(words[part], tags[part], strict=True)):
            if len(some) != len(labels):
                raise InputError(
                    f"{table.where(row)}: {len(some)} words and {len(labels)} labels; one for each "
                    "word is needed."
                )
        flat[part] = [
            checked_label(value, table.where(row))
            for row, labels in enumerate(tags[part])
            for value in labels
        ]
    rows = {part: [r for r, some in enumerate(tags[part]) for _ in some] for part in parts}
    numbered = _numbered_words(flat, parts, rows, columns["tags"], text, data)
    found = {}
    for part, table in parts.items():
        labels_of = iter(numbered.values[part])
        samples = []
        for row, some in enumerate(words[part]):
            numbers = [numbered.numbers[next(labels_of)] for _ in some]
            samples.append(_word_tokens(text, some, numbers, table.where(row)))
        found[part] = _fitted(samples, text, cut)
    return Encoded(found, numbered.names, cut.notes(text.tokens))


def _numbered_words(
    flat: dict[str, list[Any]], parts: dict[str, Table], rows: dict[str, list[int]], column: str,
    text: TextInput, data: str,
) -> LabelClasses:  # fmt: skip
    told = parts["train"].classes.get(column)
    wheres = {
        part: (values, lambda n, part=part: parts[part].where(rows[part][n]))
        for part, values in flat.items()
    }
    found = classes_of(wheres, told, text.label_names, data)
    return LabelClasses(flat, found.names, dict(found.numbers))


def _lists(table: Table, column: str) -> list[list[Any]]:
    values = table.column(column)
    for row, value in enumerate(values):
        if not isinstance(value, list):
            raise InputError(f"{table.where(row)}: a list under '{column}' expected.")
    return values


def _word_tokens(
    text: TextInput, words: list[Any], numbers: list[int], where: str
) -> tuple[list[int], list[int]]:
    if not all(isinstance(word, str) for word in words):
        raise InputError(f"{where}: words must be texts.")
    made = text.tokenizer(words, is_split_into_words=True, verbose=False)
    labels, before = [], None
    for word in made.word_ids():
        labels.append(IGNORED_LABEL if word is None or word == before else numbers[word])
        before = word
    return list(made["input_ids"]), labels


def _chats(
    columns: dict[str, str], table: Table, text: TextInput
) -> list[tuple[list[int], list[int]]]:
    check_template(text.tokenizer, str(text.model))
    found = []
    for row, value in enumerate(table.column(columns["messages"])):
        where = table.where(row)
        ids, said = encoded_chat(text.tokenizer, messages_of(value, where), where)
        labels = [number if own else IGNORED_LABEL for number, own in zip(ids, said, strict=True)]
        found.append((ids, labels))
    return found


def _answers(
    columns: dict[str, str], table: Table, text: TextInput
) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion, a loss on the completion and the end of text behind it."""
    tokenizer, end = text.tokenizer, text.tokenizer.eos_token_id
    prompts = texts_of(table, columns["prompt"])
    completions = texts_of(table, columns["completion"])
    found = []
    for prompt, completion in zip(prompts, completions, strict=True):
        first = tokenizer(prompt, verbose=False)["input_ids"]
        if first and first[-1] == end:  # some tokenizers end every text themselves
            first = first[:-1]
        second = tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"]
        second = [*second, *([] if end is None else [end])]
        found.append(([*first, *second], [IGNORED_LABEL] * len(first) + second))
    return found


def _fitted(samples: Sequence[tuple[list[int], list[int]]], text: TextInput, cut: Cut) -> Examples:
    """Samples cut to the length; those of which nothing is left to learn are dropped."""
    kept = []
    for ids, labels in samples:
        cut.rows += 1
        cut.shortened += len(ids) > text.tokens
        # the first token of a language model's sample is predicted from nothing
        learnt = labels[1 : text.tokens] if text.causal else labels[: text.tokens]
        if all(label == IGNORED_LABEL for label in learnt):
            cut.dropped += 1
            continue
        kept.append((ids[: text.tokens], labels[: text.tokens]))
    text.check([ids for ids, _ in kept])
    return Examples.of([ids for ids, _ in kept], [labels for _, labels in kept])
