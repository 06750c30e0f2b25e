"""Chats to tokens by the model's own template, with a loss on what the assistant says alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from sftopt.core.errors import InputError

_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Other names of roles that data sets use."""
_MARK = "\ue000answer\ue000"
"""Stands for a content where its place is looked for: characters of no text."""
_GENERATION = "{% generation"
"""In a template that says itself what the assistant says."""


def messages_of(value: Any, where: str) -> list[dict[str, str]]:
    """Return the messages of one chat as roles with texts. Raises InputError."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InputError(f"{where}: a list of messages with role and content expected.")
    found = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            raise InputError(f"{where}: message {number} is no object with role and content.")
        role = message.get("role", message.get("from"))
        content = _content(message.get("content", message.get("value")))
        if not isinstance(role, str) or content is None:
            raise InputError(
                f"{where}: message {number} needs a 'role' and a 'content' that are texts (tool "
                "calls and pictures are not learnt)."
            )
        found.append({"role": _NAMES.get(role, role), "content": content})
    if not any(message["role"] == "assistant" for message in found):
        raise InputError(f"{where}: no message is the assistant's; there is nothing to learn.")
    return found


def _content(value: Any) -> str | None:
    """A text, or a list of parts that are texts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value
    ):
        return "".join(part["text"] for part in value)
    return None


def check_template(tokenizer: Any, model: str) -> None:
    """Raise InputError where the model's tokenizer cannot write chats."""
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of model '{model}' has no chat template, so that chats cannot be "
            "written as the model knows them. Put the template of its chat version beside it "
            "(chat_template.jinja), or give columns prompt and completion."
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of model '{model}' does not tell where its tokens stand; chats need a "
            "tokenizer.json."
        )


def encoded_chat(
    tokenizer: Any, messages: list[dict[str, str]], where: str
) -> tuple[list[int], list[bool]]:
    """Return the tokens of a chat, and of each whether the assistant says it.

    That is what stands behind the template's prompt for an answer, up to the end of the content and
    the token that ends the turn. Raises InputError where the template refuses the chat or writes
    earlier turns anew.
    """
    try:
        if _GENERATION in tokenizer.chat_template:
            return _by_template(tokenizer, messages)
        return _by_prefix(tokenizer, messages, where)
    except TemplateError as error:
        raise InputError(f"{where}: the chat template refuses it: {error}") from None


def _by_template(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    made = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(made["input_ids"]), [bool(said) for said in made["assistant_masks"]]


def _by_prefix(
    tokenizer: Any, messages: list[dict[str, str]], where: str
) -> tuple[list[int], list[bool]]:
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(
            messages[:number], tokenize=False, add_generation_prompt=True
        )
        end = -1
        if whole.startswith(before):
            end = _end(tokenizer, messages, number, whole, len(before))
        if end < 0:
            raise InputError(
                f"{where}: the chat template writes message {number + 1} otherwise in the whole "
                "chat than as an answer, so that what the assistant says cannot be told from the "
                "rest. Give columns prompt and completion."
            )
        spans.append((len(before), end))
    made = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    return list(made["input_ids"]), _said(
        tokenizer, made["input_ids"], made["offset_mapping"], spans
    )


def _end(
    tokenizer: Any, messages: list[dict[str, str]], number: int, whole: str, start: int
) -> int:
    """Where the content of a message ends in the whole chat, behind ``start``; -1: nowhere.

    Templates put text of their own before it (an empty thought, say), and some strip it: a mark in
    its stead shows where it begins.
    """
    content = messages[number]["content"]
    marked = [*messages[:number], {**messages[number], "content": _MARK}, *messages[number + 1 :]]
    at: int = tokenizer.apply_chat_template(marked, tokenize=False).find(_MARK)
    for written in (content, content.strip()):
        if at >= start and whole.startswith(written, at):
            return at + len(written)
    at = whole.find(content.strip(), start)
    return -1 if at < 0 else at + len(content.strip())


def _said(
    tokenizer: Any,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
) -> list[bool]:
    """Tokens that begin inside a span, and the special one right behind it, which ends the turn."""
    special = {
        *tokenizer.all_special_ids,
        *(number for number, token in tokenizer.added_tokens_decoder.items() if token.special),
    }
    said = [False] * len(ids)
    for start, end in spans:
        behind = True
        for place, (first, last) in enumerate(offsets):
            if start <= first < end or (first < end and start < last):
                said[place] = True
            elif first >= end and behind:
                behind = False
                said[place] = ids[place] in special
    return said
