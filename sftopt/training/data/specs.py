"""From the text a user types after ``--data`` to a task."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.codec import (
    BASES_NAME,
    CodecConfig,
    EcsqConfig,
    RotatedConfig,
    RotatedTopKConfig,
    TopKConfig,
)
from sftopt.training.data import digit_scenes, images, stdlib_bytes, tabular, wordnet_senses
from sftopt.training.data.tables import TABLE_KINDS
from sftopt.training.data.task import Task, TaskKind

KNOWN = (
    digit_scenes.NAME,
    stdlib_bytes.NAME,
    wordnet_senses.NAME,
    f"{wordnet_senses.NAME}:PATH",
    "images:PATH",
    "cifar100:PATH",
    "tiny-imagenet:PATH",
    *(f"{kind}:PATH" for kind in TABLE_KINDS),
)
"""Specs that are understood."""

_WHOLE = 2**31
"""More elements than a boundary has: one group."""


def load_task(
    spec: str,
    *,
    tokens: int | None = None,
    model: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Task:
    """Load the task of a spec: one of ``KNOWN``; ``KIND:PATH`` is for own data.

    ``tokens`` is the length of samples of text (default 128). ``columns`` are those of a table by
    role (:mod:`...data.columns`); without, they are known by their names. ``model`` is the folder
    or hub id of the model to be tuned: its image size and normalisation, or its tokenizer, are
    then used for own data; the two default tasks have their own. Where a file of bases stands in
    that folder, codec ``rotated`` is among the recommended ones. Raises InputError naming what is
    missing and the way out.
    """
    if tokens is not None and tokens < 2:
        raise InputError(f"tokens = {tokens}; a window has at least 2.")
    task = _loaded(spec, tokens, model, columns or {})
    return replace(task, recommended_codecs=_recommended(task.kind, model))


def takes_tokens(spec: str) -> bool:
    """Return whether a spec is of data whose samples may be texts of a length to choose."""
    return spec == stdlib_bytes.NAME or spec.partition(":")[0] in TABLE_KINDS


def _loaded(
    spec: str,
    tokens: int | None,
    model: str | os.PathLike[str] | None,
    columns: Mapping[str, str],
) -> Task:
    kind, colon, place = spec.partition(":")
    if columns and kind not in TABLE_KINDS:
        raise InputError(f"data '{spec}' has no columns to choose; leave --columns out.")
    if spec == digit_scenes.NAME:
        return digit_scenes.load()
    if spec == stdlib_bytes.NAME:
        return stdlib_bytes.load(tokens or stdlib_bytes.TOKENS)
    if spec == wordnet_senses.NAME:
        return wordnet_senses.load(tokens=tokens, model=model)
    if kind not in TABLE_KINDS and kind not in _IMAGES and kind != wordnet_senses.NAME:
        raise UnknownNameError("data", spec, KNOWN)
    if not colon or not place:
        raise InputError(f"data '{spec}' names no place; write {kind}:PATH.")
    if kind == wordnet_senses.NAME:
        return wordnet_senses.load(place, tokens, model)
    if kind in _IMAGES:
        return _IMAGES[kind](place, model)
    return tabular.load(kind, place, tokens, model, columns)


def _recommended(kind: TaskKind, model: str | os.PathLike[str] | None) -> dict[str, CodecConfig]:
    """By the cut of uplink traffic they make against 32 bits: 2.048 and 2.4 bits per element.

    The bits of ``ecsq`` leave room for its side information in payloads of 16,000 elements or
    more; those of ``rotated`` count everything.
    Keep fractions are those that gave the cut on the two default tasks. ``topk, one scale`` is the
    published chain with one scale for the whole tensor, which saves the 16 bits of each token's: of
    2 to 7 bits a value, 4 had the least error there. ``rotated-topk`` takes the means off: what is
    dropped is then the mean, which in few directions is near zero.
    """
    found: dict[str, CodecConfig] = {
        "ecsq at 93.6 %": EcsqConfig(bits=1.88),
        "ecsq at 92.5 %": EcsqConfig(bits=2.22),
    }
    image = kind is not TaskKind.LANGUAGE_MODELLING
    found["topk, one scale at 93.6 %"] = TopKConfig(
        keep=0.36 if image else 0.417, bits=4, group=_WHOLE
    )
    bases = None if model is None else Path(model) / BASES_NAME
    if bases is not None and bases.is_file():
        found["rotated at 93.6 %"] = RotatedConfig(bits=2.048, bases=str(bases))
        found["rotated-topk at 93.6 %"] = RotatedTopKConfig(
            keep=0.295 if image else 0.335, centre=True, bases=str(bases)
        )
        found["rotated at 92.5 %"] = RotatedConfig(bits=2.4, bases=str(bases))
    return found


_IMAGES: dict[str, Callable[[str, str | os.PathLike[str] | None], Task]] = {
    "images": images.load_folder,
    "cifar100": images.load_cifar100,
    "tiny-imagenet": images.load_tiny_imagenet,
}
"""What loads own images, by kind."""
