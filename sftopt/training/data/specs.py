"""From the text a user types after ``--data`` to a task."""

from __future__ import annotations

import os
from collections.abc import Callable

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.data import digit_scenes, images, stdlib_bytes, text
from sftopt.training.data.task import Task

KNOWN = (
    digit_scenes.NAME,
    stdlib_bytes.NAME,
    "cifar100:PATH",
    "tiny-imagenet:PATH",
    "jsonl:PATH",
)


def load_task(
    spec: str, *, tokens: int | None = None, model: str | os.PathLike[str] | None = None
) -> Task:
    """The task of a spec: ``digit-scenes``, ``stdlib-bytes``, or ``KIND:PATH`` for own data.

    ``tokens`` is the window of text tasks (default 128). ``model`` is the folder or hub id of the
    model to be tuned: its image size and normalisation, or its tokenizer, are then used for own
    data; the two default tasks have their own. Raises InputError naming what is missing and the
    way out.
    """
    if tokens is not None and tokens < 2:
        raise InputError(f"tokens = {tokens}; a window has at least 2.")
    kind, colon, place = spec.partition(":")
    if spec == digit_scenes.NAME:
        return digit_scenes.load()
    if spec == stdlib_bytes.NAME:
        return stdlib_bytes.load(tokens or stdlib_bytes.TOKENS)
    loader = _LOADERS.get(kind)
    if loader is None:
        raise UnknownNameError("data", spec, KNOWN)
    if not colon or not place:
        raise InputError(f"data '{spec}' names no place; write {kind}:PATH.")
    return loader(place, tokens, model)


_Loader = Callable[[str, int | None, str | os.PathLike[str] | None], Task]

_LOADERS: dict[str, _Loader] = {
    "cifar100": lambda place, tokens, model: images.load_cifar100(place, model),
    "tiny-imagenet": lambda place, tokens, model: images.load_tiny_imagenet(place, model),
    "jsonl": text.load,
}
