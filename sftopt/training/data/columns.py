"""Which columns of a table are learnt from, and so what is learnt: declared, or by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from sftopt.core.errors import InputError, UnknownNameError


class Form(StrEnum):
    """What the rows of a table are."""

    CHAT = "chat messages"
    COMPLETION = "prompts with completions"
    WORD_LABELS = "words with labels"
    IMAGE = "images with labels"
    CLASSIFICATION = "texts with labels"
    TEXT = "texts"


ROLES: dict[Form, tuple[str, ...]] = {
    Form.CHAT: ("messages",),
    Form.COMPLETION: ("prompt", "completion"),
    Form.WORD_LABELS: ("words", "tags"),
    Form.IMAGE: ("image", "label"),
    Form.CLASSIFICATION: ("text", "label"),
    Form.TEXT: ("text",),
}
"""What columns are called in ``--columns``, by form; the first form that is there counts."""

_USUAL: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "instruction", "question"),
    "completion": ("completion", "response", "output", "answer"),
    "words": ("words", "tokens"),
    "tags": ("tags", "ner_tags", "pos_tags", "chunk_tags"),
    "image": ("image", "img"),
    "text": ("text", "sentence", "content"),
    "label": ("label", "labels", "fine_label", "class"),
}
"""Names by which columns are known, by preference, where none are declared."""
_ONE_OF = ("tags",)
"""Roles of which data sets have several columns at once: none of them is meant more than others."""
_SHOWN = 20
"""Most columns listed in a message."""


def parse_columns(text: str | None) -> dict[str, str]:
    """Parse ``text=review,label=stars`` into columns by role. Raises InputError."""
    found: dict[str, str] = {}
    for pair in filter(None, (text or "").split(",")):
        role, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not role or not column:
            raise InputError(f"--columns '{pair}': give it as ROLE=COLUMN, such as text=review.")
        if role not in _USUAL:
            raise UnknownNameError("role of a column", role, _USUAL)
        if role in found:
            raise InputError(f"--columns names {role} twice.")
        found[role] = column
    return found


def columns_of(
    names: Sequence[str], declared: Mapping[str, str], data: str
) -> tuple[Form, dict[str, str]]:
    """Return what the rows are and their columns by role.

    Declared roles alone decide on the form; what it needs beyond them is found by its usual names.
    Raises InputError naming the columns that are there.
    """
    there = ", ".join(repr(name) for name in names[:_SHOWN]) or "none"
    there += f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    for role, column in declared.items():
        if column not in names:
            raise InputError(f"data '{data}': no column {column!r} for {role}; columns: {there}.")
    for form, roles in _fitting(declared):
        found = {role: declared.get(role) or _usual(role, names, data) for role in roles}
        if all(found.values()):
            return form, {role: column for role, column in found.items() if column}
    wanted = "; ".join(f"{', '.join(roles)} ({form.value})" for form, roles in ROLES.items())
    raise InputError(
        f"data '{data}': its columns {there} are of no known kind. Say what they are with "
        f"--columns ROLE=COLUMN,...; roles: {wanted}."
    )


def _fitting(declared: Mapping[str, str]) -> list[tuple[Form, tuple[str, ...]]]:
    """Forms that have all declared roles, those made of exactly them first."""
    fitting = [(form, roles) for form, roles in ROLES.items() if set(declared) <= set(roles)]
    if declared and not fitting:
        raise InputError(f"--columns: no kind of data has {' and '.join(declared)} together.")
    return sorted(fitting, key=lambda one: set(one[1]) != set(declared))


def _usual(role: str, names: Sequence[str], data: str) -> str | None:
    found = [name for name in _USUAL[role] if name in names]
    if role in _ONE_OF and len(found) > 1:
        raise InputError(
            f"data '{data}' has several columns of labels of words ({', '.join(found)}); say which "
            f"is meant with --columns {role}=COLUMN."
        )
    return found[0] if found else None
